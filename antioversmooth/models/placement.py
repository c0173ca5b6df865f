"""Placing methods in a built timm model, and removing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods import (
    METHODS,
    Family,
    FeatureMethod,
    MeanMethod,
    Method,
    method_named,
)
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.featscale import FeatScale, ScalingVariant
from antioversmooth.models import supported
from antioversmooth.models.attention import ScaledAttention
from antioversmooth.models.named import named_of
from antioversmooth.models.places import PLACERS, exclusive_kinds, named, placer_of


def add_method(
    model: nn.Module,
    method: str,
    *,
    layers: str | Sequence[str] | None = None,
    layout: str | None = None,
    images: Tensor | None = None,
    class_token_in_mean: bool = True,
    **options: Any,
) -> nn.Module:
    """Adds a method to a model and returns the same model.

    Comes before what lists parameters once: optimizer, DistributedDataParallel.

    Args:
        model: A built model of timm: ViT, DeiT, BEiT, EVA, CaiT, Swin, Swin-V2 or kin; pre-trained
            or not. With `layers` any model.
        method: A name of `methods.METHODS`; docs/methods/ has a page for each.
        layers: Names of modules, or patterns (fnmatch) of names, for a method that needs the output
            of a layer and nothing else: FeatScale, on what mixes tokens; LayerScale and ReZero, on
            branches; ContraNorm, on norms. None: the places that the method has in timm's model.
        layout: Of the outputs of `layers`, as timm names it: NLC, NCL, NHWC or NCHW; None: found by
            one forward pass.
        images: A batch for that pass; None: zeros of the size that the model is made for.
        class_token_in_mean: Whether means of ViT-like models run over class, distillation and
            register tokens too.
        options: Of the method, as in `model.method_options` of a spec.

    Raises:
        ModelError: The model has an unsupported layer, named in the message, is of a family that
            the method is not defined for, or is data-parallel already; or the call would add
            nothing. The model is unchanged.
        ValueError: No such method, or no such value of an option.
        TypeError: No such option; or `model` is no module, or `method` no name.
    """
    _require_module(model)
    if not isinstance(method, str):
        raise TypeError(f"method is {_shown(method)}, not a name: one of {', '.join(METHODS)}")
    chosen = method_named(method, **options)
    if chosen.is_off:
        raise ModelError(f"{chosen.title} with {options} adds nothing: the model would stay plain")
    if not class_token_in_mean and (
        layers is not None or not isinstance(chosen, MeanMethod | FeatureMethod)
    ):
        where = "named layers" if layers is not None else chosen.title
        raise ModelError(f"class_token_in_mean has no effect on {where}: leave it at True")
    require_valid_mean_options(model, chosen, class_token_in_mean=class_token_in_mean)
    if layers is not None:
        _require_not_parallel(model)
        names = [layers] if isinstance(layers, str) else layers
        named.place(model, chosen, names, layout=layout, images=images)
        return _record(model, [chosen])
    if layout is not None or images is not None:
        raise ModelError(
            "layout and images describe named layers: add layers=[...], or leave them out"
        )
    try:
        return add_methods(model, [chosen], class_token_in_mean=class_token_in_mean)
    except supported.UnknownLayers as err:
        if not named.goes_by_name(chosen):
            raise
        raise ModelError(f"{err}; or name the layers yourself: layers=[...]") from err


def add_scaling(
    model: nn.Module,
    *,
    attnscale: bool = False,
    featscale: bool = False,
    class_token_in_mean: bool = True,
    mask_aware: bool = False,
    variant: str = "released",
) -> nn.Module:
    """Adds AttnScale, FeatScale or both to a model, as `add_method` does, and returns the same one.

    New parameters are zero, so the outputs are those of before.

    Args:
        attnscale: Adds `<block>.attn.lamb`, one scalar a head.
        featscale: Adds `<block>.lamb1` (DC) and `<block>.lamb2` (HC), one number a channel.
        mask_aware: Leave pairs that a shifted window masks out of the mean of Swin's AttnScale.
        variant: FeatScale's form in ViT-like models: `released` (1 + 2s, 1 + 2t) or `paper` (1 + s,
            1 + t).

    Raises:
        ModelError: As of `add_method`; or neither of the two is asked for, or a form of the other.
        ValueError: No such variant.
    """
    _require_module(model)
    if not attnscale and not featscale:
        raise ModelError("add_scaling needs attnscale=True, featscale=True or both")
    if mask_aware and not attnscale:
        raise ModelError("mask_aware has no effect without attnscale=True")
    chosen: list[Method] = [AttnScale(mask_aware=mask_aware)] if attnscale else []
    scaled = FeatScale(variant=variant)
    if not featscale and ScalingVariant(variant) is not ScalingVariant.released:
        raise ModelError("variant has no effect without featscale=True")
    chosen += [scaled] if featscale else []
    for method in chosen:
        require_valid_mean_options(model, method, class_token_in_mean=class_token_in_mean)
    return add_methods(model, chosen, class_token_in_mean=class_token_in_mean)


def add_methods(
    model: nn.Module, methods: Sequence[Method], *, class_token_in_mean: bool = True
) -> nn.Module:
    """Does the work of `add_method`, with methods as objects: at most one of each kind, or none."""
    if not methods:
        return model
    _require_module(model)
    _require_free_places(model, methods)
    _require_not_parallel(model)
    # tokens first: means over them ask in which layers they are
    order = list(PLACERS.values())
    placed = [(placer_of(method), method) for method in methods]
    placed.sort(key=lambda pair: order.index(pair[0]))
    for placer, method in placed:
        placer.require_supported(model, method)
    for placer, method in placed:
        placer.place(model, method, class_token_in_mean=class_token_in_mean)
    return _record(model, methods)


def _record(model: nn.Module, methods: Sequence[Method]) -> nn.Module:
    """Notes at the model which methods it holds, and what has no weight decay."""
    vars(model)["placed_methods"] = (*methods_in(model), *methods)
    _exempt_from_weight_decay(model)
    return model


def _require_not_parallel(model: nn.Module) -> None:
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise ModelError(
            "the model is in DistributedDataParallel already, which would not average the gradients"
            " of the scales: add_method first"
        )


def _require_module(model: object) -> None:
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"model is {_shown(model)}, not a model: build one first, as by timm.create_model"
        )


def _shown(value: object) -> str:
    """A wrong argument in a message: None, the text 'deit', or a class."""
    if value is None or isinstance(value, str):
        return repr(value)
    kind = value if isinstance(value, type) else type(value)
    return f"{'the class' if kind is value else 'a'} {kind.__name__}"


def require_valid_mean_options(
    model: nn.Module, method: Method, *, class_token_in_mean: bool
) -> None:
    """Raises ModelError for a form of the mean over tokens that the model does not have."""
    families = supported.families_of(model)
    if isinstance(method, MeanMethod) and method.mask_aware and families - {Family.swin}:
        raise ModelError(
            f"mask_aware has no effect on {type(model).__name__}: only Swin masks pairs of tokens;"
            " leave it at False"
        )
    if not class_token_in_mean and families and Family.vit not in families:
        raise ModelError(
            f"class_token_in_mean has no effect on {type(model).__name__}, which has no class token"
            " where the mean is taken: leave it at True"
        )


def _require_free_places(model: nn.Module, methods: Sequence[Method]) -> None:
    """Raises ModelError where two methods, those in the model included, go into one place."""
    by_name = [hook.method for module in model.modules() for hook in named_of(module)]
    held = [one for one in methods_in(model) if not any(one is other for other in by_name)]
    for kinds in exclusive_kinds(model):
        titles, there = (
            [method.title for method in some if isinstance(method, kinds)]
            for some in (methods, held)
        )
        if len(titles) > 1:
            raise ModelError(f"{' and '.join(titles)} go into the same place: choose one")
        if titles and there:
            other = "" if titles[0] in there else f", and {titles[0]} goes into the same place"
            raise ModelError(
                f"the model has {' and '.join(there)} already{other}: begin with a plain model"
            )


def methods_in(model: nn.Module) -> tuple[Method, ...]:
    """The methods that a model holds, also inside of a wrapper.

    timm's list of features consists of the model's layers without the model itself.
    """
    found: dict[str, Method] = {}
    for module in model.modules():
        held = vars(module).get("placed_methods", ())
        if isinstance(module, ScaledAttention):
            held = [method for method, _ in module.placed_methods()]
        found |= {method.name: method for method in held}
    return tuple(found.values())


def remove_method(model: nn.Module) -> nn.Module:
    """Restores timm's own modules, with the same outputs, and returns the same model.

    An AttentionMethod of CaiT with c1 and c3 alone folds into its talking heads.

    Raises:
        ModelError: Names a parameter that is not zero and does not fold, or a method that no value
            of its parameters turns off.
        TypeError: `model` is no module.
    """
    _require_module(model)
    placers = [*PLACERS.values(), named]
    for placer in placers:
        placer.require_removable(model)
    for placer in placers:
        placer.restore(model)
    for name in ("no_weight_decay", "placed_methods"):
        vars(model).pop(name, None)
    return model


remove_scaling = remove_method
"""The same, named after `add_scaling`."""


def scales(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of methods by their name in the model's state dict."""
    added = {parameter.name for method in methods_in(model) for parameter in method.parameters}
    return {name: p for name, p in model.named_parameters() if name.rpartition(".")[2] in added}


def _exempt_from_weight_decay(model: Any) -> None:
    vectors = frozenset(name for name, scale in scales(model).items() if scale.ndim < 2)
    model.no_weight_decay = partial(_without_decay, getattr(model, "no_weight_decay", set), vectors)


def _without_decay(stock: Callable[[], set[str]], added: frozenset[str]) -> set[str]:
    return {*stock(), *added}

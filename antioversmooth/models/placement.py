"""Placing methods in a built timm model, and removing them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from antioversmooth.errors import ModelError
from antioversmooth.methods import (
    AttentionMethod,
    FeatureMethod,
    Method,
    method_named,
    parameter_names,
)
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.featscale import FeatScale
from antioversmooth.models import attention as scaled
from antioversmooth.models import supported
from antioversmooth.models.places import PLACERS, placer_of

_STOCK = {
    placed: stock
    for table in (supported.ATTENTION, supported.MAP_BLOCKS)
    for stock, placed in table.items()
}
_ATTRIBUTES = ("method", "features", "excluded", "folded", "was_fused")
"""Attributes of an attention layer that `add_methods` sets, besides parameters."""


def add_method(
    model: nn.Module, method: str, *, class_token_in_mean: bool = True, **options: Any
) -> nn.Module:
    """Adds a method to a model and returns the same model.

    Comes before what lists parameters once: optimizer, DistributedDataParallel.

    Args:
        model: A built model of timm: ViT, DeiT, BEiT, EVA, CaiT, Swin, Swin-V2 or kin; pre-trained
            or not.
        method: A name of `methods.METHODS`; docs/methods/ has a page for each.
        class_token_in_mean: Whether means of ViT-like models run over class, distillation and
            register tokens too.
        options: Of the method, as in `model.method_options` of a spec.

    Raises:
        ModelError: The model has an unsupported layer, named in the message, is of a family that
            the method is not defined for, or is data-parallel already; the model is unchanged.
        ValueError: No such method, or no such value of an option.
        TypeError: No such option.
    """
    chosen = method_named(method, **options)
    return add_methods(model, [chosen], class_token_in_mean=class_token_in_mean)


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
        ModelError: As of `add_method`; or neither of the two is asked for.
        ValueError: No such variant.
    """
    if not attnscale and not featscale:
        raise ModelError(
            "add_scaling adds attnscale=True, featscale=True or both, and neither is asked for"
        )
    chosen: list[Method] = [AttnScale(mask_aware=mask_aware)] if attnscale else []
    chosen += [FeatScale(variant=variant)] if featscale else []
    return add_methods(model, chosen, class_token_in_mean=class_token_in_mean)


def add_methods(
    model: nn.Module, methods: Sequence[Method], *, class_token_in_mean: bool = True
) -> nn.Module:
    """Does the work of `add_method`, with methods as objects: at most one of each kind, or none."""
    if not methods:
        return model
    _require_distinct_places(methods)
    if isinstance(model, nn.parallel.DistributedDataParallel):
        raise ModelError(
            "the model is in DistributedDataParallel already, which would not average the gradients"
            " of the scales: add_scaling first"
        )
    placed = [(placer_of(method), method) for method in methods]
    methods = [method for placer, method in placed if placer is None]
    for placer, method in placed:
        if placer is not None:
            placer.require_supported(model, method)
    layers = supported.self_attentions(model) if methods else []
    for layer in layers:
        supported.require_supported(layer, methods)
    for placer, method in placed:
        if placer is not None:
            placer.place(model, method)
    if methods:
        _place_in_layers(model, methods, class_token_in_mean=class_token_in_mean)
    _exempt_from_weight_decay(model)
    return model


def _place_in_layers(
    model: nn.Module, methods: Sequence[Method], *, class_token_in_mean: bool
) -> None:
    layers = supported.self_attentions(model)
    excluded = [0] * len(layers)
    if not class_token_in_mean:
        excluded = supported.num_prefix_tokens(model, layers)
    for (_, block, attention), leading in zip(layers, excluded, strict=True):
        _prepare(attention, leading)
        for method in methods:
            if isinstance(method, AttentionMethod):
                _place_in_attention(attention, method)
            elif isinstance(method, FeatureMethod):
                _place_in_block(block, attention, method)


def _require_distinct_places(methods: Sequence[Method]) -> None:
    for kind in (AttentionMethod, FeatureMethod, *PLACERS):
        titles = [method.title for method in methods if isinstance(method, kind)]
        if len(titles) > 1:
            raise ModelError(f"{' and '.join(titles)} go into the same place: choose one")


def remove_scaling(model: nn.Module) -> nn.Module:
    """Restores timm's own modules, with the same outputs, and returns the same model.

    An AttentionMethod of CaiT folds into its talking heads.

    Raises:
        ModelError: Names a parameter that is not zero and does not fold: its term differs from
            image to image.
    """
    for layer in supported.scaled_layers(model):
        for key in _unfoldable(layer):
            raise ModelError(
                f"{key} is not zero and cannot be folded into the weights of"
                f" {type(model).__name__}: its term is different for each image; only AttnScale"
                " of CaiT folds. To drop it, set it to zero first; to run the model without"
                " this package, torch.export it"
            )
    for placer in PLACERS.values():
        placer.require_removable(model)
    for placer in PLACERS.values():
        placer.restore(model)
    for module in list(model.modules()):
        if isinstance(module, scaled.ScaledTalkingHeads) and module.method is not None:
            _fold_mixing(module, model.get_submodule("patch_embed"))
        _restore(module)
    vars(model).pop("no_weight_decay", None)
    return model


def _unfoldable(layer: supported.Layer) -> Iterator[str]:
    """Parameters that are not zero and do not fold, and methods without parameters."""
    for method, owner in layer.attention.placed_methods():
        if isinstance(owner, scaled.ScaledTalkingHeads):
            continue
        prefix = layer.name if owner is layer.attention else layer.name.removesuffix(".attn")
        if not method.parameters:
            yield f"{method.title} of {prefix}"
        for parameter in method.parameters:
            if torch.count_nonzero(getattr(owner, parameter.name)):
                yield f"{prefix}.{parameter.name}"


def scales(model: nn.Module) -> dict[str, nn.Parameter]:
    """Parameters of methods by their name in the model's state dict."""
    added = parameter_names()
    return {name: p for name, p in model.named_parameters() if name.rpartition(".")[2] in added}


def _prepare(attention: Any, excluded: int) -> None:
    folded = supported.folds(attention)
    # the modules themselves stay: their parameters, names and hooks, and references to them
    attention.__class__ = supported.ATTENTION[type(attention)]
    attention.proj.__class__ = scaled.DeferredLinear
    attention.proj_drop.__class__ = scaled.DeferredDropout
    attention.method = attention.features = None
    attention.excluded, attention.folded = excluded, folded


def _place_in_attention(attention: Any, method: AttentionMethod) -> None:
    attention.method = method
    for parameter in method.parameters:
        zeros = attention.proj.weight.new_zeros(attention.num_heads)
        attention.register_parameter(parameter.name, nn.Parameter(zeros))
    if attention.folded or isinstance(attention, scaled.ScaledTalkingHeads):
        return
    # Swin-V2 builds the matrix always
    if hasattr(attention, "fused_attn"):
        attention.was_fused, attention.fused_attn = attention.fused_attn, False
    attention.attn_drop.__class__ = scaled.ExplicitDropout
    attention.attn_drop.attention = (attention,)


def _place_in_block(block: nn.Module, attention: Any, method: FeatureMethod) -> None:
    weight = attention.proj.weight
    for parameter in method.parameters:
        block.register_parameter(parameter.name, nn.Parameter(weight.new_zeros(weight.shape[0])))
    attention.features = scaled.BlockFeatures(method, attention.family, block)
    if attention.features_on_map:
        block.__class__ = supported.MAP_BLOCKS[type(block)]


def _exempt_from_weight_decay(model: Any) -> None:
    model.no_weight_decay = partial(
        _without_decay, getattr(model, "no_weight_decay", set), frozenset(scales(model))
    )


def _without_decay(stock: Callable[[], set[str]], added: frozenset[str]) -> set[str]:
    return {*stock(), *added}


def _fold_mixing(attention: scaled.ScaledTalkingHeads, patch_embed: Any) -> None:
    with torch.no_grad():
        weight, bias = attention.mixing(patch_embed.num_patches)
        attention.proj_w.weight.copy_(weight)
        attention.proj_w.bias.copy_(bias)


def _restore(module: Any) -> None:
    if isinstance(module, scaled.ScaledAttention):
        _restore_attention(module)
    module.__class__ = _STOCK.get(type(module), type(module))


def _restore_attention(attention: Any) -> None:
    attention.proj.__class__, attention.proj_drop.__class__ = nn.Linear, nn.Dropout
    if isinstance(attention.attn_drop, scaled.ExplicitDropout):
        delattr(attention.attn_drop, "attention")
        attention.attn_drop.__class__ = nn.Dropout  # type: ignore[assignment]
    if hasattr(attention, "was_fused"):
        attention.fused_attn = attention.was_fused
    for method, owner in attention.placed_methods():
        for parameter in method.parameters:
            delattr(owner, parameter.name)
    for name in _ATTRIBUTES:
        vars(attention).pop(name, None)

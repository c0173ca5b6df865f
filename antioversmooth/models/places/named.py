"""Placing a method on layers that the call names, in any model."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from timm.layers.format import Format
from torch import Tensor, nn

from antioversmooth.errors import ModelError, did_you_mean
from antioversmooth.methods import METHODS, Method
from antioversmooth.models import trial
from antioversmooth.models.named import NAMED, Named, named_of


def place(
    model: nn.Module,
    method: Method,
    names: Sequence[str],
    *,
    layout: str | None = None,
    images: Tensor | None = None,
) -> None:
    """Adds a method to the named layers of a model; refused, the model is unchanged.

    Args:
        names: Of modules, or patterns (fnmatch) of them.
        layout: Of their outputs: NLC, NCL, NHWC or NCHW; None: found by a trial.
        images: A batch for the trial; None: zeros of the size that the model is made for.

    Raises:
        ModelError: No module has a name or matches a pattern, the method needs more than outputs of
            layers, or a layer does not fit; names it.
        ValueError: No such layout.
    """
    kind = _kind(method)
    if layout is not None and layout not in list(Format):
        raise ValueError(f"layout={layout!r} is not possible: {', '.join(f.value for f in Format)}")
    layers = find_layers(model, names)
    for name, layer in layers.items():
        _require_free(name, layer, method)
    outputs = trial.outputs_of(model, layers, images)
    hooks = {
        name: kind(method, trial.layout_of(name, output, model, layout))
        for name, output in outputs.items()
    }
    for name, layer in layers.items():
        for key, value in hooks[name].initial(outputs[name]).items():
            layer.register_parameter(key, nn.Parameter(value))
        hooks[name].register(layer)


def goes_by_name(method: Method) -> bool:
    """Whether a method needs the output or the input of a layer and nothing else."""
    return isinstance(method, tuple(NAMED))


def find_layers(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Module]:
    """The modules that are named or match, by name.

    Raises:
        ModelError: There is none, for one of the names.
    """
    modules = {name: module for name, module in model.named_modules() if name}
    found: dict[str, nn.Module] = {}
    for name in names:
        matching = {key: m for key, m in modules.items() if fnmatchcase(key, name)}
        if not matching:
            kind = type(model).__name__
            raise ModelError(f"this {kind} has no layer {name}; {did_you_mean(name, modules)}")
        found |= matching
    if not found:
        raise ModelError("layers is empty, so the model would not change")
    return found


def require_removable(model: nn.Module) -> None:
    """Raises ModelError where a method is not off."""
    for name, layer in model.named_modules():
        for hook in named_of(layer):
            if not hook.is_off(layer):
                raise ModelError(
                    f"{hook.method.title} of {name} cannot be folded into the weights of"
                    f" {type(model).__name__}; to run the model without this package, torch.export"
                    " it"
                )


def restore(model: nn.Module) -> None:
    """Drops the methods, which are off."""
    for layer in model.modules():
        for hook in named_of(layer):
            hook.release(layer)


def _kind(method: Method) -> type[Named]:
    for kind, named in NAMED.items():
        if isinstance(method, kind):
            return named
    others = [name for name, one in METHODS.items() if issubclass(one, tuple(NAMED))]
    raise ModelError(
        f"{method.title} needs more of a model than outputs of layers, so no layers can be named"
        f" for it; they can for {', '.join(others)}"
    )


def _require_free(name: str, layer: Any, method: Method) -> None:
    """Raises ModelError where a layer holds such a method already, or a value of its names."""
    if any(type(hook.method) is type(method) for hook in named_of(layer)):
        raise ModelError(f"{name} has {method.title} already; remove_method(model) undoes it")
    for parameter in method.parameters:
        if hasattr(layer, parameter.name):
            raise ModelError(
                f"{method.title} does not go into {name}, which has a value {parameter.name}"
                " already"
            )

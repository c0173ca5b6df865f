"""Where each kind of method goes in a model: one module a kind."""

from __future__ import annotations

from types import ModuleType

from antioversmooth.methods.base import Method
from antioversmooth.methods.losses import LossMethod
from antioversmooth.methods.tokens import TokenMethod
from antioversmooth.models.places import losses, tokens

PLACERS: dict[type[Method], ModuleType] = {
    TokenMethod: tokens,
    LossMethod: losses,
}
"""Modules with `require_supported(model, method)`, `place(model, method)`,
`require_removable(model)` and `restore(model)`."""


def placer_of(method: Method) -> ModuleType | None:
    """The module that places a method; None for those that attention layers hold."""
    return next((one for kind, one in PLACERS.items() if isinstance(method, kind)), None)

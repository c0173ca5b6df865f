"""Where each kind of method goes in a model: one module a kind."""

from __future__ import annotations

from types import ModuleType

from torch import nn

from antioversmooth.methods.base import AttentionMethod, FeatureMethod, Method
from antioversmooth.methods.branches import BranchMethod
from antioversmooth.methods.losses import LossMethod
from antioversmooth.methods.mixing import MixingMethod
from antioversmooth.methods.norms import NormMethod
from antioversmooth.methods.tokens import TokenMethod
from antioversmooth.methods.values import ValueMethod
from antioversmooth.models.places import (
    attention,
    branches,
    features,
    losses,
    mixing,
    norms,
    tokens,
    values,
)
from antioversmooth.models.supported import MAP_BLOCKS

PLACERS: dict[type[Method], ModuleType] = {
    TokenMethod: tokens,
    # also an AttentionMethod
    ValueMethod: values,
    AttentionMethod: attention,
    FeatureMethod: features,
    LossMethod: losses,
    BranchMethod: branches,
    NormMethod: norms,
    MixingMethod: mixing,
}
"""Modules with `require_supported(model, method)`, `place(model, method, class_token_in_mean=...)`,
`require_removable(model)` and `restore(model)`."""

_SWAP_THE_MODEL: tuple[type[Method], ...] = (TokenMethod, LossMethod, ValueMethod)
"""Kinds that give a model a class of their own."""
_CHANGE_THE_MAP: tuple[type[Method], ...] = (AttentionMethod, MixingMethod)
"""Kinds that put something in place of the attention matrix, its running statistics included."""
_SWAP_SWIN_BLOCKS: tuple[type[Method], ...] = (FeatureMethod, BranchMethod)
"""Kinds that give a block with windows a class of their own."""


def exclusive_kinds(model: nn.Module) -> list[tuple[type[Method], ...]]:
    """Groups of kinds that have one place in a model, so that one method of each group fits."""
    groups = [*((kind,) for kind in PLACERS), _SWAP_THE_MODEL, _CHANGE_THE_MAP]
    has_windows = any(isinstance(module, tuple(MAP_BLOCKS)) for module in model.modules())
    return [*groups, _SWAP_SWIN_BLOCKS] if has_windows else groups


def placer_of(method: Method) -> ModuleType:
    """The module that places a method."""
    return next(one for kind, one in PLACERS.items() if isinstance(method, kind))

"""Where each kind of method goes in a model: one module a kind."""

from __future__ import annotations

from types import ModuleType

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

SWAP_THE_MODEL: tuple[type[Method], ...] = (TokenMethod, LossMethod, ValueMethod)
"""Kinds that give a model a class of their own, so that only one of them fits."""


def placer_of(method: Method) -> ModuleType:
    """The module that places a method."""
    return next(one for kind, one in PLACERS.items() if isinstance(method, kind))

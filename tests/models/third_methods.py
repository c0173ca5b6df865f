"""Two more methods, for tests: y = A v - c m(v) with a learned c, and y = v - A v."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from antioversmooth.methods import AttentionMethod, Family, MeanMethod, Parameter
from antioversmooth.methods.base import CLASS_TOKEN


@dataclass(frozen=True)
class LearnedCentring(MeanMethod):
    """c is one scalar a head, `attn.centring` [H]; 0 is plain attention, 1 removes its mean."""

    name: ClassVar[str] = "learned_centring"
    title: ClassVar[str] = "Learned centring"
    is_exact_at_start: ClassVar[bool] = True
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("centring", "c", "share removed"),)
    forms: ClassVar = {Family.vit: {"class_token_in_mean": CLASS_TOKEN}}

    def mean(self, *parameters: Tensor) -> Tensor:
        return parameters[0]

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """(A - A_LP) + (1 - c) A_LP."""
        return (attention - low_pass) + (1 - parameters[0]) * low_pass


@dataclass(frozen=True)
class Differences(AttentionMethod):
    """y = v - A v: with a share of each token's own value, without parameters."""

    name: ClassVar[str] = "differences"
    title: ClassVar[str] = "Differences"

    def own(self, *parameters: Tensor) -> float:
        return 1.0

    def attended(self, *parameters: Tensor) -> float:
        return -1.0

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """I - A."""
        return torch.eye(attention.shape[-1]).to(attention) - attention

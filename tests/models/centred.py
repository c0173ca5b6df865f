"""A third method, for tests: attention that is centred by a learned share, y = A v - c m(v)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from antioversmooth.config import Family
from antioversmooth.methods import AttentionMethod, Parameter
from antioversmooth.methods.base import CLASS_TOKEN


@dataclass(frozen=True)
class CentredAttention(AttentionMethod):
    """c is one scalar a head, `attn.centring` [H]; 0 is plain attention, 1 removes its mean."""

    name: ClassVar[str] = "centred"
    title: ClassVar[str] = "Centred attention"
    parameters: ClassVar[tuple[Parameter, ...]] = (Parameter("centring", "c", "share removed"),)
    forms: ClassVar = {Family.vit: {"class_token_in_mean": CLASS_TOKEN}}

    def attended(self, *parameters: Tensor) -> float:
        return 1.0

    def mean(self, *parameters: Tensor) -> Tensor:
        return parameters[0]

    def matrix(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        return attention - parameters[0] * low_pass

    def textbook(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        """(A - A_LP) + (1 - c) A_LP."""
        return (attention - low_pass) + (1 - parameters[0]) * low_pass


@dataclass(frozen=True)
class LaplacianHeads(AttentionMethod):
    """y = v - A v: with a share of each token's own value, without parameters."""

    name: ClassVar[str] = "laplacian"
    title: ClassVar[str] = "Laplacian heads"

    def own(self, *parameters: Tensor) -> float:
        return 1.0

    def attended(self, *parameters: Tensor) -> float:
        return -1.0

    def mean(self, *parameters: Tensor) -> float:
        return 0.0

    def matrix(self, attention: Tensor, low_pass: Tensor, *parameters: Tensor) -> Tensor:
        identity = attention.new_ones(attention.shape[-1]).diag()
        return identity - attention

    textbook = matrix

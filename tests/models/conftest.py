"""Models and images that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from backbones import BUILDERS, randomised
from torch import nn


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """Builds one of BUILDERS by name, in eval mode, with random weights that are the same each
    time."""

    def build_one(kind: str, **kwargs: object) -> nn.Module:
        torch.manual_seed(0)
        return randomised(BUILDERS[kind](**kwargs)).eval()

    return build_one


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))

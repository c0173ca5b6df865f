"""Models with attention that is far from uniform and scales that are not zero."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import BUILDERS
from torch import Tensor, nn

from antioversmooth.models import add_scaling
from antioversmooth.models.placement import scales


@pytest.fixture
def build() -> Callable[..., nn.Module]:
    """Builds one of BUILDERS in evaluation mode: `build("vit", attnscale=True)`; the same each
    time."""

    def build_one(kind: str, **scaling: Any) -> nn.Module:
        torch.manual_seed(0)
        model = BUILDERS[kind]().eval()
        if scaling:
            add_scaling(model, **scaling)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                spread = 0.4 if name in scales(model) else 0.2
                parameter.add_(spread * torch.randn_like(parameter))
        return model

    return build_one


@pytest.fixture
def images() -> Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))

"""Parameters and multiply-adds against the paper's numbers, and which tensors a pass makes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from antioversmooth.config import Family, ModelConfig
from antioversmooth.models import add_scaling, build_model
from antioversmooth.models.measure import count_parameters, multiply_adds

DEIT_S = {
    "family": Family.vit,
    "depth": 12,
    "embed_dim": 384,
    "num_heads": 6,
    "image_size": 224,
    "patch_size": 16,
}
CAIT_S24 = {**DEIT_S, "family": Family.cait, "depth": 24, "num_heads": 8}
SWIN_S = {
    **DEIT_S,
    "family": Family.swin,
    "embed_dim": 96,
    "num_heads": 3,
    "patch_size": 4,
    "depth": 24,
}


@pytest.mark.parametrize(
    ("config", "giga"),
    [
        (ModelConfig(**DEIT_S), 4.576),
        (ModelConfig(**{**DEIT_S, "depth": 24}, method="featscale"), 9.097),
        (ModelConfig(**CAIT_S24, method="attnscale"), 9.341),
        (ModelConfig(**SWIN_S, stage_depths=[2, 2, 18, 2], method="attnscale"), 8.750),
    ],
    ids=["deit_s12", "deit_s24_featscale", "cait_s24_attnscale", "swin_s_attnscale"],
)
def test_multiply_adds_agree_with_the_official_count(config: ModelConfig, giga: float):
    """Within 1 %: the official count leaves the class token out and counts a few operations that
    are none here."""
    with torch.device("meta"):
        model = build_model(config, num_classes=1000)
    assert multiply_adds(model, (3, 224, 224)) == pytest.approx(giga, rel=0.01)


def test_counting_leaves_the_model_alone(build: Callable[..., nn.Module]):
    model = build("vit").train()
    multiply_adds(model, (3, 32, 32))
    assert model.training
    assert all(p.requires_grad and p.device.type == "cpu" for p in model.parameters())


def test_frozen_parameters_are_not_counted():
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    assert count_parameters(layer) == 6


class Shapes(TorchDispatchMode):
    """Shapes of all tensors that operations give, in `seen`."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        self.seen |= {tuple(t.shape) for t in tree_leaves(output) if isinstance(t, Tensor)}
        return output


@pytest.mark.parametrize("fused", [True, False])
def test_fused_attention_stays(build: Callable[..., nn.Module], images: Tensor, fused: bool):
    """17 tokens: no 17 x 17 tensor is made, but where timm is told to make one."""
    model = add_scaling(build("vit"), attnscale=True, featscale=True)
    for block in model.blocks:
        block.attn.fused_attn = fused
    with Shapes() as shapes:
        model(images).sum().backward()
    assert any(shape[-2:] == (17, 17) for shape in shapes.seen) != fused

"""Two exact measures of memory traffic, and the goals that scaled models hold in them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import pytest
import timm
import torch
from timm.models.cait import Cait
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from antioversmooth.models import add_scaling
from benchmarks.models import QUICK_CASES
from benchmarks.traffic import MovedBytes, Traffic, saved_bytes, step_traffic


def test_saved_bytes_are_the_inputs_that_backward_needs():
    """x for W's gradient, and the output that ReLU keeps; W itself is a parameter."""
    layer, x = nn.Linear(8, 16, bias=False), torch.randn(4, 8)
    assert saved_bytes(lambda: layer(x).relu(), layer) == 4 * (4 * 8 + 4 * 16)


def test_moved_bytes_are_read_and_written_and_views_are_free():
    x, row = torch.zeros(4, 8), torch.zeros(8)
    with MovedBytes() as moved:
        # the tensor is transposed, so reshape copies it
        y = x.t().reshape(4, 8)[0]
        _ = y.expand(3, 8) + row
    copied = 4 * (32 + 32)
    # the broadcast row is read once
    added = 4 * (8 + 8 + 24)
    assert moved.total == copied + added


DEIT_S12 = partial(VisionTransformer, embed_dim=384, num_heads=6, depth=12)
CAIT_S24_224 = partial(Cait, embed_dim=384, num_heads=8, depth=24, init_values=1e-5)
SWIN_SMALL = partial(
    SwinTransformer,
    embed_dim=96,
    depths=(2, 2, 18, 2),
    num_heads=(3, 6, 12, 24),
    drop_path_rate=0.0,
)


@pytest.mark.parametrize(
    ("backbone", "batch", "goals"),
    [
        (DEIT_S12, 8, {"attnscale": (1.02, 1.11), "featscale": (1.02, 1.11)}),
        pytest.param(
            CAIT_S24_224,
            4,
            {"attnscale": (0.90, 0.85), "featscale": (0.90, 0.88)},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            SWIN_SMALL,
            4,
            {"attnscale": (1.06, 1.10), "featscale": (1.06, 1.10)},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["deit_s12", "cait_s24", "swin_s"],
)
def test_scalings_save_next_to_nothing_and_hardly_move_more(
    backbone: Callable[[], nn.Module], batch: int, goals: dict[str, tuple[float, float]]
):
    """Of timm's own model: bytes saved for backward, and bytes moved by a forward and backward
    pass."""
    with torch.device("meta"):
        model = backbone()
    # shapes are all that counts
    model.to_empty(device="cpu")
    shape = (batch, 3, 224, 224)
    plain = step_traffic(model, shape)
    for method, (most_saved, most_moved) in goals.items():
        scaled = step_traffic(add_scaling(copy.deepcopy(model), **{method: True}), shape)
        assert scaled.saved / plain.saved <= most_saved, method
        assert scaled.moved / plain.moved <= most_moved, method


def test_traffic_on_shapes_is_that_of_a_real_step():
    case = QUICK_CASES[0]
    images = torch.randn(case.images_shape)
    model = timm.create_model(case.tag, **case.sizes)
    add_scaling(model, attnscale=True, featscale=True)
    saved = saved_bytes(lambda: model(images).square().sum(), model)
    with MovedBytes() as moved:
        model(images).square().sum().backward()
    model.zero_grad()
    assert step_traffic(model, images.shape) == Traffic(saved, moved.total)
    assert all(p.grad is None for p in model.parameters())

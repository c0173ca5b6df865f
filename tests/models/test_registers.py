"""Register tokens against those of timm."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from backbones import TINY
from comparison import assert_equal_numbers, gradients
from stages import prefix_by_layer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.methods.registers import RegisterTokens
from antioversmooth.models import add_method
from antioversmooth.models.placement import add_methods

Build = Callable[..., nn.Module]


def test_registers_equal_those_of_timm(build: Build, images: Tensor):
    """timm's model without positions for class token and registers, whose class token holds its
    own."""
    plain = build("vit").double()
    ours = add_method(copy.deepcopy(plain), "registers", count=3)
    with torch.no_grad():
        ours.reg_token.normal_()
    stock = VisionTransformer(**TINY, reg_tokens=3, no_embed_class=True).double().eval()
    state = {**plain.state_dict(), "reg_token": ours.reg_token}
    state["cls_token"] = plain.cls_token + plain.pos_embed[:, :1]
    state["pos_embed"] = plain.pos_embed[:, 1:]
    stock.load_state_dict(state)
    assert_equal_numbers(gradients(ours, images.double()), gradients(stock, images.double()), 1e-12)
    assert {"reg_token", "cls_token"} <= ours.no_weight_decay()


def test_without_registers_the_model_is_the_plain_model(build: Build, images: Tensor):
    stock = build("vit")
    ours = add_methods(copy.deepcopy(stock), [RegisterTokens(count=0)])
    assert_equal_numbers(gradients(ours, images), gradients(stock, images), 0)


def test_the_analysis_tells_registers_from_patches(images: Tensor):
    assert prefix_by_layer(images, "registers", count=2) == [3, 3, 3, 3]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("deit_distilled", "distillation_token should be false"),
        ("vit_registers", "it has 3 registers"),
        ("swin", "SwinTransformer"),
    ],
)
def test_other_models_are_refused(build: Build, kind: str, message: str):
    with pytest.raises(ModelError, match=message):
        add_method(build(kind), "registers")

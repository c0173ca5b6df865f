"""Class attention against its textbook form on stock layers."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from backbones import TINY, randomised
from comparison import assert_equal_numbers, gradients
from stages import Textbook, prefix_by_layer, vit_spec
from timm.layers import QuickGELU, RmsNorm, SwiGLU, SwiGLUPacked
from timm.models.vision_transformer import ResPostBlock, VisionTransformer
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.models import add_method, build_model

Build = Callable[..., nn.Module]


class TextbookClassAttention(Textbook):
    def forward(self, images: Tensor) -> Tensor:
        token, x = self.embedded(images)
        for block in self.model.blocks:
            x = block(x)
        for block in self.model.blocks_token_only:
            normed = block.norm1(torch.cat([token, x], dim=1))
            token = token + block.gamma_1 * self.attended(block.attn, normed)
            token = token + block.gamma_2 * block.mlp(block.norm2(token))
        return self.classified(token)

    def attended(self, layer: Any, u: Tensor) -> Tensor:
        """W_O softmax(q k^T / sqrt d) v, head by head, with the query of the class token."""
        width = u.shape[-1] // layer.num_heads
        heads = []
        for first in range(0, u.shape[-1], width):
            q, k, v = (f(u)[..., first : first + width] for f in (layer.q, layer.k, layer.v))
            weights = (q[:, :1] @ k.transpose(1, 2) / width**0.5).softmax(-1)
            heads.append(weights @ v)
        return layer.proj(torch.cat(heads, -1))


@pytest.mark.parametrize("options", [{}, {"blocks": 2, "replaces": 0}, {"layer_scale": 0.1}])
def test_class_attention_equals_its_textbook_form(build: Build, images: Tensor, options: Any):
    ours = add_method(build("vit").double(), "classattention", **options)
    with torch.no_grad():
        for parameter in ours.blocks_token_only.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    textbook = TextbookClassAttention(copy.deepcopy(ours))
    found = [gradients(model, images.double()) for model in (ours, textbook)]
    assert_equal_numbers(*found, 1e-12)
    assert all(p.grad is not None for p in ours.parameters())


def test_class_attention_has_the_blocks_that_it_is_asked_for(build: Build):
    ours = add_method(build("vit"), "classattention", blocks=2, replaces=1)
    assert (len(ours.blocks), len(ours.blocks_token_only)) == (1, 2)
    plain = {name for name, _ in ours.blocks_token_only[0].named_parameters()}
    scaled = add_method(build("vit"), "classattention", layer_scale=0.1).blocks_token_only[0]
    assert {name for name, _ in scaled.named_parameters()} - plain == {"gamma_1", "gamma_2"}
    assert scaled.gamma_1.tolist() == [pytest.approx(0.1)] * 24


def test_linear_layers_of_class_attention_start_as_the_spec_says():
    model: Any = build_model(vit_spec("classattention"), num_classes=5)
    weight = model.blocks_token_only[0].mlp.fc1.weight
    # Xavier: uniform in +-sqrt(6 / (fan_in + fan_out)), std 0.128; timm: std 0.02
    assert weight.std().item() == pytest.approx((2 / (24 + 96)) ** 0.5, rel=0.05)


def test_the_analysis_leaves_class_attention_out(images: Tensor):
    assert prefix_by_layer(images, "classattention", replaces=0) == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("vit", {"replaces": 2}, "method_options.replaces should be below the number of blocks, 2"),
        ("deit_distilled", {}, "distillation_token should be false"),
        ("vit_no_class_token", {}, "it has no class token"),
        ("swin", {}, "SwinTransformer"),
        ("vit_parallel", {}, "blocks.0 is a .*ParallelThingsBlock"),
    ],
)
def test_other_models_are_refused(build: Build, kind: str, options: Any, message: str):
    assert_refused(build(kind), message, **options)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"global_pool": "avg"}, "global_pool='avg': build the model with global_pool='token'"),
        ({"global_pool": "max"}, "global_pool='max'"),
        ({"global_pool": "map"}, "global_pool='map'"),
        ({"qk_norm": True}, "blocks.0.attn.q_norm is a .*LayerNorm"),
        ({"scale_attn_norm": True}, "blocks.0.attn.norm is a .*LayerNorm"),
        ({"scale_mlp_norm": True}, "blocks.0.mlp.norm is a .*LayerNorm"),
        ({"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}, "blocks.0.mlp is a .*GluMlp"),
        ({"mlp_layer": SwiGLU}, "blocks.0.mlp is a .*SwiGLU"),
        ({"attn_layer": "diff"}, "blocks.0.attn is a .*DiffAttention"),
        ({"proj_bias": False}, "needs a bias in each projection"),
        ({"norm_layer": partial(nn.LayerNorm, eps=1e-6, bias=False)}, "norms with weight and bias"),
        ({"block_fn": ResPostBlock}, "blocks.0 is a .*ResPostBlock"),
    ],
)
def test_a_form_that_its_blocks_lack_is_refused(form: dict[str, Any], message: str) -> None:
    assert_refused(VisionTransformer(**TINY, **form), message)


def test_a_gate_is_refused(build: Build) -> None:
    model: Any = build("vit")
    model.blocks[0].attn.gate = nn.Linear(24, 24)
    assert_refused(model, "does not support the gate")


def test_a_norm_that_a_method_changed_is_refused(build: Build) -> None:
    model = add_method(build("vit"), "contranorm")
    assert_refused(model, "SpreadingNorm.* add class attention first")


def assert_refused(model: nn.Module, message: str, **options: Any) -> None:
    """It stays as it was."""
    before = [type(module) for module in model.modules()]
    with pytest.raises(ModelError, match=message):
        add_method(model, "classattention", **options)
    assert [type(module) for module in model.modules()] == before


@pytest.mark.parametrize("form", [{"act_layer": QuickGELU}, {"norm_layer": RmsNorm}])
def test_its_blocks_have_activation_and_norms_of_the_model(form: dict[str, Any]) -> None:
    model: Any = add_method(VisionTransformer(**TINY, **form), "classattention")
    block, added = model.blocks[0], model.blocks_token_only[0]
    for part in ("mlp.act", "norm1", "norm2", "mlp"):
        assert type(added.get_submodule(part)) is type(block.get_submodule(part))


def test_a_pooling_that_leaves_the_class_token_out_is_refused_afterwards(build: Build) -> None:
    model: Any = add_method(build("vit"), "classattention")
    with pytest.raises(ModelError, match="global_pool='avg'"):
        model.reset_classifier(3, "avg")
    model.reset_classifier(3)
    assert model.head.out_features == 3


@pytest.mark.parametrize("method", ["lateinsertion", "registers"])
def test_other_tokens_act_on_pooled_patches_through_attention(images: Tensor, method: str) -> None:
    torch.manual_seed(0)
    stock = randomised(VisionTransformer(**TINY, global_pool="avg")).eval()
    options = {"at": 1} if method == "lateinsertion" else {}
    model: Any = add_method(copy.deepcopy(stock), method, **options)
    model(images).sum().backward()
    added = model.cls_token if method == "lateinsertion" else model.reg_token
    assert added.grad.abs().max() > 0

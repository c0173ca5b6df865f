"""timm's own model names, shrunk: each variant of a family that is accepted equals the textbook
form; others are named.

Sizes shrink, structure stays: tokens, norms, gates, biases, rotary embeddings, pooling are those of
the name.
"""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from comparison import assert_equal_numbers, gradients
from timm.models.cait import Cait
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.models import add_scaling, remove_scaling
from antioversmooth.models.placement import scales
from benchmarks.textbook import share_random_scales, textbook

VIT = {
    "img_size": 16,
    "patch_size": 4,
    "embed_dim": 24,
    "depth": 2,
    "num_heads": 3,
    "num_classes": 5,
}
SWIN = {
    "img_size": 32,
    "patch_size": 2,
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 4),
    "window_size": 4,
}
NAMES = {
    "vit_tiny_patch16_224": "class token",
    "vit_small_patch14_reg4_dinov2": "registers, LayerScale",
    "vit_giant_patch14_dinov2": "SwiGLU",
    "vit_base_patch16_siglip_224": "no class token, attention pooling",
    "vit_base_patch16_siglip_gap_224": "no class token, mean pooling",
    "vit_base_patch16_clip_quickgelu_224": "norm in front",
    "vit_medium_patch16_reg4_gap_256": "registers, mean pooling",
    "vit_base_patch16_rpn_224": "norm behind the branches",
    "vit_so150m2_patch16_reg1_gap_256": "another head width",
    "aimv2_large_patch14_224": "RMS norm, SwiGLU, no biases",
    "beit3_base_patch16_224": "norm in front of the projection",
    "deit_tiny_distilled_patch16_224": "two prefix tokens, two heads",
    "deit3_small_patch16_224": "position embedding of patches only",
    "beit_base_patch16_224": "relative positions by layer",
    "beitv2_base_patch16_224": "relative positions by layer, class token pooled",
    "eva_giant_patch14_224": "separate biases",
    "eva02_tiny_patch14_224": "rotary, SwiGLU, separate projections",
    "eva02_base_patch16_clip_224": "norms within",
    "vit_medium_patch16_rope_reg1_gap_256": "rotary, registers",
    "vit_small_patch16_dinov3": "rotary, storage tokens",
    "vit_pe_core_tiny_patch16_384": "rotary, attention pooling",
    "vit_relpos_small_patch16_224": "relative positions",
    "vit_srelpos_small_patch16_224": "relative positions, shared",
    "cait_xxs24_224": "talking heads",
    "cait_m36_384": "talking heads",
    "swin_tiny_patch4_window7_224": "windows",
    "swin_s3_tiny_224": "windows of several sizes",
    "swinv2_tiny_window8_256": "cosine attention",
    "swinv2_cr_tiny_224": "cosine attention, norm behind",
    "swinv2_cr_tiny_ns_224": "norm at the end of a stage",
}
UNFOLDED = {"beit3_base_patch16_224", "eva02_base_patch16_clip_224"}
"""A norm stands between the attention and its projection: the matrix is scaled, and no fused
attention is left."""
METHODS = {"attnscale": {"attnscale": True}, "featscale": {"featscale": True}}


def small(name: str) -> tuple[nn.Module, Tensor]:
    """The model of a name at a size for tests, weights that are not small, and images for it."""
    torch.manual_seed(0)
    model = timm.create_model(
        name, **(SWIN | {"num_classes": 5} if name.startswith("swin") else VIT)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval(), torch.randn(2, 3, *model.patch_embed.img_size)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NAMES)
def test_every_variant_of_a_family_equals_the_textbook_form(name: str, method: str) -> None:
    """Untouched at zero; logits and all gradients with scales that are not, in evaluation and in
    training."""
    stock, images = small(name)
    doubled = not name.startswith(("cait", "swin"))
    explicit = textbook(stock, **METHODS[method], doubled=doubled)
    ours = add_scaling(copy.deepcopy(stock), **METHODS[method])
    assert ours.state_dict().keys() - scales(ours).keys() == stock.state_dict().keys()
    if isinstance(stock, Cait) or (name in UNFOLDED and method == "attnscale"):
        torch.testing.assert_close(ours(images), stock(images), atol=2e-6, rtol=1e-5)
    else:
        assert torch.equal(ours(images), stock(images))
    share_random_scales(ours, explicit)
    for training in (False, True):
        found = [gradients(model.train(training), images) for model in (ours, explicit)]
        assert_equal_numbers(*found, 1e-5)


ELSEWHERE: dict[str, dict[str, int]] = {
    "deepseek_vit_412m": {
        "img_size": 32,
        "patch_size": 8,
        "embed_dim": 24,
        "depth": 2,
        "num_heads": 3,
    },
    "qwen3_vit_88m": {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "pit_ti_distilled_224": {"img_size": 64},
    "vitamin_small_224": {"img_size": 64, "depth": 2},
    "vit_tiny_r_s16_p8_224": {"img_size": 64, "depth": 2},
    "naflexvit_base_patch16_map": {"embed_dim": 24, "depth": 2, "num_heads": 3},
}
"""Networks of other modules of timm around an attention layer that is known."""


@pytest.mark.parametrize("name", ELSEWHERE)
def test_networks_around_the_same_attention_equal_the_textbook_form(name: str) -> None:
    """In double: their other parts are deep, and round."""
    torch.manual_seed(0)
    stock = timm.create_model(name, num_classes=5, **ELSEWHERE[name]).double().eval()
    size = ELSEWHERE[name].get("img_size", 64)
    images = torch.randn(2, 3, size, size, dtype=torch.float64)
    explicit = textbook(stock, attnscale=True, featscale=True, doubled=True).double()
    ours = add_scaling(copy.deepcopy(stock), attnscale=True, featscale=True)
    assert torch.equal(ours(images), stock(images))
    share_random_scales(ours, explicit)
    for training in (False, True):
        found = [gradients(model.train(training), images) for model in (ours, explicit)]
        assert_equal_numbers(*found, 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_every_variant_comes_back_as_timm_builds_it(name: str) -> None:
    stock, images = small(name)
    restored = remove_scaling(add_scaling(copy.deepcopy(stock), attnscale=True, featscale=True))
    assert [type(m) for m in restored.modules()] == [type(m) for m in stock.modules()]
    assert torch.equal(restored(images), stock(images))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("convnext_atto", r"^ConvNeXt has no block with an attention layer `attn` to scale$"),
        (
            "maxvit_rmlp_pico_rw_256",
            r"attn_block\.attn is a timm\.models\.maxxvit\.\w+, which is not supported",
        ),
        ("pvt_v2_b0", r"stages\.0\.blocks\.0\.attn is a timm\.models\.pvt_v2\.Attention"),
        ("xcit_nano_12_p16_224", r"blocks\.0\.attn is a timm\.models\.xcit\.XCA"),
        (
            "samvit_base_patch16_224",
            r"blocks\.0\.attn is a timm\.models\.vision_transformer_sam\.Attention",
        ),
        ("twins_svt_small", r"blocks\.0\.0\.attn is a timm\.models\.twins\.LocallyGroupedAttn"),
        ("vit_base_patch16_xp_224", r"; blocks\.0 is a timm\S+ParallelScalingBlock, which is not"),
        ("vit_dwee_patch16_reg1_gap_256", r"blocks\.0\.attn is a timm\S+DiffAttention"),
        ("coat_tiny", r"; serial_blocks1\.0\.factoratt_crpe is a timm\S+FactorAttnConvRelPosEnc"),
        ("tnt_s_patch16_224", r"; blocks\.0 is a timm\.models\.tnt\.Block, which is not"),
        ("resnet18", r"^ResNet has no block"),
    ],
)
def test_other_networks_are_refused_by_module_and_left_alone(name: str, said: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    before = [type(module) for module in model.modules()], model.state_dict().keys()
    with pytest.raises(ModelError, match=said):
        add_scaling(model, attnscale=True, featscale=True)
    assert ([type(module) for module in model.modules()], model.state_dict().keys()) == before


def test_heads_that_share_their_values_scale_the_matrix() -> None:
    torch.manual_seed(0)
    stock = timm.create_model("vit_base_patch16_sapiens2", **VIT, num_kv_heads=(3, 1)).eval()
    images = torch.randn(2, 3, 16, 16)
    explicit, ours = (
        textbook(stock, attnscale=True),
        add_scaling(copy.deepcopy(stock), attnscale=True),
    )
    share_random_scales(ours, explicit)
    assert_equal_numbers(gradients(ours, images), gradients(explicit, images), 1e-5)


def test_masked_attention_is_refused_where_tokens_would_leak() -> None:
    model = add_scaling(timm.create_model("vit_tiny_patch16_224", **VIT), featscale=True).eval()
    images = torch.randn(2, 3, 16, 16)
    with pytest.raises(ModelError, match="masked tokens would leak"):
        model.forward_features(images, attn_mask=torch.ones(17, 17, dtype=torch.bool))
    with pytest.raises(ModelError, match="masked tokens would leak"):
        model.forward_features(images, is_causal=True)
    assert model(images).shape == (2, 5)


def test_class_tokens_of_unknown_number_cannot_stay_out_of_the_mean() -> None:
    with torch.device("meta"):
        model = timm.create_model("pit_ti_224")
    with pytest.raises(ModelError, match="does not say how many class tokens it has"):
        add_scaling(model, attnscale=True, class_token_in_mean=False)
    assert not scales(model)

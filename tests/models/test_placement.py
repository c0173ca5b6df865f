"""Where the scales go, what they are called, what is refused, and how they come out again."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from backbones import BUILDERS, TINY
from timm.layers.attention import AttentionRope
from timm.models.vision_transformer import (
    DiffParallelScalingBlock,
    ParallelScalingBlock,
    VisionTransformer,
)
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.models import add_scaling, remove_scaling
from antioversmooth.models.placement import scales
from benchmarks.textbook import share_random_scales

EXPECTED_SHAPES = {
    "vit": {"blocks.{i}.attn.lamb": (3,), "blocks.{i}.lamb1": (24,), "blocks.{i}.lamb2": (24,)},
    "cait": {"blocks.{i}.attn.lamb": (3,), "blocks.{i}.lamb1": (24,), "blocks.{i}.lamb2": (24,)},
}
BOTH = {"attnscale": True, "featscale": True}


@pytest.mark.parametrize("kind", EXPECTED_SHAPES)
def test_scales_are_named_as_released(build: Callable[..., nn.Module], kind: str):
    model = add_scaling(build(kind), **BOTH)
    expected = {
        name.format(i=i): shape for i in range(2) for name, shape in EXPECTED_SHAPES[kind].items()
    }
    assert {name: tuple(p.shape) for name, p in scales(model).items()} == expected


def test_scales_of_swin_are_named_by_stage(build: Callable[..., nn.Module]):
    model = add_scaling(build("swin"), **BOTH)
    assert scales(model)["layers.1.blocks.0.attn.lamb"].shape == (4,)
    assert scales(model)["layers.1.blocks.1.lamb2"].shape == (16,)
    assert len(scales(model)) == 4 * 3


@pytest.mark.parametrize("kind", BUILDERS)
def test_all_other_keys_stay_as_timm_has_them(build: Callable[..., nn.Module], kind: str):
    stock = build(kind)
    scaled = add_scaling(copy.deepcopy(stock), **BOTH)
    assert scaled.state_dict().keys() - scales(scaled).keys() == stock.state_dict().keys()
    assert type(scaled) is type(stock)


@pytest.mark.parametrize("kind", BUILDERS)
def test_scales_have_no_weight_decay(build: Callable[..., nn.Module], kind: str):
    model = add_scaling(build(kind), **BOTH)
    assert scales(model).keys() <= model.no_weight_decay()
    decayed = [g["params"] for g in param_groups_weight_decay(model, 0.05) if g["weight_decay"] > 0]
    assert not {id(p) for p in scales(model).values()} & {id(p) for group in decayed for p in group}


def test_layer_decay_gives_scales_the_rate_of_their_block(build: Callable[..., nn.Module]):
    """timm's other way to group parameters."""
    model = add_scaling(build("vit"), **BOTH)
    groups = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=0.5)
    rates = {id(p): (g["lr_scale"], g["weight_decay"]) for g in groups for p in g["params"]}
    rate, _ = rates[id(model.blocks[1].mlp.fc1.weight)]
    for scale in (model.blocks[1].attn.lamb, model.blocks[1].lamb1, model.blocks[1].lamb2):
        assert rates[id(scale)] == (rate, 0.0)


@pytest.mark.parametrize("block", [ParallelScalingBlock, DiffParallelScalingBlock])
def test_a_model_without_separate_attention_is_refused(block: type[nn.Module]):
    with pytest.raises(ModelError, match="VisionTransformer has no block with an attention layer"):
        add_scaling(VisionTransformer(**TINY, block_fn=block), attnscale=True)


def test_unknown_attention_is_refused_by_name_and_kind():
    model = VisionTransformer(**{**TINY, "num_heads": 2}, attn_layer="diff")
    with pytest.raises(
        ModelError, match=r"blocks\.0\.attn is a timm\S+DiffAttention, .* supported are timm"
    ):
        add_scaling(model, attnscale=True)
    assert not scales(model)


def test_other_networks_are_refused():
    with pytest.raises(ModelError, match="ResNet has no block"):
        add_scaling(timm.create_model("resnet10t"), featscale=True)


class Split(nn.Module):
    """AttnScale as the paper writes it, on the matrix that timm hands to its attention dropout."""

    def __init__(self, lamb: Tensor):
        super().__init__()
        self.lamb = lamb

    def forward(self, attention: Tensor) -> Tensor:
        low = torch.full_like(attention, 1 / attention.shape[-1])
        return low + (1 + self.lamb[:, None, None]) * (attention - low)


@pytest.mark.parametrize(
    "options",
    [
        {"scale_norm": True, "norm_layer": nn.LayerNorm},
        {"gated": True},
        {"qkv_fused": False, "num_kv_heads": 1},
    ],
    ids=["norm", "gate", "shared heads"],
)
def test_where_nothing_folds_the_matrix_is_scaled(images: Tensor, options: dict):
    stock = VisionTransformer(**TINY).eval()
    for block in stock.blocks:
        block.attn = AttentionRope(24, 3, **options).eval()
    model = add_scaling(copy.deepcopy(stock), attnscale=True)
    torch.testing.assert_close(model(images), stock(images), atol=1e-6, rtol=1e-5)
    share_random_scales(model)
    reference = copy.deepcopy(stock)
    for ours, block in zip(model.blocks, reference.blocks, strict=True):
        block.attn.fused_attn, block.attn.attn_drop = False, Split(ours.attn.lamb)
    torch.testing.assert_close(model(images), reference(images), atol=1e-6, rtol=1e-5)
    model(images).square().sum().backward()
    found = [block.attn.lamb.grad.clone() for block in model.blocks]
    model.zero_grad()
    reference(images).square().sum().backward()
    for gradient, block in zip(found, model.blocks, strict=True):
        torch.testing.assert_close(gradient, block.attn.lamb.grad, atol=1e-5, rtol=1e-5)


def test_mask_aware_and_attention_dropout_exclude_each_other(build: Callable[..., nn.Module]):
    with pytest.raises(ModelError, match="mask_aware and attention dropout"):
        add_scaling(build("swin", attn_drop_rate=0.1), attnscale=True, mask_aware=True)


def test_attention_dropout_set_behind_the_fused_form_is_refused(
    build: Callable[..., nn.Module], images: Tensor
):
    """It would fall on other entries than it is said to: silently another model."""
    model = add_scaling(build("vit"), attnscale=True)
    model.blocks[1].attn.attn_drop.p = 0.1
    assert torch.equal(model(images), build("vit")(images)), "evaluation has no dropout"
    with pytest.raises(
        ModelError, match=r"set to 0\.1 after add_method, but AttnScale .*, then add_method"
    ):
        model.train()(images)


def test_fused_attention_turned_on_where_the_matrix_is_scaled_is_refused(
    build: Callable[..., nn.Module], images: Tensor
):
    """It would pass AttnScale by."""
    model = add_scaling(build("vit", attn_drop_rate=0.1), attnscale=True)
    model.blocks[0].attn.fused_attn = True
    with pytest.raises(ModelError, match=r"after add_method, but AttnScale .* remove_method"):
        model(images)


class Adapted(nn.Module):
    """A linear layer with something beside it, as LoRA's libraries exchange layers for."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base, self.down, self.up = (
            base,
            nn.Linear(base.in_features, 2),
            nn.Linear(2, base.out_features),
        )

    @property
    def weight(self) -> Tensor:
        return self.base.weight

    @property
    def bias(self) -> Tensor:
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


@pytest.mark.parametrize(
    ("kind", "part"), [("vit", "qkv"), ("vit", "proj"), ("eva_unfused", "v_proj"), ("swin", "proj")]
)
def test_adapters_beside_a_layer_whose_weights_are_read_are_refused(
    build: Callable[..., nn.Module], images: Tensor, kind: str, part: str
):
    """The mean of the values, and the projection, would be those of the layer without its
    adapter."""

    def adapt(model: nn.Module) -> nn.Module:
        attention = next(module.attn for module in model.modules() if "attn" in module._modules)
        setattr(attention, part, Adapted(getattr(attention, part)))
        return model

    with pytest.raises(
        ModelError, match=rf"{part} is a test_placement\.Adapted, but a method .* adapters \(LoRA\)"
    ):
        adapt(add_scaling(build(kind), **BOTH))(images)
    adapted = adapt(build(kind))
    before = adapted(images)
    with pytest.raises(ModelError, match=rf"blocks\.0\.attn\.{part} is a"):
        add_scaling(adapted, **BOTH)
    assert torch.equal(adapted(images), before)


def test_featscale_does_not_mind_adapters_on_the_values(
    build: Callable[..., nn.Module], images: Tensor
):
    stock = build("vit")
    stock.blocks[0].attn.qkv = Adapted(stock.blocks[0].attn.qkv)
    expected = stock(images)
    assert torch.equal(add_scaling(stock, featscale=True)(images), expected)


class LowRank(nn.Module):
    """W + B A, as a parametrization."""

    def __init__(self, out_features: int, in_features: int):
        super().__init__()
        self.a = nn.Parameter(torch.randn(2, in_features))
        self.b = nn.Parameter(torch.randn(out_features, 2))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.b @ self.a


def test_parametrized_layers_count_with_all_their_weight(
    build: Callable[..., nn.Module], images: Tensor
):
    model, merged = add_scaling(build("vit"), **BOTH), add_scaling(build("vit"), **BOTH)
    share_random_scales(model, merged)
    for ours, theirs in zip(model.blocks, merged.blocks, strict=True):
        for part in ("qkv", "proj"):
            layer, plain = getattr(ours.attn, part), getattr(theirs.attn, part)
            nn.utils.parametrize.register_parametrization(
                layer, "weight", LowRank(*layer.weight.shape)
            )
            plain.weight.data.copy_(layer.weight)
    torch.testing.assert_close(model(images), merged(images), atol=1e-5, rtol=1e-5)


def test_a_model_that_is_data_parallel_already_is_refused(
    build: Callable[..., nn.Module], tmp_path: Path
):
    """Its reducer would never hear of the scales: each rank would train its own."""
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(build("vit"))
        with pytest.raises(ModelError, match=r"DistributedDataParallel already.*add_method first"):
            add_scaling(model, attnscale=True)
        assert not scales(model)
    finally:
        torch.distributed.destroy_process_group()


def test_scaling_twice_is_refused(build: Callable[..., nn.Module]):
    model = add_scaling(build("vit"), attnscale=True)
    with pytest.raises(ModelError, match=r"blocks\.0\.attn is scaled already"):
        add_scaling(model, featscale=True)


def test_an_unknown_variant_is_refused(build: Callable[..., nn.Module]):
    with pytest.raises(ValueError, match=r"'doubled' is not possible: released .* or paper"):
        add_scaling(build("vit"), featscale=True, variant="doubled")


def test_attnscale_of_cait_folds_into_a_stock_model(
    build: Callable[..., nn.Module], images: Tensor
):
    stock = build("cait")
    model = add_scaling(copy.deepcopy(stock), attnscale=True)
    share_random_scales(model)
    expected = model(images)
    folded = remove_scaling(model)
    assert folded.state_dict().keys() == stock.state_dict().keys()
    stock.load_state_dict(folded.state_dict())
    torch.testing.assert_close(stock(images), expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(folded(images), stock(images))


@pytest.mark.parametrize("kind", BUILDERS)
@pytest.mark.parametrize("attention_dropout", [0.0, 0.1])
def test_zero_scales_come_out_without_a_trace(
    build: Callable[..., nn.Module], images: Tensor, kind: str, attention_dropout: float
):
    stock = build(kind, attn_drop_rate=attention_dropout)
    restored = remove_scaling(add_scaling(copy.deepcopy(stock), **BOTH))
    assert [type(m) for m in restored.modules()] == [type(m) for m in stock.modules()]
    assert [vars(m).keys() for m in restored.modules()] == [vars(m).keys() for m in stock.modules()]
    assert torch.equal(restored(images), stock(images))


@pytest.mark.parametrize(
    ("kind", "method", "named"),
    [
        ("vit", "attnscale", r"blocks\.0\.attn\.lamb"),
        ("cait", "featscale", r"blocks\.0\.lamb1"),
        ("swin", "attnscale", r"layers\.0\.blocks\.0\.attn\.lamb"),
    ],
)
def test_a_scale_that_does_not_fold_is_named(
    build: Callable[..., nn.Module], kind: str, method: str, named: str
):
    model = add_scaling(build(kind), **{method: True})
    share_random_scales(model)
    with pytest.raises(ModelError, match=named):
        remove_scaling(model)
    assert scales(model)


WITHOUT_THE_REST = """
import sys
ABSENT = {"omegaconf", "hydra", "yaml", "mlflow", "submitit", "rich", "matplotlib", "mlxtend"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ModuleNotFoundError(name)
import torch, timm  # timm's own code looks for yaml
sys.meta_path.insert(0, Absent())
from antioversmooth.analysis import measures, overview
from antioversmooth.models import add_scaling
from antioversmooth.models.weights import load_weights
model = timm.create_model("attnscale_small_12", depth=1, embed_dim=6, img_size=32)
add_scaling(timm.create_model("vit_tiny_patch16_224", depth=1, embed_dim=6), featscale=True)
assert len(overview.overview_pictures(measures.measure(model, [torch.ones(1, 3, 32, 32)]))) == 6
"""


def test_the_models_and_their_analysis_need_torch_and_timm_alone():
    """What a clone installed with --no-deps beside them can do."""
    subprocess.run([sys.executable, "-c", WITHOUT_THE_REST], check=True)


def test_importing_the_models_brings_no_launcher_and_no_tracker():
    code = (
        "import sys, antioversmooth.models; print(*{name.partition('.')[0] for name in"
        " sys.modules})"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "timm" in loaded
    assert not {"hydra", "submitit", "mlflow", "matplotlib", "pandas", "sklearn", "rich"} & set(
        loaded
    )

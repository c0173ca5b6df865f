"""LayerScale and ReZero: x + g * branch(x), against timm's own LayerScale and a block written
out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from backbones import BUILDERS, TINY, randomised
from comparison import assert_equal_numbers, gradients
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from antioversmooth.errors import ModelError
from antioversmooth.models import add_method, remove_method
from antioversmooth.models.placement import scales

METHODS = {"layerscale": "gamma", "rezero": "alpha"}
METHOD = pytest.mark.parametrize("method", METHODS)
VIT = ["vit", "deit_distilled", "vit_registers", "vit_no_class_token"]
KIND = pytest.mark.parametrize("kind", [*VIT, "swin"])


class WrittenOut(nn.Module):
    """A block of timm's ViT or Swin with a factor on each branch, in two lines."""

    def __init__(self, block: nn.Module, name: str, *factors: Tensor):
        super().__init__()
        self.block = block
        for place, factor in zip(("ls1", "ls2"), factors, strict=True):
            holder = nn.Module()
            holder.register_parameter(name, nn.Parameter(factor.detach().clone()))
            block.add_module(place, holder)

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        first, second = (next(place.parameters()) for place in (block.ls1, block.ls2))
        attention = block._attn if hasattr(block, "_attn") else block.attn
        x = x + block.drop_path1(first * attention(block.norm1(x)))
        return x + block.drop_path2(second * block.mlp(block.norm2(x)))


def written_out(stock: nn.Module, ours: nn.Module, name: str) -> nn.Module:
    """The stock model with the factors of ours in blocks that are written out."""
    model = copy.deepcopy(stock)
    for path, block in list(ours.named_modules()):
        if "ls1" in block._modules:
            parent, _, index = path.rpartition(".")
            factors = [getattr(place, name) for place in (block.ls1, block.ls2)]
            replaced = WrittenOut(model.get_submodule(path), name, *factors)
            model.get_submodule(parent)[int(index)] = replaced
    return model


def with_random_factors(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for factor in scales(model).values():
            factor.copy_(torch.randn_like(factor))
    return model


@KIND
@METHOD
def test_outputs_and_gradients_equal_the_blocks_written_out(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str
) -> None:
    stock = build(kind, proj_drop_rate=0.2, drop_path_rate=0.2).double()
    ours = with_random_factors(add_method(copy.deepcopy(stock), method))
    explicit = written_out(stock, ours, METHODS[method])
    for training in (False, True):
        found, expected = (
            {
                name.replace(".block.", "."): value
                for name, value in gradients(model.train(training), images.double()).items()
            }
            for model in (ours, explicit)
        )
        assert_equal_numbers(found, expected, 1e-12)


def test_layerscale_is_timms_own(images: Tensor) -> None:
    """The same keys, the same start, the same numbers to the bit."""
    theirs = VisionTransformer(**TINY, init_values=0.1).eval()
    ours = add_method(VisionTransformer(**TINY).eval(), "layerscale", init=0.1)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(p, torch.full((24,), 0.1)) for p in scales(ours).values())
    ours.load_state_dict(randomised(theirs).state_dict())
    found, expected = gradients(ours, images), gradients(theirs, images)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_blocks_of_rezero_add_nothing_at_the_start(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    model = add_method(build("vit"), "rezero")
    x = torch.randn(3, 17, 24)
    assert torch.equal(model.blocks(x), x)
    assert {name: p.shape for name, p in scales(model).items()} == {
        f"blocks.{i}.ls{j}.alpha": (1,) for i in (0, 1) for j in (1, 2)
    }
    model(images).square().sum().backward()
    assert all(p.grad.abs() > 0 for p in scales(model).values())


@KIND
@METHOD
def test_factors_fold_into_a_plain_model(
    build: Callable[..., nn.Module], images: Tensor, kind: str, method: str
) -> None:
    stock = build(kind)
    model = with_random_factors(add_method(copy.deepcopy(stock), method))
    expected = model(images)
    plain = remove_method(model)
    assert [type(m) for m in plain.modules()] == [type(m) for m in stock.modules()]
    stock.load_state_dict(plain.state_dict())
    torch.testing.assert_close(stock(images), expected, atol=1e-5, rtol=1e-5)


@METHOD
def test_factors_have_no_weight_decay(build: Callable[..., nn.Module], method: str) -> None:
    model = add_method(build("swin"), method)
    assert scales(model).keys() <= model.no_weight_decay()
    decayed = [g["params"] for g in param_groups_weight_decay(model, 0.05) if g["weight_decay"] > 0]
    assert not {id(p) for p in scales(model).values()} & {id(p) for group in decayed for p in group}


@METHOD
@pytest.mark.parametrize(
    ("kind", "why"),
    [
        ("cait", "vit and swin only"),
        ("deit3", "has LayerScale already"),
        ("beit", "has LayerScale already"),
        ("swin_v2", "SwinTransformerV2Block"),
        ("eva", "EvaBlock"),
    ],
)
def test_other_blocks_are_refused_by_name_and_left_unchanged(
    build: Callable[..., nn.Module], images: Tensor, kind: str, why: str, method: str
) -> None:
    model = build(kind)
    before, keys = model(images), model.state_dict().keys()
    with pytest.raises(ModelError, match=why):
        add_method(model, method)
    assert model.state_dict().keys() == keys
    assert torch.equal(model(images), before)


def test_a_start_of_zero_is_refused() -> None:
    """timm reads it as no LayerScale."""
    with pytest.raises(ValueError, match=r"init=0\.0 is not possible: above 0"):
        add_method(BUILDERS["vit"](), "layerscale", init=0.0)


def test_a_branch_without_a_linear_end_is_refused_and_the_model_stays(
    build: Callable[..., nn.Module],
) -> None:
    model: Any = build("vit")
    model.blocks[1].mlp = nn.Identity()
    before = [type(module) for module in model.modules()]
    with pytest.raises(ModelError, match=r"blocks\.1.* no linear layer mlp\.fc2"):
        add_method(model, "layerscale")
    assert [type(module) for module in model.modules()] == before

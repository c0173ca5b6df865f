"""Re-attention against a convolution over heads and torch's batch norm."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from comparison import assert_equal_numbers, gradients
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn

from antioversmooth.analysis import bounds
from antioversmooth.analysis.hooks import evaluation_mode, hook_attention
from antioversmooth.errors import ModelError
from antioversmooth.models import add_method, remove_method
from antioversmooth.models.placement import scales
from antioversmooth.models.reattention import HeadMixing

KIND = pytest.mark.parametrize("kind", ["vit", "deit_distilled", "beit", "eva_rope"])


def written_out(stock: nn.Module, ours: nn.Module) -> nn.Module:
    """The stock model with convolution and batch norm behind its attention dropout, as released."""
    model = copy.deepcopy(stock)
    blocks: Any = zip(model.blocks, ours.blocks, strict=True)
    for block, placed in blocks:
        heads, mixing = block.attn.num_heads, placed.attn.mixing
        conv = nn.Conv2d(heads, heads, 1, bias=False).double()
        norm = nn.BatchNorm2d(heads).double()
        with torch.no_grad():
            conv.weight.copy_(mixing.theta[:, :, None, None])
            norm.weight.copy_(mixing.gain)
            norm.bias.copy_(mixing.shift)
        block.attn.fused_attn = False
        block.attn.attn_drop = nn.Sequential(block.attn.attn_drop, conv, norm)
    return model


NAMES = {"attn.1.weight": "theta", "attn.2.weight": "gain", "attn.2.bias": "shift"}


def renamed(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Numbers of the written model under the names of ours."""
    result = {}
    for name, value in found.items():
        ending = ".".join(name.split(".")[2:])
        if ending in NAMES:
            name = name.replace(ending, f"attn.mixing.{NAMES[ending]}")
        result[name] = value[:, :, 0, 0] if name.endswith("theta") else value
    return result


def randomised_mixing(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in scales(model).values():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


@KIND
@pytest.mark.parametrize("attention_dropout", [0.0, 0.2])
def test_outputs_and_gradients_equal_the_released_form(
    build: Callable[..., nn.Module], images: Tensor, kind: str, attention_dropout: float
) -> None:
    stock = build(kind, attn_drop_rate=attention_dropout, drop_path_rate=0.2).double()
    ours = randomised_mixing(add_method(copy.deepcopy(stock), "reattention", group=3).double())
    explicit = written_out(stock, ours)
    for training in (True, False):
        found = gradients(ours.train(training), images.double())
        expected = renamed(gradients(explicit.train(training), images.double()))
        assert_equal_numbers(found, expected, 1e-10)
    for block, written in zip(ours.blocks, explicit.blocks, strict=True):
        norm = written.attn.attn_drop[2]
        torch.testing.assert_close(block.attn.mixing.running_mean, norm.running_mean)
        torch.testing.assert_close(block.attn.mixing.running_var, norm.running_var)


def maps(images: int, tokens: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(images, 3, tokens, tokens, generator=generator).double().softmax(-1)


def test_it_centres_attention_and_mixes_its_heads() -> None:
    """M_g = shift_g + gain_g / sigma_g sum_h Theta_gh (A_h - A_LP): row sums are those of shift."""
    mixing = HeadMixing(3, group=4).double()
    attention = maps(4)
    found = mixing(attention)
    torch.testing.assert_close(found.sum(-1), torch.zeros(4, 3, 9).double(), atol=1e-10, rtol=0)
    centred = torch.einsum("gh,bhnm->bgnm", mixing.theta, attention - 1 / 9)
    variance = centred.square().mean((0, 2, 3), keepdim=True)
    torch.testing.assert_close(found, centred / (variance + 1e-5).sqrt())


def test_a_bias_of_the_mixing_would_change_nothing() -> None:
    """The released code trains one: its gradient is rounding, which AdamW makes steps of."""
    mixing, conv = HeadMixing(3, group=4).double(), nn.Conv2d(3, 3, 1).double()
    with torch.no_grad():
        conv.weight.copy_(mixing.theta[:, :, None, None])
    found = nn.BatchNorm2d(3).double()(conv(maps(4)))
    torch.testing.assert_close(found, mixing(maps(4)))
    found.square().sum().backward()
    assert conv.bias.grad.abs().max() < 1e-9 * conv.weight.grad.abs().max()


def test_statistics_are_of_groups_whatever_the_forward_passes_hold() -> None:
    together, apart = HeadMixing(3, group=2).double(), HeadMixing(3, group=2).double()
    apart.load_state_dict(together.state_dict())
    together.updates = apart.updates = False
    attention = maps(8)
    whole = together(attention)
    parts = [apart(part) for part in (attention[:2], attention[2:6], attention[6:])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-12, rtol=0)
    assert torch.equal(together.running_var, torch.ones(3).double()), "update was not called yet"
    for mixing in (together, apart):
        mixing.update()
    torch.testing.assert_close(together.running_mean, apart.running_mean)
    torch.testing.assert_close(together.running_var, apart.running_var)
    mixed = torch.einsum("gh,bhnm->bgnm", together.theta, attention).unflatten(0, (4, 2))
    unbiased = mixed.transpose(1, 2).flatten(2).var(-1).mean(0)
    torch.testing.assert_close(together.running_var, 0.9 + 0.1 * unbiased)


def test_a_recomputed_forward_pass_leaves_the_running_statistics_as_they_are() -> None:
    """Gradient checkpointing calls the layer twice a step."""
    once, twice = HeadMixing(3, group=2).double(), HeadMixing(3, group=2).double()
    twice.load_state_dict(once.state_dict())
    once.updates = twice.updates = False
    for mixing, times in ((once, 1), (twice, 2)):
        for _ in range(times):
            mixing(maps(4))
        mixing.update()
    torch.testing.assert_close(once.running_var, twice.running_var)


def test_images_that_are_no_multiple_of_the_group_are_refused_in_training() -> None:
    mixing = HeadMixing(3, group=4).double()
    with pytest.raises(ModelError, match="6 images is not a multiple of"):
        mixing(maps(6))
    assert mixing.eval()(maps(6)).shape == (6, 3, 9, 9)


def test_half_precision_keeps_the_differences_between_flat_maps() -> None:
    """Autocast would mix entries of 1/197 in bfloat16, whose step there is larger than they
    differ by."""
    mixing = HeadMixing(3, group=2)
    attention = (torch.randn(2, 3, 197, 197) * 0.01).softmax(-1)
    expected = mixing(attention)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = mixing(attention)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_theta_has_weight_decay_as_released_and_the_norm_none(
    build: Callable[..., nn.Module],
) -> None:
    model = add_method(build("vit"), "reattention")
    assert {name: tuple(p.shape) for name, p in scales(model).items()} == {
        f"blocks.{i}.attn.mixing.{name}": shape
        for i in (0, 1)
        for name, shape in {"theta": (3, 3), "gain": (3,), "shift": (3,)}.items()
    }
    groups = param_groups_weight_decay(model, 0.05, no_weight_decay_list=model.no_weight_decay())
    decayed = {id(p) for g in groups if g["weight_decay"] > 0 for p in g["params"]}
    found = {name for name, p in scales(model).items() if id(p) in decayed}
    assert found == {"blocks.0.attn.mixing.theta", "blocks.1.attn.mixing.theta"}


def test_the_analysis_sees_the_mixed_map_and_no_theorem_covers_it(
    build: Callable[..., nn.Module], images: Tensor
) -> None:
    model = randomised_mixing(add_method(build("vit"), "reattention", group=3))
    seen = []
    with evaluation_mode(model), hook_attention(model, lambda layer, found: seen.append(found)):
        model(images)
    for activations in seen:
        mixing = activations.layer.mixing
        torch.testing.assert_close(activations.unscaled.sum(-1), torch.ones(3, 3, 17))
        torch.testing.assert_close(activations.map, mixing.eval()(activations.unscaled))
        assert not bounds.holds_for(activations.layer)


@pytest.mark.parametrize(("kind", "family"), [("cait", "cait"), ("swin", "swin")])
def test_other_families_are_refused_by_name(
    build: Callable[..., nn.Module], kind: str, family: str
) -> None:
    with pytest.raises(ModelError, match=family):
        add_method(build(kind), "reattention")


def test_it_cannot_be_removed(build: Callable[..., nn.Module]) -> None:
    with pytest.raises(ModelError, match=r"blocks\.0\.attn\.mixing\.theta .*cannot be folded"):
        remove_method(add_method(build("vit"), "reattention"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [False, True])
def test_a_model_in_half_precision_computes_the_same_up_to_its_rounding(
    build: Callable[..., nn.Module], images: Tensor, dtype: torch.dtype, training: bool
) -> None:
    model = add_method(build("vit"), "reattention", group=1).train(training)
    half = copy.deepcopy(model).to(dtype)
    found = half(images.to(dtype))
    assert found.dtype == dtype
    # rounding of 8 or 11 bits through two blocks
    torch.testing.assert_close(found.float(), model(images), rtol=0, atol=0.15)
    found.sum().backward()
    assert all(p.grad.isfinite().all() for p in scales(half).values())


def test_half_precision_rounds_the_map_once() -> None:
    """Mixing and norm are in float32, whatever the type of the parameters."""
    mixing = randomised_half(HeadMixing(3, group=2)).eval()
    attention = (torch.randn(2, 3, 9, 9) * 2).softmax(-1).bfloat16()
    expected = copy.deepcopy(mixing).float()(attention.float())
    assert torch.equal(mixing(attention), expected.bfloat16())


def randomised_half(mixing: HeadMixing) -> HeadMixing:
    """Rounded to bfloat16."""
    with torch.no_grad():
        for values in (*mixing.parameters(), mixing.running_mean):
            values.add_(torch.randn_like(values) * 0.3)
    return mixing.bfloat16()

"""Masks of dropout and drop path: whose they are, how often they drop, and that no layer of a model
draws its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from processes import tiny
from timm.layers.drop import DropPath
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter
from torch.utils._python_dispatch import TorchDispatchMode

from antioversmooth.runs import Run
from antioversmooth.training.step.dropout import (
    FusedDropout,
    IndexedDropout,
    IndexedDropouts,
    IndexedDropPath,
)
from antioversmooth.training.weights.initial import new_model

BATCH, GROUP = 24, 4
ON = (
    "recipe.dropout=0.2",
    "recipe.drop_path=0.4",
    f"recipe.global_batch={BATCH}",
    f"recipe.mix_group={GROUP}",
)
SMALL = {
    "cait_s24": ["model.class_depth=1"],
    "swin_s": [
        "model.depth=4",
        "model.stage_depths=[2,2]",
        "model.patch_size=1",
        "model.window_size=2",
    ],
}


@pytest.fixture
def model_with_dropouts(
    make_run: Callable[..., Run],
) -> Callable[..., tuple[nn.Module, IndexedDropouts]]:
    """Makes the tiny model of a row in training mode, with scales that are not zero, and what drops
    in it."""

    def make(
        name: str, *overrides: str, scaling: str = "none"
    ) -> tuple[nn.Module, IndexedDropouts]:
        run = make_run(
            name, *tiny(*ON, *SMALL.get(name, ()), f"model.method={scaling}", *overrides)
        )
        model = new_model(run.experiment, seed=0).train()
        for parameter_name, parameter in model.named_parameters():
            if "lamb" in parameter_name:
                nn.init.uniform_(parameter, -0.5, 0.5)
        return model, IndexedDropouts(model, run.experiment.recipe, seed=run.seed)

    return make


def forward_passes(
    model: Callable[[Tensor], Tensor],
    dropouts: IndexedDropouts,
    images: Tensor,
    sizes: list[int],
    step: int = 3,
) -> Tensor:
    """The outputs for a global batch that goes through the model in passes of these sizes, the last
    one first."""
    found: list[Tensor] = []
    first = len(images)
    for size in sizes:
        first -= size
        part = images[first : first + size]
        dropouts.draw(step, first, part)
        found.insert(0, model(part))
    return torch.cat(found)


@pytest.mark.parametrize("attention_dropout", [0.0, 0.3])
@pytest.mark.parametrize("scaling", ["none", "attnscale", "featscale"])
@pytest.mark.parametrize("name", ["deit_s12", "cait_s24", "swin_s"])
def test_a_sample_is_dropped_from_alike_in_whatever_pass_it_is(
    model_with_dropouts: Callable[..., tuple[nn.Module, IndexedDropouts]],
    name: str,
    scaling: str,
    attention_dropout: float,
) -> None:
    """Also in passes that cut through groups, as they may where nothing is mixed."""
    model, dropouts = model_with_dropouts(
        name, f"recipe.attention_dropout={attention_dropout}", scaling=scaling
    )
    images = torch.randn(BATCH, 1, 8, 8)
    whole = forward_passes(model, dropouts, images, [BATCH])
    for sizes in ([12, 12], [4] * 6, [1, 7, 16]):
        torch.testing.assert_close(
            forward_passes(model, dropouts, images, sizes), whole, atol=1e-5, rtol=1e-5
        )
    for other in (
        forward_passes(model, dropouts, images, [BATCH], step=4),
        forward_passes(model.eval(), dropouts, images, [BATCH]),
    ):
        assert not torch.allclose(other, whole, atol=1e-2)


@pytest.mark.parametrize("name", ["deit_s12", "deit_s12_distilled", "cait_s24", "swin_s"])
def test_no_layer_is_left_that_draws_for_the_pass(
    model_with_dropouts: Callable[..., tuple[nn.Module, IndexedDropouts]], name: str
) -> None:
    """And nothing draws from torch's own generators."""
    model, dropouts = model_with_dropouts(name, "recipe.attention_dropout=0.1")
    drops = [m for m in model.modules() if getattr(m, "p", 0) > 0 or getattr(m, "drop_prob", 0) > 0]
    assert all(isinstance(module, IndexedDropout | IndexedDropPath) for module in drops)
    assert {type(module) for module in drops} == {IndexedDropout, IndexedDropPath}
    before = torch.get_rng_state()
    forward_passes(
        model, dropouts, torch.randn(BATCH, 1, 8, 8, generator=torch.Generator()), [BATCH]
    )
    assert torch.equal(torch.get_rng_state(), before)


def indexed(module: Any, recipe_of: Callable[..., Run]) -> tuple[Any, IndexedDropouts]:
    holder = nn.Sequential(module)
    return holder[0], IndexedDropouts(holder, recipe_of(*tiny(*ON)).experiment.recipe, seed=0)


@pytest.fixture
def recipe_of(make_run: Callable[..., Run]) -> Callable[..., Run]:
    return lambda *overrides: make_run("deit_s12", *overrides)


def test_dropout_zeroes_elements_at_its_rate_and_scales_the_others(
    recipe_of: Callable[..., Run],
) -> None:
    layer, dropouts = indexed(nn.Dropout(0.2), recipe_of)
    x = torch.rand(BATCH, 50, 40, requires_grad=True)
    dropouts.draw(7, 0, x)
    out = layer(x)
    gone = out == 0
    # 48,000 draws: five standard deviations
    assert gone.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert torch.allclose(out[~gone], x[~gone] / 0.8)
    out.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad == 0, gone)
    assert torch.allclose(x.grad[~gone], torch.tensor(1 / 0.8))
    per_sample = gone.flatten(1).float()
    correlation = torch.corrcoef(per_sample) - torch.eye(BATCH)
    # 2,000 draws each; no two samples have the same mask
    assert correlation.abs().max() < 0.12


@pytest.mark.parametrize("compiled", [False, True])
def test_the_product_of_a_gpu_is_that_of_a_cpu(compiled: bool) -> None:
    """The operation that a GPU has one kernel for, as the CPU computes it."""
    apply = FusedDropout.apply
    product = torch.compile(apply, backend="aot_eager", fullgraph=True) if compiled else apply
    x, mask = torch.randn(50, 40, requires_grad=True), torch.rand(50, 40) > 0.2
    found = product(x, mask, 1 / 0.8)
    torch.testing.assert_close(found, torch.where(mask, x / 0.8, 0))
    weights = torch.randn(50, 40)
    (gradient,) = torch.autograd.grad((found * weights).sum(), x)
    torch.testing.assert_close(gradient, torch.where(mask, weights / 0.8, 0))


def test_drop_path_drops_samples_at_its_rate_and_scales_the_others(
    recipe_of: Callable[..., Run],
) -> None:
    layer, dropouts = indexed(DropPath(0.25), recipe_of)
    x = torch.rand(BATCH, 3, 2) + 0.1
    kept_samples = []
    for step in range(400):
        dropouts.draw(step, 0, x)
        out = layer(x)
        gone = (out == 0).flatten(1)
        assert torch.equal(gone.all(1), gone.any(1))
        assert torch.allclose(out[~gone.any(1)], x[~gone.any(1)] / 0.75)
        kept_samples.append(~gone.any(1))
    rates = torch.stack(kept_samples).float()
    # 9,600 draws
    assert rates.mean().item() == pytest.approx(0.75, abs=0.025)
    # 400 draws of each sample
    assert rates.mean(0).min() > 0.6


def test_both_branches_of_a_cait_block_have_a_draw_of_their_own(
    model_with_dropouts: Callable[..., tuple[nn.Module, IndexedDropouts]],
) -> None:
    """As in timm, where one layer is called twice, and draws anew."""
    model, dropouts = model_with_dropouts("cait_s24", "recipe.dropout=0")
    seen: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, IndexedDropPath):
            module.register_forward_hook(
                lambda _, __, out: seen.append((out == 0).flatten(1).all(1))
            )
    forward_passes(model, dropouts, torch.randn(BATCH, 1, 8, 8), [BATCH])
    # two blocks
    assert len(seen) == 4
    assert len({tuple(gone.tolist()) for gone in seen}) == 4


class Draws(TorchDispatchMode):
    """Counts what is drawn, by the name of the operation."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        self.counted[name] += name.startswith(("bernoulli", "normal", "uniform", "random", "rand"))
        return func(*args, **(kwargs or {}))


def test_all_masks_of_a_pass_are_drawn_before_it_once_a_group(
    model_with_dropouts: Callable[..., tuple[nn.Module, IndexedDropouts]],
) -> None:
    """However many layers the model has: here dropout and attention dropout have a rate each."""
    model, dropouts = model_with_dropouts("deit_s12", "recipe.attention_dropout=0.1")
    images = torch.randn(BATCH, 1, 8, 8)
    dropouts.draw(0, 0, images)
    with Draws() as drawn:
        dropouts.draw(1, 0, images)
        assert drawn.counted.total() == drawn.counted["bernoulli_"] == 2 * BATCH // GROUP
        model(images)
        assert drawn.counted.total() == 2 * BATCH // GROUP


def test_masks_of_two_layers_of_a_shape_have_nothing_in_common(
    model_with_dropouts: Callable[..., tuple[nn.Module, IndexedDropouts]],
) -> None:
    _, dropouts = model_with_dropouts("deit_s12", "recipe.dropout=0.5", "model.embed_dim=64")
    dropouts.draw(0, 0, torch.randn(BATCH, 1, 8, 8))
    masks = [layer.mask.flatten() for layer in dropouts.dropouts]
    shape = max({len(mask) for mask in masks}, key=[len(mask) for mask in masks].count)
    alike = torch.stack([mask for mask in masks if len(mask) == shape])
    assert len(alike) >= 3
    correlation = torch.corrcoef(alike) - torch.eye(len(alike))
    # at least 7,680 draws each: five standard deviations
    assert correlation.abs().max() < 0.06


@pytest.mark.parametrize("name", ["deit_s12", "cait_s24"])
def test_a_model_is_compiled_once_for_all_steps_without_a_graph_break(
    model_with_dropouts: Callable[..., tuple[nn.Module, IndexedDropouts]], name: str
) -> None:
    model, dropouts = model_with_dropouts(name, scaling="attnscale")
    images = torch.randn(BATCH, 1, 8, 8)
    expected = [forward_passes(model, dropouts, images, [12, 12], step=step) for step in range(3)]
    torch.compiler.reset()
    counter = CompileCounter()
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=False)
    for step, eager in enumerate(expected):
        torch.testing.assert_close(
            forward_passes(compiled, dropouts, images, [12, 12], step=step), eager
        )
    assert counter.frame_count == 1

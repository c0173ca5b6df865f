"""The step against a straightforward loop that shares nothing with it but the model and the order of images."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import processes
import pytest
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import nn

from antioversmooth import journal
from antioversmooth.config import Experiment
from antioversmooth.errors import AttemptEnded
from antioversmooth.runs import Run
from antioversmooth.training import checkpoint
from antioversmooth.training.data import ArrayImages, open_data
from antioversmooth.training.initial import new_model
from antioversmooth.training.sampling import SampleOrder
from antioversmooth.training.train import train

PLAIN = (
    "recipe.mix_prob=0",
    "recipe.random_erasing=0",
    "recipe.dropout=0",
    "recipe.drop_path=0",
    "recipe.clip_grad=0.5",
    "recipe.ema_decay=0.9",
    "model.scaling=featscale",
)


def reference(config: Experiment, model: nn.Module, steps: int) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses, and the moving average of the weights, of a plain loop."""
    recipe, data = config.recipe, config.data
    images = open_data(data).train
    assert isinstance(images, ArrayImages)
    inputs = (torch.tensor(images.pixels)[:, None] / 255 - data.mean[0]) / data.std[0]
    labels = torch.tensor(images.labels)
    named = dict(model.named_parameters())
    free = [p for name, p in named.items() if p.ndim < 2 or name in ("pos_embed", "cls_token")]
    decaying = [p for p in named.values() if not any(p is other for other in free)]
    groups = [{"params": free, "weight_decay": 0.0}, {"params": decaying, "weight_decay": recipe.weight_decay}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999), eps=1e-8)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    order = SampleOrder(data.num_train, recipe.global_batch, seed=0).images(0)
    losses = []
    for step in range(steps):
        chosen = torch.tensor(order[step * 128 : (step + 1) * 128])
        warmup = round(recipe.warmup_epochs * config.steps_per_epoch)
        assert step < warmup
        for group in optimizer.param_groups:
            group["lr"] = recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * step / warmup
        loss = F.cross_entropy(model(inputs[chosen]), labels[chosen], label_smoothing=recipe.label_smoothing)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        for name, value in model.state_dict().items():
            average[name] = 0.9 * average[name] + 0.1 * value
        losses.append(loss.item())
    return losses, average


def determined(name: str, value: torch.Tensor) -> torch.Tensor:
    """Without the keys' bias, which the softmax cancels: its gradient is rounding noise, blown up by Adam."""
    if not name.endswith("qkv.bias"):
        return value
    query, _, values = value.chunk(3)
    return torch.cat([query, values])


@pytest.mark.parametrize("passes", [1, 4])
def test_steps_are_those_of_a_plain_loop(tiny_run: Callable[..., Run], passes: int) -> None:
    run = tiny_run(*PLAIN, f"runtime.device_batch={128 // passes}", "runtime.max_steps=5")
    with pytest.raises(AttemptEnded):
        train(run)
    model = new_model(run.experiment, seed=0)
    losses, average = reference(run.experiment, model, steps=5)
    assert [r[journal.TRAIN_LOSS] for r in run.metrics()] == pytest.approx(losses, abs=1e-6, rel=0)
    state = checkpoint.lineage(run)[0].load()
    for name, value in model.state_dict().items():
        for ours, expected in ((state["model"][name], value), (state["ema"][name], average[name])):
            assert torch.allclose(determined(name, ours), determined(name, expected), atol=1e-5, rtol=0), name


@pytest.mark.parametrize("name", ["deit_s12_attnscale", "deit_s12_featscale"])
def test_gradient_checkpointing_computes_blocks_again_and_changes_no_number(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With dropout and drop path on: what is drawn in the forward pass is drawn again."""
    calls: list[int] = []
    stock = Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, *args, **kw: (calls.append(1), stock(self, *args, **kw))[1])
    losses, forwards = [], []
    for checkpointing in ("false", "true"):
        run = tiny_run(f"runtime.gradient_checkpointing={checkpointing}", "runtime.max_steps=2", name=name)
        run = replace(run, dir=run.dir.with_name(f"{run.dir.name}-{checkpointing}"))
        run.prepare()
        calls.clear()
        with pytest.raises(AttemptEnded):
            train(run)
        losses.append([record[journal.TRAIN_LOSS] for record in run.metrics()])
        forwards.append(len(calls))
    assert losses[0] == losses[1]
    assert forwards[1] > forwards[0]


@pytest.fixture
def compiled_losses(tiny_run: Callable[..., Run]) -> Callable[..., list[float]]:
    """Losses of two steps on so many ranks, with dropout and drop path on; their checkpoint has plain names."""

    def measure(name: str, compiler: str, *overrides: str, ranks: int = 1) -> list[float]:
        run = tiny_run(f"runtime.compile={compiler}", "runtime.max_steps=2", *overrides, name=name)
        for needed in run.needs:
            needed.prepare()
        run = replace(run, dir=run.dir.with_name(f"{run.dir.name}-{compiler}-{ranks}"))
        run.prepare()
        assert processes.train(run, ranks=ranks) == [os.EX_TEMPFAIL] * ranks
        keys = new_model(run.experiment, 0).state_dict().keys()
        state = checkpoint.lineage(run)[0].load()
        assert state["model"].keys() == state["ema"].keys() == keys
        return [record[journal.TRAIN_LOSS] for record in run.metrics()]

    return measure


@pytest.mark.parametrize("name", ["deit_s12_attnscale", "deit_s12_featscale"])
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_a_compiled_step_is_the_same_step(
    compiled_losses: Callable[..., list[float]], name: str, checkpointing: str
) -> None:
    """The same masks of dropout, too; a checkpoint keeps the plain names of its weights."""
    overrides = f"runtime.gradient_checkpointing={checkpointing}"
    eager, compiled = (compiled_losses(name, compiler, overrides) for compiler in ("none", "aot_eager"))
    assert compiled == pytest.approx(eager, abs=1e-6, rel=0)


def test_ranks_compile_each_their_own_and_agree(compiled_losses: Callable[..., list[float]]) -> None:
    """With two passes a step: gradients are exchanged with the second one only."""
    passes = "runtime.device_batch=32"
    eager, compiled = (compiled_losses("deit_s12_attnscale", c, passes, ranks=2) for c in ("none", "aot_eager"))
    assert compiled == pytest.approx(eager, abs=1e-6, rel=0)


@pytest.mark.slow
def test_generated_code_computes_the_same_step(compiled_losses: Callable[..., list[float]]) -> None:
    small = ("runtime.gradient_checkpointing=true", "model.depth=1")
    eager, compiled = (compiled_losses("deit_s12_featscale", c, *small) for c in ("none", "inductor"))
    assert compiled == pytest.approx(eager, abs=1e-5, rel=0)

"""The step against a straightforward loop that shares nothing with it but the model and the order
of images."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import processes
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from outcomes import assert_bit_equal, losses
from timm.models.vision_transformer import Block
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from antioversmooth.config import Compiler, Experiment
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.datasets.images import ArrayImages
from antioversmooth.errors import AttemptEnded
from antioversmooth.runs import Run
from antioversmooth.training.data.loading import Batch, Loaders
from antioversmooth.training.data.sampling import MicroBatches, SampleOrder
from antioversmooth.training.run.checkpoint import load_state
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.step import learner as learners
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.step.meter import Meter
from antioversmooth.training.train import train
from antioversmooth.training.weights.initial import new_model

ALONE = Ranks(RankInfo(0, 1, 0, 1, "alone"), torch.device("cpu"), None)
PLAIN = (
    "recipe.mix_prob=0",
    "recipe.random_erasing=0",
    "recipe.dropout=0",
    "recipe.drop_path=0",
    "recipe.clip_grad=0.5",
    "recipe.ema_decay=0.9",
    "recipe.method_lr_factor=1",
    "model.method=featscale",
)


def reference(
    config: Experiment, model: nn.Module, steps: int
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses, and the moving average of the weights, of a plain loop."""
    recipe, data = config.recipe, config.data
    images = open_dataset(data).train
    assert isinstance(images, ArrayImages)
    labels = torch.tensor(images.labels)
    pixels = torch.from_numpy(images.pixels)
    inputs = (pixels / 255 - data.mean[0]) / data.std[0]
    named = dict(model.named_parameters())
    free = [p for name, p in named.items() if p.ndim < 2 or name in ("pos_embed", "cls_token")]
    decaying = [p for p in named.values() if not any(p is other for other in free)]
    groups = [
        {"params": free, "weight_decay": 0.0},
        {"params": decaying, "weight_decay": recipe.weight_decay},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.999), eps=1e-8)
    average = {name: value.clone() for name, value in model.state_dict().items()}
    order = SampleOrder(data.num_train, recipe.global_batch, seed=0).images(0)
    found = []
    for step in range(steps):
        chosen = torch.tensor(order[step * 128 : (step + 1) * 128])
        warmup = round(recipe.warmup_epochs * config.steps_per_epoch)
        assert step < warmup
        for group in optimizer.param_groups:
            group["lr"] = recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * step / warmup
        loss = F.cross_entropy(
            model(inputs[chosen]), labels[chosen], label_smoothing=recipe.label_smoothing
        )
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        optimizer.zero_grad()
        for name, value in model.state_dict().items():
            average[name] = 0.9 * average[name] + 0.1 * value
        found.append(loss.item())
    return found, average


def determined(name: str, value: torch.Tensor) -> torch.Tensor:
    """Without the keys' bias, which the softmax cancels: its gradient is rounding noise, blown up
    by Adam."""
    if not name.endswith("qkv.bias"):
        return value
    query, _, values = value.chunk(3)
    return torch.cat([query, values])


@pytest.mark.parametrize("accumulation_steps", [1, 4])
def test_steps_are_those_of_a_plain_loop(
    tiny_run: Callable[..., Run], accumulation_steps: int
) -> None:
    run = tiny_run(
        *PLAIN, f"runtime.device_batch={128 // accumulation_steps}", "runtime.max_steps=5"
    )
    with pytest.raises(AttemptEnded):
        train(run)
    model = new_model(run.experiment, seed=0)
    expected, average = reference(run.experiment, model, steps=5)
    assert losses(run) == pytest.approx(expected, abs=1e-6, rel=0)
    state = load_state(run.checkpoints()[0].path)
    for name, value in model.state_dict().items():
        for ours, theirs in ((state["model"][name], value), (state["ema"][name], average[name])):
            assert torch.allclose(
                determined(name, ours), determined(name, theirs), atol=1e-5, rtol=0
            ), name


@pytest.mark.parametrize("name", ["deit_s12_attnscale", "deit_s12_featscale"])
def test_gradient_checkpointing_computes_blocks_again_and_changes_no_number(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """With dropout and drop path on: what is drawn in the forward pass is drawn again."""
    calls: list[int] = []
    stock = Block.forward
    monkeypatch.setattr(
        Block, "forward", lambda self, *args, **kw: (calls.append(1), stock(self, *args, **kw))[1]
    )
    found, forwards = [], []
    for checkpointing in ("false", "true"):
        run = tiny_run(
            f"runtime.gradient_checkpointing={checkpointing}", "runtime.max_steps=2", name=name
        )
        run = replace(run, dir=run.dir.with_name(f"{run.dir.name}-{checkpointing}"))
        run.prepare()
        calls.clear()
        with pytest.raises(AttemptEnded):
            train(run)
        found.append(losses(run))
        forwards.append(len(calls))
    assert found[0] == found[1]
    assert forwards[1] > forwards[0]


@pytest.fixture
def compiled_losses(tiny_run: Callable[..., Run]) -> Callable[..., list[float]]:
    """Losses of two steps on so many ranks, with dropout and drop path on; their checkpoint has
    plain names."""

    def measure(name: str, compiler: str, *overrides: str, ranks: int = 1) -> list[float]:
        run = tiny_run(f"runtime.compile={compiler}", "runtime.max_steps=2", *overrides, name=name)
        for needed in run.dependencies:
            needed.prepare()
        run = replace(run, dir=run.dir.with_name(f"{run.dir.name}-{compiler}-{ranks}"))
        run.prepare()
        assert processes.train(run, ranks=ranks) == [os.EX_TEMPFAIL] * ranks
        keys = new_model(run.experiment, 0).state_dict().keys()
        state = load_state(run.checkpoints()[0].path)
        assert state["model"].keys() == state["ema"].keys() == keys
        return losses(run)

    return measure


@pytest.mark.parametrize("name", ["deit_s12_attnscale", "deit_s12_featscale"])
@pytest.mark.parametrize("checkpointing", ["false", "true"])
def test_a_compiled_step_is_the_same_step(
    compiled_losses: Callable[..., list[float]], name: str, checkpointing: str
) -> None:
    """The same masks of dropout, too; a checkpoint keeps the plain names of its weights."""
    overrides = f"runtime.gradient_checkpointing={checkpointing}"
    eager, compiled = (
        compiled_losses(name, compiler, overrides) for compiler in ("none", "aot_eager")
    )
    assert compiled == pytest.approx(eager, abs=1e-6, rel=0)


def test_a_compiled_step_of_cait_drops_what_eager_mode_drops(
    compiled_losses: Callable[..., list[float]],
) -> None:
    """Its blocks have a drop path for each of their branches; all of it is computed again in the
    backward pass."""
    small = ("runtime.gradient_checkpointing=true", "model.class_depth=1", "recipe.drop_path=0.4")
    eager, compiled = (
        compiled_losses("cait_s24", compiler, *small) for compiler in ("none", "aot_eager")
    )
    assert compiled == pytest.approx(eager, abs=1e-6, rel=0)


def test_ranks_compile_each_their_own_and_agree(
    compiled_losses: Callable[..., list[float]],
) -> None:
    """With two micro-batches a step, of which only the second exchanges gradients."""
    two = "runtime.device_batch=32"
    eager, compiled = (
        compiled_losses("deit_s12_attnscale", c, two, ranks=2) for c in ("none", "aot_eager")
    )
    assert compiled == pytest.approx(eager, abs=1e-6, rel=0)


def test_blocks_of_a_kind_are_compiled_once_for_all_steps_and_never_for_evaluation(
    tiny_run: Callable[..., Run],
) -> None:
    """Five of CaiT, and two of class attention, of which the first reads the class token itself.
    (DeiT: test_recorded_graphs.py.)"""
    run = tiny_run("model.depth=5", "model.class_depth=2", name="cait_s24_attnscale")
    torch.compiler.reset()
    learner = made_learner(run, Compiler.aot_eager)
    source = batches(run, learner)
    given = [next(source) for _ in range(6)]
    counted = torch._dynamo.utils.counters
    counted.clear()
    graphs = []
    for step in range(3):
        learner.train_step(step, iter(given[2 * step :]))
        graphs.append(counted["stats"]["unique_graphs"])
    assert graphs == [3] * 3
    assert not counted["graph_break"]
    with torch.no_grad():
        learner.model.eval()(torch.zeros(3, 1, 8, 8))
        copy.deepcopy(learner.model).eval()(torch.zeros(2, 1, 8, 8))
    assert counted["stats"]["unique_graphs"] == 3


@pytest.mark.slow
def test_generated_code_computes_the_same_step(compiled_losses: Callable[..., list[float]]) -> None:
    """That of inductor: reduce_overhead adds CUDA graphs on a GPU alone."""
    small = ("runtime.gradient_checkpointing=true", "model.depth=1")
    eager, compiled = (
        compiled_losses("deit_s12_featscale", c, *small) for c in ("none", "reduce_overhead")
    )
    assert compiled == pytest.approx(eager, abs=1e-5, rel=0)


class NoWaiting(TorchDispatchMode):
    """Refuses what would wait for the device: a number read from a tensor, or a shape that depends
    on its values."""

    WAITS = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "equal",
        "is_nonzero",
        "unique",
        "_unique2",
    )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        assert name not in self.WAITS, f"a step reads {name} from the device"
        return func(*args, **(kwargs or {}))


def made_learner(run: Run, compiler: Compiler = Compiler.none) -> Learner:
    config = run.experiment
    order = SampleOrder(config.data.num_train, config.recipe.global_batch, seed=0)
    micro_batches = MicroBatches(order, config.recipe.global_batch // 2, 2, 0, 0, 9)
    model = new_model(config, seed=0)
    return Learner(
        model,
        config.recipe,
        config.data,
        micro_batches,
        ALONE,
        teacher=None,
        compiler=compiler,
        seed=0,
    )


def batches(run: Run, learner: Learner) -> Iterator[Batch]:
    config = run.experiment
    return Loaders(config, seed=0).training(open_dataset(config.data).train, learner.micro_batches)


def test_nothing_in_a_step_waits_for_the_device(tiny_run: Callable[..., Run]) -> None:
    """With all of a recipe on: accumulation, erasing, mixing, clipping, moving average, meter."""
    run = tiny_run("recipe.clip_grad=1.0", "recipe.ema_decay=0.9", name="deit_s12_attnscale")
    learner, meter = made_learner(run), Meter(ALONE)
    assert learner.ema is not None
    source = batches(run, learner)
    # batches are loaded before, so loading is not counted
    given = [next(source) for _ in range(4)]
    with NoWaiting():
        for step in range(2):
            losses = learner.train_step(step, iter(given[2 * step :]))
            meter.add(step, *losses)
        with pytest.raises(AssertionError, match="_local_scalar_dense"):
            losses.loss.item()
    assert meter.read().steps == 2


def test_the_scale_of_gradients_goes_on_where_it_was(tiny_run: Callable[..., Run]) -> None:
    """In float16 on a GPU; the scaler is the same on a CPU. Here it doubles after two good
    steps."""
    run = tiny_run("recipe.clip_grad=1.0", name="deit_s12_attnscale")

    def scaled() -> Learner:
        learner = made_learner(run)
        assert not learner.scaler.is_enabled()
        learner.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        return learner

    straight, stopped = scaled(), scaled()
    source = batches(run, straight)
    given = [next(source) for _ in range(10)]
    for step in range(5):
        straight.train_step(step, iter(given[2 * step :]))
    for step in range(3):
        stopped.train_step(step, iter(given[2 * step :]))
    assert stopped.scaler.get_scale() == 2048.0
    continued = scaled()
    continued.load_state(copy.deepcopy(stopped.state()))
    for step in range(3, 5):
        continued.train_step(step, iter(given[2 * step :]))
    assert continued.scaler.get_scale() == straight.scaler.get_scale() == 4096.0
    assert_bit_equal(continued.state(), straight.state())


def test_an_overflow_leaves_the_weights_and_halves_the_scale(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("recipe.clip_grad=1.0", name="deit_s12_attnscale")
    learner = made_learner(run)
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    next(learner.model.parameters()).register_hook(lambda gradient: gradient * torch.inf)
    before = copy.deepcopy(learner.model.state_dict())
    learner.train_step(0, batches(run, learner))
    assert learner.scaler.get_scale() == 512.0
    assert_bit_equal(dict(learner.model.state_dict()), dict(before))


def test_gradients_are_views_of_buckets_and_no_parameter_is_looked_for(tmp_path: Path) -> None:
    """A group of one process is enough to ask the real wrapper; float32 sums over it are what they
    are without."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        model = nn.Linear(3, 2)
        wrapped = learners._parallel(model, replace(ALONE, info=RankInfo(0, 2, 0, 2, "torchrun")))
        assert isinstance(wrapped, nn.parallel.DistributedDataParallel)
        assert wrapped.gradient_as_bucket_view
        assert not wrapped.find_unused_parameters
        wrapped(torch.ones(1, 3)).sum().backward()
        weight, bias = (p.grad for p in model.parameters())
        assert weight is not None
        assert bias is not None
        assert weight.untyped_storage().data_ptr() == bias.untyped_storage().data_ptr()
    finally:
        dist.destroy_process_group()

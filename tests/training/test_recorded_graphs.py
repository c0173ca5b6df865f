"""Blocks compiled as CUDA graphs (`runtime.compile=reduce_overhead`): what a CPU can show of them.

Whether a GPU then records and replays them, only a GPU shows: `make check-gpu`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import repeat
from typing import Any

import pytest
import torch
from processes import tiny
from recorded_graphs import Recordings, problems
from torch import Tensor, nn

from antioversmooth.config import Compiler, Experiment
from antioversmooth.models.placement import add_scaling
from antioversmooth.runs import Run
from antioversmooth.training.data.loading import OK, Batch
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.run.distributed import RankInfo, Ranks
from antioversmooth.training.step.compilation import compile_blocks
from antioversmooth.training.step.dropout import IndexedDropouts
from antioversmooth.training.step.learner import Learner
from antioversmooth.training.weights.initial import new_model
from benchmarks.host import group_of_one

META = torch.device("meta")
"""Stands for a GPU: what is not there, a compiled function has put on the host."""
CPU = torch.device("cpu")
BATCH, PASSES = 32, 2
ON = ("recipe.dropout=0.2", "recipe.drop_path=0.4", f"recipe.global_batch={BATCH}")
CASES = {
    "deit_s12": (),
    # the matrix is there then, and scaled itself
    "deit_s12, attention dropout": ("recipe.attention_dropout=0.1",),
    "cait_s24": ("model.class_depth=1",),
    "swin_s": (
        "model.depth=4",
        "model.stage_depths=[2,2]",
        "model.patch_size=1",
        "model.window_size=2",
    ),
}


@pytest.fixture
def recordings() -> Iterator[Recordings]:
    torch.compiler.reset()
    found = Recordings()
    with ExitStack() as stack:
        for patch in found.patches():
            stack.enter_context(patch)
        yield found


def compiled_on_meta(run: Run, change: Callable[[nn.Module], object] | None = None) -> nn.Module:
    """The model of a run with AttnScale and FeatScale, its draws made, moved where a CPU tensor
    shows.

    Args:
        change: A planted fault.
    """
    model = add_scaling(new_model(run.experiment, seed=0), attnscale=True, featscale=True).train()
    dropouts = IndexedDropouts(model, run.experiment.recipe, seed=0)
    dropouts.draw(0, 0, torch.zeros(BATCH, 1, 8, 8))
    model.to(META)
    for layer in dropouts.dropouts:
        # one byte an element, as on a GPU
        layer.mask = layer.mask.to(META, torch.bool)
    for path in dropouts.paths.layers:
        path.factors = path.factors.to(META)
    if change is not None:
        change(model)
    compile_blocks(model, Compiler.reduce_overhead)
    return model


def found_problems(recordings: Recordings, model: nn.Module) -> set[str]:
    model(torch.empty(BATCH, 1, 8, 8, device=META)).sum().backward()
    assert {graph.is_backward for graph in recordings.graphs} == {False, True}
    return {problem for graph in recordings.graphs for problem in problems(graph, META)}


@pytest.mark.parametrize("case", CASES)
def test_graphs_of_every_family_read_tensors_of_the_device_and_change_and_draw_none(
    make_run: Callable[..., Run], recordings: Recordings, case: str
) -> None:
    """With both scalings, dropout and drop path; all but the activations keep their addresses."""
    run = make_run(case.partition(",")[0], *tiny(*ON, "model.method=none", *CASES[case]))
    model = compiled_on_meta(run)
    assert not found_problems(recordings, model)
    for graph in recordings.graphs:
        inputs, fixed = graph.metadata.input_info, graph.metadata.static_input_indices
        # class attention reads the class token beside the patches
        assert len(inputs) - len(fixed) <= 1 + case.startswith("cait")


def test_graphs_that_cannot_be_recorded_are_found(
    make_run: Callable[..., Run], recordings: Recordings
) -> None:
    def fault(norm: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        x = inputs[0].mul_(2)
        x = x + torch.ones(x.shape[-1], device="cpu").to(x.device)
        return x + torch.tensor(0.5) + torch.rand_like(x)

    def plant(model: Any) -> None:
        model.blocks[-1].norm1.register_forward_pre_hook(fault)

    run = make_run("deit_s12", *tiny(*ON, "model.method=none"))
    found = found_problems(recordings, compiled_on_meta(run, plant))
    for said in ("mutates an input", "is on the host", "is a constant of the host", "draws"):
        assert any(problem.endswith(said) for problem in found), said


def learner_of(config: Experiment, compiler: Compiler, world_size: int = 1) -> Learner:
    launcher = "torchrun" if world_size > 1 else "alone"
    return Learner(
        new_model(config, seed=0),
        config.recipe,
        config.data,
        MicroBatches.of(config, seed=0, rank=0, world_size=world_size),
        Ranks(RankInfo(0, world_size, 0, world_size, launcher), CPU, None),
        teacher=None,
        compiler=compiler,
        seed=0,
    )


def take_steps(
    learner: Learner, steps: int = 4, between: Callable[[int], object] = lambda step: None
) -> list[float]:
    """The losses."""
    size, generator = learner.micro_batches.size, torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (size, 1, 8, 8), dtype=torch.uint8, generator=generator)
    batch = Batch(images, torch.arange(size) % 10, torch.full((size,), OK))
    losses = []
    for step in range(steps):
        losses.append(learner.train_step(step, repeat(batch)).loss)
        # none that a graph has computed outlives its step
        assert all(parameter.grad is None for parameter in learner.model.parameters())
        between(step)
    return [float(loss) for loss in losses]


@pytest.fixture
def run_of_passes(make_run: Callable[..., Run]) -> Run:
    """Two micro-batches a step, clipping and a moving average."""
    given = ("recipe.mix_group=4", f"runtime.device_batch={BATCH // PASSES}", "model.depth=3")
    more = ("recipe.clip_grad=1.0", "recipe.ema_decay=0.9")
    return make_run("deit_s12_attnscale", *tiny(*ON, *given, *more))


def test_every_step_replays_the_graphs_of_the_first_at_the_same_addresses(
    run_of_passes: Run, recordings: Recordings
) -> None:
    """Also after an evaluation, whose last batch is smaller, and after a resume."""
    learner = learner_of(run_of_passes.experiment, Compiler.reduce_overhead)

    def interrupt(step: int) -> None:
        if step == 1:
            assert learner.ema is not None
            for model, size in ((learner.model, 8), (learner.ema.module, 3)):
                with torch.no_grad():
                    model.eval()(torch.zeros(size, 1, 8, 8))
        elif step == 2:
            learner.load_state(copy.deepcopy(learner.state()))

    take_steps(learner, between=interrupt)
    blocks = run_of_passes.experiment.model.depth
    # the first block has no drop path
    assert len(recordings.graphs) == 2 * 2
    assert len(recordings.steps[0]) == PASSES * 2 * blocks
    assert recordings.steps == [recordings.steps[0]] * 4


@pytest.mark.parametrize("world_size", [1, 2])
def test_nothing_of_a_step_is_read_once_the_next_has_begun(
    run_of_passes: Run, recordings: Recordings, world_size: int
) -> None:
    """Also with DDP, around blocks that are computed again in the backward pass."""
    runtime = replace(run_of_passes.experiment.runtime, device_batch=BATCH // PASSES // world_size)
    config = replace(run_of_passes.experiment, runtime=runtime)
    found = []
    with group_of_one():
        for compiler in (Compiler.none, Compiler.reduce_overhead):
            learner = learner_of(config, compiler, world_size=world_size)
            learner.model.set_grad_checkpointing(world_size > 1)  # type: ignore[operator]
            found.append(take_steps(learner, steps=3))
    assert len(recordings.steps) == 3
    assert found[1] == pytest.approx(found[0], abs=1e-6, rel=0)


def test_a_gradient_that_is_overwritten_before_its_update_is_found(
    run_of_passes: Run, recordings: Recordings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where each micro-batch began a step of its own."""
    learner = learner_of(run_of_passes.experiment, Compiler.reduce_overhead)
    losses_of = learner._losses

    def begin(*given: Any) -> list[Tensor]:
        recordings.begin_step()
        return losses_of(*given)

    monkeypatch.setattr(learner, "_losses", begin)
    take_steps(learner, steps=1)
    assert not learner.has_finite_weights()


def test_ddp_cuts_no_block_at_its_buckets(
    make_run: Callable[..., Run], recordings: Recordings
) -> None:
    """Whose first holds 1 MiB, and a block here 2.3 MB."""
    wide = ("model.embed_dim=224", "model.depth=1", "recipe.mix_group=4")
    run = make_run("deit_s12_attnscale", *tiny(*ON, *wide))
    with group_of_one():
        take_steps(learner_of(run.experiment, Compiler.reduce_overhead, world_size=2), steps=1)
    assert len(recordings.graphs) == 2

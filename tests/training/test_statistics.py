"""Running statistics of re-attention: of the whole global batch, averaged, and resumed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import processes
import pytest
import torch
from outcomes import assert_bit_equal, final_state, losses, without_times

from antioversmooth.errors import AttemptEnded, SpecError
from antioversmooth.runs import Run
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.train import train

NAME = "blocks.1.attn.mixing.running_var"


@pytest.fixture
def mixed_run(tiny_run: Callable[..., Run]) -> Callable[..., Run]:
    """Makes a tiny run of one epoch, eleven steps, with re-attention over groups of 16 images."""

    def make(*overrides: str) -> Run:
        method = ("model.method=reattention", "model.method_options.group=16")
        return tiny_run(*method, "recipe.epochs=1", "recipe.ema_decay=0.9", *overrides)

    return make


def trained(run: Run, ranks: int = 1) -> tuple[list[float], dict[str, Any]]:
    """Losses and final state of a run, which is forgotten."""
    if ranks == 1:
        train(run)
    else:
        assert processes.train(run, ranks=ranks) == [0] * ranks
    found = losses(run), final_state(run)
    shutil.rmtree(run.dir)
    return found


def test_neither_processes_nor_passes_change_the_statistics(mixed_run: Callable[..., Run]) -> None:
    expected, state = trained(mixed_run())
    assert not torch.equal(state["model"][NAME], torch.ones(2))
    assert not torch.equal(state["ema"][NAME], state["model"][NAME]), "the average lags behind"
    two = ("cluster.tasks_per_node=2", "runtime.device_batch=16")
    found, other = trained(mixed_run(*two), ranks=2)
    assert found == pytest.approx(expected, abs=1e-6, rel=0)
    for part in ("model", "ema"):
        torch.testing.assert_close(other[part][NAME], state[part][NAME], rtol=1e-4, atol=0)


def test_an_interrupted_run_continues_with_its_statistics(mixed_run: Callable[..., Run]) -> None:
    """Also where a step computes each forward pass twice."""
    recomputed = "runtime.gradient_checkpointing=true"
    expected, state = trained(mixed_run(recomputed))
    with pytest.raises(AttemptEnded, match="max_steps"):
        train(mixed_run(recomputed, "runtime.max_steps=3"))
    found, continued = trained(mixed_run(recomputed))
    assert found == expected
    assert_bit_equal(without_times(continued), without_times(state))


def test_a_global_batch_of_no_whole_groups_is_refused(mixed_run: Callable[..., Run]) -> None:
    run = mixed_run("model.method_options.group=48")
    with pytest.raises(SpecError, match=r"global_batch 128 .* groups of 48 .*method_options"):
        MicroBatches.of(run.experiment, seed=0, rank=0, world_size=1)

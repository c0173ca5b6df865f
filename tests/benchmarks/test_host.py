"""Steps of tiny tensors: the whole of this project's, beside a plain one of timm's model."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist

from antioversmooth import spec
from benchmarks.goals import HOST_LIMIT, Goal
from benchmarks.host import _TINY, ROWS, STOCK, OurStep, StockStep, host_times
from benchmarks.timing import spread

SHALLOW = ("model.depth=2",)


def test_every_row_is_timed_alone_and_wrapped(experiments: Path) -> None:
    found = host_times(experiments.parent, rounds=2, overrides=SHALLOW)
    assert [*found] == ["", ", DDP"]
    for times in found.values():
        assert [*times] == [STOCK, *ROWS]
        assert all(len(rounds) == 2 and min(rounds) > 0 for rounds in times.values())
    assert not dist.is_initialized()


def test_a_step_trains_all_that_its_row_trains(experiments: Path) -> None:
    row = spec.load_experiment(experiments / "deit_s24_attnscale.yaml", [*_TINY, *SHALLOW])
    step = OurStep(row, ranks=1)
    before = {name: value.clone() for name, value in step.learner.model.state_dict().items()}
    step()
    moved = [n for n, v in step.learner.model.state_dict().items() if not torch.equal(v, before[n])]
    # without the number of the step, which does not move
    assert set(moved) == {name for name, _ in step.learner.model.named_parameters()}
    assert step.learner.ema is not None
    assert step.learner.recipe.random_erasing > 0
    assert step.learner.recipe.mixes


def test_the_plain_step_has_dropout_and_drop_path_too(experiments: Path) -> None:
    row = spec.load_experiment(experiments / "deit_s24.yaml", [*_TINY, *SHALLOW])
    stock = StockStep(row)
    rates = {type(m).__name__ for m in stock.model.modules() if getattr(m, "p", 0) > 0}
    rates |= {type(m).__name__ for m in stock.model.modules() if getattr(m, "drop_prob", 0)}
    assert rates == {"Dropout", "DropPath"}


def test_the_goal_counts_the_whole_step() -> None:
    assert Goal("host", spread([1.15]), HOST_LIMIT).reached
    assert not Goal("host", spread([1.16]), HOST_LIMIT).reached

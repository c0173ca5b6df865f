"""Results of runs, to compare one with another."""

from __future__ import annotations

import time
from typing import Any

import torch

from antioversmooth.runs import Run
from antioversmooth.runs.metrics import TRAIN_LOSS
from antioversmooth.training.run.checkpoint import load_state


def losses(run: Run) -> list[float]:
    """The loss of every step that was journaled, in order."""
    return [r[TRAIN_LOSS] for r in run.metrics() if TRAIN_LOSS in r]


def final_state(run: Run) -> dict[str, Any]:
    """State of the newest checkpoint."""
    return load_state(run.checkpoints()[0].path)


def assert_bit_equal(ours: Any, other: Any) -> None:
    """Of nested dictionaries and lists of tensors and plain values."""
    assert type(ours) is type(other)
    if isinstance(ours, torch.Tensor):
        assert torch.equal(ours, other)
    elif isinstance(ours, dict):
        assert ours.keys() == other.keys()
        for key in ours:
            assert_bit_equal(ours[key], other[key])
    elif isinstance(ours, list):
        assert len(ours) == len(other)
        for left, right in zip(ours, other, strict=True):
            assert_bit_equal(left, right)
    else:
        assert ours == other


def without_times(saved: dict[str, Any]) -> dict[str, Any]:
    """A state without what is measured in seconds."""
    return {key: value for key, value in saved.items() if key != "epoch_s"}


def wait_for_step(run: Run, step: int) -> None:
    """Returns once a run that trains elsewhere has journaled this step."""
    deadline = time.monotonic() + 60
    while not any(r["step"] >= step for r in run.metrics()):
        assert time.monotonic() < deadline
        time.sleep(0.01)

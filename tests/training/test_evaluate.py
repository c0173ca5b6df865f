from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from antioversmooth.errors import CheckpointError
from antioversmooth.runs import Run
from antioversmooth.runs.metrics import EMA_TOP1, VAL_TOP1
from antioversmooth.training.run.checkpoint import load_state
from antioversmooth.training.train import train
from antioversmooth.training.weights.evaluate import evaluate_weights


@pytest.fixture
def trained(tiny_run: Callable[..., Run]) -> Run:
    run = tiny_run()
    train(run)
    return run


def test_a_run_a_checkpoint_and_a_file_of_weights_have_the_same_accuracy(
    trained: Run, tmp_path: Path
) -> None:
    result = trained.result()
    assert result is not None
    newest = trained.checkpoints()[0]
    torch.save(load_state(newest.path)["model"], tmp_path / "weights.pth")
    reached = [
        evaluate_weights(trained.dir),
        evaluate_weights(newest.path),
        evaluate_weights(tmp_path / "weights.pth", trained.experiment),
    ]
    assert {e.top1 for e in reached} == {result["metrics"][VAL_TOP1]}
    assert evaluate_weights(trained.dir, average=True).top1 == result["metrics"][EMA_TOP1]


def test_weights_that_cannot_be_evaluated_are_refused_with_the_reason(
    tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = tiny_run()
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        evaluate_weights(run.dir)
    with pytest.raises(CheckpointError, match="belongs to no run"):
        evaluate_weights(tmp_path / "weights.pth")

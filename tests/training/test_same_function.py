"""Weights whose names and shapes do not tell their method are used in its model alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from antioversmooth.errors import CheckpointError
from antioversmooth.models.state_files import save_weights
from antioversmooth.runs import Run, to_json
from antioversmooth.training.weights.initial import new_model
from antioversmooth.training.weights.recorded import require_same_function

PLAIN, LATE = "model.method=none", "model.method=lateinsertion"
AT_1, AT_DEFAULT = "model.method_options={at: 1}", "model.method_options={at: -2}"


@pytest.fixture
def recorded(tiny_run: Callable[..., Run], tmp_path: Path) -> Callable[..., Path]:
    """Writes the weights of a tiny model with the record of its spec."""

    def write(*overrides: str) -> Path:
        config = tiny_run(*overrides).experiment
        metadata = {"model": json.dumps(to_json(config.model)), "scaling_folded": "false"}
        save_weights(new_model(config, seed=0), tmp_path / "w.safetensors", metadata=metadata)
        return tmp_path / "w.safetensors"

    return write


@pytest.mark.parametrize(
    ("theirs", "ours", "named"),
    [
        ((PLAIN,), (LATE, AT_1), "set model.method=none, model.method_options={}"),
        ((LATE, AT_1), (PLAIN,), 'set model.method=lateinsertion, model.method_options={"at": 1}'),
        ((LATE, AT_1), (LATE,), 'set model.method_options={"at": 1}'),
    ],
)
def test_weights_of_another_method_or_option_are_refused(
    recorded: Callable[..., Path],
    tiny_run: Callable[..., Run],
    theirs: tuple[str, ...],
    ours: tuple[str, ...],
    named: str,
):
    with pytest.raises(CheckpointError) as caught:
        require_same_function(recorded(*theirs), tiny_run(*ours).experiment)
    assert str(caught.value).endswith(named)


def test_an_option_with_its_default_value_is_the_same_function(
    recorded: Callable[..., Path], tiny_run: Callable[..., Run]
):
    require_same_function(recorded(LATE, AT_DEFAULT), tiny_run(LATE).experiment)


def test_a_loss_in_training_is_no_other_function(
    recorded: Callable[..., Path], tiny_run: Callable[..., Run]
):
    weights = recorded("model.method=patchdiversity", "model.method_options={own_head: false}")
    require_same_function(weights, tiny_run(PLAIN).experiment)

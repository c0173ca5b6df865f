"""Weights are used in a model of their recorded method, options and forms alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from antioversmooth.errors import CheckpointError
from antioversmooth.models.state_files import save_weights
from antioversmooth.models.weights import Purpose
from antioversmooth.runs import Run
from antioversmooth.training.train import train
from antioversmooth.training.weights.evaluate import evaluate_weights
from antioversmooth.training.weights.initial import new_model
from antioversmooth.training.weights.recorded import (
    record_of,
    require_plain,
    require_same_function,
)
from antioversmooth.training.weights.trained import load_trained_weights

PLAIN, LATE = "model.method=none", "model.method=lateinsertion"
AT_1, AT_DEFAULT = "model.method_options={at: 1}", "model.method_options={at: -2}"
# the tiny model has two blocks, in which late insertion at -2 is the plain model
DEPTH_4 = "model.depth=4"


CONTRAST, GFSA = "model.method=contranorm", "model.method=gfsa"
FEATSCALE, ATTNSCALE = "model.method=featscale", "model.method=attnscale"
SCALE_3, ORDER_3 = "model.method_options={scale: 0.3}", "model.method_options={order: 3}"
PAPER = "model.scaling_variant=paper"


@pytest.fixture
def recorded(tiny_run: Callable[..., Run], tmp_path: Path) -> Callable[..., Path]:
    """Writes the weights of a tiny model with the record of its spec."""

    def write(*overrides: str, name: str = "w.safetensors") -> Path:
        config = tiny_run(*overrides).experiment
        metadata = record_of(config.model)
        save_weights(new_model(config, seed=0), tmp_path / name, metadata=metadata)
        return tmp_path / name

    return write


@pytest.mark.parametrize(
    ("theirs", "ours", "named"),
    [
        ((PLAIN,), (LATE, AT_1), "set method=none"),
        ((LATE, AT_1), (PLAIN,), "set method=lateinsertion model.method_options.at=1"),
        ((LATE, AT_1, DEPTH_4), (LATE, DEPTH_4), "set model.method_options.at=1"),
        ((GFSA, ORDER_3), (GFSA,), "set model.method_options.order=3"),
        ((GFSA,), (ATTNSCALE,), "set method=gfsa model.method_options.order=4"),
        ((GFSA,), (PLAIN,), "set method=gfsa model.method_options.order=4"),
        ((ATTNSCALE,), (GFSA,), "set method=attnscale"),
        ((FEATSCALE, PAPER), (FEATSCALE,), "set model.scaling_variant=paper"),
        (
            (CONTRAST, SCALE_3),
            (CONTRAST,),
            "set model.method_options.scale=0.3 model.method_options.temperature=1.0",
        ),
    ],
)
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_weights_of_another_method_option_or_form_are_refused(
    recorded: Callable[..., Path],
    tiny_run: Callable[..., Run],
    theirs: tuple[str, ...],
    ours: tuple[str, ...],
    named: str,
    name: str,
):
    weights, config = recorded(*theirs, name=name), tiny_run(*ours).experiment
    with pytest.raises(CheckpointError) as caught:
        require_same_function(weights, config)
    assert str(caught.value).endswith(named)
    if theirs != (PLAIN,):
        with pytest.raises(CheckpointError):
            require_same_function(weights, config, Purpose.training)


@pytest.mark.parametrize("ours", [(LATE, AT_1), (CONTRAST,), (GFSA,)])
def test_weights_of_a_plain_model_may_be_trained_further_with_a_method(
    recorded: Callable[..., Path], tiny_run: Callable[..., Run], ours: tuple[str, ...]
):
    require_same_function(recorded(PLAIN), tiny_run(*ours).experiment, Purpose.training)


def test_an_option_of_training_alone_is_no_other_function(
    recorded: Callable[..., Path], tiny_run: Callable[..., Run]
):
    start = "model.method=layerscale", "model.method_options={init: 0.1}"
    require_same_function(recorded(*start), tiny_run("model.method=layerscale").experiment)


def test_a_checkpoint_records_its_model_wherever_it_lies(
    tiny_run: Callable[..., Run], tmp_path: Path
):
    run = tiny_run(CONTRAST, SCALE_3, "recipe.epochs=1", "recipe.warmup_epochs=0")
    train(run)
    alone = tmp_path / "copied.pt"
    shutil.copy(run.checkpoints()[-1].path, alone)
    assert require_same_function(alone, run.experiment) == ()
    with pytest.raises(CheckpointError, match=r"method_options\.scale=0\.3"):
        evaluate_weights(alone, tiny_run(CONTRAST).experiment)
    with pytest.raises(CheckpointError, match=r"contranorm, .* into a model of timm without it"):
        require_plain(alone, "name the run")


def test_what_no_record_says_is_reported_and_counted(tiny_run: Callable[..., Run], tmp_path: Path):
    config = tiny_run(GFSA, ORDER_3).experiment
    model = new_model(config, seed=0)
    torch.save(model.state_dict(), tmp_path / "w.pth")
    report = load_trained_weights(model, tmp_path / "w.pth", config)
    line = "not recorded with the weights, so as the row says: model.method_options.order=3"
    assert f"1 {line}" in report.lines()
    assert report.counts()["assumed"] == 1


def test_a_method_that_is_not_known_here_is_named(
    recorded: Callable[..., Path], tiny_run: Callable[..., Run], tmp_path: Path
):
    config = tiny_run(PLAIN).experiment
    record = record_of(config.model)
    record["model"] = record["model"].replace('"method": "none"', '"method": "sharpened"')
    save_weights(new_model(config, seed=0), tmp_path / "w.safetensors", metadata=record)
    with pytest.raises(CheckpointError, match=r"w\.safetensors .*model\.method=sharpened"):
        require_same_function(tmp_path / "w.safetensors", config)


def test_an_option_with_its_default_value_is_the_same_function(
    recorded: Callable[..., Path], tiny_run: Callable[..., Run]
):
    require_same_function(recorded(LATE, AT_DEFAULT, DEPTH_4), tiny_run(LATE, DEPTH_4).experiment)


@pytest.mark.parametrize(("theirs", "ours"), [(-1, 1), (1, -1)])
def test_one_entrance_counted_from_either_end_is_one_function(
    recorded: Callable[..., Path], tiny_run: Callable[..., Run], theirs: int, ours: int
):
    weights, row = ((LATE, f"model.method_options={{at: {at}}}") for at in (theirs, ours))
    require_same_function(recorded(*weights), tiny_run(*row).experiment)


@pytest.mark.parametrize(
    ("theirs", "row"),
    [
        ((LATE, AT_1), "deit_s12_gfsa"),
        ((CONTRAST, SCALE_3), "deit_s12_gfsa"),
        ((GFSA, ORDER_3), "deit_s12"),
        ((PLAIN,), "deit_s12_contranorm"),
        (("model.method=registers", "model.method_options={count: 1}"), "deit_s12_registers"),
    ],
)
def test_the_advice_can_be_typed_and_is_followed(
    recorded: Callable[..., Path],
    tiny_run: Callable[..., Run],
    theirs: tuple[str, ...],
    row: str,
):
    weights = recorded(*theirs)
    config = tiny_run(name=row).experiment
    with pytest.raises(CheckpointError) as caught:
        require_same_function(weights, config)
    words = str(caught.value).rpartition("; set ")[2].split()
    require_same_function(weights, tiny_run(*words, name=row).experiment)


def test_a_loss_in_training_is_no_other_function(
    recorded: Callable[..., Path], tiny_run: Callable[..., Run]
):
    weights = recorded("model.method=patchdiversity", "model.method_options={own_head: false}")
    require_same_function(weights, tiny_run(PLAIN).experiment)

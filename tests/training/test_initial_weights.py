"""Rows that evaluate weights without training them, and how the weights of a run are reported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from antioversmooth.errors import CheckpointError
from antioversmooth.models.state_files import save_weights
from antioversmooth.runs import Run, to_json
from antioversmooth.runs.metrics import VAL_TOP1
from antioversmooth.training.process import exit_code
from antioversmooth.training.train import train
from antioversmooth.training.weights.evaluate import evaluate_weights
from antioversmooth.training.weights.initial import new_model

Filed = Callable[..., Run]


@pytest.fixture
def filed(tiny_run: Callable[..., Run], tmp_path: Path) -> Filed:
    """Makes a run that only evaluates a file; the state dict in it is changed first."""

    def make(change: Callable[[dict[str, Tensor]], object], *overrides: str) -> Run:
        state = new_model(tiny_run().experiment, seed=1).state_dict()
        change(state)
        torch.save({"model": state}, tmp_path / "weights.pth")
        origin = f"recipe.init_from=file:{tmp_path / 'weights.pth'}"
        return tiny_run("recipe.epochs=0", "recipe.warmup_epochs=0", origin, *overrides)

    return make


def seven_classes(state: dict[str, Tensor]) -> None:
    state["head.weight"], state["head.bias"] = state["head.weight"][:7], state["head.bias"][:7]


def headless(state: dict[str, Tensor]) -> None:
    del state["head.weight"], state["head.bias"]


def diverged(state: dict[str, Tensor]) -> None:
    state["norm.weight"][0] = float("nan")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (seven_classes, "a classifier of 7 classes, and this model one of 10"),
        (headless, r"lacks head\.bias, head\.weight"),
        (diverged, r"not finite numbers in norm\.weight \(1 of"),
    ],
)
def test_a_row_that_trains_nothing_fails_with_weights_that_it_would_have_to_make_up(
    filed: Filed, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    """Exit code 2 says that no other attempt would help."""
    run = filed(change, "recipe.init_allow_missing=['head.*']")
    with pytest.raises(CheckpointError, match=message) as raised:
        train(run)
    assert exit_code(raised.value) == 2
    assert run.result() is None
    (attempt,) = run.attempts()
    assert attempt.message == str(raised.value)


def test_logits_that_are_not_finite_are_no_accuracy(filed: Filed) -> None:
    """The file holds finite numbers, which overflow in the forward pass."""

    def change(state: dict[str, Tensor]) -> None:
        state["head.weight"].fill_(1e38)
        state["norm.weight"].fill_(1e38)

    with pytest.raises(CheckpointError, match=r"loss on the validation images .* not a finite"):
        train(filed(change))


def test_the_report_on_the_weights_is_in_result_and_log(
    filed: Filed, capfd: pytest.CaptureFixture[str]
) -> None:
    run = filed(lambda state: None)
    train(run)
    tensors = len(new_model(run.experiment, seed=0).state_dict())
    assert (result := run.result())
    assert result["start"]["weights"].items() >= {"key": "model", "unchanged": tensors}.items()
    assert "reset" not in result["start"]["weights"]
    assert (
        f"weights.pth, key 'model': {tensors} tensors loaded as they are" in capfd.readouterr().err
    )


def test_a_row_that_trains_nothing_refuses_weights_of_another_form(
    tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    """The names and shapes of the tensors are the same."""
    model = new_model(tiny_run().experiment, seed=1)
    recorded = {**to_json(tiny_run().experiment.model), "num_heads": 1}
    metadata = {"model": json.dumps(recorded), "scaling_folded": "false"}
    save_weights(model, tmp_path / "ours.safetensors", metadata=metadata)
    origin = f"recipe.init_from=file:{tmp_path / 'ours.safetensors'}"
    with pytest.raises(
        CheckpointError, match=r"model with model\.num_heads=1, and .* another func"
    ):
        train(tiny_run("recipe.epochs=0", "recipe.warmup_epochs=0", origin))


def test_a_row_without_training_does_not_take_the_initial_weights_of_a_trained_run(
    tiny_run: Callable[..., Run], filed: Filed, tmp_path: Path
) -> None:
    torch.save(new_model(tiny_run().experiment, seed=1).state_dict(), tmp_path / "start.pth")
    trained = tiny_run(f"recipe.init_from=file:{tmp_path / 'start.pth'}", "recipe.base_lr=1.0")
    train(trained)
    row = filed(lambda state: None).experiment
    assert (result := trained.result())
    assert evaluate_weights(trained.dir, row).evaluation.top1 == result["metrics"][VAL_TOP1]


def test_a_row_begins_with_all_shards_of_an_index_and_its_id_covers_them(
    tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    model = new_model(tiny_run().experiment, seed=1)
    keys = list(state := model.state_dict())
    place = {key: f"model-{1 + (key > keys[9])}.safetensors" for key in keys}

    def write(name: str, change: float = 0.0) -> None:
        part = {key: value + change for key, value in state.items() if place[key] == name}
        safetensors.torch.save_file(part, tmp_path / name)

    for name in set(place.values()):
        write(name)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": place}))
    row = ["recipe.epochs=0", "recipe.warmup_epochs=0", f"recipe.init_from=file:{index}"]
    run = tiny_run(*row)
    train(run)
    assert (result := run.result())
    assert result["start"]["weights"]["unchanged"] == len(keys)
    (tmp_path / "model-2.safetensors").unlink()
    # the run that is done has recorded what the files were
    assert tiny_run(*row).id == run.id
    write("model-2.safetensors", change=0.5)
    with pytest.raises(CheckpointError, match="has other content than when this run was planned"):
        run.require_file("init_from")
    assert tiny_run(*row).id != run.id

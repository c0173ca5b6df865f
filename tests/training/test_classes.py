"""Classes are matched by name where weights are loaded to be trained or evaluated by a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from antioversmooth import files
from antioversmooth.errors import AttemptEnded, CheckpointError, DataError
from antioversmooth.models.weights import classifier_parameters
from antioversmooth.runs import Run, journal
from antioversmooth.runs.recorded_data import recorded_classes
from antioversmooth.training.run.checkpoint import load_state, save_state
from antioversmooth.training.train import train
from antioversmooth.training.weights.initial import load_initial_weights, new_model

TREES = ["ash", "birch", "cedar"]
TURNED = ["cedar", "ash", "birch"]
EVALUATED = ("recipe.epochs=0", "recipe.warmup_epochs=0")


def logits(model: nn.Module) -> Tensor:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found: Tensor = model.eval()(images)
    return found


@pytest.fixture
def start(folder_run: Callable[..., Run], tmp_path: Path) -> Callable[..., tuple[Run, nn.Module]]:
    """Makes a run that starts from a file of weights for named classes, and their model."""

    def make(classes: Sequence[str] | None, *overrides: str) -> tuple[Run, nn.Module]:
        source = new_model(folder_run().experiment, seed=7)
        content = {"model": source.state_dict()}
        named = content | ({"classes": list(classes)} if classes is not None else {})
        torch.save(named, tmp_path / "start.pth")
        return folder_run(f"recipe.init_from=file:{tmp_path}/start.pth", *overrides), source

    return make


def test_a_classifier_of_the_same_classes_is_put_into_the_order_of_the_data(
    start: Callable[..., tuple[Run, nn.Module]],
) -> None:
    run, source = start(TURNED)
    model = new_model(run.experiment, seed=0)
    report = load_initial_weights(model, run, TREES)
    expected = logits(source)[:, [TURNED.index(name) for name in TREES]]
    torch.testing.assert_close(logits(model), expected)
    assert "classes: by name, in another order than the weights'" in report.lines()


@pytest.mark.parametrize("classes", [["ash", "birch", "oak"], ["Ash", "birch", "cedar"]])
def test_a_classifier_of_other_classes_is_trained_anew_and_never_evaluated(
    start: Callable[..., tuple[Run, nn.Module]], classes: list[str]
) -> None:
    run, source = start(classes)
    model, fresh = (new_model(run.experiment, seed=0) for _ in range(2))
    report = load_initial_weights(model, run, TREES)
    heads = classifier_parameters(model)
    assert sorted(report.reset) == sorted(heads)
    assert report.unchanged == len(source.state_dict()) - len(heads)
    expected = {**source.state_dict(), **{key: fresh.state_dict()[key] for key in heads}}
    assert all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())
    evaluation, _ = start(classes, *EVALUATED)
    with pytest.raises(CheckpointError, match=r"recipe.init_from: the classes .* for the weights"):
        train(evaluation)
    assert evaluation.result() is None


@pytest.mark.parametrize(
    ("classes", "described"),
    [
        (None, "by number: the weights do not record names"),
        (["0", "1", "2"], "by number: the classes of the weights have no names"),
    ],
)
def test_classes_without_names_are_matched_by_number_and_it_is_recorded(
    start: Callable[..., tuple[Run, nn.Module]], classes: list[str] | None, described: str
) -> None:
    run, _ = start(classes, *EVALUATED)
    train(run)
    (note,) = (r for r in journal.read(run.attempts_path) if r["event"] == "initial-weights")
    assert note["classes"] == described
    assert note["reset"] == []
    result = run.result()
    assert result is not None
    assert result["start"]["weights"]["classes"] == described


def test_a_run_records_its_classes_once_and_their_sum_with_its_data(
    folder_run: Callable[..., Run],
) -> None:
    run = folder_run("recipe.epochs=1", "recipe.warmup_epochs=0")
    train(run)
    result = run.result()
    assert result is not None
    assert recorded_classes(run.dir) == TREES
    assert result["data"]["num_classes"] == 3
    recorded = files.read_json(run.dir / "provenance.json")["data"]
    assert result["data"]["classes"] == recorded["classes"]
    assert load_state(run.checkpoints()[0].path)["classes"] == TREES


def test_a_checkpoint_of_other_classes_is_not_resumed_from(
    folder_run: Callable[..., Run],
) -> None:
    run = folder_run("runtime.max_steps=2")
    with pytest.raises(AttemptEnded):
        train(run)
    newest = run.checkpoints()[0]
    save_state(newest, {**load_state(newest.path), "classes": TURNED})
    with pytest.raises(DataError, match="class 0 is ash in the data, cedar for the weights"):
        train(run)

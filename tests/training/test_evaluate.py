from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from antioversmooth import files
from antioversmooth.config import DataSource
from antioversmooth.datasets.validation import validation_config
from antioversmooth.errors import CheckpointError, DataError
from antioversmooth.reporting import evaluations
from antioversmooth.runs import Run
from antioversmooth.runs.metrics import EMA_TOP1, VAL_TOP1
from antioversmooth.training.data.augmentation import DevicePreprocessing, eval_transform
from antioversmooth.training.data.decoding import decode
from antioversmooth.training.run.checkpoint import load_state, save_state
from antioversmooth.training.train import train
from antioversmooth.training.weights.analyse import analyse
from antioversmooth.training.weights.classes import known_classes
from antioversmooth.training.weights.convert import convert_weights
from antioversmooth.training.weights.evaluate import evaluate_weights
from antioversmooth.training.weights.trained import trained_model


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
    assert {e.evaluation.top1 for e in reached} == {result["metrics"][VAL_TOP1]}
    average = evaluate_weights(trained.dir, average=True)
    assert average.evaluation.top1 == result["metrics"][EMA_TOP1]
    assert [e.report.key for e in (*reached, average)] == ["model", "model", "", "ema"]


def test_weights_that_cannot_be_evaluated_are_refused_with_the_reason(
    tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = tiny_run()
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        evaluate_weights(run.dir)
    with pytest.raises(CheckpointError, match="belongs to no run"):
        evaluate_weights(tmp_path / "weights.pth")
    data = replace(run.experiment.data, source=DataSource.image_folder, root="/nowhere")
    with pytest.raises(CheckpointError, match=r"weights\.pth: there is no such run directory or"):
        evaluate_weights(tmp_path / "weights.pth", replace(run.experiment, data=data))


@pytest.fixture
def on_trees(folder_run: Callable[..., Run]) -> Run:
    """A trained run on images of ash, birch and cedar."""
    run = folder_run("recipe.epochs=1", "recipe.warmup_epochs=0")
    train(run)
    return run


def scores(run: Run, classes: dict[str, int], images: Path) -> tuple[float, float]:
    """Top-1 in percent and loss on PATH/<class>/*, of the logits of the given classes alone.

    Args:
        classes: The weights' class of each folder.
    """
    config = run.experiment
    model, hits, loss, count = trained_model(run.dir, config).eval(), 0, 0.0, 0
    transform = eval_transform(config.recipe, config.data, config.model.image_size)
    normalise = DevicePreprocessing(config.data, seed=0, device=torch.device("cpu")).normalise
    for folder, number in classes.items():
        for path in (images / folder).iterdir():
            with torch.no_grad():
                logits = model(normalise(transform(decode(path.read_bytes()))[None]))[0].double()
            competing = logits[sorted(classes.values())]
            hits += int(logits[number] == competing.max())
            loss += float(competing.logsumexp(0) - logits[number])
            count += 1
    return 100 * hits / count, loss / count


def moved(run: Run, tmp_path: Path, names: dict[str, str]) -> Path:
    """A folder of the validation images alone, some classes under other names."""
    for name, new in names.items():
        shutil.copytree(Path(run.experiment.data.root or "") / "val" / name, tmp_path / "new" / new)
    return tmp_path / "new"


NUMBERED = {"ash": "0", "birch": "1", "cedar": "2"}
TURNED = {"ash": "2", "birch": "10", "cedar": "1"}


@pytest.mark.parametrize(
    ("names", "given", "described"),
    [
        ({name: name for name in NUMBERED}, None, "by name"),
        ({"birch": "birch", "cedar": "cedar"}, None, "2 of the weights' 3 classes"),
        (NUMBERED, "index", "as --class-map says"),
        ({"cedar": "2", "ash": "0"}, "index", "2 of the weights' 3 classes"),
        (
            {"ash": "z", "birch": "b", "cedar": "a"},
            {"z": "ash", "b": 1, "a": "cedar"},
            "as --class",
        ),
    ],
    ids=["the same", "a subset", "numbers", "some numbers", "a map"],
)
def test_other_images_are_scored_by_the_names_of_their_classes(
    names: dict[str, str], given: Any, described: str, on_trees: Run, tmp_path: Path
) -> None:
    """Of a subset only its logits compete, as on ImageNet-A and ImageNet-R."""
    data = validation_config(on_trees.experiment.data, moved(on_trees, tmp_path, names))
    measured = evaluate_weights(on_trees.dir, data=data, class_map=given)
    folders = {new: list(NUMBERED).index(name) for name, new in names.items()}
    top1, loss = scores(on_trees, folders, tmp_path / "new")
    assert measured.evaluation.num_images == 4 * len(names)
    assert measured.evaluation.top1 == pytest.approx(top1)
    assert measured.evaluation.loss == pytest.approx(loss, abs=1e-5)
    assert described in measured.classes.description
    assert list(measured.data.classes) == sorted(folders)


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (
            {"ash": "ash", "birch": "birch", "cedar": "zcedar"},
            None,
            "class 2 is zcedar in the data",
        ),
        (NUMBERED, None, "class 0 is 0 in the data, ash for the weights.*add --class-map index"),
        ({"ash": "ash", "birch": "oak"}, None, "class 1 is oak in the data, birch for"),
        ({"ash": "0", "birch": "3"}, "index", "3 is given as 3; must be 0 to 2"),
        ({"ash": "ash"}, None, "has the single class ash: .* every image would count as right"),
        ({"ash": "ash", "birch": "1"}, "index", "ash is no number of a class"),
        ({"ash": "a", "birch": "b"}, {"a": 0}, "no class is given for b"),
        ({"ash": "a", "birch": "b"}, {"a": 0, "b": "ash"}, "a, b are the same class, 0"),
        (
            {"ash": "a", "birch": "b"},
            {"a": "oak", "b": 1},
            "a is given as 'oak'; must be one of ash, birch, cedar",
        ),
    ],
)
def test_images_of_classes_that_the_weights_do_not_know_are_refused(
    names: dict[str, str], given: Any, message: str, on_trees: Run, tmp_path: Path
) -> None:
    data = validation_config(on_trees.experiment.data, moved(on_trees, tmp_path, names))
    with pytest.raises(DataError, match=message):
        evaluate_weights(on_trees.dir, data=data, class_map=given)


def test_weights_without_names_are_scored_by_number_and_it_is_said(
    on_trees: Run, tmp_path: Path
) -> None:
    newest = on_trees.checkpoints()[0]
    torch.save(load_state(newest.path)["model"], tmp_path / "weights.pth")
    config = on_trees.experiment
    whole = evaluate_weights(tmp_path / "weights.pth", config)
    assert "do not record names" in whole.classes.description
    two = {name: name for name in ("ash", "birch")}
    some = validation_config(config.data, moved(on_trees, tmp_path, two))
    with pytest.raises(DataError, match=r"has 2 classes, the weights have 3 .*--class-map FILE"):
        evaluate_weights(tmp_path / "weights.pth", config, data=some)
    turned = validation_config(config.data, moved(on_trees, tmp_path / "turned", TURNED))
    with pytest.raises(DataError, match="are numbers, which sort as 1, 10, 2"):
        evaluate_weights(tmp_path / "weights.pth", config, data=turned)


def test_an_evaluation_says_that_the_data_of_the_run_has_changed(on_trees: Run) -> None:
    def change(**options: Any) -> str:
        measured = evaluate_weights(on_trees.dir, data=options.get("data"))
        record = evaluations.record(
            on_trees.dir, on_trees.experiment, measured, options.get("data")
        )
        return str(record.get("changed", ""))

    root = Path(on_trees.experiment.data.root or "")
    assert change() == ""
    image = root / "val/ash/ash0.png"
    content = image.read_bytes()
    image.write_bytes((root / "val/ash/ash1.png").read_bytes())
    assert "now: sample" in change()
    assert "now: sample" in analyse(on_trees.dir, num_images=4).changed
    assert "now: sample" in analyse(on_trees.checkpoints()[0].path, num_images=4).changed
    image.write_bytes(content)
    assert change() == analyse(on_trees.dir, num_images=4).changed == ""
    (root / "val/ash/ash0.png").rename(root / "val/ash/other.png")
    assert "the run was measured on other images than are there now: fingerprint" in change()
    assert change(data=validation_config(on_trees.experiment.data, root)) == ""


@pytest.mark.parametrize("kind", ["run", "checkpoint", "moved checkpoint", "st", "pth"])
def test_weights_in_every_form_know_their_classes(kind: str, on_trees: Run, tmp_path: Path) -> None:
    newest = on_trees.checkpoints()[0].path
    target = {"run": on_trees.dir, "checkpoint": newest}.get(kind)
    if kind == "moved checkpoint":
        target = Path(shutil.copy(newest, tmp_path / "sent.pt"))
    if target is None:
        target = tmp_path / f"out.{'safetensors' if kind == 'st' else 'pth'}"
        convert_weights(str(on_trees.dir), target)
    assert known_classes(target, 3, []) == ["ash", "birch", "cedar"]


@pytest.mark.parametrize("edited", ["classes.json", "checkpoint"])
def test_names_that_are_not_those_of_the_recorded_sum_are_refused(
    edited: str, on_trees: Run
) -> None:
    checkpoint = on_trees.checkpoints()[0]
    target = on_trees.dir if edited == "classes.json" else checkpoint.path
    turned = ["cedar", "ash", "birch"]
    files.write_json(on_trees.dir / "classes.json", turned)
    save_state(checkpoint, {**load_state(checkpoint.path), "classes": turned})
    with pytest.raises(
        CheckpointError, match=r"classes \(cedar, ash, birch\) are not those of prov"
    ):
        known_classes(target, 3, [])


def test_weights_of_a_thousand_classes_are_those_of_imagenet_for_its_classes(
    tmp_path: Path,
) -> None:
    torch.save({"model": {}}, tmp_path / "released.pth")
    goldfish = known_classes(tmp_path / "released.pth", 1000, ["n01443537", "n01484850"])
    assert goldfish is not None
    assert goldfish[1] == "n01443537"
    assert known_classes(tmp_path / "released.pth", 1000, ["cat"]) is None
    assert known_classes(tmp_path / "released.pth", 10, ["n01443537"]) is None


@pytest.mark.parametrize("names", [7, [7], {"a": 0}, "ash", ["ash"]])
def test_names_in_a_file_that_cannot_be_those_of_its_classes_do_not_count(
    names: Any, tmp_path: Path
) -> None:
    torch.save({"model": {}, "classes": names}, tmp_path / "sent.pth")
    assert known_classes(tmp_path / "sent.pth", 3, ["ash", "birch"]) is None

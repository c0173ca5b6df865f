"""A person's own images: `data DIR`, `new --data`, and a table of their rows."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import yaml
from drawn_images import CLASSES, draw
from PIL import ExifTags, Image

from antioversmooth import cli, spec
from antioversmooth.cli.main import launch as start

PROJECT = Path(__file__).parent.parent


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped specs, in a folder with a space, and seven classes of images."""
    folder = tmp_path / "my project"
    shutil.copytree(PROJECT / "experiments", folder / "experiments")
    for label, name in enumerate(CLASSES):
        for number in range(8):
            split = "train" if number < 6 else "val"
            path = folder / "My Shapes" / split / name / f"{number}.jpg"
            draw(path, label, 100 * label + number)
    monkeypatch.chdir(folder)
    return folder


def found(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    """The report of `data` on a folder, as JSON."""
    capsys.readouterr()
    assert cli.main(["data", *words, "--json"]) == 0
    content: dict[str, object] = json.loads(capsys.readouterr().out)
    return content


def test_a_folder_becomes_a_data_spec_that_rows_load(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "My Shapes"]) == 0
    printed = capsys.readouterr().out
    assert "classes      bar (6), circle (6), cross (6)" in printed
    assert "warning: 14 validation images: one of them is 7.1 points" in printed
    path = project / "experiments" / "data" / "my_shapes.yaml"
    comments = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert max(map(len, comments)) <= 100
    found = yaml.safe_load(path.read_text())
    counts = {key: found[key] for key in ("num_classes", "num_train", "num_val")}
    assert counts == {"num_classes": 7, "num_train": 42, "num_val": 14}
    images = [
        np.array(Image.open(one)) / 255
        for one in sorted((project / "My Shapes" / "train").rglob("*.jpg"))
    ]
    mean = np.mean([image.mean(axis=(0, 1)) for image in images], axis=0)
    square = np.mean([(image**2).mean(axis=(0, 1)) for image in images], axis=0)
    assert found["mean"] == pytest.approx(mean, abs=1e-3)
    assert found["std"] == pytest.approx(np.sqrt(square - mean**2), abs=1e-3)
    batch = ["recipe.global_batch=2", "recipe.mix_group=2", "recipe.min_lr=0"]
    assert cli.main(["data", "deit_s12", "data=my_shapes", *batch]) == 0


def test_a_spec_is_never_overwritten(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = project / "experiments" / "data" / "my_shapes.yaml"
    path.write_text("mine")
    assert cli.main(["data", "My Shapes"]) == 2
    assert "it is left as it is" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert cli.main(["data", "My Shapes", "--name", "others"]) == 0
    assert cli.main(["data", "My Shapes", "--name", "../others"]) == 2


def test_odd_data_gets_warnings(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, val = project / "My Shapes" / "train", project / "My Shapes" / "val"
    for number in range(1, 6):
        (train / "bar" / f"{number}.jpg").unlink()
    for seed in range(900, 904):
        draw(train / "cross" / f"{seed}.jpg", 2, seed)
    shutil.copy(train / "ring" / "0.jpg", val / "ring" / "copy.jpg")
    shutil.copy(train / "ring" / "1.jpg", train / "circle" / "copy.jpg")
    shutil.copy(train / "ring" / "1.jpg", train / "circle" / "another.jpg")
    (train / "ring" / "empty.jpg").touch()
    Image.open(train / "ring" / "2.jpg").convert("L").save(train / "ring" / "2.jpg")
    draw(train / "square" / "tiny.jpg", 0, 950, side=24)
    exif = Image.Exif()
    for number, orientation in ((3, 6), (4, 1)):
        exif[ExifTags.Base.Orientation] = orientation
        path = train / "ring" / f"{number}.jpg"
        Image.open(path).save(path, exif=exif)
    (train / "ring" / "photo.heic").touch()
    (val / "other").mkdir()
    draw(val / "other" / "1.jpg", 3, 960)
    content = found(capsys, "My Shapes")
    warnings = content["warnings"]
    assert isinstance(warnings, list)
    for part in (
        "other: not in both splits, and left out by data.classes",
        "one training image of bar",
        "unbalanced: 10 training images of cross, 1 of bar; a model that always answers cross has",
        "15 validation images: one of them is 6.7 points",
        "1 image is in both splits, to the pixel: val/ring/copy.jpg = train/ring/0.jpg",
        "1 image is in two classes: train/circle/another.jpg = train/ring/1.jpg",
        "1 image cannot be read: train/ring/empty.jpg (",
        "are grey",
        "1 image has an EXIF orientation, which is not applied: train/ring/3.jpg; to have",
        "1 image has a side below 32 pixels: train/square/tiny.jpg",
        "most images are small (median short side 40 pixels)",
        "passed over: 1 .heic (train/ring/photo.heic)",
    ):
        assert any(part in warning for warning in warnings), part
    written = yaml.safe_load(Path(str(content["written"])).read_text())
    assert (written["max_corrupt"], written["classes"]) == (1, list(CLASSES))


def test_a_folder_without_validation_images_gets_some_as_links(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(project / "My Shapes" / "val")
    assert cli.main(["data", "My Shapes"]) == 2
    assert "--split NEWDIR" in capsys.readouterr().err
    assert cli.main(["data", "My Shapes", "--split", "halves", "--label", "fine"]) == 2
    content = found(capsys, "My Shapes", "--split", "halves")
    assert (content["num_train"], content["num_val"]) == (35, 7)
    assert content["root"] == str(project / "halves")
    assert len(list((project / "My Shapes").rglob("*.jpg"))) == 42


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere/"], "there is neither such a folder"),
        (["My Shapes", "data.root=/x"], "a folder is looked at by itself"),
        (["My Shapes", "--decode"], "is for the data of a row"),
        (["deit_s12", "--split", "new"], "is for a folder that no spec describes"),
        (["My Shapes", "--label", "fine"], "the folder of an image is its label"),
    ],
)
def test_what_cannot_be_looked_at_is_one_message(
    project: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.main(["data", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_word_that_names_a_spec_is_the_spec(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "My Shapes").rename(project / "deit_s12")
    assert cli.main(["data", "deit_s12", "profile=mini"]) == 0
    assert "MNIST-5k" in capsys.readouterr().out
    assert cli.main(["data", "./deit_s12", "--name", "shapes"]) == 0


def new(name: str, origin: str, *words: str) -> dict[str, object]:
    """The row that `new` writes, as its YAML says."""
    assert cli.main(["new", name, "--from", origin, "--data", "my_shapes", *words]) == 0
    row: dict[str, object] = yaml.safe_load(Path("experiments", f"{name}.yaml").read_text())
    return row


def test_a_row_on_few_images_is_fine_tuned_with_values_of_its_size(project: Path) -> None:
    assert cli.main(["data", "My Shapes"]) == 0
    new("mine", "deit_s12_attnscale")
    row = spec.load_experiment(project / "experiments" / "mine.yaml")
    recipe = row.recipe
    assert recipe.init_from == "timm:deit_small_patch16_224.fb_in1k"
    assert (recipe.global_batch, recipe.epochs) == (4, 50)
    assert recipe.lr == pytest.approx(5e-5 * (4 / 64) ** 0.5, rel=0.05)
    assert recipe.method_lr_factor * recipe.lr <= 0.031
    assert (recipe.mixes, recipe.rand_augment, recipe.ema_decay) == (False, None, None)
    assert row.data.mean == [0.485, 0.456, 0.406]
    text = (project / "experiments" / "mine.yaml").read_text()
    assert max(map(len, text.splitlines())) <= 100
    settings = re.findall(r"(.*)\n  (?:init_from|global_batch|base_lr|mean): ", text)
    assert all(line.startswith("  # ") for line in settings)
    assert len(settings) == 4
    assert "profile=mini" not in text


def test_a_row_from_scratch_keeps_its_recipe_at_another_batch(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "My Shapes"]) == 0
    new("mine", "deit_s24_attnscale", "--from-scratch")
    few = "tens of thousands of images, and my_shapes has 42 for training"
    assert few in capsys.readouterr().err
    row = spec.load_experiment(project / "experiments" / "mine.yaml")
    before = spec.load_experiment(project / "experiments" / "deit_s24_attnscale.yaml")
    assert row.recipe.init_from is None
    assert (row.recipe.epochs, row.recipe.mixup) == (before.recipe.epochs, before.recipe.mixup)
    assert (row.recipe.global_batch, row.recipe.mix_group) == (4, 4)
    assert row.recipe.ema_decay == pytest.approx(0.99, abs=0.001)
    assert row.data.mean != before.data.mean


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--from", "deit_s24"], "timm has no public weights of this backbone"),
        (["--from", "deit_s12", "--data", "my_shape"], "did you mean `my_shapes`"),
        (["--from", "eval_released_deit_s12"], "trains nothing"),
        (["--from", "deit_s12_distilled"], "learns from a teacher"),
        (["--from", "cait_s24_attnscale", "--from-scratch"], "starts from weights"),
    ],
)
def test_a_row_that_cannot_be_trained_so_is_refused_and_not_written(
    project: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.main(["data", "My Shapes"]) == 0
    words = words if "--data" in words else [*words, "--data", "my_shapes"]
    assert cli.main(["new", "mine", *words]) == 2
    assert message in capsys.readouterr().err
    assert not (project / "experiments" / "mine.yaml").exists()


def test_every_row_that_trains_fits_a_set_of_any_size(project: Path) -> None:
    assert cli.main(["data", "My Shapes"]) == 0
    path = project / "experiments" / "data" / "my_shapes.yaml"
    given = path.read_text()
    origins = [
        "deit_b12",
        "deit_s12_patchdiversity",
        "deit_s12_reattention",
        "cait_xxs24_featscale",
        "swin_s_attnscale",
    ]
    for count in (40, 3_000, 200_000):
        path.write_text(given.replace("num_train: 42", f"num_train: {count}"))
        for origin in origins:
            name = f"{origin}_{count}"
            new(name, origin)
            recipe = spec.load_experiment(project / "experiments" / f"{name}.yaml").recipe
            assert 10 <= recipe.epochs <= 100
            assert recipe.global_batch <= 256
            assert recipe.mixes is (count > 10_000 or origin == "deit_s12_patchdiversity")


def test_a_row_that_was_fitted_is_fitted_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "My Shapes"]) == 0
    new("mine", "deit_s12_attnscale")
    new("others", "mine", "--weights", "file:/weights.pth")
    assert "It starts from /weights.pth, which is not on this machine" in capsys.readouterr().err
    row = spec.load_experiment(project / "experiments" / "others.yaml")
    assert row.recipe.init_from == "file:/weights.pth"


def test_named_weights_are_written_so_that_every_folder_understands_them(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cli.main(["data", "My Shapes"]) == 0
    (project / "a # b").mkdir()
    monkeypatch.chdir(project / "a # b")
    monkeypatch.setenv("ANTIOVERSMOOTH_PROJECT", str(project))
    words = ["new", "mine", "--from", "deit_s12", "--data", "my_shapes", "--weights", "file:w.pth"]
    assert cli.main(words) == 0
    monkeypatch.chdir(project)
    row = spec.load_experiment(project / "experiments" / "mine.yaml")
    assert row.recipe.init_from == f"file:{project / 'a # b' / 'w.pth'}"


def test_weights_that_timm_does_not_publish_are_refused_by_new_and_by_a_launch(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", "My Shapes"]) == 0
    words = ["new", "mine", "--from", "deit_s12", "--data", "my_shapes"]
    assert cli.main([*words, "--weights", "timm:deit_smal_patch16_224"]) == 2
    message = "timm has no weights of that name; similar names: deit_small_patch16_224"
    assert message in capsys.readouterr().err
    assert not (project / "experiments" / "mine.yaml").exists()
    assert cli.main([*words, "--weights", "timm:deit_small_patch16_224"]) == 0
    wrong = "recipe.init_from='timm:deit_smal_patch16_224'"
    assert start(["mine", wrong, "--dry-run"], project=project) == 2
    assert message in capsys.readouterr().out


def write_parquet(images: Path, folder: Path) -> None:
    """Writes a Parquet file of each split, with the columns that the hub's CIFAR sets have."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"img": datasets.Image(), "class": datasets.ClassLabel(names=list(CLASSES))}
    )
    folder.mkdir()
    for split in ("train", "val"):
        paths = sorted((images / split).rglob("*.jpg"))
        columns = {
            "img": [{"bytes": path.read_bytes(), "path": None} for path in paths],
            "class": [path.parent.name for path in paths],
        }
        table = datasets.Dataset.from_dict(columns, features=features)
        table.to_parquet(str(folder / f"{split}-00000-of-00001.parquet"))


def test_a_hugging_face_table_becomes_a_table_of_two_rows_and_three_seeds(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first page of docs/data.md, with models of one block, for one epoch each."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(project / "hf"))
    write_parquet(project / "My Shapes", project / "table")
    shutil.rmtree(project / "My Shapes")
    size = {"embed_dim": 24, "depth": 1, "num_heads": 2, "img_size": 32}
    model = timm.create_model("vit_tiny_patch16_224", **size)
    safetensors.torch.save_file(model.state_dict(), project / "weights.safetensors")
    assert cli.main(["data", "table", "--name", "my_shapes"]) == 0
    assert "classes      bar (6), circle (6), cross (6)" in capsys.readouterr().out
    weights = f"file:{project / 'weights.safetensors'}"
    new("shapes", "deit_s12", "--weights", weights)
    new("shapes_attnscale", "deit_s12_attnscale", "--weights", weights)
    (project / "experiments" / "tables" / "my_table.yaml").write_text(
        "title: My shapes\nrows:\n"
        "  - {experiment: shapes, label: DeiT}\n"
        "  - {experiment: shapes_attnscale, label: + AttnScale, baseline: shapes}\n"
    )
    for name in ("shapes", "shapes_attnscale"):
        path = project / "experiments" / f"{name}.yaml"
        text = re.sub(r"(?m)^  epochs: .*", "  epochs: 1\n  warmup_epochs: 0", path.read_text())
        tiny = "model:\n  embed_dim: 24\n  depth: 1\n  num_heads: 2\n  image_size: 32\n"
        path.write_text(text + tiny)
    # a tracking server that is down, since the mirror has its own tests
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    words = ["my_table", "--seeds", "0,1,2", "--backend", "inline", "runtime.workers=0"]
    assert start(words, project=project) == 0, capsys.readouterr()
    document = json.loads((project / "results" / "my_table.json").read_text())
    rows = document["rows"]
    assert [row["experiment"] for row in rows] == ["shapes", "shapes_attnscale"]
    assert all(len(row["seeds"]) == 3 and row["top1"] for row in rows)
    assert rows[1]["gain"] is not None
    assert (project / "results" / "my_table.html").is_file()

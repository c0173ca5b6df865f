"""`antioversmooth analyze` and `antioversmooth figures`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import completed
import numpy as np
import pytest
import timm
from PIL import Image
from torch import nn

from antioversmooth import cli, spec
from antioversmooth.cli.exit_codes import INCOMPLETE
from antioversmooth.runs import Run
from antioversmooth.training.weights.published import find_images

PROJECT = Path(__file__).parent.parent
SMALL = ("model.depth=2", "model.embed_dim=16", "model.num_heads=2", "model.method=attnscale")


@pytest.fixture
def project(tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped specs and no results, as the working directory."""
    (tmp_path / "experiments").symlink_to(experiments)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def trained(project: Path, make_run: Callable[..., Run]) -> Run:
    """A run with weights."""
    from antioversmooth.runs.checkpoints import Checkpoint
    from antioversmooth.training.run.checkpoint import save_state
    from antioversmooth.training.weights.initial import new_model

    run = make_run("deit_s12", *SMALL)
    checkpoint = Checkpoint.named(run.checkpoints_dir, 1, 1)
    state = {"id": run.id, "step": checkpoint.step}
    save_state(checkpoint, {**state, "model": new_model(run.experiment, seed=0).state_dict()})
    return run


def test_analyze_leaves_numbers_and_pictures_in_the_run(trained: Run) -> None:
    assert cli.main(["analyze", str(trained.dir), "--images", "8"]) == 0
    found = {path.name for path in (trained.dir / "analysis").iterdir()}
    pictures = ("similarity", "spectra", "frequencies", "bounds", "scales", "heads")
    assert found == {
        f"{name}.{end}" for name in pictures for end in ("json", "csv", "png", "svg")
    } | {
        "analysis.json",
        "analysis.csv",
        "index.html",
    }


def test_analyze_takes_weights_from_elsewhere_with_the_row_that_they_are_of(
    trained: Run, project: Path
) -> None:
    weights = project / "weights.pt"
    weights.write_bytes(next(trained.checkpoints_dir.glob("*.pt")).read_bytes())
    command = [
        "analyze",
        str(weights),
        "--spec",
        "deit_s12",
        "profile=mini",
        *SMALL,
        "--images",
        "4",
    ]
    assert cli.main([*command, "--output", str(project / "mine")]) == 0
    assert (project / "mine" / "analysis.json").exists()


def test_analyze_names_a_missing_requirement(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "weights.pt").write_bytes(b"")
    assert cli.main(["analyze", "weights.pt"]) == 2
    assert "belongs to no run directory; name its row: --spec ROW" in capsys.readouterr().err


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A small ViT in the place of the weights that timm would download."""
    model: nn.Module = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        pretrained_cfg_overlay={"input_size": (3, 16, 16)},
    )
    monkeypatch.setattr(
        "antioversmooth.training.weights.published.published_model", lambda _: model
    )
    return model


def test_analyze_measures_a_timm_model_on_a_folder_of_images(
    project: Path, published: nn.Module
) -> None:
    generator = np.random.default_rng(0)
    for name in ("a/1.png", "a/2.png", "a/notes.txt", "b/3.jpg", "b/4.PNG"):
        (project / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (20, 30, 3), np.uint8)
        Image.fromarray(pixels).save(project / "images" / name, "PNG")
    command = ["analyze", "timm:vit_small", "--data", "images"]
    assert cli.main([*command, "--images", "3"]) == 0
    found = json.loads((project / "vit_small.analysis" / "analysis.json").read_text())
    assert (found["num_images"], found["depth"]) == (3, 2)
    assert (found["weights"], found["data"]) == ("timm:vit_small", "the folder images")
    assert found["selection"] == "3 of 4, evenly spaced by name"
    assert len(found["checksums"]["sample"]) == 64


def test_images_of_a_folder_are_spread_evenly_over_it(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"{number}.png").touch()
    (tmp_path / "notes.txt").touch()
    names = [path.stem for path in find_images(tmp_path, 4)[0]]
    assert names == ["0", "3", "6", "9"]
    found, total = find_images(tmp_path, 99)
    assert len(found) == total == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["timm:vit_small"], "belongs to no data; name a folder of images: --data DIR"),
        (["timm:vit_small", "--data", "empty"], "--data empty: holds no image; they end in .jpg"),
        (["timm:vit_small", "--data", "nowhere"], "--data nowhere: no such folder"),
        (["timm:vit_small", "--data", "torn/1.png"], "--data torn/1.png: is a file, and a folder"),
        (["timm:vit_small", "--data", "torn"], "1.png cannot be read as an image"),
        (["timm:vit_small", "--data", "empty", "--spec", "deit_s12"], "leave --spec and overrides"),
        (["weights.pt", "--data", "empty"], "--data empty is for timm:TAG"),
    ],
)
def test_analyze_says_what_a_timm_model_needs(
    project: Path,
    published: nn.Module,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    (project / "empty").mkdir()
    (project / "torn").mkdir()
    (project / "torn" / "1.png").write_bytes(b"\x89PNG")
    assert cli.main(["analyze", *words]) == 2
    assert message in capsys.readouterr().err


def test_analyze_refuses_a_network_without_attention_by_name(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = "antioversmooth.training.weights.published.published_model"
    monkeypatch.setattr(place, lambda _: timm.create_model("resnet18", num_classes=0))
    Image.new("RGB", (8, 8)).save(project / "1.png")
    assert cli.main(["analyze", "timm:resnet18", "--data", "."]) == 2
    assert "ResNet has no block with an attention layer" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["analyze", "figures"])
@pytest.mark.parametrize("number", ["0", "-3", "many", "1.5"])
def test_a_number_of_images_that_is_none_is_a_mistake(
    project: Path, capsys: pytest.CaptureFixture[str], command: str, number: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "anything", f"--images={number}"])
    assert stopped.value.code == 2
    assert f"'{number}' must be a number of images" in capsys.readouterr().err


def test_figures_are_drawn_from_runs_that_are_done(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "experiments/figures/similarity_deit_s24.yaml"
    assert cli.main(["figures", name, "profile=mini"]) == INCOMPLETE
    assert "none of its rows is done" in capsys.readouterr().err
    _, request = spec.load_figure(project / name, ["profile=mini"])
    for run in request.plan([0], project / "results"):
        run.prepare()
        completed.finish(run, similarity={"tokens": [0.5] * 24})
    assert cli.main(["figures", "similarity_deit_s24", "profile=mini"]) == 0
    folder = project / "results" / "mini" / "figures"
    assert sorted(path.suffix for path in folder.iterdir()) == [
        ".csv",
        ".html",
        ".json",
        ".png",
        ".svg",
    ]
    assert cli.main(["figures", "similarity_deit_s24", "profile=mini", "--output", "mine"]) == 0
    assert (project / "mine" / "index.html").read_text() == (folder / "index.html").read_text()


def test_figures_of_other_rows_need_a_folder(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, override = "similarity_deit_s24", "recipe.epochs=9"
    _, request = spec.load_figure(
        project / "experiments" / "figures" / f"{name}.yaml", ["profile=mini", override]
    )
    for run in request.plan([0], project / "results"):
        run.prepare()
        completed.finish(run, similarity={"tokens": [0.5] * 24})
    assert cli.main(["figures", name, "profile=mini", override]) == 0
    assert "name --output" in capsys.readouterr().err
    assert not (project / "results" / "mini" / "figures").exists()


def test_the_example_runs_offline_and_draws(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(PROJECT / "examples" / "plug_in.py")],
        cwd=tmp_path,
        env={
            "PATH": "",
            "PYTHONPATH": str(PROJECT),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert (tmp_path / "plug_in" / "similarity.png").stat().st_size > 0
    assert done.stdout.splitlines()[-1] == "plug_in/similarity.svg"

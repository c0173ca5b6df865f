"""`antioversmooth analyze` and `antioversmooth figures`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import completed
import pytest

from antioversmooth import cli, spec
from antioversmooth.cli.exit_codes import INCOMPLETE
from antioversmooth.runs import Run

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


@pytest.mark.parametrize("command", ["analyze", "figures"])
@pytest.mark.parametrize("number", ["0", "-3", "many", "1.5"])
def test_a_number_of_images_that_is_none_is_a_mistake(
    project: Path, capsys: pytest.CaptureFixture[str], command: str, number: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([command, "anything", f"--images={number}"])
    assert stopped.value.code == 2
    assert f"'{number}' is no number of images" in capsys.readouterr().err


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

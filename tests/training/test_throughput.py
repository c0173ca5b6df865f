"""`antioversmooth throughput`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from antioversmooth import cli
from antioversmooth.runs import Run
from antioversmooth.training import throughput

SMALL = ["profile=mini", "model.depth=1", "model.embed_dim=16", "model.num_heads=2"]


@pytest.fixture
def project(tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped specs, as the working directory; rounds of one pass."""
    (tmp_path / "experiments").symlink_to(experiments)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(throughput, "ROUND_S", 0.0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return tmp_path


@pytest.mark.usefixtures("project")
def test_a_row_is_measured_with_its_circumstances(capsys: pytest.CaptureFixture[str]) -> None:
    row = ["deit_s12_featscale", *SMALL, "recipe.precision=float16"]
    assert cli.main(["throughput", *row, "--batch", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["rounds"]) == throughput.ROUNDS
    assert min(found["rounds"]) <= found["images_per_s"] <= max(found["rounds"])
    assert (found["batch"], found["input"], found["passes"]) == (2, [1, 28, 28], 1)
    # a CPU computes in float32 whatever the recipe says
    assert found["precision"] == "float32"


def test_the_model_of_a_run_is_measured(
    project: Path, make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run("deit_s12", *SMALL[1:])
    assert cli.main(["throughput", str(run.dir), "--batch", "2"]) == 0
    assert "batch 2 of 1 x 28 x 28, float32" in capsys.readouterr().out
    assert cli.main(["throughput", str(run.dir), "model.depth=2"]) == 2
    assert "model.depth=2 changes a row" in capsys.readouterr().err


@pytest.mark.usefixtures("project")
def test_timms_own_models_are_measured_without_fetching_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.main(["throughput", "timm:test_vit", "--batch", "1"]) == 0
    assert capsys.readouterr().out.startswith("timm:test_vit: ")
    assert cli.main(["throughput", "timm:vit_smal"]) == 2
    assert "timm has no model of that name" in capsys.readouterr().err
    assert cli.main(["throughput", "deit_s13"]) == 2

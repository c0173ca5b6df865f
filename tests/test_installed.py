"""The package as a user has it: built, installed beside its requirements alone, and no checkout."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from environment import Environment, build, install

pytestmark = pytest.mark.slow

TINY = """
title: Tiny
caption: Two rows that train in seconds.
rows:
  - {experiment: deit_s12, name: tiny, label: Tiny, group: Tiny, overrides: [OVERRIDES]}
  - experiment: deit_s12_attnscale
    name: tiny_attnscale
    label: AttnScale
    group: Tiny
    baseline: tiny
    overrides: [OVERRIDES]
""".replace("OVERRIDES", "model.depth=2, model.embed_dim=16, model.num_heads=2, recipe.epochs=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with spaces in its path."""
    return tmp_path_factory.mktemp("a user's folder")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    return build(folder)


def test_the_bare_package_is_a_plug_in_and_names_the_extra_of_all_else(
    wheel: Path, folder: Path
) -> None:
    bare = install(wheel, folder / "bare")
    scaled = "import timm, antioversmooth.models as m; m.add_scaling(timm.create_model("
    bare.run(folder, "python", "-c", f"{scaled}'vit_tiny_patch16_224'), attnscale=True)")
    said = bare.run(folder, "antioversmooth", "status", code=2).stderr
    assert 'run `pip install "antioversmooth[train]"`' in said
    assert "make" not in said
    lines = bare.run(folder, "antioversmooth", "--version").stdout.splitlines()
    assert re.fullmatch(r"antioversmooth 0\S+ \(commit [0-9a-f]{40}\)", lines[0])
    assert lines[2:] == [f"torch {version('torch')}", f"timm {version('timm')}"]
    assert "antioversmooth launch" in bare.run(folder, "antioversmooth", "launch", "--help").stdout


def test_an_installed_package_does_all_that_a_checkout_does(wheel: Path, folder: Path) -> None:
    env = install(wheel, folder / "env", ["train", "mini"])
    env.run(folder, "antioversmooth", "init", "my project")
    project = folder / "my project"
    planned = env.run(project, "antioversmooth", "launch", "smoke", "profile=mini", "--dry-run")
    assert "deit_s12_featscale" in planned.stdout
    (project / "experiments/tables/tiny.yaml").write_text(TINY)
    tiny = ("tiny", "profile=mini")
    # no jobs: this machine's SLURM may be a real one
    launched = env.run(project, "antioversmooth", "launch", *tiny, "--backend=local")
    assert 'not installed: run `pip install "antioversmooth[tracking]"`' in launched.stdout
    assert_launched_from_the_built_code(env, project)
    states = json.loads(env.run(project, "antioversmooth", "status", *tiny, "--json").stdout)
    assert [run["state"] for run in states] == ["done", "done"]
    shown = env.run(project, "antioversmooth", "table", *tiny).stdout
    assert "AttnScale" in shown
    for kind in ("md", "html", "json"):
        assert (project / f"results/mini/tiny.{kind}").is_file()
    env.run(project, "antioversmooth", "doctor", "--no-job", *tiny, code=None)
    env.run(project, "antioversmooth", "verify", "results/mini/tiny.json")


def assert_launched_from_the_built_code(env: Environment, project: Path) -> None:
    built = json.loads((env.site / "antioversmooth/_built.json").read_text())
    intents = [json.loads(path.read_text()) for path in project.rglob("intent.json")]
    assert len(intents) == 2
    for intent in intents:
        assert (intent["snapshot"], intent["commit"]) == (built["code"], built["commit"])
        assert intent["dirty"] is False
        assert Path(intent["snapshot_path"]).is_relative_to(project)

"""The package as a user has it: built, installed beside its requirements alone, and no checkout."""

from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import safetensors.torch
import timm
from drawn_images import CLASSES, draw
from environment import Environment, build, install
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROWS = {
    "mine": ("deit_s12", "vit_tiny_patch16_224"),
    "mine_attnscale": ("deit_s12_attnscale", "vit_tiny_patch16_224"),
    "mine_cait": ("cait_xxs24_attnscale", "cait_xxs24_224"),
}
"""The row that each starts from, and timm's backbone whose weights it starts from."""
TABLE = """
title: My images
rows:
  - {experiment: mine, label: DeiT}
  - {experiment: mine_attnscale, label: + AttnScale, baseline: mine}
  - {experiment: mine_cait, label: CaiT + AttnScale}
"""
SIZE = {"embed_dim": 24, "depth": 1, "num_heads": 2}
LOAD = """
import sys, timm, torch
folded = timm.create_model("local-dir:my cait", pretrained=True)
assert not any(name.startswith("antioversmooth") for name in sys.modules)
import antioversmooth.models
scaled = timm.create_model("local-dir:my model", pretrained=True)
for model in folded, scaled:
    print(*model.pretrained_cfg["label_names"], *model(torch.zeros(1, 3, 32, 32)).shape)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with spaces in its path."""
    return tmp_path_factory.mktemp("a user's folder")


@pytest.fixture(scope="module")
def wheel(folder: Path) -> Path:
    return build(folder)


@pytest.fixture(scope="module")
def bare(wheel: Path, folder: Path) -> Environment:
    """The plug-in for timm: the package without extras."""
    return install(wheel, folder / "bare")


def test_the_bare_package_names_the_extra_of_all_that_it_lacks(
    wheel: Path, folder: Path, bare: Environment
) -> None:
    said = bare.run(folder, "antioversmooth", "status", code=2).stderr
    assert_names_the_wheel(said, "train", wheel)
    assert "make" not in said
    lines = bare.run(folder, "antioversmooth", "--version").stdout.splitlines()
    assert re.fullmatch(r"antioversmooth 0\S+ \(commit [0-9a-f]{40}\)", lines[0])
    assert lines[2:] == [f"torch {version('torch')}", f"timm {version('timm')}"]
    assert "antioversmooth launch" in bare.run(folder, "antioversmooth", "launch", "--help").stdout


def test_a_new_user_comes_from_own_images_to_a_table_and_a_model_for_timm(
    wheel: Path, folder: Path, bare: Environment
) -> None:
    """The pages docs/install.md, docs/data.md and docs/share.md, with models of one block; others
    load the model with timm and the plug-in alone."""
    env = install(wheel, folder / "env", ["train", "mini"])
    env.run(folder, "antioversmooth", "init", "my project")
    project = folder / "my project"
    planned = env.run(project, "antioversmooth", "launch", "smoke", "profile=mini", "--dry-run")
    assert "deit_s12_featscale" in planned.stdout
    find_data(env, project)
    for name in ROWS:
        write_row(env, project, name)
    (project / "experiments/tables/my_table.yaml").write_text(TABLE)
    table = ("my_table", "--seeds", "0,1,2")
    # no jobs: this machine's SLURM may be a real one
    launched = env.run(
        project, "antioversmooth", "launch", *table, "--backend=local", "runtime.workers=0"
    )
    assert_names_the_wheel(launched.stdout, "tracking", wheel)
    assert_launched_from_the_built_code(env, project)
    states = json.loads(env.run(project, "antioversmooth", "status", *table, "--json").stdout)
    assert [run["state"] for run in states] == ["done"] * 9
    env.run(project, "antioversmooth", "table", *table)
    rows = json.loads((project / "results/my_table.json").read_text())["rows"]
    assert [(row["experiment"], len(row["seeds"])) for row in rows] == [(name, 3) for name in ROWS]
    assert rows[1]["gain"] is not None
    assert "CaiT + AttnScale" in (project / "results/my_table.html").read_text()
    env.run(project, "antioversmooth", "doctor", "--no-job", *table[:1])
    env.run(project, "antioversmooth", "verify", "results/my_table.json")
    export(env, project, "mine_attnscale", "my model")
    export(env, project, "mine_cait", "my cait", "--fold")
    assert (
        bare.run(project, "python", "-c", LOAD).stdout.splitlines()
        == [" ".join([*CLASSES, "1", "7"])] * 2
    )


def find_data(env: Environment, project: Path) -> None:
    """Draws 168 images without validation images, and follows the command that `data` names."""
    for label, name in enumerate(CLASSES):
        for number in range(24):
            path = project / "own images" / name / f"{number}.jpg"
            draw(path, label, 100 * label + number)
    refused = env.run(project, "antioversmooth", "data", "own images", code=2).stderr
    named = re.search("`(.*) NEWDIR`", refused)
    assert named
    found = env.run(project, *shlex.split(named[1]), "halves").stdout
    assert re.search(r"num_train +133\n", found)


def write_row(env: Environment, project: Path, name: str) -> None:
    origin, backbone = ROWS[name]
    weights = f"{backbone}.safetensors"
    model = timm.create_model(backbone, img_size=32, **SIZE)
    safetensors.torch.save_file(model.state_dict(), project / weights)
    words = ["--from", origin, "--data", "own_images", "--weights", f"file:{weights}"]
    env.run(project, "antioversmooth", "new", name, *words)
    path = project / f"experiments/{name}.yaml"
    once = re.sub(
        r"(?m)^  epochs: .*", "  epochs: 1\n  warmup_epochs: 0", path.read_text(), count=1
    )
    once = re.sub(r"(?m)^  warmup_epochs: [1-9].*\n", "", once)
    sizes = {**SIZE, "image_size": 32}
    path.write_text(
        f"{once}model:\n" + "".join(f"  {key}: {value}\n" for key, value in sizes.items())
    )


def export(env: Environment, project: Path, row: str, target: str, *options: str) -> None:
    (run,) = (project / "results/runs" / row).glob("seed0-*")
    env.run(project, "antioversmooth", "export-model", str(run), target, *options)


def assert_names_the_wheel(said: str, extra: str, wheel: Path) -> None:
    """Asserts that the text names a command of pip that installs the extra from the wheel."""
    command = re.search("run `(pip install .*?)`", said)
    assert command
    wanted = Requirement(shlex.split(command[1])[-1])
    assert wanted.extras == {extra}
    assert Path(unquote(urlsplit(str(wanted.url)).path)) == wheel


def assert_launched_from_the_built_code(env: Environment, project: Path) -> None:
    built = json.loads((env.site / "antioversmooth/_built.json").read_text())
    intents = [json.loads(path.read_text()) for path in project.rglob("intent.json")]
    assert len(intents) == 9
    for intent in intents:
        assert (intent["snapshot"], intent["commit"]) == (built["code"], built["commit"])
        assert intent["dirty"] is False
        assert Path(intent["snapshot_path"]).is_relative_to(project)

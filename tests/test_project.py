"""A new project folder, and the specs that a command reads."""

from __future__ import annotations

import json
import re
import subprocess
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from antioversmooth import cli, installation, spec
from antioversmooth.project import find_root, make_project, readable_root

PROJECT = Path(__file__).parent.parent


def test_a_new_project_has_every_spec_of_the_package_and_they_compose(tmp_path: Path) -> None:
    folder = tmp_path / "a new folder" / "project"
    make_project(folder)
    own = {path.relative_to(PROJECT) for path in (PROJECT / "experiments").rglob("*.yaml")}
    made = {path.relative_to(folder) for path in (folder / "experiments").rglob("*.yaml")}
    assert {path for path in own if not path.name.startswith("local-")} < made
    assert find_root(folder / "experiments" / "tables") == folder
    request = spec.load([folder / "experiments/tables/smoke.yaml"], ["cluster=my_site"])
    assert request.experiments[0].cluster.name == "my_site"


def test_no_file_that_git_ignores_is_committed() -> None:
    """Such as a report of doctor, which holds the speed of one machine."""
    listed = ["git", "-C", str(PROJECT), "ls-files", "-ci", "--exclude-standard"]
    found = subprocess.run(listed, capture_output=True, text=True, check=False)
    if found.returncode:
        pytest.skip("no git repository")
    assert found.stdout == ""


def test_a_new_project_names_no_program_that_it_lacks(tmp_path: Path) -> None:
    make_project(tmp_path)
    assert not (tmp_path / "launch.py").exists()
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert "python launch.py" not in path.read_text(), path


def commands(folder: Path, target: str) -> str:
    """Commands of a make target, with the console script in place of launch.py and .venv."""
    words = ["make", "-n", "--no-print-directory", target, "SEEDS=0,1", "ARGS=--dry-run"]
    made = subprocess.run(words, cwd=folder, text=True, capture_output=True, check=True).stdout
    made = made.replace("launch.py", "-m antioversmooth launch").replace('"', "")
    return made.replace(".venv/bin/python -m antioversmooth", "antioversmooth")


def test_targets_of_a_new_project_run_what_those_of_a_checkout_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("IMAGENET", raising=False)
    make_project(tmp_path)
    own = (tmp_path / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z%-]*):.*##", own, flags=re.M)) - {"help"}
    assert {"reproduce-%", "reproduce-paper", "study", "figures"} < targets
    (tmp_path / "checkout" / ".venv").mkdir(parents=True)
    (tmp_path / "checkout" / "experiments").symlink_to(tmp_path / "experiments")
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        (tmp_path / "checkout" / name).write_bytes((PROJECT / name).read_bytes())
    (tmp_path / "checkout" / ".venv" / ".installed").touch()
    for target in (target.replace("%", "table2") for target in sorted(targets)):
        assert commands(tmp_path, target) == commands(tmp_path / "checkout", target)


def test_a_folder_with_a_file_of_that_name_is_refused_and_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Makefile").write_text("all:\n")
    assert cli.main(["init", str(tmp_path)]) == 2
    assert "has its own Makefile: nothing was written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["Makefile"]


@pytest.mark.parametrize("place", ["experiments", "experiments/new", "results/new"])
def test_no_project_is_made_among_the_specs_or_results_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    (tmp_path / "experiments").mkdir()
    # a folder of that name is no project until it holds a row
    make_project(tmp_path / "experiments" / "first")
    (tmp_path / "experiments" / "row.yaml").touch()
    assert cli.main(["init", str(tmp_path / place)]) == 2
    said = capsys.readouterr().err
    assert f"of the project {tmp_path}: nothing was written; name a folder outside of it" in said
    assert not (tmp_path / place / "Makefile").exists()


def test_an_interrupted_init_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = make_project(tmp_path)
    (tmp_path / "experiments/deit_s12.yaml").unlink()
    assert cli.main(["init", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [str(tmp_path / "experiments/deit_s12.yaml")]
    assert make_project(tmp_path) == []
    assert tmp_path / ".gitignore" in written


def test_commands_that_only_read_find_the_specs_of_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (readable_root() / "experiments/deit_s12.yaml").is_file()
    (tmp_path / "experiments").mkdir()
    assert readable_root() == tmp_path


def test_outside_of_a_project_the_way_to_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["launch", "smoke", "--dry-run"]) == 2
    assert "`antioversmooth init DIR` makes a project" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("module", "extra"), [("mlflow.entities", "tracking"), ("mlxtend", "mini"), ("rich", "train")]
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    module: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "is_checkout", lambda: False)
    monkeypatch.setattr(installation, "_address", str)
    assert installation.remedy(module) == f'run `pip install "antioversmooth[{extra}]"`'


@pytest.mark.parametrize(
    ("recorded", "address"),
    [
        (None, ""),
        ({"url": "file:///a%20b/x.whl", "archive_info": {}}, " @ file:///a%20b/x.whl"),
        (
            {"url": "https://h/x", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            " @ git+https://h/x@c0ffee",
        ),
    ],
)
def test_a_missing_package_comes_from_where_this_one_was_installed_from(
    recorded: object, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = None if recorded is None else json.dumps(recorded)
    about = SimpleNamespace(read_text=lambda name: text)
    monkeypatch.setattr(metadata, "distribution", lambda name: about)
    monkeypatch.setattr(installation, "is_checkout", lambda: False)
    assert installation.remedy("rich") == f'run `pip install "antioversmooth[train]{address}"`'


def test_the_version_of_a_checkout_names_its_commit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0
    commit = installation.git(PROJECT, "rev-parse", "HEAD") or "unknown"
    assert f"commit {commit}" in capsys.readouterr().out


def test_the_version_of_an_installed_package_says_whether_it_was_edited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    record = installation.Built("c0ffee", dirty=False, code=installation.code_id(PROJECT))
    monkeypatch.setattr(installation, "built", lambda: record)
    assert "(commit c0ffee)" in installation.versions()
    monkeypatch.setattr(installation, "code_id", lambda project: "edited")
    assert "(commit c0ffee, with uncommitted changes)" in installation.versions()

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from antioversmooth.orchestration import snapshot


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of two files, outside of git."""
    package = tmp_path / "project" / "antioversmooth"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "models" / "scaling.py").write_text("omega = 0\n")
    (package.parent / "launch.py").write_text("print('launch')\n")
    return package.parent


def git(project: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=project, capture_output=True, text=True, check=True
    ).stdout


def test_a_snapshot_keeps_what_the_code_was(project: Path, tmp_path: Path) -> None:
    taken = snapshot.take(tmp_path / "results", project)
    (project / "antioversmooth" / "models" / "scaling.py").write_text("omega = 1\n")
    assert taken.path == tmp_path / "results" / "snapshots" / taken.id
    assert (taken.path / "antioversmooth" / "models" / "scaling.py").read_text() == "omega = 0\n"
    assert (taken.path / "launch.py").exists()


def test_the_same_code_is_the_same_snapshot_and_changed_code_another(
    project: Path, tmp_path: Path
) -> None:
    first = snapshot.take(tmp_path, project)
    again = snapshot.take(tmp_path, project)
    (project / "antioversmooth" / "models" / "scaling.py").write_text("omega = 1\n")
    changed = snapshot.take(tmp_path, project)
    assert first.id == again.id != changed.id
    assert {path.name for path in (tmp_path / "snapshots").iterdir()} == {first.id, changed.id}


def test_byte_code_is_not_code(project: Path, tmp_path: Path) -> None:
    before = snapshot.describe(tmp_path, project).id
    cache = project / "antioversmooth" / "__pycache__"
    cache.mkdir()
    (cache / "x.cpython-311.pyc").write_bytes(b"\0")
    assert snapshot.describe(tmp_path, project).id == before


def test_describe_says_the_same_and_writes_nothing(project: Path, tmp_path: Path) -> None:
    described = snapshot.describe(tmp_path / "results", project)
    assert not (tmp_path / "results").exists()
    assert described == snapshot.take(tmp_path / "results", project)


def test_files_of_a_snapshot_are_read_only(project: Path, tmp_path: Path) -> None:
    taken = snapshot.take(tmp_path, project)
    modes = {path.stat().st_mode & 0o777 for path in taken.path.rglob("*") if path.is_file()}
    assert modes == {0o444}


def test_uncommitted_work_is_in_the_snapshot_and_named_as_such(
    project: Path, tmp_path: Path
) -> None:
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "one")
    clean = snapshot.take(tmp_path, project)
    (project / "antioversmooth" / "models" / "scaling.py").write_text("omega = 1\n")
    dirty = snapshot.take(tmp_path, project)
    commit = git(project, "rev-parse", "HEAD").strip()
    assert (clean.commit, clean.dirty) == (commit, False)
    assert (dirty.commit, dirty.dirty) == (commit, True)
    assert (clean.path / "uncommitted.diff").read_text() == ""
    assert "+omega = 1" in (dirty.path / "uncommitted.diff").read_text()
    assert json.loads((dirty.path / "snapshot.json").read_text()) == {
        "id": dirty.id,
        "commit": commit,
    }


@pytest.mark.parametrize("without", ["repository", "git"])
def test_it_works_without_git(
    without: str, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if without == "git":
        monkeypatch.setenv("PATH", str(tmp_path))
    else:
        monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    taken = snapshot.take(tmp_path, project)
    assert (taken.commit, taken.dirty) == (None, False)


def test_launchers_at_the_same_time_make_one_whole_snapshot(project: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from antioversmooth.orchestration import snapshot; "
    )
    program += "print(snapshot.take(Path(sys.argv[1]), Path(sys.argv[2])).id)"
    command = [sys.executable, "-c", program, str(tmp_path), str(project)]
    launchers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    printed = {launcher.communicate(timeout=60)[0].strip() for launcher in launchers}
    assert len(printed) == 1
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == [*printed]
    assert {launcher.returncode for launcher in launchers} == {0}


def test_a_snapshot_runs_by_itself(tmp_path: Path) -> None:
    """The real package, started from its snapshot, is the snapshot's."""
    taken = snapshot.take(tmp_path)
    program = "import antioversmooth.runs; print(antioversmooth.runs.__file__)"
    environment = {**os.environ, "PYTHONPATH": str(taken.path), "PYTHONSAFEPATH": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert Path(done.stdout.strip()).is_relative_to(taken.path)


def test_results_with_snapshots_can_be_deleted(project: Path, tmp_path: Path) -> None:
    taken = snapshot.take(tmp_path, project)
    shutil.rmtree(taken.path)
    assert snapshot.take(tmp_path, project).path.is_dir()

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from antioversmooth.orchestration import snapshot
from antioversmooth.orchestration.local import worker
from antioversmooth.orchestration.slurm.script import sbatch_script
from antioversmooth.runs import Run
from antioversmooth.runs.code import ENTRY_POINTS, _imported_names, source_files

MakeRun = Callable[..., Run]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project outside of git: training imports a model, at once or later; a table does, too."""
    package = tmp_path / "project" / "antioversmooth"
    for name, text in {
        "__init__": "",
        "models/__init__": "",
        "models/scaling": "omega = 0\n",
        "models/later": "",
        "reporting": "from antioversmooth.models import scaling\n",
        "training/__init__": "",
        "training/__main__": (
            "from typing import TYPE_CHECKING\n"
            "import antioversmooth.models.scaling\n"
            "if TYPE_CHECKING:\n    from antioversmooth.reporting import scaling\n\n"
            "def main():\n    from antioversmooth.models import (\n        later,\n    )\n"
        ),
    }.items():
        path = package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (package.parent / "launch.py").write_text("print('launch')\n")
    return package.parent


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this project's code."""
    for name in ("antioversmooth", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(snapshot.PROJECT / name, tmp_path / "checkout" / name, ignore=ignored)
    shutil.copyfile(snapshot.PROJECT / "launch.py", tmp_path / "checkout" / "launch.py")
    return tmp_path / "checkout"


def git(project: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    return subprocess.run(
        ["git", *identity, *arguments], cwd=project, capture_output=True, text=True, check=True
    ).stdout


def test_a_snapshot_keeps_what_the_code_was(project: Path, tmp_path: Path) -> None:
    created = snapshot.take(tmp_path / "results", project)
    (project / "antioversmooth" / "models" / "scaling.py").write_text("omega = 1\n")
    assert created.path == tmp_path / "results" / "snapshots" / created.id
    assert (created.path / "antioversmooth" / "models" / "scaling.py").read_text() == "omega = 0\n"


def test_the_same_code_is_the_same_snapshot_and_changed_code_another(
    project: Path, tmp_path: Path
) -> None:
    first = snapshot.take(tmp_path, project)
    again = snapshot.take(tmp_path, project)
    (project / "antioversmooth" / "models" / "scaling.py").write_text("omega = 1\n")
    changed = snapshot.take(tmp_path, project)
    assert first.id == again.id != changed.id
    assert {path.name for path in (tmp_path / "snapshots").iterdir()} == {first.id, changed.id}


def test_only_modules_that_an_entry_point_imports_are_in_a_snapshot(
    project: Path, tmp_path: Path
) -> None:
    created = snapshot.take(tmp_path, project)
    modules = {str(path.relative_to(created.path)) for path in created.path.rglob("*.py")}
    names = "__init__ models/__init__ models/scaling models/later training/__init__"
    assert modules == {
        f"antioversmooth/{name}.py" for name in [*names.split(), "training/__main__"]
    }


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("models/scaling.py", True),
        ("config/recipe.py", True),
        ("runs/journal.py", True),
        ("training/weights/initial.py", True),
        ("orchestration/slurm/epilogue.py", True),
        ("reporting/rendering/page.css", False),
        ("reporting/rendering/markdown.py", False),
        ("cli/main.py", False),
        ("spec/__init__.py", False),
        ("analysis/drawing.py", False),
        ("../benchmarks/ratio_chart.py", False),
        ("../launch.py", False),
    ],
)
def test_a_changed_byte_is_other_code_where_a_job_can_run_it(
    name: str, changes: bool, checkout: Path, tmp_path: Path
) -> None:
    before = snapshot.describe(tmp_path, checkout).id
    with (checkout / "antioversmooth" / name).open("a") as file:
        file.write("\n")
    assert (snapshot.describe(tmp_path, checkout).id != before) == changes


def test_imports_are_those_of_the_syntax_tree() -> None:
    """Of all files of the package; imports for type checkers are the only ones left out."""
    for path in sorted((snapshot.PROJECT / "antioversmooth").rglob("*.py")):
        tree = ast.parse(path.read_text())
        types_only = {
            id(inner)
            for node in tree.body
            if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
            for inner in ast.walk(node)
        }
        expected = set()
        for node in ast.walk(tree):
            if id(node) in types_only:
                continue
            if isinstance(node, ast.Import):
                expected |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                expected |= {node.module, *(f"{node.module}.{a.name}" for a in node.names)}
        ours = {name for name in expected if name and name.startswith("antioversmooth")}
        assert ours <= set(_imported_names(path)), path


def test_modules_are_imported_by_statements_alone() -> None:
    """A snapshot would lack a module whose name is made up at run time."""
    for source in source_files(snapshot.PROJECT):
        text = (snapshot.PROJECT / source).read_text()
        assert not re.search(r"import_module|__import__|pkgutil|runpy", text), source


def test_jobs_are_started_with_the_entry_points(make_run: MakeRun) -> None:
    run = make_run("deit_s12", profile="imagenet")
    placement: Any = SimpleNamespace(processes=1)
    started = [*worker.command(run, placement), *sbatch_script(run, Path("/snapshot")).split()]
    modules = {word for word in started if word.startswith("antioversmooth.")}
    as_modules = {name.removesuffix(".__main__") for name in ENTRY_POINTS}
    assert modules == as_modules


def test_describe_says_the_same_and_writes_nothing(project: Path, tmp_path: Path) -> None:
    described = snapshot.describe(tmp_path / "results", project)
    assert not (tmp_path / "results").exists()
    assert described == snapshot.take(tmp_path / "results", project)


def test_files_of_a_snapshot_are_read_only(project: Path, tmp_path: Path) -> None:
    created = snapshot.take(tmp_path, project)
    modes = {path.stat().st_mode & 0o777 for path in created.path.rglob("*") if path.is_file()}
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
    created = snapshot.take(tmp_path, project)
    assert (created.commit, created.dirty) == (None, False)


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


TINY = [
    "model.depth=1",
    "model.embed_dim=16",
    "model.num_heads=2",
    "model.image_size=8",
    "model.patch_size=4",
    "data.name=digits",
    "data.source=digits",
    "data.fingerprint=''",
    "data.num_train=1438",
    "data.num_val=359",
    "recipe.epochs=1",
    "recipe.warmup_epochs=0",
    "recipe.global_batch=719",
    "recipe.mixup=0",
    "recipe.cutmix=0",
]
"""Overrides for a run of two steps."""

LOADED = """
import pathlib, runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code, end.code
ours = [module for name, module in sys.modules.items() if name.startswith("antioversmooth")]
print(*{module.__file__ for module in ours}, sep="\\n", file=sys.stderr)
"""


def loaded_from(code: Path, module: str, *arguments: str) -> set[Path]:
    """Files of our modules that a process has loaded, started as jobs are."""
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-c", LOADED, module, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=code)
    assert done.returncode == 0, done.stderr
    return {Path(line) for line in done.stderr.splitlines() if line.endswith(".py")}


def test_a_run_loads_all_of_its_code_from_the_snapshot(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editable install would fill in from the working tree what the snapshot lacks."""
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    code = snapshot.take(tmp_path).path
    run = make_run("deit_s12_featscale", *TINY)
    loaded = loaded_from(code, "antioversmooth.training", str(run.dir))
    assert run.result() is not None
    loaded |= loaded_from(code, "antioversmooth.orchestration.slurm.rank", str(run.dir))
    epilogue = "antioversmooth.orchestration.slurm.epilogue"
    loaded |= loaded_from(code, epilogue, str(run.dir), "1", "0")
    assert len(loaded) > 50
    assert not [path for path in loaded if not path.is_relative_to(code)]


def test_every_module_of_a_snapshot_can_be_imported_from_it(tmp_path: Path) -> None:
    code = snapshot.take(tmp_path).path
    modules = [
        str(path.relative_to(code).with_suffix("")).replace(os.sep, ".").removesuffix(".__init__")
        for path in code.rglob("*.py")
    ]
    (code / "all_of_it.py").write_text("".join(f"import {name}\n" for name in modules))
    loaded = loaded_from(code, "all_of_it")
    assert not [path for path in loaded if not path.is_relative_to(code)]


def test_results_with_snapshots_can_be_deleted(project: Path, tmp_path: Path) -> None:
    created = snapshot.take(tmp_path, project)
    shutil.rmtree(created.path)
    assert snapshot.take(tmp_path, project).path.is_dir()

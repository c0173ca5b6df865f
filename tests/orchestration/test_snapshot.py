from __future__ import annotations

import ast
import importlib.util
import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import snapshot
from antioversmooth.orchestration.local import worker
from antioversmooth.orchestration.slurm.script import sbatch_script
from antioversmooth.runs import Run
from antioversmooth.runs.code import DISCOVERED, ENTRY_POINTS, _imported_names, source_files

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
    finds = {Path(*package.split("."), "registry.py") for package in DISCOVERED}
    for source in {*source_files(snapshot.PROJECT)} - finds:
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


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o444), (0o027, 0o440), (0o077, 0o400)])
def test_files_of_a_snapshot_are_read_only_for_those_whom_the_umask_lets_read(
    umask: int, mode: int, project: Path, tmp_path: Path
) -> None:
    before = os.umask(umask)
    try:
        created = snapshot.take(tmp_path, project)
    finally:
        os.umask(before)
    paths = [created.path, *created.path.rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_file()} == {mode}
    assert {path.stat().st_mode & 0o777 for path in paths if path.is_dir()} == {0o777 & ~umask}


def test_a_snapshot_holds_nothing_but_modules_that_jobs_import(
    project: Path, tmp_path: Path
) -> None:
    clean = snapshot.describe(tmp_path, project).id
    (tmp_path / "id_rsa").write_text("PRIVATE")
    models = project / "antioversmooth/models"
    for name in (".env", "secrets.json", ".scaling.py.swp", "scaling.py~", "scaling.py.orig"):
        (models / name).write_text("PRIVATE")
    for name in ("key", "key.py", "unused.py"):
        (models / name).symlink_to(tmp_path / "id_rsa")
    created = snapshot.take(tmp_path, project)
    texts = {path.read_text() for path in created.path.rglob("*") if path.is_file()}
    assert "PRIVATE" not in texts
    assert created.id == clean


def edit_a_file(code: Path) -> None:
    (code / "antioversmooth/models/scaling.py").chmod(0o644)
    (code / "antioversmooth/models/scaling.py").write_text("omega = 2\n")


def swap_two_files(code: Path) -> None:
    one, other = code / "antioversmooth/models/scaling.py", code / "antioversmooth/models/later.py"
    text = one.read_text()
    one.unlink(), other.unlink()
    other.write_text(text), one.write_text("")


def plant_byte_code(code: Path) -> None:
    """As Python finds it, with the time and size of the source, whose content is another."""
    source = code / "antioversmooth/models/scaling.py"
    (source.parent / "__pycache__").unlink()
    (source.parent / "__pycache__").mkdir()
    other = code.parent / "other.py"
    other.write_text("omega = 7\n")
    os.utime(other, (source.stat().st_mtime,) * 2)
    py_compile.compile(str(other), importlib.util.cache_from_source(str(source)))
    other.unlink()


def link_to_the_same(code: Path) -> None:
    source = code / "antioversmooth/models/scaling.py"
    source.rename(code.parent / "elsewhere.py")
    source.symlink_to(code.parent / "elsewhere.py")


def link_the_folder(code: Path) -> None:
    code.rename(code.parent / "elsewhere")
    code.symlink_to(code.parent / "elsewhere")


ALTERATIONS: dict[str, Callable[[Path], object]] = {
    "edited": edit_a_file,
    "swapped": swap_two_files,
    "gone": lambda code: (code / "antioversmooth/models/later.py").unlink(),
    "sitecustomize": lambda code: (code / "sitecustomize.py").write_text("print('other')"),
    "another package": lambda code: (code / "torch.py").write_text("print('other')"),
    "extension": lambda code: (code / "antioversmooth/models/scaling.abi3.so").write_bytes(b"ELF"),
    "legacy byte code": lambda code: (code / "antioversmooth/new.pyc").write_bytes(b"code"),
    "byte code": plant_byte_code,
    "link": link_to_the_same,
    "linked folder": link_the_folder,
    "pipe": lambda code: os.mkfifo(code / "antioversmooth/pipe.py"),
}


@pytest.mark.parametrize("alter", ALTERATIONS.values(), ids=ALTERATIONS)
def test_an_altered_snapshot_is_refused_by_name_and_left_as_it_is(
    alter: Callable[[Path], object], project: Path, tmp_path: Path
) -> None:
    first = snapshot.take(tmp_path, project)
    alter(first.path)
    before = sorted(path.name for path in first.path.rglob("*"))
    for look in (snapshot.take, snapshot.describe):
        with pytest.raises(
            LaunchError, match=f"{first.path} is not the code .*Move the folder away"
        ):
            look(tmp_path, project)
    assert sorted(path.name for path in first.path.rglob("*")) == before
    first.path.rename(tmp_path / "away")
    assert snapshot.take(tmp_path, project) == first


def test_what_no_module_can_be_alters_no_snapshot(project: Path, tmp_path: Path) -> None:
    first = snapshot.take(tmp_path, project)
    for name in (".DS_Store", "antioversmooth/.nfs0001", "antioversmooth/models/.scaling.py.swp"):
        (first.path / name).write_text("passed over")
    assert snapshot.take(tmp_path, project) == first


def test_python_leaves_no_byte_code_in_a_snapshot(project: Path, tmp_path: Path) -> None:
    code = snapshot.take(tmp_path, project).path
    before = sorted(code.rglob("*"))
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": ""}
    program = "import antioversmooth.models.scaling as s; print(s.__file__, s.omega)"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, cwd=code
    )
    assert done.stdout == f"{code}/antioversmooth/models/scaling.py 0\n"
    assert sorted(code.rglob("*")) == before


@pytest.mark.parametrize("planted", ["file", "folder", "link"])
def test_a_planted_temporary_name_is_not_used(planted: str, project: Path, tmp_path: Path) -> None:
    """The names of an earlier version, which anybody could foresee."""
    place = tmp_path / "snapshots" / f".{os.getpid()}.tmp"
    place.parent.mkdir()
    (tmp_path / "private").mkdir()
    if planted == "file":
        place.write_text("")
    elif planted == "folder":
        (place / "antioversmooth").mkdir(parents=True)
        (place / "antioversmooth/planted.py").touch()
    else:
        place.symlink_to(tmp_path / "private")
    created = snapshot.take(tmp_path, project)
    assert not list((tmp_path / "private").iterdir())
    assert not list(created.path.rglob("planted.py"))


def commit_all(project: Path) -> str:
    git(project, "init", "--quiet")
    git(project, "add", ".")
    git(project, "commit", "--quiet", "--message", "one")
    return git(project, "rev-parse", "HEAD").strip()


def test_uncommitted_work_is_in_the_snapshot_and_named_as_such(
    project: Path, tmp_path: Path
) -> None:
    commit = commit_all(project)
    clean = snapshot.take(tmp_path, project)
    (project / "antioversmooth" / "models" / "scaling.py").write_text("omega = 1\n")
    dirty = snapshot.take(tmp_path, project)
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


def test_a_repository_around_that_ignores_the_project_is_not_its_history(
    project: Path, tmp_path: Path
) -> None:
    """As where the project is installed in the virtual environment of another."""
    (tmp_path / ".gitignore").write_text("project\n")
    commit_all(tmp_path)
    created = snapshot.take(tmp_path / "results", project)
    assert (created.commit, created.dirty) == (None, False)


def test_the_commit_of_an_installed_package_is_that_of_its_build(
    project: Path, tmp_path: Path
) -> None:
    """Although its environment lies in a repository that tracks all files."""
    code = snapshot.describe(tmp_path / "results", project).id
    record = {"commit": "c0ffee", "dirty": False, "code": code}
    (project / "antioversmooth" / "_built.json").write_text(json.dumps(record))
    commit_all(tmp_path)
    created = snapshot.take(tmp_path / "results", project)
    assert (created.id, created.commit, created.dirty) == (code, "c0ffee", False)
    (project / "antioversmooth" / "models" / "scaling.py").write_text("omega = 1\n")
    altered = snapshot.take(tmp_path / "results", project)
    assert (altered.commit, altered.dirty) == ("c0ffee", True)
    assert (altered.path / "uncommitted.diff").read_text() == ""


@pytest.mark.parametrize("kind", ["worktree", "submodule", "folder"])
def test_the_commit_is_that_of_the_repository_that_tracks_the_project(
    kind: str, project: Path, tmp_path: Path
) -> None:
    if kind == "folder":
        commit = commit_all(tmp_path)
        place = project
    else:
        commit, place = commit_all(project), tmp_path / "outer/place"
        words = ("worktree", "add", "--quiet", str(place))
        if kind == "submodule":
            (tmp_path / "outer").mkdir()
            git(tmp_path / "outer", "init", "--quiet")
            words = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
            words = (*words, str(project), "place")
        git(project if kind == "worktree" else tmp_path / "outer", *words)
    created = snapshot.take(tmp_path / "results", place)
    assert (created.commit, created.dirty) == (commit, False)
    assert created.id == snapshot.describe(tmp_path, project).id


def test_a_new_module_is_copied_although_git_does_not_track_it_yet(
    project: Path, tmp_path: Path
) -> None:
    commit_all(project)
    models = project / "antioversmooth/models"
    (models / "later.py").write_text("from antioversmooth.models import fresh\n")
    (models / "fresh.py").write_text("new = 1\n")
    created = snapshot.take(tmp_path, project)
    assert (created.path / "antioversmooth/models/fresh.py").read_text() == "new = 1\n"
    assert created.dirty


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("ignored", "git ignores it"),
        ("link to an ignored file", "link to .*project/.env"),
        ("link to an ignored module", "git ignores it, or a link leads to it"),
        ("link out of the project", "link to .*/id_rsa"),
        ("folder out of the project", "link to .*/outside/private.py"),
    ],
)
def test_a_module_that_git_ignores_or_that_lies_elsewhere_is_refused_by_name(
    kind: str, reason: str, project: Path, tmp_path: Path
) -> None:
    (project / ".gitignore").write_text("local.py\n.env\n")
    commit_all(project)
    models = project / "antioversmooth/models"
    (tmp_path / "outside").mkdir()
    for path in (project / ".env", project / "local.py", tmp_path / "id_rsa"):
        path.write_text("key = 'PRIVATE'\n")
    (tmp_path / "outside/private.py").write_text("key = 'PRIVATE'\n")
    name = {"ignored": "local", "folder out of the project": "more.private"}.get(kind, "module")
    if kind == "ignored":
        (models / "local.py").write_text("key = 'PRIVATE'\n")
    elif kind == "folder out of the project":
        (models / "more").symlink_to(tmp_path / "outside")
    else:
        targets = {"link to an ignored file": project / ".env"}
        targets["link to an ignored module"] = project / "local.py"
        (models / "module.py").symlink_to(targets.get(kind, tmp_path / "id_rsa"))
    (models / "later.py").write_text(f"import antioversmooth.models.{name}\n")
    with pytest.raises(LaunchError, match=f"jobs import this module.*{reason}"):
        snapshot.take(tmp_path / "results", project)
    assert not list((tmp_path / "results/snapshots").iterdir())


def test_a_module_that_is_a_link_inside_the_project_is_copied(
    project: Path, tmp_path: Path
) -> None:
    models = project / "antioversmooth/models"
    (models / "later.py").unlink()
    (models / "later.py").symlink_to("scaling.py")
    commit_all(project)
    created = snapshot.take(tmp_path, project)
    copied = created.path / "antioversmooth/models/later.py"
    assert (copied.read_text(), copied.is_symlink()) == ("omega = 0\n", False)


def test_the_diff_of_a_snapshot_holds_no_secrets_and_no_colours(
    project: Path, tmp_path: Path
) -> None:
    commit_all(project)
    git(project, "config", "color.ui", "always")
    git(project, "config", "diff.external", "false")
    scaling = project / "antioversmooth/models/scaling.py"
    scaling.write_bytes(b"api_token = 'hunter2hunter2'\nname = '\xe9'\n")
    diff = (snapshot.take(tmp_path, project).path / "uncommitted.diff").read_text()
    assert "hunter2" not in diff
    assert "\n+api_token = '(hidden)'" in diff
    assert "\x1b" not in diff


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
    intent = {"snapshot": code.name, "snapshot_path": str(code)}
    (run.dir / "intent.json").write_text(json.dumps(intent))
    loaded |= loaded_from(code, "antioversmooth.orchestration.slurm.rank", str(run.dir))
    epilogue = "antioversmooth.orchestration.slurm.epilogue"
    loaded |= loaded_from(code, epilogue, str(run.dir), "1", "0")
    assert len(loaded) > 50
    assert not [path for path in loaded if not path.is_relative_to(code)]


STARTS = {
    "training": ["antioversmooth.training"],
    "rank": ["antioversmooth.orchestration.slurm.rank"],
    "epilogue": ["antioversmooth.orchestration.slurm.epilogue"],
}


@pytest.mark.parametrize(
    ("kind", "entry"),
    [
        ("altered", "training"),
        ("elsewhere", "rank"),
        ("altered", "epilogue"),
        ("elsewhere", "epilogue"),
        ("another", "epilogue"),
    ],
)
def test_code_that_is_not_the_launched_snapshot_refuses_to_run(
    kind: str, entry: str, make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run("deit_s12", *TINY)
    code = snapshot.take(tmp_path).path
    recorded = {"snapshot": code.name, "snapshot_path": str(code)}
    if kind == "altered":
        (code / "antioversmooth/more.py").touch()
    elif kind == "elsewhere":
        # as after SLURM_EXPORT_ENV=NONE: the same modules, from where they may be edited
        code = snapshot.PROJECT
    else:
        recorded["snapshot"] = "0" * 12
    (run.dir / "intent.json").write_text(json.dumps(recorded))
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONSAFEPATH": "1"}
    words = [str(run.dir), *(("1", "0") if entry == "epilogue" else ())]
    done = subprocess.run(
        [sys.executable, "-m", *STARTS[entry], *words],
        env={**environment, "SLURM_JOB_ID": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == (1 if entry == "epilogue" else 2)
    assert "launch the run again" in done.stderr
    assert done.stderr.count("\n") == 1
    assert run.attempts() == []


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

"""Layers of imports, and the modules that `--help` and `--dry-run` may load."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
BASE = {
    "background",
    "config",
    "constraints",
    "errors",
    "files",
    "finding",
    "installation",
    "methods",
    "redact",
    "shapes",
    "text",
    "text_table",
    "weight_files",
}
MAY_IMPORT: dict[str, set[str]] = {
    "background": set(),
    "errors": set(),
    "files": set(),
    "finding": {"errors", "shapes"},
    "installation": set(),
    "redact": set(),
    "shapes": set(),
    "text": set(),
    "text_table": {"text"},
    "weight_files": {"errors", "files"},
    "constraints": set(),
    "config": {"constraints", "errors", "methods"},
    "project": {"errors", "files", "installation", "spec"},
    "runs": BASE,
    "spec": BASE | {"runs"},
    "methods": {"constraints", "errors"},
    "datasets": {"config", "errors", "files", "installation"},
    "orchestration": BASE | {"runs", "spec", "datasets"},
    # of analysis only modules that need no torch
    "reporting": BASE | {"runs", "spec", "datasets", "methods", "analysis"},
    "models": {"config", "errors", "files", "methods", "weight_files"},
    "analysis": {"config", "errors", "files", "methods", "models", "shapes", "text"},
    "training": BASE | {"runs", "datasets", "methods", "models", "analysis"},
}
TYPED = {"cli"}
"""The command line, beside launch.py: it may import all."""
ALSO_LATER = {
    # the call of `train` by a job or by the inline back end
    "orchestration": {"training"},
    # a checkpoint as a model in MLflow, or analysed
    "reporting": {"models", "training"},
}
HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "mlflow",
    "submitit",
    "jinja2",
    "matplotlib",
    "pandas",
    "sklearn",
    "numpy",
}
COMPUTE = {"models", "training", "analysis"}
NOT_ON_NODES = {"hydra", "submitit", "mlflow"}

PACKAGE = PROJECT / "antioversmooth"
SOURCES = sorted([PROJECT / "launch.py", *PACKAGE.rglob("*.py")])
ROOMS = {path.stem for path in PACKAGE.iterdir() if path.name[0] not in "_."}
"""Modules and folders of the package."""


def room(path: Path) -> str:
    """config, errors, ..., or the name of a folder of the package."""
    parts = path.relative_to(PROJECT).with_suffix("").parts
    return parts[1] if len(parts) > 1 else parts[0]


def imports(path: Path, *, everywhere: bool) -> Iterator[str]:
    """Dotted names that a file imports when it is imported itself, or anywhere in it."""
    tree = ast.parse(path.read_text())
    nodes = list(ast.walk(tree)) if everywhere else list(at_import_time(tree.body))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide who knows whom"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def at_import_time(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Statements that run when the file is imported: all but bodies of functions, and what only a
    type checker sees."""
    for statement in body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            continue
        yield statement
        for field in ("body", "orelse", "finalbody", "handlers"):
            yield from at_import_time(getattr(statement, field, []))


def own_rooms(names: Iterator[str]) -> set[str]:
    parts = (name.split(".") for name in names)
    return {
        name[1]
        for name in parts
        if name[0] == "antioversmooth" and len(name) > 1 and name[1] in ROOMS
    }


def test_every_room_has_its_place() -> None:
    assert set(MAY_IMPORT) | TYPED == ROOMS


def test_the_map_of_the_rooms_names_all_of_them() -> None:
    page = (PROJECT / "docs" / "architecture.md").read_text()
    rooms = re.findall(
        r"^\| (.*?) \|", page.partition("| room |")[2].partition("\n\n")[0], re.MULTILINE
    )
    named = set(re.findall(r"`(\w+)(?:/|\.py)?`", " ".join(rooms)))
    assert named == ROOMS | {"launch"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_a_room_imports_only_the_rooms_it_may_know(path: Path) -> None:
    name = room(path)
    # rooms of the command line, and __main__.py
    if name not in MAY_IMPORT:
        return
    allowed = MAY_IMPORT[name] | {name}
    assert own_rooms(imports(path, everywhere=False)) <= allowed
    assert own_rooms(imports(path, everywhere=True)) <= allowed | ALSO_LATER.get(name, set())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_nobody_imports_the_command_line(path: Path) -> None:
    if path.name == "__main__.py":
        return
    # the command line imports itself
    if room(path) in TYPED | {"launch"}:
        return
    assert not own_rooms(imports(path, everywhere=True)) & TYPED
    assert "launch" not in imports(path, everywhere=True)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_heavy_packages_are_imported_where_they_are_used(path: Path) -> None:
    if room(path) not in COMPUTE:
        found = {name.split(".")[0] for name in imports(path, everywhere=False)}
        assert not found & (HEAVY - {"numpy"} if room(path) == "datasets" else HEAVY)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_nodes_need_no_launcher(path: Path) -> None:
    if room(path) in ("models", "training", "analysis", "datasets"):
        found = {name.split(".")[0] for name in imports(path, everywhere=True)}
        assert not found & NOT_ON_NODES


def loaded_by(*words: str) -> set[str]:
    """Modules of ours, and top-level packages, that a program has loaded when it ends.

    Args:
        words: launch.py or antioversmooth/__main__.py, and its arguments.
    """
    program = (
        "import atexit, runpy, sys; sys.argv = sys.argv[1:]; atexit.register(lambda:"
        " print(*sys.modules, *{name.split('.')[0] for name in sys.modules}, file=sys.stderr));"
        " runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, check=True)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ["launch.py", "--help"],
        ["antioversmooth/__main__.py", "--help"],
        ["antioversmooth/__main__.py", "status", "--help"],
    ],
    ids=" ".join,
)
def test_help_loads_argparse_and_of_ours_only_what_parses(words: list[str]) -> None:
    loaded = loaded_by(*words)
    assert not loaded & (HEAVY | {"hydra", "omegaconf", "rich", "yaml"})
    ours = {name.partition(".")[2] for name in loaded if name.startswith("antioversmooth.")}
    parsing = {
        "cli",
        "cli.main",
        "cli.parsers",
        "cli.exit_codes",
        "errors",
        "files",
        "installation",
        "text",
    }
    assert ours == parsing


@pytest.mark.parametrize(
    ("override", "with_grammar"), [("recipe.epochs=3", False), ("recipe.base_lr=5e-4", True)]
)
def test_a_dry_run_loads_hydra_for_its_grammar_alone_and_nothing_heavier(
    override: str, with_grammar: bool
) -> None:
    words = ("launch.py", "table2", "profile=mini", override, "--backend=local", "--dry-run")
    loaded = loaded_by(*words)
    assert ("hydra" in loaded) == with_grammar
    assert not loaded & HEAVY
    assert "antioversmooth.reporting.publish" not in loaded

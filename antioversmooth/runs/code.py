"""The code of jobs: the modules that they can import, an id of their content, and a comparison of
the code that runs with the code that a launch recorded."""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from antioversmooth import files

ENTRY_POINTS = (
    "antioversmooth.training.__main__",
    "antioversmooth.orchestration.slurm.rank",
    "antioversmooth.orchestration.slurm.epilogue",
)
"""Modules that jobs are started with."""

SNAPSHOT = "snapshot.json"
"""The file of notes that makes a folder a snapshot."""
NOTES = (SNAPSHOT, "uncommitted.diff")
NO_BYTE_CODE = "__pycache__"
"""An empty file of this name in each folder of a snapshot: Python, which makes a folder of this
name, can neither write byte code there nor run byte code that nobody compared with the code."""

PACKAGES = frozenset({"torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg"})
"""Names, in lower case, of the packages whose version can move a number."""


def source_files(project: Path) -> list[Path]:
    """Files of all modules that jobs can import, relative to the project and sorted."""
    found: dict[str, Path] = {}
    names = list(ENTRY_POINTS)
    while names:
        name = names.pop()
        # importing a module imports the packages around it, too
        if name and name not in found and (path := _module_file(project, name)):
            found[name] = path.relative_to(project)
            names += [name.rpartition(".")[0], *_imported_names(path)]
    return sorted(found.values())


def _module_file(project: Path, name: str) -> Path | None:
    """The file of a module; None for modules of other packages and names inside of a module."""
    path = project.joinpath(*name.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def _imported_names(path: Path) -> Iterator[str]:
    """Dotted names in the import statements of a file, also of those inside functions.

    By patterns, which take a tenth of the time of a syntax tree; a test compares the two.
    """
    for module, names in _IMPORT.findall(_TYPES_ONLY.sub("", path.read_text())):
        yield module
        yield from (f"{module}.{name}" for name in re.findall(r"\w+", names))


_IMPORT = re.compile(
    r"^ *(?:from|import) (antioversmooth[\w.]*)(?: import (\([^)]*\)|.*))?", re.MULTILINE
)
_TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:    .*\n|\n)+", re.MULTILINE)


def code_id(folder: Path, names: Iterable[Path]) -> str:
    """First 12 hex digits of the sha256 over names and contents of files in a folder."""
    lines = [f"{files.sha256(folder / name)}  {name.as_posix()}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def running_code() -> tuple[str, Path]:
    """Id and folder of the code that this process runs."""
    folder = Path(__file__).parents[2]
    return code_id(folder, source_files(folder)), folder


def installed_packages() -> dict[str, str]:
    """Versions of the packages that this process can import, by name."""
    found: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        if package.name:
            # of two of one name Python imports the first
            found.setdefault(package.name, package.version)
    return dict(sorted(found.items()))

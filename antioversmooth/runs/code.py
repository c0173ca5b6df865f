"""The code of jobs: the modules that they can import, an id of their content, and a comparison of
the code that runs with the code that a launch recorded."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from antioversmooth import files
from antioversmooth.errors import LaunchError
from antioversmooth.files import read_mapping

ENTRY_POINTS = (
    "antioversmooth.training.__main__",
    "antioversmooth.orchestration.slurm.rank",
    "antioversmooth.orchestration.slurm.epilogue",
)
"""Modules that jobs are started with."""

DISCOVERED = ("antioversmooth.methods",)
"""Packages whose modules are found when they run, and named by no import."""

SNAPSHOT = "snapshot.json"
"""The file that makes a folder a snapshot: its id and commit."""
UNCOMMITTED = "uncommitted.diff"
"""The file with the differences of a snapshot from its commit."""
NO_BYTE_CODE = "__pycache__"
"""An empty file of this name in each folder of a snapshot: Python, which makes a folder of this
name, can neither write byte code there nor run byte code that nobody compared with the code."""

PACKAGES = frozenset({"torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg"})
"""Names, in lower case, of the packages whose version can move a number."""


def source_files(project: Path) -> list[Path]:
    """Files of all modules that jobs can import, relative to the project and sorted."""
    found: set[Path] = set()
    names, seen = set(ENTRY_POINTS), {""}
    while names:
        name = names.pop()
        seen.add(name)
        if path := _module_file(project, name):
            found.add(path.relative_to(project))
            # importing a module imports the packages around it, too
            names |= {name.rpartition(".")[0], *_imported_names(path)} - seen
            if name in DISCOVERED:
                names |= {f"{name}.{module.stem}" for module in path.parent.glob("*.py")} - seen
    return sorted(found)


def _module_file(project: Path, name: str) -> Path | None:
    """The file of a module; None for modules of other packages and names inside of a module."""
    # without Path: most of the thousand names are of functions, and have no file
    path = f"{project}/{name.replace('.', '/')}"
    candidates = (f"{path}/__init__.py", f"{path}.py")
    return next((Path(file) for file in candidates if os.path.isfile(file)), None)


def _imported_names(path: Path) -> Iterator[str]:
    """Dotted names in the import statements of a file, also of those inside functions.

    By patterns, which take a tenth of the time of a syntax tree; a test compares the two.
    """
    text = path.read_text(encoding="utf-8", errors="replace")
    for module, names in _IMPORT.findall(_TYPES_ONLY.sub("", text)):
        yield module
        yield from (f"{module}.{name}" for name in re.findall(r"\w+", names))


_IMPORT = re.compile(
    r"^ *(?:from|import) (antioversmooth[\w.]*)(?: import (\([^)]*\)|.*))?", re.MULTILINE
)
_TYPES_ONLY = re.compile(r"^if TYPE_CHECKING:\n(?:    .*\n|\n)+", re.MULTILINE)


def checksums(folder: Path, names: Iterable[Path]) -> dict[str, str]:
    """sha256 of files in a folder, by their names with slashes."""
    return {name.as_posix(): files.sha256(folder / name) for name in names}


def snapshot_checksums(folder: Path) -> dict[str, str]:
    """As `checksums`, of everything in a snapshot that Python could import.

    A link or a device is part of no snapshot, whatever it leads to; it has no checksum.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        status, name = path.lstat(), path.relative_to(folder).as_posix()
        is_file = stat.S_ISREG(status.st_mode)
        is_guard = path.name == NO_BYTE_CODE and is_file and status.st_size == 0
        # no module begins with a dot: .DS_Store of a desktop, .nfs0001 of a file server
        is_harmless = is_guard or path.name.startswith(".") or name in (SNAPSHOT, UNCOMMITTED)
        if not (stat.S_ISDIR(status.st_mode) or is_harmless):
            found[name] = files.sha256(path) if is_file else ""
    return found


def code_id(checksums: Mapping[str, str]) -> str:
    """First 12 hex digits of the sha256 over names and checksums of files."""
    lines = [f"{checksum}  {name}\n" for name, checksum in checksums.items()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def running_code() -> tuple[str, Path]:
    """Id and folder of the code that this process runs."""
    folder = Path(__file__).parents[2]
    if (folder / SNAPSHOT).is_file():
        return code_id(snapshot_checksums(folder)), folder
    return code_id(checksums(folder, source_files(folder))), folder


def require_launched_code(run_dir: Path, *, from_snapshot: bool = True) -> None:
    """Compares the code that this process runs with the code that the newest launch recorded.

    Where no launch has recorded any, as in a notebook, there is nothing to compare.

    Args:
        from_snapshot: Whether the code must be the snapshot itself, not only have its content.

    Raises:
        LaunchError: It is other code, or lies in another folder.
    """
    intent = read_mapping(run_dir / "intent.json")
    launched, place = intent.get("snapshot"), intent.get("snapshot_path")
    if launched is None:
        return
    code, folder = running_code()
    is_there = not from_snapshot or folder.resolve() == Path(str(place)).resolve()
    if code != launched or not is_there:
        raise LaunchError(
            f"{run_dir}: this process runs the code {code} of {folder}, but the newest launch"
            f" recorded the snapshot {launched} in {place}. The snapshot or the import path has"
            " changed since then; launch the run again"
        )


def installed_packages() -> dict[str, str]:
    """Versions of the packages that this process can import, by name."""
    found: dict[str, str] = {}
    for package in importlib.metadata.distributions():
        head = _head(package)
        if "Name" in head:
            # of two of one name Python imports the first
            found.setdefault(head["Name"], head.get("Version", ""))
    return dict(sorted(found.items()))


def _head(package: importlib.metadata.Distribution) -> dict[str, str]:
    """The fields of a package's metadata, without the readme behind them.

    `package.name` and `package.version` each parse all of it again, in half a second for 200
    packages.
    """
    text = package.read_text("METADATA") or package.read_text("PKG-INFO") or ""
    lines = text.partition("\n\n")[0].splitlines()
    return {name: value for name, colon, value in (line.partition(": ") for line in lines) if colon}

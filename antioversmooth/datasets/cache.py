"""A cache of listings: the names of a million files are read once, then only time stamps."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from antioversmooth import files

Arrays = dict[str, npt.NDArray[Any]]
FORMAT = 1
"""Version of the cached arrays; raised when they change, so that older files are not read."""
SETTLED_S = 2.0
"""Age from which a folder's content is cached: a younger one may change within one time stamp."""


def cache_dir() -> Path:
    """$ANTIOVERSMOOTH_CACHE, else the home folder's cache, which a cluster's nodes share."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ANTIOVERSMOOTH_CACHE") or home / "antioversmooth")


def cached(
    key: Mapping[str, str | None], make: Callable[[], tuple[Arrays, Sequence[Path]]]
) -> Arrays:
    """The result of `make`, from the cache if no path that it depends on has changed since.

    Args:
        key: Everything that the arrays depend on, besides the content of the paths.
        make: Returns arrays without objects, and the folders and files that they depend on. A path
            has changed if its time stamp, or the size of a file, has.
    """
    described = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    path = cache_dir() / f"{hashlib.sha256(described.encode()).hexdigest()[:16]}.npz"
    if (found := _read(path)) is not None:
        return found
    arrays, depends_on = make()
    _write(path, arrays, depends_on)
    return arrays


def _read(path: Path) -> Arrays | None:
    """The cached arrays; None where there are none, they are torn, or out of date."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            paths, stamps = saved["_paths"], saved["_stamps"]
            if not np.array_equal(_stamps([Path(os.fsdecode(p)) for p in paths.tolist()]), stamps):
                return None
            return {name: saved[name] for name in saved.files if not name.startswith("_")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, arrays: Arrays, depends_on: Sequence[Path]) -> None:
    stamps = _stamps(depends_on)
    if stamps[:, 0].max() > (time.time() - SETTLED_S) * 1e9:
        return
    content = io.BytesIO()
    paths = np.array([os.fsencode(p) for p in depends_on], np.bytes_)
    np.savez(content, allow_pickle=False, **arrays, _paths=paths, _stamps=stamps)
    try:
        files.write_atomic(path, content.getvalue())
    except OSError as err:
        # no home folder on this node, or it is full: the next start lists again
        note = f"note: cannot cache the listing of the data in {path.parent} ({err.strerror})"
        print(note, file=sys.stderr)


def _stamps(paths: Sequence[Path]) -> npt.NDArray[np.int64]:
    """Time of the last change in ns and size in bytes of each path.

    The size of a folder counts as 0: file systems disagree on it.
    """
    found = [(path, path.stat()) for path in paths]
    return np.array([(s.st_mtime_ns, 0 if path.is_dir() else s.st_size) for path, s in found])

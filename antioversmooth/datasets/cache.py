"""A cache of listings: the names of a million files are read once, then only time stamps."""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import time
import zipfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from stat import S_ISDIR
from typing import Any

import numpy as np
import numpy.typing as npt

from antioversmooth import files

Arrays = dict[str, npt.NDArray[Any]]
Stamps = npt.NDArray[np.int64]
FORMAT = 4
"""Version of the cached arrays; raised when they change, so that older files are not read."""
SETTLED_S = 2.0
"""Age from which a folder's content is cached: a younger one may change within one time stamp."""


def cache_dir() -> Path:
    """$ANTIOVERSMOOTH_CACHE, else the home folder's cache, which a cluster's nodes share."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ANTIOVERSMOOTH_CACHE") or home / "antioversmooth")


Key = Mapping[str, str | None]
"""Everything that arrays depend on, besides the content of paths."""


def cached(
    key: Key, make: Callable[[], tuple[Arrays, Sequence[Path]]], *, anew: bool = False
) -> Arrays:
    """The result of `make`, from the cache if no path that it depends on has changed since.

    Args:
        make: Returns arrays without objects, and the folders and files that they depend on. A path
            has changed if one of its time stamps, or the size of a file, has.
        anew: Whether to call `make` whatever the cache holds, and to cache its result instead.
    """
    if not anew and (found := read(key)) is not None:
        return found
    started = time.time()
    arrays, depends_on = make()
    stamps = _stamps(depends_on)
    if _show_changes(stamps, started):
        _write(_path(key), arrays, depends_on, stamps)
    return arrays


def read(key: Key, names: Collection[str] = ()) -> Arrays | None:
    """The cached arrays; None where there are none, they are torn, or out of date.

    Args:
        names: Those that are read; default: all.
    """
    try:
        with _path(key).open("rb") as file, np.load(file, allow_pickle=False) as saved:
            paths, stamps = saved["_paths"], saved["_stamps"]
            if not np.array_equal(_stamps([Path(os.fsdecode(p)) for p in paths.tolist()]), stamps):
                return None
            wanted = names or [name for name in saved.files if not name.startswith("_")]
            return {name: saved[name] for name in wanted}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _path(key: Key) -> Path:
    described = json.dumps({"format": FORMAT, **key}, sort_keys=True)
    return cache_dir() / f"{hashlib.sha256(described.encode()).hexdigest()[:16]}.npz"


def _write(path: Path, arrays: Arrays, depends_on: Sequence[Path], stamps: Stamps) -> None:
    content = io.BytesIO()
    paths = np.array([os.fsencode(p) for p in depends_on], np.bytes_)
    np.savez(content, allow_pickle=False, **arrays, _paths=paths, _stamps=stamps)
    try:
        files.write_atomic(path, content.getvalue())
    except OSError as err:
        # no home folder on this node, or it is full: the next start lists again
        note = f"note: cannot cache the listing of the data in {path.parent} ({err.strerror})"
        print(note, file=sys.stderr)


def _show_changes(stamps: Stamps, started: float) -> bool:
    """Whether the stamps show every change of the paths since they began to be read.

    They do not where a path has just changed, within one tick of the clock, nor on file systems
    that give all folders the same time, or none: object stores as folders (s3fs, goofys).

    Args:
        started: When reading began, in seconds since 1970.
    """
    changed = stamps[:, 1]
    just_now = stamps[:, :2].max() > (started - SETTLED_S) * 1e9
    constant = len(changed) > 1 and bool((changed == changed[0]).all())
    return not (just_now or constant or changed.min() <= 0)


def _stamps(paths: Sequence[Path]) -> Stamps:
    """Stamps of each path: times in ns of its last change of content and of its inode, and bytes.

    Programs can set the first time back, as tar, rsync and touch do, but not the second. The size
    of a folder counts as 0: file systems disagree on it.
    """
    found = [path.stat() for path in paths]
    return np.array(
        [(s.st_mtime_ns, s.st_ctime_ns, 0 if S_ISDIR(s.st_mode) else s.st_size) for s in found]
    )

"""Listings kept between commands: the names of a million files are read once, then only whether
folders changed."""

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
"""Raised when what is kept changes, so that older files are not read."""
YOUNG_S = 2.0
"""A folder that changed this recently may change again without a new time stamp, and is not kept
yet."""


def folder() -> Path:
    """$ANTIOVERSMOOTH_CACHE; by default in the cache of the home folder, which the nodes of a
    cluster share."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("ANTIOVERSMOOTH_CACHE") or home / "antioversmooth")


def kept(
    key: Mapping[str, str | None], make: Callable[[], tuple[Arrays, Sequence[Path]]]
) -> Arrays:
    """What `make` gives, or gave before if none of the paths that it looked at has changed since.

    Args:
        key: What the arrays depend on, besides the content of the paths.
        make: Arrays without objects, and the folders and files that tell by their time stamp (files
            also by their size) whether it would give the same again.
    """
    name = hashlib.sha256(
        json.dumps({"format": FORMAT, **key}, sort_keys=True).encode()
    ).hexdigest()
    path = folder() / f"{name[:16]}.npz"
    found = _read(path)
    if found is not None:
        return found
    arrays, looked_at = make()
    _write(path, arrays, looked_at)
    return arrays


def _read(path: Path) -> Arrays | None:
    """The kept arrays; None where there are none, they are torn, or out of date."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
            paths, stamps = kept["_paths"], kept["_stamps"]
            if not np.array_equal(_stamps([Path(os.fsdecode(p)) for p in paths.tolist()]), stamps):
                return None
            return {name: kept[name] for name in kept.files if not name.startswith("_")}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _write(path: Path, arrays: Arrays, looked_at: Sequence[Path]) -> None:
    stamps = _stamps(looked_at)
    if stamps[:, 0].max() > (time.time() - YOUNG_S) * 1e9:
        return
    content = io.BytesIO()
    paths = np.array([os.fsencode(p) for p in looked_at], np.bytes_)
    np.savez(content, allow_pickle=False, **arrays, _paths=paths, _stamps=stamps)
    try:
        files.write_atomic(path, content.getvalue())
    except OSError as err:
        # no home on this node, or it is full: the next start lists again
        print(
            f"note: the listing of the data is not kept in {path.parent} ({err.strerror})",
            file=sys.stderr,
        )


def _stamps(paths: Sequence[Path]) -> npt.NDArray[np.int64]:
    """Time of the last change in ns, and size in bytes (of a folder: 0, which file systems disagree
    on)."""
    found = [os.stat(path) for path in paths]
    return np.array(
        [
            (s.st_mtime_ns, 0 if path.is_dir() else s.st_size)
            for path, s in zip(paths, found, strict=True)
        ]
    )

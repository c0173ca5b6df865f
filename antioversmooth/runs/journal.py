"""Journals: files of JSON lines that are appended and never changed.

A run directory has several: attempts.jsonl (attempts.py), metrics.jsonl (metrics.py), jobs.jsonl
(jobs.py) and intents.jsonl.
"""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.errors import ResultError, other_owner
from antioversmooth.redact import redact_all
from antioversmooth.shapes import LARGEST

Record = dict[str, Any]
NOT_FINITE = ("nan", "inf", "-inf")
"""Texts in the place of numbers that are not finite, which JSON does not have."""


def append(path: Path, record: Record, *, synced: bool = False) -> None:
    """Adds one line in a single write, so that readers see whole lines or a torn last one.

    Args:
        path: The journal; created where it is missing.
        record: Numbers and strings, of which secrets are hidden. A `time` (seconds since 1970) is
            added where there is none. JSON has no numbers that are not finite: they are written as
            the strings nan, inf and -inf.
        synced: Whether to return only when the line survives a power failure.
    """
    safe = redact_all(_finite(record))
    line = json.dumps({"time": round(time.time(), 3), **safe}, allow_nan=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        is_new = os.fstat(descriptor).st_size == 0
        # a writer was killed mid-line: its line is lost, ours must not be glued to it
        if _ends_torn(path):
            line = "\n" + line
        data = line.encode()
        with files.naming(path):
            while data:
                data = data[os.write(descriptor, data) :]
            if synced:
                os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if synced and is_new:
        files.sync_folder(path.parent)


def _finite(value: Any) -> Any:
    """The value, with the names of numbers that are not finite in their place."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read(path: Path, *, holding: str = "") -> list[Record]:
    """Whole records of a file in the order written; see `parse`."""
    return parse(read_bytes(path), holding=holding)


def read_bytes(path: Path) -> bytes:
    """Content of a journal; empty where it is missing.

    Raises:
        ResultError: It is there and cannot be read: a folder, another user's, a link to itself.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as err:
        raise ResultError(f"{path} cannot be read: {err.strerror}{other_owner(path)}") from err


def unreadable_reason(path: Path) -> str:
    """Why a journal cannot be read; empty where it can be, or is missing."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return ""
    except OSError as err:
        return f"{path} cannot be read: {err.strerror}{other_owner(path)}"
    if not stat.S_ISREG(mode):
        return f"{path} cannot be read: it is no file"
    if os.access(path, os.R_OK):
        return ""
    return f"{path} cannot be read: no permission{other_owner(path)}"


def parse(data: bytes, *, holding: str = "") -> list[Record]:
    """Whole records in the order written, without lines that a killed writer left torn.

    Args:
        holding: Only records with this key. Other lines are not even parsed: a table needs one line
            in fifty.
    """
    lines = _lines_with(data, json.dumps(holding).encode()) if holding else data.split(b"\n")
    return _records(_parse([line for line in lines if line]))


def newest_first(data: bytes, *, holding: str) -> Iterator[Record]:
    """The whole records with a key, the last one of the file first; no further ones are parsed."""
    key = json.dumps(holding).encode()
    at = data.rfind(key)
    while at >= 0:
        start, end = data.rfind(b"\n", 0, at) + 1, data.find(b"\n", at)
        yield from _records(_parse([data[start : end if end >= 0 else len(data)]]))
        at = data.rfind(key, 0, start)


def _lines_with(data: bytes, key: bytes) -> Iterator[bytes]:
    """The lines that hold a key; the others are passed over without being cut out."""
    at = data.find(key)
    while at >= 0:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        yield data[data.rfind(b"\n", 0, at) + 1 : end]
        at = data.find(key, end)


_ORDER = ("time", "attempt", "step", "epoch")
NUMBERS = {int, float}


def _records(values: list[Any]) -> list[Record]:
    """The mappings that can be put in order: a run directory may come from anywhere.

    All at once, key by key, where they all are; else one by one, which takes three times as long.
    """
    mappings = [value for value in values if type(value) is dict]
    if all(_have_order(mappings, key) for key in _ORDER):
        return mappings
    return [value for value in mappings if all(_have_order([value], key) for key in _ORDER)]


def _have_order(mappings: list[Record], key: str) -> bool:
    """Whether the values of a key are numbers, none of them too large, infinite or NaN."""
    values = [value.get(key, 0) for value in mappings]
    if not NUMBERS.issuperset(map(type, values)):
        return False
    return all(-LARGEST < value < LARGEST for value in values)


def _parse(lines: list[bytes]) -> list[Any]:
    """The values of all lines that are JSON.

    All at once where that works, which is twice as fast and decides for a table of a thousand runs.
    A torn line cannot hide in it: it leaves a bracket or a quote open, which whole lines do not
    close.
    """
    try:
        return list(json.loads(b"[" + b",".join(lines) + b"]"))
    except (ValueError, RecursionError):
        values = []
        for line in lines:
            with suppress(ValueError, RecursionError):
                values.append(json.loads(line.decode(errors="replace")))
        return values

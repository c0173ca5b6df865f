"""Atomic writes, JSON and checksums of files."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replaces the content of a file; after a crash it is the old or the new one, never a part.

    Raises:
        OSError: No space, no permission; `path` is as it was.
    """
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Names the file in errors of the system that name none: a full disk is met by a write."""
    try:
        yield
    except OSError as err:
        if err.filename is None and err.errno is not None:
            err.filename = str(path)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that replaces `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # no process of any machine or container uses it as well, and none can know it before
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with naming(path), open(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Has the names in a folder survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def to_json(value: Any) -> str:
    """Indented JSON.

    Raises:
        ValueError: A number in it is not finite, which JSON cannot say.
    """
    try:
        return json.dumps(value, indent=2, allow_nan=False)
    except ValueError as err:
        key = next(_not_finite(value), "")
        raise ValueError(f"{key} is not a finite number" if key else str(err)) from err


def _not_finite(value: Any, key: str = "") -> Iterator[str]:
    """Dotted keys of numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        yield key or "the value"
    parts = enumerate(value) if isinstance(value, list | tuple) else ()
    for name, part in value.items() if isinstance(value, dict) else parts:
        yield from _not_finite(part, f"{key}.{name}" if key else str(name))


def write_json(path: Path, value: Any) -> None:
    """Writes indented JSON, atomically.

    Raises:
        ValueError: A number in it is not finite; names the file and the key.
    """
    try:
        text = to_json(value)
    except ValueError as err:
        raise ValueError(f"{path}: {err}") from err
    write_atomic(path, f"{text}\n")


def read_json(path: Path) -> Any:
    """The value in a JSON file; None if there is no such file.

    Pipes and devices, which a folder that was sent may link to, are no files: reading never ends.

    Raises:
        ValueError: The file is no JSON, or holds a number that is not finite.
    """
    if os.path.lexists(path) and not path.is_file():
        raise ValueError("it is no file")
    try:
        return json.loads(path.read_text(), parse_constant=_finite, parse_float=_finite)
    except FileNotFoundError:
        return None
    except RecursionError as err:
        raise ValueError("nested too deeply") from err


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping of a JSON file that no number depends on; empty where it cannot be read."""
    try:
        value = read_json(path)
    except (ValueError, OSError):
        return {}
    return value if isinstance(value, dict) else {}


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text} is not a finite number")
    return number


def sha256(path: Path) -> str:
    """Checksum of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def discard_output() -> None:
    """Points stdout and stderr at /dev/null, for when their reader has gone away."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.close(null)

"""The journal of a run: JSON lines that are appended and never changed, and how the story is read
back from them.

Two files of a run directory are journals:
    attempts.jsonl  {"time", "attempt", "event": "start", "step": s, ...}   the attempt continues after step s
                    {"time", "attempt", "event": "end", "reason": ..., "step": ...}
    metrics.jsonl   {"time", "attempt", "step", "epoch", <metric>: <number>, ...}

An attempt that starts at step s takes over the run from there: whatever earlier attempts wrote for
later steps, then or afterwards (a process that its scheduler had given up for dead), is not part of
the run any more. `read_metrics` returns only what is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from antioversmooth.redact import redact

Record = dict[str, Any]


class EndReason(Enum):
    """Why an attempt ended; the `reason` of an end record."""

    completed = "completed"
    preempted = "preempted"
    timeout = "timeout"
    crash = "crash"
    hang = "hang"
    out_of_memory = "out-of-memory"
    node_fail = "node-fail"
    disk_full = "disk-full"
    cancelled = "cancelled"


def append(path: Path, record: Record) -> None:
    """Adds one line and its time stamp; a single write, so that readers see whole lines or a torn
    last one.

    Args:
        path: The journal; created where it is missing.
        record: Numbers and strings, of which secrets are hidden. A `time` (seconds since 1970) is
            added where there is none.
    """
    told = {
        key: redact(value) if isinstance(value, str) else value for key, value in record.items()
    }
    line = json.dumps({"time": round(time.time(), 3), **told}, allow_nan=True) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        # a writer was killed mid-line: its line is lost, ours must not be glued to it
        if _ends_torn(path):
            line = "\n" + line
        data = line.encode()
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)


def _ends_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def read(path: Path, *, holding: str = "") -> list[Record]:
    """Whole records in the order written; lines torn by a killed writer are left out.

    Args:
        holding: Only records with this key. Other lines are not even parsed: a table needs one line
            in fifty.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    lines = _lines_with(data, json.dumps(holding).encode()) if holding else data.split(b"\n")
    return _records(_parse([line for line in lines if line]))


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
    """The lines that are ours: mappings that can be put in order. A run directory may come from
    anywhere.

    All at once, key by key, where they all are; else one by one, which takes three times as long.
    """
    mappings = [value for value in values if type(value) is dict]
    if all(NUMBERS.issuperset({type(value.get(key, 0)) for value in mappings}) for key in _ORDER):
        return mappings
    return [
        value
        for value in mappings
        if NUMBERS.issuperset({type(value.get(key, 0)) for key in _ORDER})
    ]


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


_REASONS = {reason.value for reason in EndReason}


def read_attempts(path: Path) -> list[Record]:
    """The records of a journal of attempts; what is no record of an attempt is left out, as a torn
    line is."""
    return [record for record in read(path) if _is_of_attempt(record)]


def _is_of_attempt(record: Record) -> bool:
    event, reason = record.get("event"), record.get("reason")
    if type(record.get("attempt")) is not int or "time" not in record or not isinstance(event, str):
        return False
    if event == "start":
        step, world_size = record.get("step"), record.get("world_size", 1)
        return type(step) is int and type(world_size) is int and world_size > 0
    return event != "end" or (isinstance(reason, str) and reason in _REASONS)


def read_metrics(metrics: Path, attempts: Path) -> list[Record]:
    """The metrics that belong to the run, in order of steps: each step as its last rightful attempt
    wrote it."""
    limit = superseded_after(read_attempts(attempts))
    return in_lineage(read(metrics), limit)


def superseded_after(attempts: Iterable[Record]) -> dict[int, float]:
    """For each attempt the last step that still counts: where the earliest later lineage took
    over."""
    starts = sorted(
        (r.get("attempt", 0), r.get("step", 0)) for r in attempts if r.get("event") == "start"
    )
    limit: dict[int, float] = {}
    lowest = float("inf")
    for attempt, step in reversed(starts):
        limit[attempt] = lowest
        lowest = min(lowest, step)
    return limit


def in_lineage(records: Iterable[Record], limit: dict[int, float]) -> list[Record]:
    """The records whose step was not superseded by a later attempt."""
    if all(last == float("inf") for last in limit.values()):
        return list(records)
    return [r for r in records if r.get("step", 0) <= limit.get(r.get("attempt", 0), float("inf"))]

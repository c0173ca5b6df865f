"""The intent of a launch: written into the run directory before anything is started."""

from __future__ import annotations

import getpass
import shlex
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.files import read_mapping
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.redact import redact
from antioversmooth.runs import Run, journal


def write_intent(
    run: Run, backend: str, snapshot: Snapshot, *, tables: Sequence[str] | None = None
) -> dict[str, Any]:
    """Prepares the run directory and writes the intent of a launch to it.

    `intent.json` is the newest launch, `intents.jsonl` all of them. Callers hold the run's lock
    (see lock.py).

    Args:
        tables: Names of the tables whose row is launched; default: those of the launch before.
    """
    run.prepare()
    if tables is None:
        tables = launched_tables(run.dir)
    intent = {
        "id": run.id,
        "time": round(time.time(), 3),
        "backend": backend,
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        # each word before it is quoted, and options with their values
        "command": redact(shlex.join(map(redact, sys.argv))),
        "commit": snapshot.commit,
        "dirty": snapshot.dirty,
        "snapshot": snapshot.id,
        "snapshot_path": str(snapshot.path),
        "tables": list(tables),
        # a done run whose spec has another one is not counted: `Run.require_own_spec`
        "spec": files.sha256(run.dir / "spec.yaml"),
    }
    journal.append(run.dir / "intents.jsonl", intent)
    files.write_json(run.dir / "intent.json", intent)
    return intent


def launched_tables(directory: Path) -> list[str]:
    """Names of the tables that the newest launch of a run directory belonged to."""
    tables = read_mapping(directory / "intent.json").get("tables")
    return [str(table) for table in tables] if isinstance(tables, list) else []

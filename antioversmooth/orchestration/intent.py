"""The intent of a launch: written into the run directory before anything is started."""

from __future__ import annotations

import getpass
import shlex
import socket
import sys
import time
from typing import Any

from antioversmooth import files
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.redact import redact
from antioversmooth.runs import Run, journal


def write_intent(run: Run, backend: str, snapshot: Snapshot) -> dict[str, Any]:
    """Prepares the run directory and returns the intent that was written to it.

    `intent.json` is the newest launch, `intents.jsonl` all of them. Callers hold the run's lock
    (see lock.py).
    """
    run.prepare()
    intent = {
        "id": run.id,
        "time": round(time.time(), 3),
        "backend": backend,
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "command": redact(shlex.join(sys.argv)),
        "commit": snapshot.commit,
        "dirty": snapshot.dirty,
        "snapshot": snapshot.id,
        "snapshot_path": str(snapshot.path),
    }
    journal.append(run.dir / "intents.jsonl", intent)
    files.write_json(run.dir / "intent.json", intent)
    return intent

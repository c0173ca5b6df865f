"""The ends of runs and tables that a person is notified of, once each."""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.backend import Outcome
from antioversmooth.orchestration.notify import command
from antioversmooth.runs import Run
from antioversmooth.runs.record import RunRecord

Say = Callable[[str], None]


class Event(Enum):
    """The kinds of events."""

    run_done = "run_done"
    run_failed = "run_failed"
    """A person has to fix something before it can start again."""
    run_given_up = "run_given_up"
    """It crashed, or made no progress, as often as it may."""
    table_done = "table_done"
    table_incomplete = "table_incomplete"
    """A launch that was followed is over, and rows of the table are missing."""


def run_over(run: Run, say: Say) -> threading.Thread | None:
    """Notifies of a run that is done, or that failed where nothing starts it again.

    A run that stopped, and that the next launch resumes, is no event.

    Args:
        say: Shows a line about a command that failed.
    """
    record = RunRecord.read(run)
    if record.result is not None:
        return run_ended(run, Event.run_done, "", say)
    if record.status.state.is_failure:
        return run_ended(run, Event.run_failed, "", say)
    return None


def run_ended(run: Run, event: Event, message: str, say: Say) -> threading.Thread | None:
    """Notifies of the end of a run.

    Args:
        message: Why it does not go on.
        say: As of `run_over`.
    """
    words = _words(run, say)
    # a follow asks for each run that is done, again and again
    if not words or (event is Event.run_done and command.was_called(run.dir, event.value)):
        return None
    record = RunRecord.read(run)
    status = record.status
    facts = {
        "event": event.value,
        "name": run.name,
        "experiment": run.experiment.name,
        "row": run.experiment.row_name,
        "seed": run.seed,
        "id": run.id,
        "dir": str(run.dir.absolute()),
        "state": status.state.value,
        "reason": status.reason.value if status.reason else None,
        "message": "; ".join(filter(None, [status.detail, message])),
        "metrics": record.result["metrics"] if record.result else None,
        **_here(f"why {shlex.quote(str(run.dir.absolute()))}"),
    }
    # launchers may differ in the word for the same failure
    key = event.value if event is Event.run_done else f"run_failed-{_episode(record)}"
    return command.call_once(words, run.dir, key, facts, say)


def _episode(record: RunRecord) -> str:
    """Digest of attempt, job and launch: it differs between one end of a run and the next."""
    newest = record.attempts[-1].number if record.attempts else 0
    return _digest([newest, record.newest_job_id, record.intent.get("time")])


def table_ended(
    name: str,
    runs: Sequence[Run],
    outcomes: Mapping[str, Outcome],
    results: Path,
    *,
    complete: bool,
    metrics: Mapping[str, float],
    say: Say,
) -> threading.Thread | None:
    """Notifies of the end of a launch of a table that was followed.

    Args:
        runs: Those of the table.
        outcomes: By run id.
        results: The results folder of the launch.
        metrics: Mean top-1 accuracy of each row that has one, in percent.
        say: As of `run_over`.
    """
    words = _words(runs[0], say) if runs else []
    if not words:
        return None
    event = Event.table_done if complete else Event.table_incomplete
    counts: dict[str, int] = {}
    for run in runs:
        counts[outcomes[run.id].value] = counts.get(outcomes[run.id].value, 0) + 1
    facts = {
        "event": event.value,
        "name": name,
        "experiment": None,
        "row": None,
        "seed": None,
        "id": None,
        "dir": str(results.absolute()),
        "state": "complete" if complete else "incomplete",
        "reason": None,
        "message": ", ".join(f"{count} of {len(runs)} {state}" for state, count in counts.items()),
        "metrics": dict(metrics),
        **_here(f"status {shlex.quote(name)}"),
    }
    episodes = [[run.id, None if complete else _episode(RunRecord.read(run))] for run in runs]
    return command.call_once(
        words, results, f"{event.value}-{name}-{_digest(episodes)}", facts, say
    )


def _words(run: Run, say: Say) -> list[str]:
    """The command of a run; one that cannot be read is one line, and fails nothing."""
    try:
        return command.command(run.experiment.cluster)
    except LaunchError as err:
        say(str(err))
        return []


def _here(look_further: str) -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "time": round(time.time(), 3),
        "command": f"python -m antioversmooth {look_further}",
    }


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]

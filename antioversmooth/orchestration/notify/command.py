"""The command that is called with an event: never waited for by training, and ended in time."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from antioversmooth.config import ClusterConfig
from antioversmooth.errors import LaunchError, error_message
from antioversmooth.redact import redact, redact_all
from antioversmooth.text import one_line

VARIABLE = "ANTIOVERSMOOTH_NOTIFY"
"""Replaces `cluster.notify`; empty: no command."""
LIMIT_S = 20.0
"""How long a command may take before it is killed."""
FOLDER = "notified"
"""In a run directory or a results folder: a file for each event that was sent."""

_called: set[Path] = set()
"""Events of this process, also those that a full disk did not let it record."""


def command(cluster: ClusterConfig) -> list[str]:
    """The words of the command; empty where nobody is to be notified.

    Raises:
        LaunchError: A quote in it is not closed.
    """
    line = os.environ.get(VARIABLE, cluster.notify or "")
    try:
        return shlex.split(line)
    except ValueError as err:
        raise LaunchError(f"{_origin()}: {redact(line)}: {err}") from err


def check(clusters: Iterable[ClusterConfig]) -> None:
    """Checks the commands, which are called when nobody looks.

    Raises:
        LaunchError: There is no such program, or the command holds a secret, which run
            directories do not record.
    """
    for cluster in {cluster.notify: cluster for cluster in clusters}.values():
        line = "" if VARIABLE in os.environ else cluster.notify or ""
        if redact(line) != line:
            advice = f"put it into a script, or the command into {VARIABLE}"
            raise LaunchError(f"{_origin()} holds a secret, which runs do not record; {advice}")
        words = command(cluster)
        if words and shutil.which(words[0]) is None:
            raise LaunchError(f"{_origin()}: there is no program {redact(words[0])}")


def _origin() -> str:
    return VARIABLE if VARIABLE in os.environ else "cluster.notify"


def call_once(
    words: Sequence[str],
    folder: Path,
    key: str,
    event: Mapping[str, Any],
    say: Callable[[str], None],
) -> threading.Thread | None:
    """Calls a command with an event on its standard input, unless that was done before.

    Python waits for the thread at its end, so at most `LIMIT_S`.

    Args:
        folder: Of the run or the results; records the call.
        key: Names the event in the folder.
        say: Shows the line about a command that failed.
    """
    text = json.dumps(redact_all(dict(event)))
    if not words or not _claim(_place(folder, key), text):
        return None
    thread = threading.Thread(target=_call, args=(words, text, say), name="notify")
    thread.start()
    return thread


def was_called(folder: Path, key: str) -> bool:
    """Whether a command was called with an event, or is called just now."""
    path = _place(folder, key)
    return path in _called or path.exists()


def _place(folder: Path, key: str) -> Path:
    return folder / FOLDER / f"{key}.json"


def _claim(path: Path, content: str) -> bool:
    """Whether nobody has claimed the event before; records it."""
    if path in _called:
        return False
    _called.add(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x") as file:
            file.write(f"{content}\n")
    except FileExistsError:
        return not path.exists()
    except OSError:
        # a full disk is what a person wants to hear of
        return True
    return True


def _call(words: Sequence[str], text: str, say: Callable[[str], None]) -> None:
    try:
        problem = _problem(words, text)
    except OSError as err:
        problem = f"cannot be called: {error_message(err)}"
    if problem:
        say(f"notify: {redact(words[0])} {redact(one_line(problem))}")


def _problem(words: Sequence[str], text: str) -> str:
    """How a call failed; empty where it did not."""
    with tempfile.TemporaryFile() as event, tempfile.TemporaryFile() as output:
        event.write(f"{text}\n".encode())
        event.seek(0)
        process = subprocess.Popen(
            words, stdin=event, stdout=output, stderr=output, start_new_session=True
        )
        try:
            code = process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"took longer than {LIMIT_S:.0f} s, and was ended"
        output.seek(0)
        lines = output.read().decode(errors="replace").strip().splitlines()
    return f"ended with exit code {code}: {lines[-1] if lines else 'no output'}" if code else ""

"""`python -m antioversmooth.reporting.tracking.supervisor COMMAND ...`: a server that ends with its
parent.

The command runs until the supervisor's standard input ends, which happens when the parent closes
it or ends, however it was killed. A pipe works alike on Linux and macOS. The supervisor must lead a
session: it ends its whole process group, since a server starts workers. It is a program of its own
and imports nothing of this project, so that it starts at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

END_S = 10.0
"""Seconds that a server may take to end before it is killed."""


def main(command: list[str]) -> int:
    """Runs the command; returns its exit code if it ends by itself."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Only now: the server would inherit ignored signals.
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(process,), daemon=True).start()
    return process.wait()


def _end_with_parent(process: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)
    try:
        process.wait(END_S)
    finally:
        # Remaining workers of the server, and this process.
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

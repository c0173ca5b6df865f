"""`python -m antioversmooth.reporting.tracking.guard COMMAND ...`: a server that never outlives
whoever asked for it.

The command runs until the guard's standard input ends, which is when its parent closes it or is
gone, whatever killed the parent: a pipe needs no help from the system that one of Linux and macOS
lacks. Run it as the leader of a session: the guard ends its whole process group, since a server
starts workers of its own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

END_S = 10.0
"""How long a server may take to end before it is killed."""


def main(command: list[str]) -> int:
    """Runs the command; returns its exit code where it ends by itself."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    for number in (signal.SIGINT, signal.SIGTERM):
        # after the start, or the server would ignore them, too
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(process,), daemon=True).start()
    return process.wait()


def _end_with_parent(process: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    os.killpg(0, signal.SIGTERM)
    try:
        process.wait(END_S)
    finally:
        # what the server left, and this process
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

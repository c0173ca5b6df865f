"""Starts SLURM's commands: the only module that does, and that reads their complaints.

Sites put wrappers around them, which print welcomes and notices, in any encoding. So output is
decoded with replacement, only lines of the expected form count, and the rest is for the message of
an error.
"""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.slurm.environment import plain_environment


class Unreachable(LaunchError):
    """SLURM's controller does not answer now, and may in a moment."""


class NoClient(LaunchError):
    """A command of SLURM is not on PATH."""


def matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """The lines of the expected form; others are a site's notices, or of jobs of another kind."""
    return filter(None, (pattern.fullmatch(line.strip()) for line in text.split("\n")))


def ask(*command: str) -> str:
    """Output of a SLURM client.

    Raises:
        LaunchError: It fails, or its controller does not answer.
    """
    done = run_client(*command)
    # the code of a wrapper need not be that of the client in it
    if done.returncode or (not done.stdout.strip() and _is_away(done.stderr)):
        raise refusal(f"SLURM refuses {command[0]}", done)
    return done.stdout


def ask_about(*command: str) -> str:
    """Output of a SLURM client on single jobs: it refuses those that its controller has forgotten.

    Raises:
        LaunchError: The controller does not answer.
    """
    done = run_client(*command)
    if not done.stdout.strip() and _is_away(done.stderr):
        raise refusal(f"SLURM refuses {command[0]}", done)
    return done.stdout


def run_client(
    *command: str, timeout: float | None = 60.0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a SLURM client to its end, independent of the options in the user's environment.

    Args:
        timeout: Seconds after which it is given up.
        options: Further arguments of `subprocess.run`.

    Raises:
        NoClient: It is not on PATH.
        Unreachable: It takes longer.
        LaunchError: It cannot be started.
    """
    # a client that asks gets no answer, and goes on or ends
    given = options if "input" in options else {"stdin": subprocess.DEVNULL, **options}
    slow = threading.Timer(SILENT_S, _say_that_it_is_slow, [command[0]])
    slow.daemon = True
    slow.start()
    try:
        return subprocess.run(
            command, capture_output=True, text=True, encoding="utf-8", errors="replace",
            timeout=timeout, env=plain_environment(), **given,
        )  # fmt: skip
    except FileNotFoundError as err:
        raise NoClient(
            f"there is no {command[0]} on PATH: this is not a machine of a SLURM cluster"
        ) from err
    except subprocess.TimeoutExpired as err:
        raise Unreachable(f"SLURM did not answer {command[0]} within {timeout:.0f} s") from err
    except OSError as err:
        raise LaunchError(f"{command[0]} cannot be started: {err.strerror}") from err
    finally:
        slow.cancel()


SILENT_S = 10.0
"""Seconds after which a client that has not ended is named."""


def _say_that_it_is_slow(client: str) -> None:
    print(f"{client} has not answered for {SILENT_S:.0f} s; waiting", file=sys.stderr, flush=True)


def _is_away(text: str) -> bool:
    """Whether a complaint is that SLURM's controller does not answer."""
    signs = ("Unable to contact", "timed out", "connect failure", "Zero Bytes were transmitted")
    return any(sign in text for sign in signs)


def refusal(what: str, done: subprocess.CompletedProcess[str]) -> LaunchError:
    """The error that a SLURM client's complaint makes: `what`, and why in its words."""
    why = error_text(done)
    return (Unreachable if _is_away(why) else LaunchError)(f"{what}: {why}")


def error_text(done: subprocess.CompletedProcess[str]) -> str:
    """The error message of a SLURM client, without its prefixes."""
    lines = (line.split("error: ", 1)[-1] for line in done.stderr.splitlines())
    return joined_lines("\n".join(lines)) or joined_lines(done.stdout) or "no reason given"


def joined_lines(text: str) -> str:
    """The lines of a text as one, each once."""
    return "; ".join(dict.fromkeys(filter(None, (line.strip() for line in text.splitlines()))))

"""From a command to its exit code: what a person can mend, and what a shell does to a command, ends
in at most a line.

Needs the standard library alone, and no newer Python than people have lying about: it says what is
missing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from antioversmooth.errors import ResultError, UserError, told

OLDEST = (3, 11)
CLOSED_PIPE = 141
"""Exit code where nobody reads on, as in `... | head`: what a shell says of a program that SIGPIPE
ended."""


def guarded(program: str, work: Callable[[], int]) -> int:
    """Does the work; returns its exit code, or what its end amounts to.

    Args:
        program: What was called, for the message.
    """
    _fill_closed_streams()
    if sys.version_info[:2] < OLDEST:
        return _refuse(
            program, f"Python {sys.version.split()[0]} ({sys.executable}) is too old: {_WAY_OUT}"
        )
    try:
        code = work()
        # here a pipe that nobody reads can still be answered for
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _silence()
        return CLOSED_PIPE
    except SystemExit as end:
        # rich has a way of its own to end at one
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        return CLOSED_PIPE
    except ModuleNotFoundError as err:
        if (err.name or "antioversmooth").partition(".")[0] == "antioversmooth":
            raise
        return _refuse(
            program, f"{err.name} is not installed for this Python ({sys.executable}): {_WAY_OUT}"
        )
    except (UserError, ResultError, OSError) as err:
        # OSError: no space, no permission; it names the file
        return _refuse(program, told(err))


_WAY_OUT = "run `make setup`, then `. .venv/bin/activate`"


def _refuse(program: str, why: str) -> int:
    try:
        print(f"{program}: {why}", file=sys.stderr)
    except BrokenPipeError:
        _silence()
    return 2


def _fill_closed_streams() -> None:
    """Gives a stream that the shell has closed (`>&-`) to nobody, lest the next file that is opened
    be taken for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (for as long as the program lives)


def _silence() -> None:
    """Lets what is still to be written, at the latest when Python ends, go to nobody."""
    nobody = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nobody, 1)
    os.dup2(nobody, 2)
    os.close(nobody)

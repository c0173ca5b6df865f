"""Entry points of both programs: parse, import the handler, run it, return an exit code.

Handlers are imported after parsing, so that `--help` loads argparse alone. What runs before that
also runs on Pythons that are too old for the project, to tell the user so.
"""

from __future__ import annotations

import errno
import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from antioversmooth import files, installation
from antioversmooth.cli import parsers
from antioversmooth.cli.exit_codes import CLOSED_PIPE, INTERRUPTED, USER_ERROR
from antioversmooth.errors import ResultError, UserError, error_message
from antioversmooth.text import visible_output

OLDEST_PYTHON = (3, 11)
Arguments = TypeVar("Arguments")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `antioversmooth COMMAND`; returns its exit code."""
    name, args = _parsed(lambda: parsers.parse_command(arguments))
    return run_main(f"antioversmooth {name}", lambda: handler(name)(args))


def launch(arguments: Sequence[str] | None, *, project: Path) -> int:
    """Runs `launch` in a project; returns its exit code.

    Args:
        project: Folder that holds `experiments/` and `results/`.
    """
    args = _parsed(lambda: parsers.parse_launch(arguments))
    return run_main(parsers.LAUNCH, lambda: _handlers("launch").launch_command(args, project))


def _parsed(parse: Callable[[], Arguments]) -> Arguments:
    """The arguments; exits where the reader of `--help` or `--version` has left."""
    _reopen_closed_streams()
    try:
        try:
            with visible_output():
                return parse()
        finally:
            # what they print, which would raise BrokenPipeError when Python exits
            sys.stdout.flush()
    except BrokenPipeError:
        files.discard_output()
        sys.exit(CLOSED_PIPE)


def handler(command: str) -> Callable[[Namespace], int]:
    """The function that runs a command: `export_model_command` for `export-model`."""
    module = _handlers(parsers.COMMANDS[command].module)
    function: Callable[[Namespace], int] = getattr(module, f"{command.replace('-', '_')}_command")
    return function


def _handlers(module: str) -> ModuleType:
    return import_module(f"antioversmooth.cli.{module}")


def run_main(program: str, work: Callable[[], int]) -> int:
    """Calls `work` and returns its exit code; errors of the user become one line on stderr.

    Args:
        program: Begins the message.
    """
    _reopen_closed_streams()
    with visible_output():
        return _run(program, work)


def _run(program: str, work: Callable[[], int]) -> int:
    if sys.version_info[:2] < OLDEST_PYTHON:
        version = sys.version.split()[0]
        right = installation.remedy() if installation.is_checkout() else "Python 3.11 is needed"
        return _user_error(program, f"Python {version} ({sys.executable}) is too old: {right}")
    try:
        code = work()
        # raises BrokenPipeError here, where it is caught, rather than when Python exits
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        files.discard_output()
        return CLOSED_PIPE
    except SystemExit as err:
        # rich exits by itself when it meets a broken pipe
        if not isinstance(err.__context__, BrokenPipeError):
            raise
        return CLOSED_PIPE
    except ModuleNotFoundError as err:
        if (err.name or "antioversmooth").partition(".")[0] == "antioversmooth":
            raise
        absent = f"{err.name} is not installed for this Python ({sys.executable})"
        return _user_error(program, f"{absent}: {installation.remedy(err.name or '')}")
    except (UserError, ResultError, OSError) as err:
        # OSError: no space, no permission; the message names the file
        return _user_error(program, error_message(err) + _way_out(err))


def _way_out(err: Exception) -> str:
    """The advice for a full disk; empty for other errors."""
    is_full = isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "; make room there (df, quota), and run the command again" if is_full else ""


def _user_error(program: str, message: str) -> int:
    try:
        print(f"{program}: {message}", file=sys.stderr)
    except BrokenPipeError:
        files.discard_output()
    return USER_ERROR


def _reopen_closed_streams() -> None:
    """Opens /dev/null for standard streams that the shell has closed (`>&-`).

    Otherwise the next file that is opened would get the descriptor of the stream.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (open as long as the process)

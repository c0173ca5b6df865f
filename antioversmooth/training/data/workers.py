"""Loading processes: how they start, and what the failure of one says about the run."""

from __future__ import annotations

import errno
import multiprocessing.queues
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch

from antioversmooth.errors import LaunchError
from antioversmooth.runs import machine
from antioversmooth.training.data.memory import return_free_memory, reuse_memory

MOST_CHARACTERS = 1000
"""Length of a reason, which a pipe passes on in one piece."""
CLOSING_S = 5.0
"""Longest time between the end of a loading process's connection and its reason."""
NOT_OF_AN_IMAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of reading a file that say nothing about the file."""


def start_worker(failures: Connection | None, _: int) -> None:
    """Prepares a loading process: memory, signals, and its end where one of its threads fails.

    It ignores signals, which schedulers send to all processes: its parent stops it. A thread of it
    sends each batch; where that fails, Python prints the error, and the batch would be waited for
    as long as the watchdog allows.

    Args:
        failures: Where it writes the reason of its end; None: only into the log.
    """
    torch.set_num_threads(1)
    return_free_memory()
    reuse_memory()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)

    def fail(error: BaseException | None) -> NoReturn:
        traceback.print_exception(error)
        with suppress(OSError):
            if failures is not None:
                said = f"{type(error).__name__}: {error}"
                failures.send_bytes(said[:MOST_CHARACTERS].encode())
        os._exit(1)

    # as Python's own process pool overrides it
    queue: Any = multiprocessing.queues.Queue
    queue._on_queue_feeder_error = staticmethod(lambda error, _: fail(error))
    threading.excepthook = lambda failure: fail(failure.exc_value)
    # the thread that shares the memory of batches ends its errors here
    sys.excepthook = lambda _, error, __: fail(error)


@contextmanager
def loading_failures() -> Iterator[Connection]:
    """A pipe for the reasons of loading processes that fail; raises them in place of torch's error.

    Raises:
        LaunchError: This machine has too little shared memory or too few open files for them.
        RuntimeError: One was killed, or failed otherwise.
    """
    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer, _failed_threads() as failed:
        try:
            yield writer
        except (RuntimeError, OSError, EOFError) as err:
            # torch raises where the next loading process ends, in whatever this process does then
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            # a connection may be closed before the reason is written
            waits_s = CLOSING_S if isinstance(err, EOFError) else 0.0
            said = reader.recv_bytes().decode(errors="replace") if reader.poll(waits_s) else ""
            # the thread that copies batches for a GPU
            if failed and str(err).startswith("Pin memory thread"):
                said = failed[-1]
            reason = _reason(_messages(err), said)
            if reason is None:
                raise
            raise reason from err


@contextmanager
def _failed_threads() -> Iterator[list[str]]:
    """The errors that end threads of this process meanwhile; Python prints them, as always."""
    errors: list[str] = []
    before = threading.excepthook

    def note(failure: threading.ExceptHookArgs) -> None:
        errors.append(f"{failure.exc_type.__name__}: {failure.exc_value}")
        before(failure)

    threading.excepthook = note
    try:
        yield errors
    finally:
        threading.excepthook = before


def _messages(error: BaseException | None) -> list[str]:
    """The messages of an error and of what it came from."""
    return [str(error), *_messages(error.__cause__ or error.__context__)] if error else []


def _reason(messages: list[str], said: str) -> Exception | None:
    """Meaning of an error of training; None where no loading process has to do with it.

    Args:
        messages: Those of the error and of what it came from.
        said: What a loading process wrote before it ended; empty if none did.
    """
    text = "\n".join([said, *messages])
    if "Too many open files" in text:
        return LaunchError(f"too many open files: {machine.open_files_advice()}")
    if "shared memory(shm)" in text:
        return LaunchError(
            "no shared memory is left for the batches of loading processes:"
            f" {machine.shared_memory_advice()}"
        )
    if "is killed by signal: Bus error" in text:
        return RuntimeError(
            "a loading process read memory that is gone: a data file became shorter, or shared"
            f" memory ran out; {machine.shared_memory_advice()}"
        )
    if said:
        return RuntimeError(f"a loading process failed: {said}")
    for message in reversed(messages):
        if message.startswith("DataLoader worker (pid"):
            return RuntimeError(
                f"{message.partition('. ')[0].strip()}; where memory runs out the kernel kills such"
                " processes (dmesg, or the record of the job, says so), and fewer runtime.workers"
                " need less"
            )
    return None

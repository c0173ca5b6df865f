"""Probes under a time limit: one that fails or hangs is a finding, and no end of the others."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import torch

from antioversmooth.errors import AntiOversmoothError, error_message
from antioversmooth.finding import Finding
from antioversmooth.training.probes.context import Context, Probe, wrong


def run_probe(probe: Probe, key: str, context: Context, add: Callable[[Finding], None]) -> bool:
    """Runs one probe; returns whether it ended, by itself or with an error, within its time.

    Args:
        key: Its name in the exchange of values, the same on all ranks and used once.
        add: Takes each finding as soon as it is there.
    """
    limit_s = probe.limit_s(context.request)
    # a rank that waits for another one says for which, before its own time is up
    exchange = context.exchange.within(key, 0.9 * limit_s)
    context = replace(context, exchange=exchange)
    threads: list[int] = []
    closed = threading.Event()

    def look() -> None:
        threads.append(threading.get_ident())
        ranks = context.established.ranks
        if ranks is not None and ranks.device.type == "cuda":
            # each thread has a current device of its own
            torch.cuda.set_device(ranks.device)
        for finding in probe.look(context):
            if closed.is_set():
                return
            add(finding)

    # a thread, since no signal ends a call that waits in C for the network or for a file server
    executor = ThreadPoolExecutor(1, thread_name_prefix=probe.name)
    future = executor.submit(look)
    executor.shutdown(wait=False)
    is_over = _wait(future, limit_s)
    closed.set()
    if not is_over:
        hung = _hung(probe, limit_s, threads)
        add(probe.late(context, limit_s) or hung)
    elif error := future.exception():
        add(failure(probe, error))
    # a store that is gone shows in the next exchange
    with suppress(ConnectionError):
        context.exchange.end()
    return is_over


def _wait(future: Future[None], limit_s: float) -> bool:
    """Whether the future is done within the time."""
    try:
        future.exception(timeout=limit_s)
    except TimeoutError:
        # `exception` returns what the probe itself raises
        return False
    return True


def failure(probe: Probe, error: BaseException) -> Finding:
    """The finding that a probe has failed."""
    if isinstance(error, (AntiOversmoothError, OSError)):
        text = error_message(error) if isinstance(error, Exception) else str(error)
    else:
        traceback.print_exception(error)
        text = f"{type(error).__name__}: {error}"
    if isinstance(error, TimeoutError):
        advice = "that rank has died or hangs: its log says where"
    else:
        advice = "the log of this rank has more; a run would stop at the same place"
    return wrong(probe.name, text, advice, probe.place)


def _hung(probe: Probe, limit_s: float, threads: list[int]) -> Finding:
    frame = sys._current_frames().get(threads[0]) if threads else None
    where = ""
    if frame is not None:
        stack = traceback.extract_stack(frame)
        print("".join(stack.format()), file=sys.stderr, flush=True)
        own = [entry for entry in stack if "antioversmooth" in entry.filename] or stack
        where = f", in {own[-1].name} ({own[-1].filename.rpartition('/')[2]}:{own[-1].lineno})"
    return wrong(
        probe.name,
        f"no answer within {limit_s:g} s{where}",
        "a run would hang here: look at the network or the file server of this node",
        probe.place,
    )

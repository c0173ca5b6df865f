"""Clocks of the nodes beside those of the login node and of the file server."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from antioversmooth.finding import Finding
from antioversmooth.training.probes.context import Context, ok, warning, wrong
from antioversmooth.training.probes.request import REQUEST

WARNING_S, WRONG_S = 1.0, 60.0
"""Differences that confuse people who compare logs, and those that confuse this project, which
compares heartbeats and journals of several machines."""
ADVICE = "have the clocks of all machines set by one NTP server (chronyc tracking says more)"


def look(context: Context) -> Iterator[Finding]:
    """Compares this rank's clock with the login node's.

    The file server stamps the files of both with its own clock, which is what they have in common.
    On file systems where the writing machine stamps them, only a clock that lags behind the
    request shows here; `compare` and the reader of this finding's `time` see more.
    """
    request = context.folder / REQUEST
    ahead = _ahead_of_file_server(context) - (context.request.login_time - request.stat().st_mtime)
    # it began after the request was written
    ahead = min(ahead, time.time() - context.request.login_time)
    yield judge(f"the clock of {context.host}", "the login node's", ahead, time=time.time())


def compare(context: Context) -> Iterator[Finding]:
    """Compares the clocks of all ranks with rank 0's, by the times at which they meet."""
    context.exchange.gather()
    times = context.exchange.gather([context.host, time.time()])
    if not context.is_main:
        return
    first_host, first = times[0]
    differences = {host: at - first for host, at in times if host != first_host}
    if differences:
        host = max(differences, key=lambda name: abs(differences[name]))
        yield judge(f"the clock of {host}", f"that of {first_host}", differences[host])


def judge(clock: str, other: str, ahead_s: float, **values: object) -> Finding:
    """The finding of a difference between two clocks.

    Args:
        clock: Whose it is, for people.
        ahead_s: Seconds that it is ahead of the other; negative: behind.
    """
    found: dict[str, Any] = {"ahead_s": round(ahead_s, 3), **values}
    if abs(ahead_s) <= WARNING_S:
        return ok("clock", f"{clock} agrees with {other}, within {WARNING_S:g} s", **found)
    text = f"{clock} is {abs(ahead_s):,.1f} s {'ahead of' if ahead_s > 0 else 'behind'} {other}"
    make = wrong if abs(ahead_s) > WRONG_S else warning
    return make("clock", text, ADVICE, **found)


def _ahead_of_file_server(context: Context) -> float:
    """Seconds that this rank's clock is ahead of the one that stamps its files."""
    path = context.folder / f"clock-rank{context.info.rank}"
    path.write_bytes(b"")
    # written anew, since it may have been there before
    before = time.time()
    path.write_bytes(b"now")
    return (before + time.time()) / 2 - path.stat().st_mtime

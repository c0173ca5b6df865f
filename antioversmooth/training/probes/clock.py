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
ROUNDS = 5
"""Times that clocks are compared: a process that had to wait in between says nothing."""
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
    rounds = []
    for _ in range(ROUNDS):
        context.exchange.gather()
        rounds.append(context.exchange.gather(time.time()))
    hosts = context.exchange.gather(context.host)
    if not context.is_main:
        return
    # a process that is late to meet looks as if its clock were: the smallest difference counts
    by_rank = zip(*([at - times[0] for at in times] for times in rounds), strict=True)
    differences = [min(of_rank, key=abs) for of_rank in by_rank]
    ahead_s, host = max(zip(differences, hosts, strict=True), key=lambda pair: abs(pair[0]))
    if len(set(hosts)) > 1:
        yield judge(f"the clock of {host}", f"that of {hosts[0]}", ahead_s)


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
    measured = []
    for number in range(ROUNDS):
        before = time.time()
        path.write_text(str(number))
        took_s = time.time() - before
        measured.append((took_s, before + took_s / 2 - path.stat().st_mtime))
    # the quickest write says most about the time between its beginning and its end
    return min(measured)[1]

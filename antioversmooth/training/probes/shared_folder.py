"""The results folder, seen from all nodes: files appear, are replaced, locked and appended to."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from antioversmooth import files
from antioversmooth.finding import Finding
from antioversmooth.runs import journal
from antioversmooth.runs.lock import try_lock
from antioversmooth.training.probes.context import Context, ok, warning, wrong

POLL_S = 0.02
SLOW_S = 2.0
"""Seconds after which a file of another node appears late."""
WAIT = 1.2
"""Multiple of the time limit of a probe in which a change must be seen."""
RACES = 20
"""Names that all ranks try to create at once."""
LINES = 100
"""Lines that each rank appends at the same time."""
SHARED = "cluster.results must be on a file system that all nodes mount, such as NFS or Lustre"


def look_at_visibility(context: Context) -> Iterator[Finding]:
    """Writes a file on each rank, and waits until it sees those of all others."""
    ranks, own = range(context.info.world_size), context.info.rank
    paths = [context.folder / f"seen-rank{rank}" for rank in ranks]
    # a client that has seen that a file is missing may go on saying so for a while
    for path in paths:
        path.exists()
    hosts = context.exchange.gather(context.host)
    files.write_atomic(paths[own], context.host)
    context.exchange.gather()
    started = time.monotonic()
    _wait(lambda: all(path.exists() for path in paths), context)
    late_s = time.monotonic() - started
    unseen = sorted({hosts[rank] for rank in ranks if not paths[rank].exists()})
    if unseen:
        yield wrong(
            "shared folder",
            f"{context.host} does not see in {context.folder} what {', '.join(unseen)} wrote there"
            f" {late_s:.0f} s ago ({file_system(context.folder)})",
            SHARED,
            late_s=round(late_s, 3),
        )
    elif late_s > SLOW_S:
        yield warning(
            "shared folder",
            f"{context.host} saw the files of other nodes {late_s:.1f} s late"
            f" ({file_system(context.folder)})",
            "the file system caches what it has seen (acregmax, acdirmax of an NFS mount): after a"
            " requeue to another node a run may miss its newest checkpoint",
            late_s=round(late_s, 3),
        )
    else:
        yield ok(
            "shared folder",
            f"{context.host} sees the files of all ranks ({file_system(context.folder)})",
            late_s=round(late_s, 3),
        )


def look_at_lock(context: Context) -> Iterator[Finding]:
    """Locks a file on rank 0, which refuses it to every other process until rank 0 ends."""
    exchange, folder = context.exchange, context.folder
    held = _lock(folder) if context.is_main else None
    exchange.gather()
    # rank 0 opens the file a second time, as another process would
    second = _lock(folder)
    refused = second is None
    if second is not None:
        os.close(second)
    results = exchange.gather([context.host, refused])
    if held is not None:
        os.close(held)
    exchange.gather()
    last = context.info.rank == context.info.world_size - 1
    freed = _wait(lambda: _released(folder), context) if last else True
    freed = all(exchange.gather(freed))
    if not context.is_main:
        return
    through = sorted({host for host, was_refused in results if not was_refused})
    if through:
        yield wrong(
            "flock",
            f"a lock that {context.host} held on {folder} did not keep out"
            f" {', '.join(through)} ({file_system(folder)})",
            "two launchers could train one run at once: mount it with locks across nodes (Lustre:"
            " flock, not localflock; NFS: without nolock or local_lock), or choose another folder"
            " with cluster.results=/path",
        )
    elif not freed:
        yield wrong(
            "flock",
            f"a lock on {folder} was still held long after its process let it go",
            "a run that is killed could not start again: look at the lock manager of the file"
            " server",
        )
    else:
        yield ok("flock", f"holds between {len(results) + 1} processes of {_nodes(results)}")


def _lock(folder: Path) -> int | None:
    return try_lock(folder, "flock")


def _released(folder: Path) -> bool:
    descriptor = _lock(folder)
    if descriptor is None:
        return False
    os.close(descriptor)
    return True


def look_at_replacement(context: Context) -> Iterator[Finding]:
    """Replaces a file that all ranks have read; each sees the old or the new one, never neither."""
    path = context.folder / "replaced"
    if context.is_main:
        files.write_atomic(path, "old")
    context.exchange.gather()
    seen: list[str] = []
    _wait(lambda: _read(path) == "old", context)
    context.exchange.gather()
    if context.is_main:
        files.write_atomic(path, "new")
    context.exchange.gather()

    def is_new() -> bool:
        seen.append(_read(path))
        return seen[-1] == "new"

    started = time.monotonic()
    arrived = _wait(is_new, context)
    late_s = time.monotonic() - started
    odd = sorted(set(seen) - {"old", "new"})
    where = f"{context.host} ({file_system(context.folder)})"
    if odd:
        yield wrong(
            "rename",
            f"{where} saw {odd[0] or 'an empty file'} while another node replaced a file",
            "checkpoints and results are replaced like this: choose another folder with"
            " cluster.results=/path",
        )
    elif not arrived:
        yield wrong(
            "rename",
            f"{where} still reads the old content of a file that was replaced {late_s:.0f} s ago",
            SHARED,
        )
    else:
        yield ok("rename", f"{where} sees a replaced file", late_s=round(late_s, 3))


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as err:
        return str(err.strerror)


def look_at_creation(context: Context) -> Iterator[Finding]:
    """Creates the same names exclusively on all ranks at once: one rank wins each."""
    context.exchange.gather()
    won = [_creates(context.folder / f"exclusive-{number}") for number in range(RACES)]
    counts = [sum(wins) for wins in zip(*context.exchange.gather(won), strict=True)]
    if not context.is_main:
        return
    if odd := [count for count in counts if count != 1]:
        yield wrong(
            "exclusive creation",
            f"{len(odd)} of {RACES} names were created by {min(odd)} to {max(odd)} processes"
            f" instead of one ({file_system(context.folder)})",
            "attempts get their numbers by this: choose another folder with cluster.results=/path",
        )
    else:
        yield ok("exclusive creation", f"one process won each of {RACES} names")


def _creates(path: Path) -> bool:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileExistsError:
        return False
    return True


def look_at_appending(context: Context) -> Iterator[Finding]:
    """Appends lines to one journal from all ranks at once, and counts them."""
    path, ranks = context.folder / "appended.jsonl", context.info.world_size
    context.exchange.gather()
    for number in range(LINES):
        journal.append(path, {"rank": context.info.rank, "number": number})
    context.exchange.gather()
    if not context.is_main:
        return

    def found() -> int:
        pairs = {(record.get("rank"), record.get("number")) for record in journal.read(path)}
        return len(pairs)

    complete = _wait(lambda: found() == ranks * LINES, context)
    if complete:
        yield ok("appending", f"all of {ranks * LINES} lines from {ranks} processes are there")
        return
    yield warning(
        "appending",
        f"{ranks * LINES - found()} of {ranks * LINES} lines that {ranks} processes appended at"
        f" once are lost ({file_system(context.folder)})",
        "rank 0 writes almost all of a journal; the names of unreadable images come from any rank,"
        " and some may be lost (data.max_corrupt)",
    )


def _wait(condition: Callable[[], bool], context: Context) -> bool:
    """Waits until a condition holds; returns whether it does before the time is up.

    By default a client of NFS looks at a folder anew after 60 s at the latest.
    """
    deadline = time.monotonic() + WAIT * context.request.limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _nodes(hosts: list[list[object]]) -> str:
    count = len({str(host) for host, _ in hosts})
    return f"{count} node{'' if count == 1 else 's'}"


def file_system(path: Path) -> str:
    """Type and mount point of the file system of a path: nfs4 on /home."""
    mounts = psutil.disk_partitions(all=True)
    around = [mount for mount in mounts if path.absolute().is_relative_to(mount.mountpoint)]
    # of several that are mounted on one place, the last one is seen
    mount = max(reversed(around), key=lambda one: len(one.mountpoint), default=None)
    return f"{mount.fstype} on {mount.mountpoint}" if mount else "unknown file system"

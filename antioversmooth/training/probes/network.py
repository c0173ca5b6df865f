"""The way between the ranks: the place where they meet, network interfaces, and an all-reduce."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

import psutil
import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore

from antioversmooth.config import RuntimeConfig
from antioversmooth.finding import Finding
from antioversmooth.training.probes.context import Context, ok, wrong
from antioversmooth.training.probes.exchange import open_store
from antioversmooth.training.probes.request import APPEARS_WITHIN_S
from antioversmooth.training.run.distributed import Ranks, process_group

SIZES = (2**12, 2**20, 2**24)
"""Bytes of each all-reduce; the largest is near a bucket of gradients."""
MOST_ROUNDS = 20
GROUP_TIMEOUT = 6
"""Time limit of the process group, as a multiple of that of a probe: beyond that of steps, since
NCCL ends the process after it."""


def look_at_meeting_point(context: Context) -> Iterator[Finding]:
    """Connects to the store at MASTER_ADDR, as every run begins."""
    info = context.info
    if info.world_size == 1:
        return
    info.export_master()
    name, port = os.environ.get("MASTER_ADDR", ""), os.environ.get("MASTER_PORT", "")
    where = f"MASTER_ADDR={name}, MASTER_PORT={port}"
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(name, None)})
    except OSError as err:
        yield wrong(
            "meeting point",
            f"{context.host} does not know the host {name!r} ({err.strerror})",
            "nodes must resolve each other's names (DNS or /etc/hosts): getent hosts on a node"
            " shows it",
        )
        return
    is_elsewhere = info.rank >= info.local_world_size
    if is_elsewhere and all(address.startswith(("127.", "::1")) for address in addresses):
        yield wrong(
            "meeting point",
            f"on {context.host} the host {name} is {addresses[0]}, which is {context.host} itself",
            "/etc/hosts of the nodes must not give other nodes' names an address of this host",
        )
        return
    started = time.monotonic()
    try:
        # another rank may look for its request before; this ends before the limit of the probe
        patience_s = APPEARS_WITHIN_S + 0.8 * context.request.limit_s
        context.established.store = open_store(info, patience_s)
    except RuntimeError as err:
        yield wrong(
            "meeting point",
            f"{context.host} does not meet the other ranks at {where} ({', '.join(addresses)}):"
            f" {str(err).splitlines()[0]}",
            "nodes must reach each other by TCP: look at firewalls, and whether another program"
            " has the port",
        )
        return
    seconds = round(time.monotonic() - started, 1)
    yield ok("meeting point", f"{info.world_size} ranks meet at {where}", waited_s=seconds)


def look_at_interfaces(context: Context) -> Iterator[Finding]:
    """Compares the interfaces that variables name with those that this node has."""
    if context.info.world_size == 1:
        return
    there = interfaces()
    names = ", ".join(f"{name} ({address})" for name, address in there.items())
    used = ["GLOO_SOCKET_IFNAME", *(["NCCL_SOCKET_IFNAME"] if torch.cuda.is_available() else [])]
    unknown = {name: unknown_interfaces(name, os.environ, list(there)) for name in used}
    context.established.has_interfaces = not any(unknown.values())
    if context.established.has_interfaces:
        yield ok("interfaces", names, interfaces=there)
    for variable, missing in unknown.items():
        if missing:
            yield wrong(
                "interfaces",
                f"{variable}={os.environ[variable]}, and {context.host} has no interface"
                f" {', '.join(missing)}",
                f"name one that all nodes have, or leave the variable out; {context.host} has"
                f" {names}",
                interfaces=there,
            )


def interfaces() -> dict[str, str]:
    """IPv4 address of each network interface that is up, by its name."""
    up = {name for name, status in psutil.net_if_stats().items() if status.isup}
    return {
        name: str(address.address)
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
        if name in up and address.family is socket.AF_INET
    }


def unknown_interfaces(
    variable: str, environment: Mapping[str, str], there: list[str]
) -> list[str]:
    """Names in a variable of gloo or NCCL that match no interface.

    gloo takes names; NCCL takes beginnings of names, after `=` names, after `^` those to avoid.

    Args:
        there: Names of the interfaces of this node.
    """
    given = environment.get(variable, "")
    exact = variable.startswith("GLOO") or given.startswith("=")
    wanted = [name.partition(":")[0] for name in given.lstrip("=^").split(",") if name]
    if given.startswith("^") and not variable.startswith("GLOO"):
        left = [name for name in there if not name.startswith(tuple(wanted))]
        return [] if left else wanted
    matches = (
        any(name == one if exact else one.startswith(name) for one in there) for name in wanted
    )
    missing = [name for name, found in zip(wanted, matches, strict=True) if not found]
    # NCCL is content with one that is there
    return missing if exact or len(missing) == len(wanted) else []


def look_at_all_reduce(context: Context) -> Iterator[Finding]:
    """Connects the ranks as training does, and sums tensors of some sizes over all of them."""
    # the process group would fail, or wait for those that do not come
    if not all(context.exchange.gather(context.established.has_interfaces)):
        return
    runtime = context.runs[0].experiment.runtime if context.runs else RuntimeConfig()
    store = context.established.store
    # a connection of its own: a call that waits holds it
    own = None if store is None else PrefixStore("training", store.clone())
    limited = replace(runtime, timeout_s=GROUP_TIMEOUT * context.request.limit_s)
    ranks = context.established.connection.enter_context(process_group(limited, own))
    context.exchange.gather()
    context.established.ranks = ranks
    if ranks.world_size == 1:
        return
    speeds = []
    for size in SIZES:
        speed, right = _all_reduce(context, ranks, size)
        if not right:
            yield wrong(
                "all-reduce",
                f"a sum of {size:,} bytes over {ranks.world_size} ranks is not right",
                "training would learn from damaged gradients: exclude nodes (cluster.exclude)"
                " until the sum is right, and report the node",
            )
            return
        speeds.append(speed)
    if context.is_main:
        yield _describe(ranks, speeds)


def _all_reduce(context: Context, ranks: Ranks, size: int) -> tuple[float, bool]:
    """GB/s that an all-reduce of so many bytes reaches, and whether the sum is right."""
    pattern = torch.arange(size // 4, device=ranks.device).remainder(1000).float()
    tensor = pattern * (ranks.rank + 1)
    started = time.perf_counter()
    _sum(tensor, ranks)
    first_s = time.perf_counter() - started
    # whole numbers below 2^24, so any order of the sum gives this
    expected = pattern * (ranks.world_size * (ranks.world_size + 1) / 2)
    right = all(context.exchange.gather(bool(torch.equal(tensor, expected))))
    budget_s = context.request.measure_s / len(SIZES)
    # the same number on all ranks
    rounds = context.exchange.gather(max(1, min(MOST_ROUNDS, int(budget_s / first_s))))[0]
    started = time.perf_counter()
    for _ in range(rounds):
        _sum(tensor.zero_(), ranks)
    return bandwidth(size, (time.perf_counter() - started) / rounds, ranks.world_size), right


def _sum(tensor: Tensor, ranks: Ranks) -> None:
    dist.all_reduce(tensor)
    if ranks.device.type == "cuda":
        torch.cuda.synchronize()


def bandwidth(size: int, seconds: float, world_size: int) -> float:
    """GB/s that each rank sends: 2 (n - 1) / n of the bytes, as NCCL's tests count (busbw)."""
    return size * 2 * (world_size - 1) / world_size / seconds / 1e9


def _describe(ranks: Ranks, speeds: list[float]) -> Finding:
    backend = dist.get_backend()
    interface = _interface(backend)
    measured = ", ".join(
        f"{size // 1024:,} KiB at {speed:.3g} GB/s"
        for size, speed in zip(SIZES, speeds, strict=True)
    )
    return ok(
        "all-reduce",
        f"right over {ranks.world_size} ranks by {backend} ({interface}): {measured}",
        backend=backend,
        interface=interface,
        bytes=list(SIZES),
        gb_per_s=[round(speed, 4) for speed in speeds],
    )


def _interface(backend: str) -> str:
    """The interface that a backend uses; for NCCL only what a variable says about it."""
    variable = f"{backend.upper()}_SOCKET_IFNAME"
    if os.environ.get(variable):
        return f"{variable}={os.environ[variable]}"
    if backend != "gloo":
        return f"chosen by {backend.upper()}"
    try:
        own = socket.gethostbyname(socket.gethostname())
    except OSError:
        return "the host's name has no address"
    return next((name for name, address in interfaces().items() if address == own), own)

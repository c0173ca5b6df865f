"""Probes of a node by itself: clock, CPUs, memory, disk, GPUs and interfaces."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from probing import contexts, levels, look_on_all

from antioversmooth.finding import Finding, Level
from antioversmooth.runs import Run, machine
from antioversmooth.training.probes import clock, disk, gpus, identity, network, resources
from antioversmooth.training.probes.context import Context
from antioversmooth.training.probes.request import REQUEST, ProbeRequest

ALONE = ProbeRequest(processes_per_node=1, limit_s=20)


@pytest.fixture
def rank(tmp_path: Path) -> Context:
    """A rank that is alone."""
    return contexts([tmp_path], ALONE)[0]


def found_by(look: Callable[[Context], Iterator[Finding]], rank: Context) -> Finding:
    """The one finding of a probe."""
    (finding,) = look(rank)
    return finding


def test_a_clock_that_agrees_with_the_login_node_is_all_right(rank: Context) -> None:
    rank.request.write(rank.folder)
    finding = found_by(clock.look, replace(rank, request=ProbeRequest.read(rank.folder)))
    assert finding.level is Level.ok
    assert abs(finding.values["ahead_s"]) < clock.WARNING_S
    assert finding.values["time"] == pytest.approx(time.time(), abs=60)


@pytest.mark.parametrize(
    ("login_ahead_s", "level", "said"),
    [
        (-300, Level.wrong, "300.0 s ahead of"),
        (300, Level.wrong, "300.0 s behind"),
        (-20, Level.warning, "20.0 s ahead of"),
        (5, Level.warning, "5.0 s behind"),
    ],
)
def test_clocks_are_compared_by_the_stamps_of_the_file_server(
    rank: Context, login_ahead_s: float, level: Level, said: str
) -> None:
    """The request is 10 minutes old: a job waits in the queue."""
    rank.request.write(rank.folder)
    written = time.time() - 600
    os.utime(rank.folder / REQUEST, (written, written))
    request = replace(rank.request, login_time=written + login_ahead_s)
    finding = found_by(clock.look, replace(rank, request=request))
    assert finding.level is level
    assert said in finding.text


def test_a_request_from_the_future_shows_a_clock_that_lags_behind(rank: Context) -> None:
    """Where each machine stamps files with its own clock, as on a local disk."""
    rank.request.write(rank.folder)
    ahead = time.time() + 300
    os.utime(rank.folder / REQUEST, (ahead, ahead))
    finding = found_by(clock.look, replace(rank, request=replace(rank.request, login_time=ahead)))
    assert finding.level is Level.wrong
    assert "behind the login node's" in finding.text


def test_clocks_of_ranks_are_compared_when_they_meet(tmp_path: Path) -> None:
    ranks = contexts([tmp_path] * 2, ALONE)

    def with_another_clock(rank: Context) -> Iterator[Finding]:
        for _ in range(clock.ROUNDS):
            rank.exchange.gather()
            rank.exchange.gather(time.time() - 300)
        rank.exchange.gather("node1")
        yield from ()

    found = look_on_all([clock.compare, with_another_clock], ranks)
    assert levels(found) == [[Level.wrong], []]
    assert "the clock of node1 is" in found[0][0].text
    assert "behind that of node0" in found[0][0].text
    assert levels(look_on_all([clock.compare], contexts([tmp_path] * 2, ALONE))) == [[Level.ok], []]


def test_a_rank_that_is_late_to_meet_has_no_late_clock(tmp_path: Path) -> None:
    def late_at_first(rank: Context) -> Iterator[Finding]:
        for late_s in [100.0] * (clock.ROUNDS - 1) + [0.0]:
            rank.exchange.gather()
            rank.exchange.gather(time.time() + late_s)
        rank.exchange.gather("node1")
        yield from ()

    found = look_on_all([clock.compare, late_at_first], contexts([tmp_path] * 2, ALONE))
    assert levels(found) == [[Level.ok], []]


def test_a_rank_that_is_bound_to_fewer_cpus_is_a_warning(rank: Context) -> None:
    there = len(os.sched_getaffinity(0))
    for promised, level in ((0, Level.ok), (there, Level.ok), (there + 1, Level.warning)):
        request = replace(ALONE, cpus_per_task=promised)
        finding = found_by(resources.look_at_cpus, replace(rank, request=request))
        assert finding.level is level
        assert finding.values["cpus"] == there


def test_memory_is_the_least_of_the_node_and_of_its_control_groups(
    rank: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "cgroup_limits", lambda: iter([3 * 2**30]))
    for promised, level in ((0, Level.ok), (3, Level.ok), (4, Level.wrong)):
        request = replace(ALONE, mem_gb=promised)
        finding = found_by(resources.look_at_memory, replace(rank, request=request))
        assert finding.level is level
        assert "limit is 3.0 GiB" in finding.text or level is Level.ok


@pytest.mark.parametrize(
    ("line", "files"),
    [
        ("0::/job/step", {"job/step/memory.max": "max", "job/memory.max": "4096"}),
        ("9:memory:/job", {"memory/job/memory.limit_in_bytes": "4096"}),
        ("3:cpu,memory:/job/step", {"memory/job/memory.limit_in_bytes": "4096"}),
        ("3:cpu:/job\n9:memory:/x", {"memory/x/memory.limit_in_bytes": "4096"}),
    ],
)
def test_limits_of_both_kinds_of_control_groups_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, files: dict[str, str]
) -> None:
    monkeypatch.setattr(resources, "CGROUPS", tmp_path / "cgroup")
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    (tmp_path / "process").write_text(f"{line}\n")
    assert list(resources.cgroup_limits(tmp_path / "process")) == [4096]


def test_too_little_shared_memory_is_named_with_the_remedy(
    rank: Context, folder_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    needy = replace(rank, runs=(folder_run("runtime.workers=2"),))
    assert found_by(resources.look_at_shared_memory, needy).level is Level.ok
    monkeypatch.setattr(machine, "free_shared_memory", lambda: 2**12)
    finding = found_by(resources.look_at_shared_memory, needy)
    assert finding.level is Level.wrong
    assert "2 loading processes" in finding.text
    assert "runtime.workers" in finding.advice
    # without a run only a usual need is known
    assert found_by(resources.look_at_shared_memory, rank).level is Level.warning


def test_too_few_open_files_are_named_with_the_remedy(
    rank: Context, folder_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    needy = replace(rank, runs=(folder_run("runtime.workers=4"),))
    for limit, level in ((resource.RLIM_INFINITY, Level.ok), (256 + 8 * 11 - 1, Level.wrong)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, limit=limit: (limit, limit))
        finding = found_by(resources.look_at_open_files, needy)
        assert finding.level is level
    assert "may open 343" in finding.text
    assert "ulimit -n" in finding.advice


def test_space_and_inodes_are_compared_with_a_run(
    rank: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    plenty = {"f_bavail": 2**30, "f_frsize": 2**12, "f_files": 10**6, "f_favail": 10**6}
    cases: list[tuple[dict[str, int], list[tuple[str, Level]]]] = [
        ({}, [("space", Level.ok)]),
        ({"f_bavail": 10}, [("space", Level.wrong)]),
        ({"f_favail": 3}, [("space", Level.ok), ("files", Level.wrong)]),
        # a file system that does not count files
        ({"f_files": 0, "f_favail": 0}, [("space", Level.ok)]),
    ]
    for changed, expected in cases:
        there = SimpleNamespace(**{**plenty, **changed})
        monkeypatch.setattr(disk.os, "statvfs", lambda _, there=there: there)
        assert [(f.check, f.level) for f in disk.look_at_space(rank)] == expected


def test_a_checkpoint_is_written_and_read_on_another_node(
    tmp_path: Path, tiny_run: Callable[..., Run]
) -> None:
    run = tiny_run()
    ranks = contexts([tmp_path] * 2, ALONE, runs=(run,))
    found = look_on_all([disk.look_at_checkpoint], ranks)
    assert levels(found) == [[Level.ok], []]
    values = found[0][0].values
    model = 4 * sum(p.numel() for p in disk.new_model(run.experiment, 0).parameters())
    assert values["checkpoint_bytes"] == 4 * model
    assert "(on node1)" in found[0][0].text
    assert not (tmp_path / "checkpoint").exists()


def test_a_slow_disk_is_a_warning(rank: Context, tiny_run: Callable[..., Run]) -> None:
    busy = replace(rank, runs=(tiny_run("runtime.checkpoint_every_s=0.000001"),))
    finding = found_by(disk.look_at_checkpoint, busy)
    assert finding.level is Level.warning
    assert "runtime.checkpoint_every_s" in finding.advice


def test_a_file_that_cannot_grow_is_a_full_disk_for_all_ranks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the kernel's limit of a file's size, which fails as a quota does."""
    monkeypatch.setattr(disk, "USUAL_BYTES", 2**20)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        found = look_on_all([disk.look_at_checkpoint], contexts([tmp_path] * 2, ALONE))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert levels(found) == [[Level.wrong], []]
    assert "the disk is full" in found[0][0].text
    assert list(tmp_path.iterdir()) == []


def test_other_code_than_the_launched_one_is_wrong(rank: Context) -> None:
    software, code = identity.look(rank)
    assert software.values["torch"] == torch.__version__
    assert code.level is Level.ok
    right = replace(rank, request=replace(ALONE, code=code.values["code"]))
    assert [f.level for f in identity.look(right)] == [Level.ok, Level.ok]
    stale = replace(rank, request=replace(ALONE, code="0" * 12))
    assert [f.level for f in identity.look(stale)] == [Level.ok, Level.wrong]


def test_ranks_with_other_software_are_wrong(tmp_path: Path) -> None:
    def with_another_torch(rank: Context) -> Iterator[Finding]:
        rank.exchange.gather(["3.11.7", "1.13", "c0de"])
        yield from ()

    looks = [identity.compare, with_another_torch]
    found = look_on_all(looks, contexts([tmp_path] * 2, ALONE))
    assert levels(found) == [[Level.wrong], []]
    assert "torch 1.13" in found[0][0].text


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
@pytest.mark.parametrize(
    ("promised", "driver", "level", "said"),
    [
        (0, False, Level.ok, "none are asked for"),
        (4, False, Level.wrong, "has no NVIDIA driver"),
        (4, True, Level.wrong, "its driver is NVRM version 470"),
    ],
)
def test_gpus_that_are_missing_are_named_with_the_reason(
    rank: Context,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    promised: int,
    driver: bool,
    level: Level,
    said: str,
) -> None:
    path = tmp_path / "version"
    if driver:
        path.write_text("NVRM version 470\nGCC\n")
    monkeypatch.setattr(gpus, "DRIVER", path)
    request = replace(ALONE, gpus_per_node=promised)
    finding = found_by(gpus.look, replace(rank, request=request))
    assert finding.level is level
    assert said in finding.text


@pytest.mark.parametrize(
    ("promised", "found_gib", "said"),
    [
        (0, 39.4, None),
        # makers count in powers of ten, and drivers take some
        (40, 39.4, None),
        (80, 79.1, None),
        (16, 14.6, "has 14.6 GiB, and cluster.gpu_mem_gb is 16"),
        (40, 79.1, "has 79.1 GiB, and cluster.gpu_mem_gb is 40"),
    ],
)
def test_gpus_of_another_memory_than_the_profile_says_are_a_warning(
    rank: Context, promised: float, found_gib: float, said: str | None
) -> None:
    request = replace(ALONE, gpus_per_node=1, gpu_mem_gb=promised)
    found = list(gpus.compare_size(replace(rank, request=request), round(found_gib * 2**30)))
    assert [finding.level for finding in found] == [Level.warning] * (said is not None)
    assert all(said in finding.text for finding in found if said)


def test_ranks_that_share_a_gpu_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_gpu(host: str, gpu: str) -> Any:
        def look(rank: Context) -> Iterator[Finding]:
            if rank.is_main:
                yield from gpus.compare(replace(rank, host=host))
            else:
                rank.exchange.gather([host, gpu])

        return look

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda _: SimpleNamespace(uuid="GPU-a")
    )
    for host, gpu, wrong in (("n0", "GPU-a", 1), ("n0", "GPU-b", 0), ("n1", "GPU-a", 0)):
        looks = [with_gpu("n0", "GPU-a"), with_gpu(host, gpu)]
        found = look_on_all(looks, contexts([tmp_path] * 2, ALONE))
        assert len(found[0]) == wrong


@pytest.mark.parametrize(
    ("variable", "value", "unknown"),
    [
        ("GLOO_SOCKET_IFNAME", "", []),
        ("GLOO_SOCKET_IFNAME", "ib0", []),
        ("GLOO_SOCKET_IFNAME", "ib", ["ib"]),
        ("GLOO_SOCKET_IFNAME", "ib0,eth9", ["eth9"]),
        ("NCCL_SOCKET_IFNAME", "ib", []),
        ("NCCL_SOCKET_IFNAME", "hsn", ["hsn"]),
        ("NCCL_SOCKET_IFNAME", "=ib", ["ib"]),
        ("NCCL_SOCKET_IFNAME", "=ib0:1", []),
        ("NCCL_SOCKET_IFNAME", "hsn,eth", []),
        ("NCCL_SOCKET_IFNAME", "^docker,lo", []),
        ("NCCL_SOCKET_IFNAME", "^ib,eth,lo", ["ib", "eth", "lo"]),
    ],
)
def test_variables_name_interfaces_as_gloo_and_nccl_read_them(
    variable: str, value: str, unknown: list[str]
) -> None:
    there = ["lo", "eth0", "ib0"]
    assert network.unknown_interfaces(variable, {variable: value}, there) == unknown


def test_a_wrong_interface_is_named_with_those_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib7")
    finding = found_by(network.look_at_interfaces, contexts([tmp_path] * 2, ALONE)[0])
    assert finding.level is Level.wrong
    assert "ib7" in finding.text
    assert "lo (127.0.0.1)" in finding.advice


@pytest.mark.parametrize(
    ("name", "said"),
    [("no-such-host.invalid", "does not know the host"), ("localhost", "which is node1 itself")],
)
def test_a_meeting_point_that_names_lead_astray_from_is_found_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setenv("MASTER_ADDR", name)
    monkeypatch.setenv("MASTER_PORT", "1")
    finding = found_by(network.look_at_meeting_point, contexts([tmp_path] * 2, ALONE)[1])
    assert finding.level is Level.wrong
    assert said in finding.text


def test_bandwidth_counts_the_bytes_that_a_rank_sends() -> None:
    """In a ring of 4 ranks, each sends its quarter of the bytes 3 + 3 times."""
    assert network.bandwidth(2**30, 0.5, 4) == pytest.approx(6 * 2**28 / 0.5 / 1e9)

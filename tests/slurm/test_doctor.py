"""`antioversmooth doctor` on nodes with faults: each is found, and named with its node."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cluster
import pytest
from lab import EXPERIMENTS, Lab, on

from antioversmooth.cli.main import main
from antioversmooth.orchestration.doctor import gathering

pytestmark = on("bare")

FAULTS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int flock(int file, int operation) { return 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    char host[256] = "", *late = getenv("LATE_HOST");
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int code = real(clock, now);
    gethostname(host, sizeof host - 1);
    if (clock == CLOCK_REALTIME && late && !strcmp(host, late)) now->tv_sec -= 300;
    return code;
}
"""
"""A library in front of the C library: locks hold nobody, and one node is five minutes late."""

Doctor = Callable[..., tuple[int, dict[str, dict[str, Any]]]]


@pytest.fixture
def doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Doctor:
    """Runs doctor on the first nodes; returns its exit code and the worst finding of each check."""
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    monkeypatch.chdir(tmp_path)
    levels = ["ok", "warning", "wrong"]

    def run(lab: Lab, nodes: int, *overrides: str) -> tuple[int, dict[str, dict[str, Any]]]:
        others = ",".join(list(lab.cluster.nodes)[nodes:])
        small = [f"cluster.nodes={nodes}", "cluster.gpus_per_node=0", "cluster.cpus_per_task=1"]
        small += ["cluster.mem_gb=3", f"cluster.exclude=[{others}]"]
        code = main(["doctor", "--json", "--wait=3", *small, *overrides])
        found: dict[str, dict[str, Any]] = {}
        for one in json.loads(capsys.readouterr().out)["findings"]:
            known = found.get(one["check"], one)
            worse = max(known, one, key=lambda each: levels.index(each["level"]))
            found[one["check"]] = worse
        return code, found

    return run


def library(folder: Path) -> Path:
    """The compiled library of faults."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler")
    path = folder / "faults.so"
    command = ["gcc", "-shared", "-fPIC", "-o", str(path), "-x", "c", "-", "-ldl"]
    subprocess.run(command, input=FAULTS, text=True, check=True)
    return path


@contextmanager
def mounted(lab: Lab, node: str, folder: Path, *options: str) -> Iterator[None]:
    """Mounts a folder in memory on one node."""
    machine = lab.cluster.nodes[node]
    machine.run("mount", "-t", "tmpfs", *options, "tmpfs", str(folder))
    try:
        yield
    finally:
        machine.run("umount", "-l", str(folder))


def test_faults_of_nodes_are_found_and_named(lab: Lab, doctor: Doctor, tmp_path: Path) -> None:
    """A late clock, locks that do not hold, no such interface, a small /dev/shm, no requeue."""
    crowded, late, _ = lab.cluster.nodes
    lines = [
        "scontrol update jobid=$SLURM_JOB_ID requeue=0",
        f"export LD_PRELOAD={library(tmp_path)} LATE_HOST={late}",
        "export GLOO_SOCKET_IFNAME=ib0",
    ]
    with mounted(lab, crowded, Path("/dev/shm"), "-o", "size=1m"):
        code, found = doctor(lab, 2, f"cluster.setup={json.dumps(lines)}")
    assert code == 1
    assert found["clock"]["level"] == "wrong"
    assert late in found["clock"]["text"]
    assert found["flock"]["level"] == "wrong"
    assert found["requeue"]["level"] == "wrong"
    assert "cluster.requeue=false" in found["requeue"]["advice"]
    assert found["interfaces"]["level"] == "wrong"
    assert "ib0" in found["interfaces"]["text"]
    assert found["shared memory"]["level"] != "ok"
    assert crowded in found["shared memory"]["text"]
    assert found["signal"]["level"] == "ok"


@pytest.mark.skipif(cluster.shares_loopback(), reason="nodes share all file systems")
def test_a_node_that_does_not_see_the_results_is_named(
    lab: Lab, doctor: Doctor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nothing comes later, as it might from a file server
    monkeypatch.setattr(gathering, "SETTLE_S", 0.0)
    results = tmp_path / "results"
    results.mkdir()
    blind = next(iter(lab.cluster.nodes))
    with mounted(lab, blind, results):
        code, found = doctor(lab, 1)
    assert code == 1
    assert found["job"]["level"] == "wrong"
    assert "does not see" in found["job"]["text"]
    assert blind in found["job"]["text"]
    assert not list((tmp_path / "results" / "doctor").glob("*/rank*"))

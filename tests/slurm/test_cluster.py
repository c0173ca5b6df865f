"""The private clusters themselves: the fall-back where no namespaces are allowed, and that nothing
is left of any."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import cluster
import pytest
from lab import Lab, ends
from machines import processes, wait_until
from private import private_cluster


def test_two_nodes_on_one_loopback_train_and_leave_nothing(slurm_is_there: None) -> None:
    with private_cluster(nodes=2, accounting=False, proctrack="linuxproc", shared=True) as (
        private,
        folder,
    ):
        lab = Lab(private, folder)
        run = lab.reference()
        assert run.attempts()[0].world_size == 2
        assert ends(run) == ["completed"]
        assert processes(private.folder)
    assert not processes(private.folder)
    assert not folder.exists()
    assert os.environ.get("SLURM_CONF") != str(folder / "cluster/etc/slurm.conf")


def child(parent: int, program: str) -> int:
    """The child of a process that runs a program; 0: none."""
    for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        # the thread may just have ended
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] == program.encode():
                return int(pid)
    return 0


@pytest.mark.skipif(
    cluster.shares_loopback(), reason="on a shared loopback, both are on one network"
)
def test_a_cluster_that_is_started_from_another_one_is_on_its_own_network(
    slurm_is_there: None,
) -> None:
    with private_cluster(nodes=1, accounting=False, proctrack="linuxproc", shared=False):
        typed = ["sh", "-c", "sinfo --noheader -p main; command -v python"]
        command = [sys.executable, str(Path(__file__).parent / "shell.py"), *typed]
        inner = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert " 3 " in inner.stdout, inner.stderr
    # `python` is found as in the help of the shell
    assert inner.stdout.splitlines()[-1] == str(Path(sys.executable).parent / "python")


@pytest.mark.skipif(
    cluster.shares_loopback(), reason="on a shared loopback, the next test run ends them"
)
def test_a_cluster_ends_with_the_process_that_made_it_even_where_that_is_killed(
    slurm_is_there: None,
) -> None:
    command = [sys.executable, str(Path(__file__).parent / "shell.py"), "sleep", "600"]
    maker = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert maker.stderr is not None
    line = maker.stderr.readline()
    if "logs in" not in line:
        pytest.fail(line + maker.communicate(timeout=60)[1])
    folder = Path(line.split()[-1]).parent
    assert len(processes(folder)) > 5
    wait_until(lambda: child(maker.pid, "sleep"), "the command")
    sleeping = child(maker.pid, "sleep")
    maker.kill()
    maker.wait(60)
    maker.stderr.close()
    # a process that the user started on it is not ended by the cluster
    os.kill(sleeping, 9)
    wait_until(lambda: not processes(folder), "end of its processes")
    with private_cluster(nodes=1, accounting=False, proctrack="linuxproc", shared=False):
        assert not folder.exists()

"""Two people with one results folder: real users, real jobs."""

from __future__ import annotations

import grp
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cluster
import pytest
from lab import SMALL, Lab, on
from machines import OwnMachine, wait_until

from antioversmooth.orchestration.slurm import client
from antioversmooth.runs import Run, RunRecord

pytestmark = on("bare")
PROJECT = Path(__file__).parents[2]
ALICE, BOB, GROUP = "games", "daemon", "users"
"""Accounts of every Debian; nothing else runs under them."""
ROW = ["deit_s12", *SMALL]
LAUNCH = [str(PROJECT / "launch.py"), *ROW, "--backend=slurm", "--yes"]


@dataclass
class Shared:
    """A results folder that two people write to, from the login machine of a cluster."""

    lab: Lab
    results: Path

    def run(self, user: str, *words: str, umask: str = "002") -> subprocess.CompletedProcess[str]:
        """The end of a Python program of that user."""
        login = self.lab.cluster.login
        assert isinstance(login, OwnMachine)
        network = ["nsenter", f"--net=/proc/{login.first_pid}/ns/net", "--"]
        # the interpreter may lie in root's home; writing is what users share or not
        reads = [f"--{kind}-caps=+dac_read_search" for kind in ("inh", "ambient")]
        person = ["setpriv", f"--reuid={user}", f"--regid={GROUP}", "--clear-groups", *reads, "--"]
        shell = ["sh", "-c", 'umask 002; exec "$@"', "sh", sys.executable, *words]
        environment = {
            **self.lab.cluster.environment, "PATH": cluster.PATH, "USER": user, "LOGNAME": user,
            "HOME": str(self.results / user), "PYTHONDONTWRITEBYTECODE": "1",
            "ANTIOVERSMOOTH_CACHE": str(self.results / f"cache-{user}"),
        }  # fmt: skip
        return subprocess.run(
            [*network, *person, *shell, f"cluster.results={self.results}"],
            env=environment, cwd=PROJECT, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def jobs(self) -> list[str]:
        """Users of the live jobs, with the states of the jobs."""
        both = f"--user={ALICE},{BOB}"
        return self.lab.cluster.ask("squeue", "--noheader", both, "--format=%u %T").splitlines()


@pytest.fixture
def shared(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    if os.geteuid() != 0 or cluster.shares_loopback():
        pytest.skip("only root can be two users")
    (lab.cluster.folder / "etc" / "slurm.conf").chmod(0o644)
    lab.cluster.folder.parent.chmod(0o711)
    results = lab.cluster.folder.parent / "shared"
    results.mkdir()
    os.chown(results, 0, grp.getgrnam(GROUP).gr_gid)
    results.chmod(0o2775)
    yield Shared(lab, results)
    for user in (ALICE, BOB):
        lab.cluster.ask("scancel", f"--user={user}")


def test_two_people_share_a_row(shared: Shared) -> None:
    held = "cluster.sbatch.hold=true"
    first = shared.run(ALICE, *LAUNCH, held)
    assert first.returncode == 0, first.stderr
    second = shared.run(BOB, *LAUNCH, held)
    assert (second.returncode, shared.jobs()) == (0, [f"{ALICE} PENDING"]), second.stderr
    assert f"of {ALICE} is held" in second.stdout

    denied = shared.run(BOB, "-m", "antioversmooth", "cancel", *ROW, held)
    assert (denied.returncode, shared.jobs()) == (2, [f"{ALICE} PENDING"])
    assert f"of {ALICE} goes on: " in denied.stderr
    assert "denied" in denied.stderr
    ended = shared.run(ALICE, "-m", "antioversmooth", "cancel", *ROW, held)
    assert (ended.returncode, shared.jobs()) == (0, []), ended.stderr
    third = shared.run(BOB, *LAUNCH, "cluster.setup=['sleep 60']")
    assert third.returncode == 0, third.stderr
    wait_until(lambda: shared.jobs() == [f"{BOB} RUNNING"], "job of the other user")
    fourth = shared.run(ALICE, *LAUNCH)
    assert (fourth.returncode, shared.jobs()) == (0, [f"{BOB} RUNNING"]), fourth.stderr
    assert f"of {BOB} is running" in fourth.stdout
    (directory,) = shared.results.glob("mini/runs/*/*")
    events = RunRecord.read(Run.load(directory)).events
    assert [(e.kind.value, e.user) for e in events] == [
        ("submitted", ALICE), ("cancelled", ""), ("submitted", BOB),
    ]  # fmt: skip


def test_squeue_and_scontrol_agree_on_jobs(lab: Lab) -> None:
    job_id = lab.submit(lab.new_run("asked-by-id", hold=True))
    forgotten = [str(number) for number in range(90_000, 90_030)]
    for ids in ([job_id], [job_id, *forgotten[:2]], [job_id, *forgotten]):
        (listed,), (shown,) = client.jobs_numbered(ids), client.jobs_shown(ids)
        assert listed == shown
    assert (shown.user, shown.reason) == ("root", "JobHeldUser") or os.geteuid() != 0
    for ids in (forgotten[:1], forgotten[:2], forgotten):
        assert client.jobs_numbered(ids) == client.jobs_shown(ids) == []
    assert client.restarts(job_id) == 0
    assert client.cancel([*forgotten[:1], job_id, job_id]) == {}
    assert not client.hides_other_users()


def test_a_job_whose_run_another_job_took_over_does_not_come_back(lab: Lab) -> None:
    """As a launch of another version, or a person by hand, may submit it."""
    run = lab.new_run("taken-over", "cluster.nodes=1", "cluster.tasks_per_node=1")
    first = lab.submit(run)
    lab.wait_saved(run)
    # however slowly the second one starts, the first one is not done before
    lab.cluster.ask("scontrol", "suspend", first)
    second = lab.cluster.ask("sbatch", "--parsable", f"{run.dir}/slurm/job.sh")
    wait_until(lambda: len(run.attempts()) == 2, "second attempt")
    lab.cluster.ask("scontrol", "resume", first)
    lab.wait_done(run)
    assert [attempt.job_id for attempt in run.attempts()] == [first, second]
    (job,) = client.jobs_numbered([first])
    assert not job.is_live

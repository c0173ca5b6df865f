"""One live job for a run, whoever launches it and wherever a launcher dies; and the job is what was launched."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from lab import Lab, once
from machines import wait_until

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import snapshot, submission
from antioversmooth.orchestration.script import job_name
from antioversmooth.orchestration.state import Phase, states
from antioversmooth.runs import Run

pytestmark = once
PROJECT = Path(__file__).parents[2]
LAUNCHER = """
import os, signal, sys
from pathlib import Path
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.orchestration.submission import submit
from antioversmooth.runs import Run

run, code, kill_at = Run.load(Path(sys.argv[1])), Path(sys.argv[2]), int(sys.argv[3])
lines = 0

def count(frame, event, argument):
    global lines
    if "orchestration" not in frame.f_code.co_filename and "journal" not in frame.f_code.co_filename:
        return None
    if event == "line":
        lines += 1
        if lines == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    return count

sys.settrace(count)
submit(run, Snapshot(code.name, code, None, False))
sys.settrace(None)
print(lines)
"""
"""Submits a run; kills itself at one of the lines on the way, and otherwise says how many there are."""


def launcher(lab: Lab, run: Run, kill_at: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAUNCHER, str(run.dir), str(lab.code.path), str(kill_at)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def jobs_of(lab: Lab, run: Run) -> list[str]:
    return lab.cluster.ask("squeue", "--noheader", f"--name={job_name(run)}", "--format=%i").split()


def test_twenty_launchers_at_once_submit_one_job(lab: Lab) -> None:
    run = lab.new_run("twenty", hold=True)
    launchers = [launcher(lab, run) for _ in range(20)]
    told = [process.communicate()[0] for process in launchers]
    assert all(map(int, told))
    assert len(jobs_of(lab, run)) == 1


def test_a_launcher_killed_anywhere_leaves_one_job_after_the_next_launch(lab: Lab) -> None:
    total = int(launcher(lab, lab.new_run("unkilled", hold=True)).communicate()[0])
    points = sorted({1 + total * k // 16 for k in range(16)} | {total})
    assert len(points) >= 12
    for point in points:
        run = lab.new_run(f"killed-at-{point}", hold=True)
        killed = launcher(lab, run, point)
        killed.communicate()
        assert killed.returncode == -9
        job = submission.submit(run, lab.code)
        assert jobs_of(lab, run) == [job], f"killed at line {point} of {total}"


def test_a_job_runs_the_code_that_was_launched_though_it_is_edited_while_it_waits(lab: Lab, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(
        PROJECT / "antioversmooth", project / "antioversmooth", ignore=shutil.ignore_patterns("__pycache__")
    )
    code = snapshot.take(tmp_path / "results", project)
    run = lab.new_run("edited", hold=True)
    job = submission.submit(run, code)
    (project / "antioversmooth/training/train.py").write_text("raise SystemExit('edited after the launch')\n")
    lab.cluster.ask("scontrol", "release", job)
    lab.wait_done(run)
    assert run.attempts()[0]["snapshot"] == code.id


EVIL = [
    "a; touch PWNED",
    "$(touch PWNED)",
    "`touch PWNED`",
    "--uid=1",
    "it's $(touch PWNED)",
    '"$(touch PWNED)"',
    "a #b",
]


@pytest.mark.parametrize("comment", EVIL)
def test_a_comment_arrives_as_it_was_written(
    lab: Lab, comment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = lab.new_run(f"comment{EVIL.index(comment)}", hold=True, comment=comment)
    job = submission.submit(run, lab.code)
    assert lab.cluster.ask("squeue", "--noheader", f"--jobs={job}", "--format=%k|%u") == f"{comment}|root"
    assert not (tmp_path / "PWNED").exists()


def test_a_run_in_a_folder_with_an_evil_name_runs_nothing_but_itself(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = lab.new_run("odd; $(touch PWNED) `touch PWNED` --uid=1 #x & y")
    submission.submit(run, lab.code)
    lab.wait_done(run)
    assert not list(tmp_path.rglob("PWNED"))
    assert not list(run.dir.rglob("PWNED"))


def test_two_jobs_on_one_node_meet_at_two_ports(lab: Lab) -> None:
    shape = ("cluster.nodes=1", "cluster.tasks_per_node=2")
    both = [lab.new_run(name, *shape, nodelist="node1") for name in ("one", "two")]
    for run in both:
        submission.submit(run, lab.code)
    for run in both:
        lab.wait_done(run)


def test_a_job_that_could_never_start_is_refused_before_anything_is_submitted(lab: Lab) -> None:
    run = lab.new_run("too-big", "cluster.nodes=64", "recipe.global_batch=64")
    with pytest.raises(LaunchError, match="would refuse the job"):
        submission.rehearse([run], lab.code)


def test_waiting_jobs_say_why(lab: Lab) -> None:
    held, cancelled = lab.new_run("held", hold=True), lab.new_run("cancelled-pending", hold=True)
    for run in (held, cancelled):
        submission.submit(run, lab.code)
    assert states([held])[held.id].phase is Phase.held
    submission.cancel(cancelled)
    wait_until(lambda: states([cancelled])[cancelled.id].phase is Phase.cancelled_pending, "cancelled pending")


def test_a_controller_that_is_down_is_named(lab: Lab) -> None:
    run = lab.new_run("no-controller", hold=True)
    submission.submit(run, lab.code)
    lab.cluster.stop_controller()
    try:
        assert states([run])[run.id].phase is Phase.unknown
        with pytest.raises(LaunchError, match="Unable to contact slurm controller"):
            submission.submit(run, lab.code)
    finally:
        lab.cluster.start_controller()
    wait_until(lambda: states([run])[run.id].phase is Phase.held, "the job, after the controller came back")

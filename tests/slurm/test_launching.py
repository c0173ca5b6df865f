"""One live job for a run, whoever launches it and wherever a launcher dies; and the job is what was
launched."""

from __future__ import annotations

import dataclasses
import getpass
import json
import runpy
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import cluster
import pytest
from lab import SMALL, Lab, assert_nothing_lost_or_doubled, events, on
from machines import wait_until

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import snapshot
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.slurm import facts, submission
from antioversmooth.orchestration.slurm.reconcile import Action, reconcile
from antioversmooth.orchestration.slurm.script import job_name
from antioversmooth.runs import Run, RunRecord, RunState
from antioversmooth.runs.jobs import read_events

pytestmark = on("bare")
PROJECT = Path(__file__).parents[2]
LAUNCHERS = """
import json, os, signal, sys
from pathlib import Path
from antioversmooth.orchestration.slurm.script import sbatch_script
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.orchestration.slurm.submission import submit
from antioversmooth.runs import Run

code = Path(sys.argv[1])
wanted = [(Run.load(Path(directory)), kill_at) for directory, kill_at in json.load(sys.stdin)]
# imports submitit before the launchers begin
sbatch_script(wanted[0][0], code)
ours, lines = os.getpid(), 0

def count(frame, event, argument):
    global lines
    name = frame.f_code.co_filename
    if "orchestration" not in name and "journal" not in name:
        return None
    if event == "line":
        lines += 1
        if lines == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
    return count

def launch(run):
    sys.settrace(count)
    submit(run, Snapshot(code.name, code, None, False))
    sys.settrace(None)
    os.write(1, f"{lines}\\n".encode())

children = []
for run, kill_at in wanted:
    child = os.fork()
    if child == 0:
        try:
            launch(run)
            os._exit(0)
        finally:
            os._exit(1)
    children.append(child)
print(*(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""
"""Launchers at once, each in a process of its own: submits a run, kills itself at a line on the
way, or 0: at none.

Prints how many lines those ran that were not killed, and then how each one ended.
"""


def launch(lab: Lab, wanted: list[tuple[Run, int]]) -> tuple[list[int], list[int]]:
    """Lines that launchers ran on their way, of those that got to its end; and how each ended."""
    given = json.dumps([(str(run.dir), kill_at) for run, kill_at in wanted])
    command = [sys.executable, "-c", LAUNCHERS, str(lab.code.path)]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=300)
    *lines, ends = done.stdout.splitlines()
    assert not done.stderr
    return [int(line) for line in lines], [int(end) for end in ends.split()]


def jobs_of(lab: Lab, run: Run) -> list[str]:
    return lab.cluster.ask("squeue", "--noheader", f"--name={job_name(run)}", "--format=%i").split()


def test_twenty_launchers_at_once_submit_one_job(lab: Lab) -> None:
    run = lab.new_run("twenty", hold=True)
    assert launch(lab, [(run, 0)] * 20)[1] == [0] * 20
    assert len(jobs_of(lab, run)) == 1


def test_a_launcher_killed_anywhere_leaves_one_job_after_the_next_launch(lab: Lab) -> None:
    (total,), _ = launch(lab, [(lab.new_run("unkilled", hold=True), 0)])
    points = sorted({1 + total * k // 16 for k in range(16)} | {total})
    assert len(points) >= 12
    runs = {point: lab.new_run(f"killed-at-{point}", hold=True) for point in points}
    assert launch(lab, [(run, point) for point, run in runs.items()])[1] == [-9] * len(points)
    for point, run in runs.items():
        job = submission.submit(run, lab.code)
        assert jobs_of(lab, run) == [job], f"killed at line {point} of {total}"


def test_a_job_runs_the_code_that_was_launched_though_it_is_edited_while_it_waits(
    lab: Lab, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(
        PROJECT / "antioversmooth",
        project / "antioversmooth",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    code = snapshot.take(tmp_path / "results", project)
    run = lab.new_run("edited", hold=True)
    job = submission.submit(run, code)
    (project / "antioversmooth/training/train.py").write_text(
        "raise SystemExit('edited after the launch')\n"
    )
    lab.cluster.ask("scontrol", "release", job)
    lab.wait_done(run)
    assert run.attempts()[0].start["snapshot"] == code.id


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
    seen = lab.cluster.ask("squeue", "--noheader", f"--jobs={job}", "--format=%k|%u")
    assert seen == f"{comment}|{getpass.getuser()}"
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
    both = [
        lab.new_run(name, *shape, nodelist=next(iter(lab.cluster.nodes))) for name in ("one", "two")
    ]
    for run in both:
        submission.submit(run, lab.code)
    for run in both:
        lab.wait_done(run)


def test_a_job_that_could_never_start_is_refused_before_anything_is_submitted(lab: Lab) -> None:
    run = lab.new_run("too-big", "cluster.nodes=64", "recipe.global_batch=64")
    with pytest.raises(LaunchError, match="would refuse the job"):
        submission.test_only([run], lab.code)


def test_waiting_jobs_say_why(lab: Lab) -> None:
    held, cancelled = lab.new_run("held", hold=True), lab.new_run("cancelled-pending", hold=True)
    for run in (held, cancelled):
        submission.submit(run, lab.code)
    assert query_statuses([RunRecord.read(held)])[held.id].state is RunState.held
    submission.cancel(cancelled)
    wait_until(
        lambda: (
            query_statuses([RunRecord.read(cancelled)])[cancelled.id].state
            is RunState.cancelled_pending
        ),
        "cancelled pending",
    )


def test_jobs_that_wait_for_a_moment_say_for_which(lab: Lab) -> None:
    create = [
        "reservation",
        "ReservationName=later",
        "StartTime=now+1hour",
        "Duration=60",
        "Flags=IGNORE_JOBS",
    ]
    nodes = f"Nodes={next(iter(lab.cluster.nodes))}"
    lab.cluster.ask("scontrol", "create", *create, f"Users={getpass.getuser()}", nodes)
    begin = lab.new_run("begin", begin="now+1hour")
    reserved = lab.new_run("reserved", "cluster.nodes=1", reservation="later")
    (warning,) = submission.test_only([begin, reserved], lab.code)
    assert "it waits for the reservation later" in warning
    for run, words in (
        (begin, "it waits for its begin time (cluster.sbatch.begin) [BeginTime], not before"),
        (reserved, "it waits for its reservation (cluster.sbatch.reservation) [Reservation]"),
    ):
        submission.submit(run, lab.code)
        wait_until(partial(is_pending_for, run, words), words)
        submission.cancel(run)
    lab.cluster.ask("scontrol", "delete", "ReservationName=later")


def is_pending_for(run: Run, words: str) -> bool:
    status = query_statuses([RunRecord.read(run)])[run.id]
    return status.state is RunState.pending and status.detail.startswith(words)


def test_a_controller_that_is_down_is_named(lab: Lab) -> None:
    run = lab.new_run("no-controller", hold=True)
    submission.submit(run, lab.code)
    lab.cluster.stop_controller()
    try:
        assert query_statuses([RunRecord.read(run)])[run.id].state is RunState.unknown
        with pytest.raises(LaunchError, match="Unable to contact slurm controller"):
            submission.submit(run, lab.code)
    finally:
        lab.cluster.start_controller()
    wait_until(
        lambda: query_statuses([RunRecord.read(run)])[run.id].state is RunState.held,
        "the job, after the controller came back",
    )
    # a controller that has just begun does not know them
    wait_until(lambda: all(node.is_up for node in facts.nodes()), "nodes that are up")


def test_a_run_follows_the_one_that_it_starts_from_to_another_job(lab: Lab) -> None:
    """Also on a cluster that cancels jobs whose dependency failed, which this one does (see
    cluster.py)."""
    before = lab.new_run("before", hold=True)
    run = dataclasses.replace(lab.new_run("after", seed=1), upstream=before)
    first = [str(step.job_id) for step in reconcile([before, run], lab.code)]
    assert dependency(lab, first[1]).startswith(f"afterok:{first[0]}(unfulfilled)")
    lab.cluster.ask("scancel", first[0])
    wait_until(
        lambda: "DependencyNeverSatisfied" in query_statuses([RunRecord.read(run)])[run.id].detail,
        "dependency that failed",
    )
    steps = list(reconcile([before, run], lab.code))
    assert [step.action for step in steps] == [Action.submit, Action.replace]
    assert dependency(lab, str(steps[1].job_id)).startswith(
        f"afterok:{steps[0].job_id}(unfulfilled)"
    )
    assert [jobs_of(lab, one) for one in (before, run)] == [[step.job_id] for step in steps]


def dependency(lab: Lab, job: str) -> str:
    """The dependency of a job."""
    return lab.cluster.ask("squeue", "--noheader", f"--jobs={job}", "--format=%E")


def test_variables_of_a_shell_for_slurm_s_clients_change_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {
        "SBATCH_JOB_NAME": "x",
        "SBATCH_TIMELIMIT": "1",
        "SQUEUE_PARTITION": "low",
        "SLURM_TIME_FORMAT": "%H:%M",
    }
    run = lab.new_run("shell", "cluster.time_min=30", hold=True)
    with monkeypatch.context() as shell:
        for key, value in options.items():
            shell.setenv(key, value)
        job = submission.submit(run, lab.code)
        assert submission.submit(run, lab.code) == job
        assert query_statuses([RunRecord.read(run)])[run.id].state is RunState.held
    assert (
        lab.cluster.ask("squeue", "--noheader", f"--jobs={job}", "--format=%j|%l")
        == f"{job_name(run)}|30:00"
    )


SANDBOX = """#!/bin/bash
# apptainer exec OPTIONS IMAGE COMMAND: in a root with the folders that the image lists, and binds
shift; binds=()
while [ "${1#-}" != "$1" ]; do [ "$1" = --bind ] && { binds+=("$2"); shift; }; shift; done
mapfile -t folders < "$1"; shift; export shown="${folders[*]} ${binds[*]}"
exec unshare --mount --propagation=private bash -c '
root=$(mktemp --directory); mount -t tmpfs tmpfs "$root"
for path in $shown; do
  if [ -L "$path" ]; then ln -s "$(readlink "$path")" "$root$path"; continue; fi
  mkdir -p "$root$path"; mount --rbind "$path" "$root$path"
done
exec chroot "$root" "$@"' - "$@"
"""


@pytest.mark.skipif(cluster.shares_loopback(), reason="a root of its own needs namespaces")
def test_a_run_in_a_container_finds_all_that_is_its_own_and_nothing_of_the_checkout(
    lab: Lab,
) -> None:
    """The sandbox shows the interpreter and the system, and what the batch script binds."""
    apptainer = lab.code.path.parent / "apptainer"
    apptainer.write_text(SANDBOX)
    apptainer.chmod(0o755)
    image = apptainer.with_suffix(".image")
    python = {str(Path(sys.prefix)), sys.base_prefix, "/usr", "/bin", "/lib", "/lib64", "/etc"}
    system = [path for path in (*python, "/dev", "/proc", "/sys") if Path(path).exists()]
    image.write_text("\n".join(sorted(system)))
    run = lab.new_run(
        "container",
        f"cluster.setup=['PATH={apptainer.parent}:$PATH']",
        f"cluster.container.image={image}",
        "cluster.container.runtime=apptainer",
        f"cluster.container.python={sys.executable}",
    )
    lab.submit(run)
    lab.wait_done(run)
    assert_nothing_lost_or_doubled(run)


def test_evaluation_is_a_job_as_training_is(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    trained = lab.reference()
    results = trained.dir.parents[3]
    words = [*SMALL, "--backend=slurm", f"cluster.results={results}", "--yes", "--json"]
    main = runpy.run_path(str(PROJECT / "launch.py"))["main"]
    assert main(["deit_s12", *words, "--eval"]) == 0
    (described,) = json.loads(capsys.readouterr().out)
    assert (described["experiment"], described["outcome"]) == ("deit_s12_eval", "submitted")
    run = Run.load(Path(described["dir"]))
    lab.wait_done(run)
    result, reference = run.result(), trained.result()
    assert result is not None
    assert reference is not None
    assert result["metrics"]["val/top1"] == reference["metrics"]["val/top1"]
    assert run.attempts()[0].job_id
    assert query_statuses([RunRecord.read(run)])[run.id].state is RunState.done


@pytest.mark.parametrize("partition", ["main", "low,main"])
def test_a_job_may_wait_for_nodes_that_are_drained(lab: Lab, partition: str) -> None:
    """`--test-only` refuses it then, and sbatch does not."""
    run = lab.new_run("drained", f'cluster.partition="{partition}"', hold=True)
    drained = ",".join([*lab.cluster.nodes][1:])
    lab.cluster.ask("scontrol", "update", f"NodeName={drained}", "State=DRAIN", "Reason=test")
    try:
        (warning,) = submission.test_only([run], lab.code)
        assert "only 1 of the partition's 3 nodes that fit are up" in warning
    finally:
        lab.cluster.ask("scontrol", "update", f"NodeName={drained}", "State=RESUME")


def test_a_job_that_ends_in_setup_is_tried_again_and_given_up_with_the_line(lab: Lab) -> None:
    run = lab.new_run(
        "setup", "cluster.setup=['set -e','ls /no']", "cluster.max_without_progress=2"
    )
    (first,) = reconcile([run], lab.code)
    wait_until(
        lambda: not query_statuses([RunRecord.read(run)])[run.id].state.is_live,
        "end of the job",
        seconds=60,
    )
    (then,) = reconcile([run], lab.code, asked=False)
    assert (first.action, then.action) == (Action.submit, Action.give_up)
    assert [event.code for event in read_events(run.jobs_path)[1:]] == [1, 1]
    assert "cluster.setup ended the job's shell at `ls /no` with exit code 2" in then.why
    assert events(run) == ["run_given_up"]


def test_the_ranks_run_the_snapshot_with_what_setup_exports_whatever_the_shell_sets(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options of srun, and half of the options that bash has."""
    hostile = {
        "SLURM_EXPORT_ENV": "NONE",
        "SBATCH_EXPORT": "NIL",
        "SLURM_CPUS_PER_TASK": "64",
        "SLURM_NTASKS": "1",
        "SRUN_CPUS_PER_TASK": "64",
        "SLURM_MEM_PER_CPU": "1",
        "SLURM_MEM_PER_NODE": "1",
        "SLURM_HINT": "multithread",
        "SLURM_DISTRIBUTION": "plane=7",
        "SLURM_KILL_BAD_EXIT": "0",
        "SLURM_WORKING_DIR": "/nowhere",
        "WORLD_SIZE": "1",
        "RANK": "0",
        "PYTHONHOME": "/nowhere",
    }
    setup = [
        "export MINE=1 SLURM_EXPORT_ENV=NONE; set -euo pipefail; cd /",
        'trap "exit 3" ERR; srun() { false; }; export -f srun; PATH=/nowhere; exec > /dev/null',
    ]
    run = lab.new_run("hostile", f"cluster.setup={json.dumps(setup)}")
    with monkeypatch.context() as shell:
        for name, value in hostile.items():
            shell.setenv(name, value)
        lab.submit(run)
    wait_until(run.attempts, "start", seconds=120)
    ranks = [Path(f"/proc/{pid}/environ").read_bytes() for pid in lab.processes(run).values()]
    assert run.attempts()[0].world_size == len(ranks) == 2
    for environment in ranks:
        variables = environment.decode().split("\0")
        assert "MINE=1" in variables
        assert f"PYTHONPATH={lab.code.path}" in [v.partition(":")[0] for v in variables]
    submission.cancel(run)

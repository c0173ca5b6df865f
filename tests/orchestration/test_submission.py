from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from antioversmooth import files
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.slurm import submission
from antioversmooth.orchestration.slurm.script import job_name, sbatch_script
from antioversmooth.orchestration.slurm.submission import cancel, submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, RunRecord

MakeRun = Callable[..., Run]

LAUNCHER = """
import sys
from pathlib import Path
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.orchestration.slurm.submission import submit
from antioversmooth.runs import Run, RunRecord
print(submit(Run.load(Path(sys.argv[1])), Snapshot("0" * 12, Path("/snapshots/abc"), None, False)))
"""


def start_launcher(run: Run) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LAUNCHER, str(run.dir)], stdout=subprocess.PIPE, text=True
    )


def test_the_submitted_script_is_the_one_of_the_dry_run(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run = make_run()
    submit(run, snapshot)
    assert slurm.jobs()[0]["script"] == sbatch_script(run, snapshot.path)


def test_a_submission_leaves_intent_and_job_id(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run = make_run()
    job_id = submit(run, snapshot)
    assert RunRecord.read(run).newest_job_id == job_id
    intent = files.read_json(run.dir / "intent.json")
    assert (intent["backend"], intent["snapshot"]) == ("slurm", snapshot.id)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "CONFIGURING"])
def test_a_run_with_a_live_job_gets_no_second(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot, state: str
) -> None:
    run = make_run()
    first = submit(run, snapshot)
    slurm.change(first, state=state)
    assert submit(run, snapshot) == first
    assert len(slurm.jobs()) == 1


@pytest.mark.parametrize(
    "state", ["FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "COMPLETED"]
)
def test_a_run_whose_job_is_over_gets_a_new_one(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot, state: str
) -> None:
    run = make_run()
    first = submit(run, snapshot)
    slurm.change(first, state=state)
    assert submit(run, snapshot) != first


def test_a_job_that_nobody_noted_is_found_by_its_name(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run = make_run()
    first = submit(run, snapshot)
    (run.dir / "jobs.jsonl").unlink()
    assert submit(run, snapshot) == first
    assert RunRecord.read(run).newest_job_id == first


def test_of_two_jobs_the_later_is_cancelled(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run = make_run()
    first = submit(run, snapshot)
    slurm.change(first, name="hidden")
    second = submit(run, snapshot)
    slurm.change(first, name=job_name(run))
    assert submit(run, snapshot) == first
    assert {job["id"]: job["state"] for job in slurm.jobs()} == {
        first: "PENDING",
        second: "CANCELLED",
    }


def test_twenty_launchers_at_once_submit_one_job(
    slurm: FakeSlurm, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    monkeypatch.setenv("FAKE_SLURM_SLOW", "0.2")
    launchers = [start_launcher(run) for _ in range(20)]
    told = {launcher.communicate()[0].strip() for launcher in launchers}
    assert told == {"1"}
    assert len(slurm.jobs()) == 1


def test_a_launcher_killed_while_sbatch_runs_leaves_one_job(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sbatch outlives its launcher and holds the lock, so that the next launcher sees its
    job."""
    run = make_run()
    monkeypatch.setenv("FAKE_SLURM_SLOW", "1.5")
    launcher = start_launcher(run)
    while not slurm.calls("sbatch"):
        assert launcher.poll() is None
        time.sleep(0.01)
    launcher.send_signal(signal.SIGKILL)
    launcher.communicate()
    assert not slurm.jobs()
    monkeypatch.delenv("FAKE_SLURM_SLOW")
    assert submit(run, snapshot) == "1"
    assert len(slurm.jobs()) == 1


def test_a_job_waits_for_the_run_it_starts_from_and_for_its_namesakes(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    submit(make_run(), snapshot, after=["41"])
    submit(make_run(seed=1), snapshot)
    assert [job["dependency"] for job in slurm.jobs()] == ["afterok:41,singleton", "singleton"]


def test_a_refusal_quotes_slurm(slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot) -> None:
    message = (
        "sbatch: error: invalid partition specified: gpu\nsbatch: error: Batch job submission"
        " failed: Invalid name"
    )
    slurm.refuse(sbatch=message)
    run = make_run()
    with pytest.raises(
        LaunchError,
        match="deit_s12 seed 0: SLURM refuses the job: invalid partition specified: gpu; ",
    ):
        submit(run, snapshot)
    assert RunRecord.read(run).newest_job_id is None


AWAY = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"


def test_a_job_is_not_submitted_while_the_queue_cannot_be_read(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.refuse(squeue=AWAY)
    monkeypatch.setattr(submission.time, "sleep", lambda seconds: None)
    with pytest.raises(LaunchError, match="Unable to contact slurm controller"):
        submit(make_run(), snapshot)
    assert not slurm.jobs()


def test_a_controller_that_is_away_for_a_moment_is_asked_again(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.refuse(squeue=AWAY)
    monkeypatch.setattr(submission.time, "sleep", lambda seconds: slurm.refuse())
    assert submit(make_run(), snapshot) == "1"


HIDES_ITS_ID = '#!/bin/sh\ncase "$*" in *test-only*) ;; *) "$0.real" "$@" > /dev/null;; esac\n'


def test_a_job_whose_id_sbatch_did_not_give_is_found_by_its_name_behind_a_cached_list(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot, tmp_path: Path
) -> None:
    run, sbatch = make_run(), tmp_path / "bin" / "sbatch"
    slurm.cache_lists()
    sbatch.rename(f"{sbatch}.real")
    sbatch.write_text("#!/bin/sh\n")
    sbatch.chmod(0o755)
    with pytest.raises(LaunchError, match="in the queue or not"):
        submit(run, snapshot)
    # a launcher that has the answer of a slow controller, or that is killed before it has
    subprocess.run([f"{sbatch}.real", str(run.dir / "slurm" / "job.sh")], check=True)
    assert submit(run, snapshot) == "1"
    assert RunRecord.read(run).newest_job_id == "1"
    other = make_run(seed=1)
    sbatch.write_text(HIDES_ITS_ID)
    assert submit(other, snapshot) == "2"
    assert len(slurm.jobs()) == 2
    # only then, since it is much to ask
    asked = slurm.calls("scontrol")
    assert asked.count("scontrol show job") == 3
    submit(other, snapshot)
    assert slurm.calls("scontrol").count("scontrol show job") == 3


def test_what_a_shell_tells_slurm_s_clients_changes_nothing(
    slurm: FakeSlurm,
    make_run: MakeRun,
    snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """For sbatch a variable counts more than the script; to squeue it may hide the job that is
    there."""
    options = {
        "SBATCH_JOB_NAME": "x",
        "SBATCH_TIMELIMIT": "1",
        "SQUEUE_PARTITION": "x",
        "SLURM_TIME_FORMAT": "%H:%M",
    }
    for key, value in options.items():
        monkeypatch.setenv(key, value)
    for client, answer in (("sbatch", "5"), ("squeue", "")):
        (tmp_path / "bin" / client).write_text(
            f"#!/bin/sh\nenv >> {tmp_path}/seen\necho {answer}\n"
        )
    assert submit(make_run(), snapshot) == "5"
    assert (
        not {line.partition("=")[0] for line in (tmp_path / "seen").read_text().splitlines()}
        & options.keys()
    )
    told = f"{', '.join(sorted(options))}: not used, the cluster profile says what jobs ask for"
    assert submission.ignored_variables() == told


def test_a_rehearsal_asks_once_for_each_shape(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    shapes = [
        make_run(seed=0),
        make_run(seed=1),
        make_run("deit_s24"),
        make_run("deit_s24", "cluster.nodes=2", seed=3),
    ]
    submission.test_only(shapes, snapshot)
    assert len(slurm.calls("sbatch")) == 2
    assert not slurm.jobs()


def test_a_rehearsal_refuses_what_could_never_start(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    slurm.refuse(sbatch="allocation failure: Requested node configuration is not available")
    with pytest.raises(
        LaunchError, match="would refuse the job: allocation failure: Requested node configuration"
    ):
        submission.test_only([make_run()], snapshot)


def test_a_cancelled_run_has_no_job_and_says_so(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run = make_run()
    job_id = submit(run, snapshot)
    assert [job.id for job in cancel(run)] == [job_id]
    assert slurm.jobs()[0]["state"] == "CANCELLED"
    assert RunRecord.read(run).is_cancelled
    submit(run, snapshot)
    assert not RunRecord.read(run).is_cancelled


def test_a_job_submitted_from_within_a_job_takes_nothing_over(
    slurm: FakeSlurm,
    make_run: MakeRun,
    snapshot: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "bin" / "sbatch").write_text(f"#!/bin/sh\nenv > {tmp_path}/seen\necho 5\n")
    for key in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_CONF", "SRUN_CPUS_PER_TASK"):
        monkeypatch.setenv(key, "1")
    submit(make_run(), snapshot)
    seen = {line.partition("=")[0] for line in (tmp_path / "seen").read_text().splitlines()}
    assert "SLURM_CONF" in seen
    assert not seen & {"SLURM_JOB_ID", "SLURM_NTASKS", "SRUN_CPUS_PER_TASK"}
    assert os.environ["SLURM_JOB_ID"] == "1"

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
from completed import finish
from fake_slurm import FakeSlurm
from views import RecordingView

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.backend import Launched, Outcome
from antioversmooth.orchestration.slurm import submission
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run

MakeRun = Callable[..., Run]


def test_a_launch_submits_and_leaves(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run, view = make_run(), RecordingView()
    launched = SlurmBackend().launch([run], snapshot, view)
    assert launched == Launched({run.id: Outcome.submitted})
    assert view.messages == ["deit_s12 seed 0: job 1 submitted (not launched yet)"]


def test_nothing_is_submitted_if_slurm_would_refuse_one(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    slurm.refuse(sbatch="allocation failure: Invalid account")
    with pytest.raises(LaunchError, match="Invalid account"):
        SlurmBackend().launch([make_run()], snapshot, RecordingView())
    assert not slurm.jobs()


def test_who_follows_sees_a_preempted_run_come_back_and_end(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    run, seen = make_run(), []

    def live(update: Mapping[str, str]) -> None:
        """What the cluster does between two looks."""
        seen.append(update[run.id])
        newest = slurm.jobs()[-1]
        if newest["id"] == "1":
            slurm.change("1", state="PREEMPTED")
        elif newest["state"] == "PENDING":
            slurm.change("2", state="RUNNING")
        else:
            finish(run)

    view = RecordingView(live)
    launched = SlurmBackend(follow=True, refresh_s=0).launch([run], snapshot, view)
    assert launched.outcomes == {run.id: Outcome.done}
    assert seen == ["submitted", "submitted", "running"]
    assert view.messages == [
        "deit_s12 seed 0: job 1 submitted (not launched yet)",
        "deit_s12 seed 0: job 2 submitted (preempted: job 1 ended as PREEMPTED)",
        "deit_s12 seed 0: job 2 is running: its processes are starting",
    ]


def test_who_follows_outlives_a_controller_that_is_away(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run()
    monkeypatch.setattr(submission.time, "sleep", lambda seconds: None)

    def live(update: Mapping[str, str]) -> None:
        """The job is pre-empted for good, and the controller falls silent before the next one is
        submitted."""
        newest = slurm.jobs()[-1]
        if newest["id"] == "1" and newest["state"] == "PENDING":
            slurm.change("1", state="PREEMPTED")
            slurm.refuse(
                sbatch="sbatch: error: Unable to contact slurm controller (connect failure)"
            )
        elif newest["id"] == "1":
            slurm.refuse()
        else:
            finish(run)

    view = RecordingView(live)
    launched = SlurmBackend(follow=True, refresh_s=0).launch([run], snapshot, view)
    assert launched.outcomes == {run.id: Outcome.done}
    assert [line for line in view.messages if line.endswith("(connect failure); looking again")]


def test_leaving_early_ends_no_job(slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot) -> None:
    run = make_run()

    def press_ctrl_c(update: Mapping[str, str]) -> None:
        raise KeyboardInterrupt

    following = SlurmBackend(follow=True, refresh_s=0)
    launched = following.launch([run], snapshot, RecordingView(press_ctrl_c))
    assert launched == Launched({run.id: Outcome.submitted}, interrupted=True)
    assert [job["state"] for job in slurm.jobs()] == ["PENDING"]


def test_jobs_of_an_edited_spec_are_listed_and_cancelled_only_on_request(
    slurm: FakeSlurm, make_run: MakeRun, snapshot: Snapshot
) -> None:
    view = RecordingView()
    edited = make_run("deit_s12", "recipe.epochs=3")
    SlurmBackend().launch([edited], snapshot, RecordingView())
    SlurmBackend().launch([make_run()], snapshot, view)
    assert "job 1 is of a spec that was edited since; left alone" in view.messages[0]
    assert [job["state"] for job in slurm.jobs()] == ["PENDING", "PENDING"]
    SlurmBackend(prune=True).launch([make_run()], snapshot, view)
    assert [job["state"] for job in slurm.jobs()] == ["CANCELLED", "PENDING"]

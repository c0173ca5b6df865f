"""Early ends: what is saved, what is said, and that the next start goes on."""

from __future__ import annotations

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest
from outcomes import wait_for_step
from torch import Tensor

from antioversmooth import files
from antioversmooth.errors import AttemptEnded, CheckpointError, DataError
from antioversmooth.orchestration import preflight
from antioversmooth.runs import Run, journal
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.metrics import TRAIN_LOSS, VAL_TOP1
from antioversmooth.runs.record import read_records
from antioversmooth.training.run import checkpoint, loop
from antioversmooth.training.run.signals import StepAction
from antioversmooth.training.step import distillation, learner
from antioversmooth.training.train import train

LONG = ("recipe.epochs=2000", "runtime.checkpoint_every_s=0.05")


def last_end(run: Run) -> journal.Record:
    ends = [r for r in journal.read(run.attempts_path) if r["event"] == "end"]
    return ends[-1]


@pytest.mark.parametrize(
    ("number", "environment", "reason"),
    [
        (signal.SIGINT, {}, "cancelled"),
        (signal.SIGTERM, {}, "cancelled"),
        (signal.SIGTERM, {"SLURM_JOB_ID": "7"}, "preempted"),
        (signal.SIGUSR2, {"SLURM_JOB_ID": "7"}, "timeout"),
    ],
)
def test_a_signal_ends_the_attempt_with_a_checkpoint_of_its_last_step(
    tiny_run: Callable[..., Run], number: signal.Signals, environment: dict[str, str], reason: str
) -> None:
    run = tiny_run(*LONG)
    (process,) = processes.start(run, **environment)
    wait_for_step(run, 3)
    assert process.pid is not None
    os.kill(process.pid, number)
    assert processes.finish([process]) == [os.EX_TEMPFAIL]
    assert last_end(run)["reason"] == reason
    newest = run.checkpoints()[0]
    assert newest.is_whole()
    assert newest.step == max(r["step"] for r in run.metrics())


def test_a_signal_to_one_rank_ends_all_at_the_same_step(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*LONG)
    ranks = processes.start(run, ranks=2, SLURM_JOB_ID="7")
    wait_for_step(run, 3)
    assert ranks[1].pid is not None
    os.kill(ranks[1].pid, signal.SIGTERM)
    assert processes.finish(ranks) == [os.EX_TEMPFAIL, os.EX_TEMPFAIL]
    assert last_end(run)["reason"] == "preempted"
    assert run.checkpoints()[0].is_whole()


def test_a_run_does_not_outlive_its_launcher(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run(*LONG)
    gone = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(gone, 0)
    assert processes.train(run, ANTIOVERSMOOTH_PARENT=str(gone)) == [os.EX_TEMPFAIL]
    assert last_end(run)["reason"] == "cancelled"


def test_an_attempt_that_was_replaced_stops_and_writes_nothing_more(
    tiny_run: Callable[..., Run],
) -> None:
    run = tiny_run(*LONG, "runtime.heartbeat_s=0.01")
    (process,) = processes.start(run)
    wait_for_step(run, 3)
    assert run.new_attempt() == 2
    assert processes.finish([process]) == [os.EX_TEMPFAIL]
    assert [r["event"] for r in journal.read(run.attempts_path)] == ["start"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EFBIG])
def test_a_full_disk_ends_the_attempt_and_keeps_the_checkpoint_before(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with pytest.raises(AttemptEnded):
        train(tiny_run("runtime.max_steps=5"))
    run = tiny_run()
    (before,) = run.checkpoints()

    def write(path: Path, content: str | bytes) -> None:
        raise OSError(code, os.strerror(code), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_atomic", write)
        patch.setattr(files, "write_json", lambda *_: None)
        with pytest.raises(OSError, match=os.strerror(code)):
            train(run)
    assert last_end(run)["reason"] == "disk-full"
    assert run.checkpoints() == [before]
    assert before.is_whole()
    train(run)
    assert run.result() is not None


@pytest.mark.parametrize("again", [5, 3])
def test_a_run_that_stands_at_its_limit_or_beyond_trains_no_further_step(
    tiny_run: Callable[..., Run], again: int
) -> None:
    with pytest.raises(AttemptEnded, match="max_steps = 5 reached"):
        train(tiny_run("runtime.max_steps=5"))
    run = tiny_run(f"runtime.max_steps={again}")
    before = run.checkpoints()
    with pytest.raises(AttemptEnded, match=f"max_steps = {again} reached"):
        train(run)
    assert [r["step"] for r in run.metrics() if TRAIN_LOSS in r] == [1, 2, 3, 4, 5]
    assert run.checkpoints() == before
    assert (last_end(run)["reason"], last_end(run)["step"]) == ("cancelled", 5)


def test_every_vote_to_stop_has_the_reason_that_the_attempt_notes() -> None:
    assert set(loop.REASONS) == {vote for vote in StepAction if vote.stops}
    known = {reason.value for reason in EndReason}
    assert {vote for vote, reason in loop.REASONS.items() if reason not in known} == {
        StepAction.superseded
    }


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_checkpoint(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run("runtime.log_every=5", "runtime.checkpoint_every_s=0")
    real: Callable[..., Tensor] = distillation.F.cross_entropy

    def overflowing(*arguments: Any) -> Tensor:
        calls.append(None)
        return real(*arguments) * (float("inf") if len(calls) == 8 else 1)

    calls: list[None] = []
    monkeypatch.setattr(distillation.F, "cross_entropy", overflowing)
    with pytest.raises(AttemptEnded, match="step 7 is not a finite number"):
        train(run)
    assert last_end(run)["reason"] == "crash"
    (note,) = [r for r in journal.read(run.attempts_path) if r["event"] == "diverged"]
    assert note["step"] == 7
    # float32 needs no loss scaling
    assert note["loss_scale"] == 1.0
    assert len(note["samples"]) == 128
    newest = run.checkpoints()[0]
    # the checkpoint holds the seven steps before the failure
    assert newest.step == 7
    assert newest.is_whole()


def test_weights_that_are_no_numbers_are_not_saved(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gradient can overflow though its loss does not; the step after would show it, too late for
    the checkpoint."""
    run = tiny_run("runtime.checkpoint_every_s=0", "recipe.clip_grad=null")
    real = learner.Learner.train_step

    def overflowing(self: learner.Learner, step: int, batches: Any) -> Any:
        learned = real(self, step, batches)
        if step == 7:
            next(self.model.parameters()).data.fill_(float("nan"))
        return learned

    monkeypatch.setattr(learner.Learner, "train_step", overflowing)
    with pytest.raises(AttemptEnded, match="after step 8 are not finite"):
        train(run)
    newest = run.checkpoints()[0]
    assert newest.step == 7
    assert newest.is_whole()


def test_a_torn_checkpoint_is_passed_over_and_named(tiny_run: Callable[..., Run]) -> None:
    with pytest.raises(AttemptEnded):
        train(tiny_run("runtime.max_steps=5"))
    with pytest.raises(AttemptEnded):
        train(tiny_run("runtime.max_steps=9"))
    run = tiny_run()
    newest, before = run.checkpoints()
    newest.path.write_bytes(newest.path.read_bytes()[:-100])
    train(run)
    (note,) = [r for r in journal.read(run.attempts_path) if r["event"] == "torn-checkpoint"]
    assert note["file"] == newest.path.name
    assert note["instead"] == before.path.name
    assert [r["step"] for r in journal.read(run.attempts_path) if r["event"] == "start"] == [
        0,
        5,
        5,
    ]


def test_a_run_does_not_go_on_with_other_draws_than_it_began_with(
    tiny_run: Callable[..., Run],
) -> None:
    """As code before checkpoints said which they are; a run that is at its end has none to make."""
    with pytest.raises(AttemptEnded):
        train(tiny_run("runtime.max_steps=5"))
    run = tiny_run()
    for version, draws in ((2, {"draws": 2}), (1, {})):
        _replace_draws(run, draws)
        with pytest.raises(CheckpointError, match=rf"another way \(version {version} of the draws"):
            train(run)
    assert last_end(run)["step"] == 5
    finished = tiny_run("recipe.epochs=1")
    train(finished)
    _replace_draws(finished, {})
    train(finished)


def _replace_draws(run: Run, draws: dict[str, int]) -> None:
    newest = run.checkpoints()[0]
    state = checkpoint.load_state(newest.path)
    state.pop("draws")
    checkpoint.save_state(newest, {**state, **draws})


def test_the_last_two_checkpoints_and_the_best_are_kept(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("recipe.epochs=5", "recipe.base_lr=1.0e-2")
    train(run)
    evaluated = {r["step"]: r[VAL_TOP1] for r in run.metrics() if VAL_TOP1 in r}
    best = max(evaluated, key=lambda step: (evaluated[step], -step))
    assert {c.step for c in run.checkpoints()} == {55, 44, best}


def test_a_second_start_of_a_living_run_is_refused(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    from antioversmooth.errors import LaunchError
    from antioversmooth.training.run import attempt

    monkeypatch.setattr(attempt, "LOCK_TIMEOUT_S", 0.0)
    run = tiny_run(*LONG)
    (process,) = processes.start(run)
    wait_for_step(run, 1)
    with pytest.raises(LaunchError, match="running already"):
        train(run)
    process.terminate()
    assert processes.finish([process]) == [os.EX_TEMPFAIL]


@pytest.mark.parametrize("allowed", [0, 1])
def test_unreadable_images_are_named_and_end_the_run_beyond_the_limit(
    folder_run: Callable[..., Run], allowed: int
) -> None:
    run = folder_run(f"data.max_corrupt={allowed}")
    damaged = sorted((Path(str(run.experiment.data.root)) / "train").rglob("*.png"))[3]
    damaged.write_bytes(b"no image")
    if allowed:
        train(run)
    else:
        with pytest.raises(DataError, match=damaged.name):
            train(run)
        assert last_end(run)["reason"] == "crash"
    (note,) = [r for r in journal.read(run.attempts_path) if r["event"] == "corrupt-image"]
    assert note["file"] == str(damaged)


def test_a_run_that_ends_beyond_the_limit_leaves_no_worker_to_wait_for(
    folder_run: Callable[..., Run],
) -> None:
    """Loading processes ignore the SIGTERM of schedulers; the process must end them itself, or it
    would never exit."""
    run = folder_run("data.max_corrupt=0", "runtime.workers=1")
    sorted((Path(str(run.experiment.data.root)) / "train").rglob("*.png"))[3].write_bytes(
        b"no image"
    )
    assert processes.train(run) == [2]


def test_a_run_whose_checkpoints_are_gone_says_that_it_begins_again(
    tiny_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    """At the terminal before it starts, in its log, and in the journal; a run that goes on says
    nothing."""
    with pytest.raises(AttemptEnded):
        train(tiny_run("runtime.max_steps=5"))
    run = tiny_run("runtime.max_steps=7")
    assert preflight.fresh_starts(read_records([run])) == []
    shutil.rmtree(run.checkpoints_dir)
    told = (
        "deit_s12 seed 0 had reached step 5, and no whole checkpoint of it is there: it begins"
        " again at step 0"
    )
    assert preflight.fresh_starts(read_records([run])) == [told]
    run.prepare()
    capsys.readouterr()
    with pytest.raises(AttemptEnded):
        train(run)
    assert capsys.readouterr().err.splitlines() == [told]
    assert [
        r["reached"] for r in journal.read(run.attempts_path) if r["event"] == "no-checkpoint"
    ] == [5]
    with pytest.raises(AttemptEnded):
        train(tiny_run("runtime.max_steps=9"))
    assert capsys.readouterr().err == ""

"""Journal lines and checkpoints that a crash, or a slip of a person, lost or exchanged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import processes
import pytest

from antioversmooth import files
from antioversmooth.errors import AttemptEnded, CheckpointError
from antioversmooth.runs import Run, journal
from antioversmooth.runs.metrics import EMA_TOP1, TRAIN_LOSS, VAL_LOSS, VAL_TOP1
from antioversmooth.training.run import checkpoint
from antioversmooth.training.train import train
from antioversmooth.training.weights.evaluate import evaluate_weights
from antioversmooth.training.weights.trained import trained_model

EPOCH = 11
"""Steps of an epoch of a tiny run, which has two."""


def forget(run: Run, lost: Callable[[journal.Record], bool]) -> None:
    """Removes records of the metrics, the end of the attempt, and the result."""
    records = [record for record in journal.read(run.metrics_path) if not lost(record)]
    run.metrics_path.unlink()
    for record in records:
        journal.append(run.metrics_path, record)
    attempts = [r for r in journal.read(run.attempts_path) if r["event"] != "end"]
    run.attempts_path.unlink()
    for record in attempts:
        journal.append(run.attempts_path, record)
    (run.dir / "result.json").unlink(missing_ok=True)


def evaluations(run: Run) -> dict[int, tuple[float, ...]]:
    """Accuracies and losses by step."""
    keys = (VAL_TOP1, VAL_LOSS, EMA_TOP1)
    return {
        r["step"]: tuple(r[key] for key in keys if key in r) for r in run.metrics() if VAL_TOP1 in r
    }


LOST: dict[str, Callable[[journal.Record], bool]] = {
    "the last evaluation": lambda r: VAL_TOP1 in r and r["step"] == 2 * EPOCH,
    "all after the last training record": lambda r: r["step"] == 2 * EPOCH and TRAIN_LOSS not in r,
    "both evaluations": lambda r: VAL_TOP1 in r,
    "everything": lambda r: True,
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_a_lost_evaluation_of_the_last_step_is_repeated_from_its_checkpoint(
    tiny_run: Callable[..., Run], lost: Callable[[journal.Record], bool]
) -> None:
    run = tiny_run("recipe.ema_decay=0.9")
    train(run)
    true, seen = run.result(), evaluations(run)
    assert true is not None
    forget(run, lost)
    remaining = evaluations(run)
    train(run)
    found = run.result()
    assert found is not None
    assert evaluations(run) == {**remaining, 2 * EPOCH: seen[2 * EPOCH]}
    assert found["metrics"] == true["metrics"]
    assert found["checkpoint"] == true["checkpoint"]
    # a best epoch is chosen among all epochs, or not at all
    assert found["best"] == (true["best"] if EPOCH in remaining else None)


def test_a_torn_last_evaluation_is_repeated(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run()
    train(run)
    true = evaluations(run)
    forget(run, lambda r: r["step"] == 2 * EPOCH and TRAIN_LOSS not in r and VAL_TOP1 not in r)
    run.metrics_path.write_bytes(run.metrics_path.read_bytes()[:-9])
    assert 2 * EPOCH not in evaluations(run)
    train(run)
    assert evaluations(run) == true


def test_a_lost_evaluation_of_an_earlier_epoch_is_repeated_where_the_run_stands_at_its_end(
    tiny_run: Callable[..., Run],
) -> None:
    straight = tiny_run()
    train(straight)
    true, result = evaluations(straight), straight.result()
    assert result is not None
    shutil.rmtree(straight.dir)
    with pytest.raises(AttemptEnded, match="max_steps"):
        train(tiny_run(f"runtime.max_steps={EPOCH}"))
    run = tiny_run()
    forget(run, lambda r: VAL_TOP1 in r)
    train(run)
    again = run.result()
    assert evaluations(run) == true
    assert again is not None
    assert again["best"] == result["best"]


def test_two_processes_repeat_a_lost_evaluation_together(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run("cluster.tasks_per_node=2")
    assert processes.train(run, ranks=2) == [0, 0]
    true = evaluations(run)
    forget(run, LOST["the last evaluation"])
    assert processes.train(run, ranks=2) == [0, 0]
    assert evaluations(run) == true


def test_the_evaluation_is_synced_before_its_checkpoint_is_written(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tiny_run()
    order: list[tuple[str, int]] = []
    append, save = journal.append, checkpoint.save_state

    def appended(path: Path, record: journal.Record, *, synced: bool = False) -> None:
        append(path, record, synced=synced)
        if VAL_TOP1 in record and synced:
            order.append(("evaluation", record["step"]))

    def saved(made: Any, state: Any) -> None:
        order.append(("checkpoint", made.step))
        save(made, state)

    monkeypatch.setattr(journal, "append", appended)
    monkeypatch.setattr(checkpoint, "save_state", saved)
    train(run)
    steps = (EPOCH, 2 * EPOCH)
    assert order == [(what, step) for step in steps for what in ("evaluation", "checkpoint")]


@pytest.fixture
def other(tiny_run: Callable[..., Run]) -> Run:
    """A run of another seed that stopped after five steps."""
    with pytest.raises(AttemptEnded, match="max_steps"):
        train(tiny_run("runtime.max_steps=5", seed=1))
    return tiny_run(seed=1)


def put(source: Path, target: Path) -> None:
    """Copies a checkpoint, with its checksum, to another name."""
    shutil.copy(source, target)
    target.with_name(f"{target.name}.sha256").write_text(f"{files.sha256(target)}  {target.name}\n")


@pytest.mark.parametrize("step", [5, EPOCH, 2 * EPOCH])
def test_a_checkpoint_of_another_run_is_passed_over_and_named(
    tiny_run: Callable[..., Run], other: Run, step: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Under its own step, an epoch's end and the last step."""
    clean = tiny_run()
    train(clean)
    true = clean.result()
    assert true is not None
    shutil.rmtree(clean.dir)
    run = tiny_run()
    (source,) = other.checkpoints()
    foreign = run.checkpoints_dir / f"step{step:08}-attempt1.pt"
    put(source.path, foreign)
    train(run)
    found = run.result()
    assert found is not None
    assert found["metrics"] == true["metrics"]
    (note,) = [r for r in journal.read(run.attempts_path) if r["event"] == "foreign-checkpoint"]
    assert (note["file"], note["instead"]) == (foreign.name, "the beginning")
    assert f"{foreign.name} is of run {other.id[:8]}" in capfd.readouterr().err


@pytest.fixture
def trained(tiny_run: Callable[..., Run]) -> Run:
    run = tiny_run()
    train(run)
    return run


def test_no_tool_reads_the_checkpoint_of_another_run_or_step_as_that_of_the_run(
    trained: Run, other: Run
) -> None:
    final, (source,) = trained.checkpoints()[0], other.checkpoints()
    put(source.path, final.path)
    with pytest.raises(CheckpointError, match=r"is not what result\.json names"):
        evaluate_weights(trained.dir)
    with pytest.raises(CheckpointError, match=f"is of run {other.id[:8]}"):
        trained_model(final.path, trained.experiment)
    # the result of the other run names another's weights
    result = files.read_json(trained.dir / "result.json")
    result["checkpoint"]["sha256"] = files.sha256(final.path)
    files.write_json(trained.dir / "result.json", result)
    with pytest.raises(CheckpointError, match=f"is of run {other.id[:8]}"):
        trained_model(trained.dir, trained.experiment)


def test_the_final_weights_of_a_done_run_have_no_older_substitute(trained: Run) -> None:
    final, before = trained.checkpoints()[:2]
    put(before.path, final.path)
    with pytest.raises(CheckpointError, match=r"is not what result\.json names"):
        evaluate_weights(trained.dir)
    final.delete()
    with pytest.raises(CheckpointError, match="is missing"):
        evaluate_weights(trained.dir)


def test_an_unfinished_run_is_evaluated_at_its_newest_own_checkpoint_and_says_so(
    tiny_run: Callable[..., Run], other: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(AttemptEnded, match="max_steps"):
        train(tiny_run("runtime.max_steps=3"))
    run = tiny_run()
    expected = evaluate_weights(run.dir).evaluation.loss
    put(other.checkpoints()[0].path, run.checkpoints_dir / "step00000005-attempt1.pt")
    assert evaluate_weights(run.dir).evaluation.loss == expected
    assert "an older one is used" in capfd.readouterr().err

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from antioversmooth import files
from antioversmooth.errors import CheckpointError
from antioversmooth.runs import Run, journal
from antioversmooth.runs.checkpoints import Checkpoint
from antioversmooth.training.run import checkpoint
from antioversmooth.training.run.checkpoint import (
    CheckpointWriter,
    load_state,
    newest_valid,
)

STATE = {"model": {"weight": torch.arange(3.0)}}


@pytest.fixture
def run(tiny_run: Callable[..., Run]) -> Run:
    return tiny_run()


def saved(run: Run, step: int, attempt: int = 1) -> Checkpoint:
    made = Checkpoint.named(run.checkpoints_dir, step, attempt)
    checkpoint.save_state(made, state_of(run, step))
    return made


def state_of(run: Run, step: int) -> checkpoint.State:
    return {**STATE, "id": run.id, "step": step}


def started(run: Run, attempt: int, step: int) -> None:
    journal.append(run.attempts_path, {"attempt": attempt, "event": "start", "step": step})


def test_what_was_saved_is_loaded(run: Run) -> None:
    state = load_state(saved(run, 7).path)
    assert state["step"] == 7
    assert torch.equal(state["model"]["weight"], torch.arange(3.0))


def test_a_changed_byte_or_a_missing_checksum_makes_a_checkpoint_torn(run: Run) -> None:
    made = saved(run, 7)
    assert made.is_whole()
    content = bytearray(made.path.read_bytes())
    content[len(content) // 2] ^= 1
    made.path.write_bytes(content)
    assert not made.is_whole()
    other = saved(run, 8)
    other.checksum_path.unlink()
    assert not other.is_whole()


def cut(made: Checkpoint) -> None:
    made.path.write_bytes(made.path.read_bytes()[:-9])


def replace(made: Checkpoint) -> None:
    """Puts the weights of another step in its place, which can be read."""
    other = Checkpoint.named(made.path.parent, 6, 1)
    checkpoint.save_state(other, {"id": "0", "step": 6, "model": {"weight": torch.zeros(3)}})
    other.path.replace(made.path)


@pytest.mark.parametrize(
    ("change", "event", "reason"),
    [
        (cut, "torn-checkpoint", "is torn"),
        (lambda made: made.path.unlink(), "torn-checkpoint", "is missing"),
        (
            replace,
            "changed-checkpoint",
            r"is not the checkpoint that was written \(its sha256 is \w{12}, recorded is \w{12}\)",
        ),
        (
            lambda made: made.checksum_path.unlink(),
            "changed-checkpoint",
            r"has no sha256 in step00000007-attempt1\.pt\.sha256",
        ),
    ],
)
def test_a_message_says_whether_a_checkpoint_is_torn_or_was_changed(
    run: Run, change: Callable[[Checkpoint], object], event: str, reason: str
) -> None:
    made = saved(run, 7)
    change(made)
    flaw = checkpoint.find_flaw(run, made)
    assert flaw
    assert flaw.event == event
    way_out = "; a row starts from it; put the file back as it was written, or move .* away"
    with pytest.raises(CheckpointError, match=rf"attempt1\.pt {reason}{way_out}"):
        checkpoint.require_valid(run, made, "a row starts from it")


def test_the_newest_whole_one_is_found_and_torn_ones_are_reported(run: Run) -> None:
    old, torn = saved(run, 7), saved(run, 8)
    torn.path.write_bytes(b"")
    reported: list[tuple[Checkpoint, str]] = []
    assert newest_valid(run, lambda one, flaw: reported.append((one, flaw.event))) == old
    assert reported == [(torn, "torn-checkpoint")]


OTHERS: dict[str, dict[str, Any]] = {
    "of another run": {"id": "0" * 64},
    "of a run that is not named": {"id": None},
    "of an earlier step": {"step": 7},
    "of a later step": {"step": 9},
    "of a step that is no number": {"step": "8"},
    "without a model": {"model": None},
}
"""Contents of a whole file named as the checkpoint of step 8."""


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_a_checkpoint_of_another_run_or_step_is_passed_over_and_stays(
    run: Run, changes: dict[str, Any]
) -> None:
    old, foreign = saved(run, 7), Checkpoint.named(run.checkpoints_dir, 8, 1)
    state = {**state_of(run, 8), **changes}
    checkpoint.save_state(foreign, {key: v for key, v in state.items() if v is not None})
    content = foreign.path.read_bytes()
    reported: list[str] = []
    assert newest_valid(run, lambda _, flaw: reported.append(flaw.event)) == old
    assert reported == ["foreign-checkpoint"]
    writer = CheckpointWriter(run, 1, lambda: False)
    for step in (9, 10, 11):
        writer.save(state_of(run, step), step=step, best_step=None)
    writer.close()
    assert [c.step for c in run.checkpoints()] == [11, 10, 8]
    assert foreign.path.read_bytes() == content


def test_checkpoints_of_another_run_never_displace_those_of_the_run(run: Run) -> None:
    for step in (100, 90, 80):
        foreign = Checkpoint.named(run.checkpoints_dir, step, 1)
        checkpoint.save_state(foreign, {**state_of(run, step), "id": "f" * 64})
    writer = CheckpointWriter(run, 1, lambda: False)
    writer.save(state_of(run, 7), step=7, best_step=None)
    writer.close()
    assert [c.step for c in run.checkpoints()] == [100, 90, 80, 7]


def test_checkpoints_of_a_branch_that_was_left_do_not_count(run: Run) -> None:
    """Attempt 2 took over at step 5; what attempt 1 wrote for later steps, before or afterwards, is
    not the run's."""
    started(run, 1, 0)
    started(run, 2, 5)
    kept = [saved(run, 9, attempt=2), saved(run, 5, attempt=1)]
    saved(run, 20, attempt=1)
    assert run.checkpoints() == kept


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "some.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"some\.pt"):
        load_state(path)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"model": Path("/")}, tmp_path / "some.pt")
    with pytest.raises(CheckpointError, match=r"some\.pt"):
        load_state(tmp_path / "some.pt")


def test_training_goes_on_while_a_checkpoint_is_written_and_cannot_change_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    real = checkpoint.save_state

    def slow(made: Checkpoint, state: checkpoint.State) -> None:
        released.wait()
        real(made, state)

    monkeypatch.setattr(checkpoint, "save_state", slow)
    writer = CheckpointWriter(run, 1, lambda: False)
    weight = torch.zeros(3)
    writer.save({"model": {"weight": weight}}, step=1, best_step=None)
    weight += 1
    assert run.checkpoints() == []
    released.set()
    writer.wait()
    writer.close()
    assert torch.equal(load_state(run.checkpoints()[0].path)["model"]["weight"], torch.zeros(3))


def test_a_failed_write_is_noticed_and_leaves_the_checkpoint_before(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = CheckpointWriter(run, 1, lambda: False)
    writer.save(state_of(run, 1), step=1, best_step=None)
    writer.wait()

    def full(path: Path, content: str | bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_atomic", full)
    writer.save(STATE, step=2, best_step=None)
    writer.close()
    assert isinstance(writer.failed(), OSError)
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    assert [(c.step, c.is_whole()) for c in run.checkpoints()] == [(1, True)]


def test_a_replaced_attempt_writes_nothing(run: Run) -> None:
    writer = CheckpointWriter(run, 1, lambda: True)
    writer.save(STATE, step=1, best_step=None)
    writer.close()
    assert run.checkpoints() == []


def test_the_last_two_and_the_best_remain(run: Run) -> None:
    started(run, 1, 0)
    writer = CheckpointWriter(run, 1, lambda: False)
    for step in range(1, 7):
        writer.save(state_of(run, step), step=step, best_step=min(step, 2))
    writer.close()
    assert [c.step for c in run.checkpoints()] == [6, 5, 2]
    assert len(list(run.checkpoints_dir.iterdir())) == 6


def test_leftovers_of_a_killed_writer_are_removed(run: Run) -> None:
    (run.checkpoints_dir / ".step00000007-attempt1.pt.123.tmp").write_bytes(b"half")
    checkpoint.remove_leftovers(run)
    assert list(run.checkpoints_dir.iterdir()) == []

"""`python -m antioversmooth.training`: exit codes, and where output goes."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from pathlib import Path

import processes
import pytest

from antioversmooth.errors import AttemptEnded, DataError
from antioversmooth.runs import Run, journal
from antioversmooth.training.__main__ import main, without_collection
from antioversmooth.training.process import exit_code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AttemptEnded("preempted", ""), 75),
        (AttemptEnded("timeout", ""), 75),
        (AttemptEnded("cancelled", ""), 75),
        (AttemptEnded("superseded", ""), 75),
        (AttemptEnded("crash", ""), 1),
        (DataError(""), 2),
        (OSError(errno.ENOSPC, "full"), 2),
        (OSError(errno.EIO, "broken"), 1),
        (ZeroDivisionError(), 1),
    ],
)
def test_exit_codes(error: Exception, code: int) -> None:
    assert exit_code(error) == code


def test_a_run_that_completes_gives_0_and_again_does_nothing(tiny_run: Callable[..., Run]) -> None:
    run = tiny_run()
    assert main([str(run.dir)]) == 0
    assert main([str(run.dir)]) == 0
    assert len([r for r in journal.read(run.attempts_path) if r["event"] == "start"]) == 1


def test_a_users_mistake_is_one_message_on_the_console_and_in_the_log(
    folder_run: Callable[..., Run], capfd: pytest.CaptureFixture[str]
) -> None:
    run = folder_run("data.num_train=25")
    assert main([str(run.dir)]) == 2
    assert processes.train(run) == [2]
    log = (run.dir / "logs" / "attempt2" / "rank0.err").read_text()
    for text in (capfd.readouterr().err, log):
        assert "data.num_train: the spec says 25" in text
        assert "Traceback" not in text


def test_the_log_begins_with_what_the_data_passes_over(
    folder_run: Callable[..., Run], tmp_path: Path
) -> None:
    (tmp_path / "images" / "train" / "ash" / "more.jfif").touch()
    run = folder_run("runtime.max_steps=1")
    processes.train(run)
    log = (run.dir / "logs" / "attempt1" / "rank0.err").read_text()
    counts = "data: 24 training and 12 validation images of 3 classes"
    assert log.startswith(f"{counts}; passed over: 1 .jfif (train/ash/more.jfif)")


def test_a_crash_shows_its_traceback(
    tiny_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from antioversmooth.training import train

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("on purpose")

    monkeypatch.setattr(train, "open_dataset", broken)
    run = tiny_run()
    assert main([str(run.dir)]) == 1
    assert "Traceback" in capfd.readouterr().err
    assert run.attempts()[-1].reason.value == "crash"
    assert "on purpose" in run.attempts()[-1].message


def test_a_folder_that_is_no_run_is_one_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path)]) == 1
    assert capfd.readouterr().err.count("\n") == 1


def test_garbage_is_collected_again_even_where_an_import_fails() -> None:
    def fail() -> None:
        assert not gc.isenabled()
        raise ImportError

    with pytest.raises(ImportError):
        without_collection()(fail)()
    assert gc.isenabled()
    gc.unfreeze()

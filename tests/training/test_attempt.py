from __future__ import annotations

import errno
import importlib.metadata
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch

from antioversmooth import files
from antioversmooth.errors import AttemptEnded, DataError
from antioversmooth.runs import Run, journal
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.code import (
    PACKAGES,
    checksums,
    code_id,
    installed_packages,
    source_files,
)
from antioversmooth.training.run.attempt import SUPERSEDED, end_of, opened
from antioversmooth.training.run.distributed import RankInfo, Ranks

ALONE = Ranks(RankInfo(0, 1, 0, 1, "alone"), torch.device("cpu"), None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no"), EndReason.crash),
        (DataError("no images"), EndReason.crash),
        (
            RuntimeError("[gloo] Timed out waiting 1000ms for recv operation to complete"),
            EndReason.hang,
        ),
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 2.00 GiB.\nIf reserved but"
            ),
            EndReason.out_of_memory,
        ),
        (MemoryError(), EndReason.out_of_memory),
        (OSError(errno.ENOSPC, "No space left on device"), EndReason.disk_full),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), EndReason.disk_full),
        (OSError(errno.EFBIG, "File too large"), EndReason.disk_full),
        (OSError(errno.EIO, "Input/output error"), EndReason.crash),
        (KeyboardInterrupt(), EndReason.cancelled),
        (AttemptEnded("timeout", "told to"), EndReason.timeout),
        (AttemptEnded(SUPERSEDED, "replaced"), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_exception_decides_the_end_reason(
    error: BaseException, reason: EndReason | None
) -> None:
    assert end_of(error)[0] is reason


def test_out_of_memory_names_the_settings_that_need_less() -> None:
    _, message = end_of(
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nIf reserved but")
    )
    assert message.startswith(
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.; runtime.device_batch"
    )


@pytest.mark.parametrize(
    ("job_id", "restarts", "told"),
    [("7", "1", ["node-fail", "completed"]), ("7", "0", ["completed"]), ("8", "1", ["completed"])],
    ids=["started again", "for the first time", "another job"],
)
def test_an_attempt_tells_the_end_of_the_one_before_whose_node_took_its_batch_script_along(
    tiny_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    job_id: str,
    restarts: str,
    told: list[str],
) -> None:
    run = tiny_run()
    journal.append(
        run.attempts_path,
        {"attempt": run.new_attempt(), "event": "start", "step": 0, "job_id": "7"},
    )
    monkeypatch.setenv("SLURM_JOB_ID", job_id)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    with opened(run, ALONE, redirect=False):
        pass
    assert [a.reason.value for a in run.attempts() if a.reason] == told


def test_the_start_record_names_the_code_that_runs_and_the_versions_that_move_numbers(
    tiny_run: Callable[..., Run],
) -> None:
    run = tiny_run()
    # an intent may be newer than the process: its snapshot is not proof of what runs
    files.write_json(run.dir / "intent.json", {"commit": "c0ffee", "snapshot": "f" * 12})
    with opened(run, ALONE, redirect=False):
        pass
    (attempt,) = run.attempts()
    project = Path(__file__).parents[2]
    expected = code_id(checksums(project, source_files(project)))
    assert (attempt.start["commit"], attempt.start["snapshot"]) == ("c0ffee", expected)
    assert attempt.start["snapshot_path"] == str(project)
    assert attempt.start["python"] == platform.python_version()
    assert attempt.start["packages"].keys() == PACKAGES
    assert attempt.start["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert attempt.start["packages"]["timm"] == timm.__version__


def test_packages_have_the_names_and_versions_of_their_metadata() -> None:
    packages = {one.name: one.version for one in reversed([*importlib.metadata.distributions()])}
    assert installed_packages() == dict(sorted(packages.items()))


@pytest.mark.parametrize("ahead_s", [3600.0, 60.0])
def test_an_attempt_says_that_the_clock_was_ahead_before(
    tiny_run: Callable[..., Run], capsys: pytest.CaptureFixture[str], ahead_s: float
) -> None:
    run = tiny_run()
    start = {"attempt": 1, "event": "start", "step": 0, "time": time.time() + ahead_s}
    journal.append(run.attempts_path, start)
    with opened(run, ALONE, redirect=False):
        pass
    said = re.search(
        r"an earlier attempt of .* has times 3\d{3} s from now", capsys.readouterr().err
    )
    assert bool(said) == (ahead_s > 300)

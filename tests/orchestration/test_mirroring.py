"""The mirror beside a followed launch, with stand-ins for the processes that sync."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from antioversmooth.orchestration.slurm import mirroring


def follow(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, programs: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """The lines and the commands of a follow with these syncs, each a program of Python."""
    lines: list[str] = []
    calls: list[list[str]] = []
    enough = threading.Event()
    start = mirroring.subprocess.Popen

    def popen(command: list[str], **options: object) -> object:
        calls.append(command[1:])
        if len(calls) > len(programs):
            enough.set()
        program = programs[min(len(calls), len(programs)) - 1]
        return start([sys.executable, "-S", "-c", program], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(mirroring.subprocess, "Popen", popen)
    monkeypatch.setattr(mirroring, "POLL_S", 0.01)
    arguments = ["table2", "--seeds", "0"]
    with mirroring.mirroring(arguments, tmp_path, lines.append, interval_s=0.01):
        assert enough.wait(60)
    return lines, calls


FINE, REFUSED, LOCKED = (
    "",
    "raise SystemExit('a warning\\nMLflow at http://x: it does not answer')",
    "raise SystemExit('MLflow at http://x: database is locked')",
)


def test_syncs_follow_one_another_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines, calls = follow(monkeypatch, tmp_path, [FINE, FINE])
    assert calls[0] == ["-m", "antioversmooth", "sync", "--no-models", "table2", "--seeds", "0"]
    assert lines == []
    assert "mirroring" not in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        ([REFUSED, REFUSED, FINE], ["it does not answer", "up to date again"]),
        (
            [FINE, REFUSED, LOCKED],
            ["it does not answer", "not up to date: MLflow at"],
        ),
        (["raise SystemExit(-9)"], ["exit code", "exit code"]),
        (["import os; os.write(2, b'\\xff\\x1b[2J'); os._exit(2)"], ["\\u001b[2J", "\\u001b[2J"]),
    ],
    ids=["recovers", "fails until the end", "says nothing", "says something unreadable"],
)
def test_a_failing_mirror_is_said_once_and_so_is_its_recovery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: list[str], said: list[str]
) -> None:
    lines, _ = follow(monkeypatch, tmp_path, programs)
    assert len(lines) == len(said)
    for line, words in zip(lines, said, strict=True):
        assert words in line
        assert "\n" not in line


def test_the_end_of_a_follow_does_not_wait_for_a_sync_that_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = tmp_path / "began"
    hanging = f"import time; open({str(began)!r}, 'w').close(); time.sleep(600)"
    start = mirroring.subprocess.Popen
    started = []

    def popen(command: list[str], **options: object) -> object:
        started.append(start([sys.executable, "-c", hanging], **options))  # type: ignore[call-overload]
        return started[-1]

    monkeypatch.setattr(mirroring.subprocess, "Popen", popen)
    with mirroring.mirroring([], tmp_path, print, interval_s=0.01):
        while not began.exists():
            time.sleep(0.01)
    assert [process.returncode for process in started] == [-9]

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from antioversmooth.orchestration.slurm import mirroring


def test_syncs_follow_one_another_until_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[list[str]] = []
    twice = threading.Event()

    def run(command: list[str], **_: object) -> None:
        calls.append(command[1:])
        if len(calls) == 2:
            twice.set()

    monkeypatch.setattr(mirroring.subprocess, "run", run)
    with mirroring.mirroring(["table2", "--seeds", "0"], tmp_path, interval_s=0.01):
        assert twice.wait(30)
    assert calls[0] == ["-m", "antioversmooth", "sync", "--no-models", "table2", "--seeds", "0"]
    assert "mirroring" not in {thread.name for thread in threading.enumerate()}

"""A SLURM of stand-ins: what a test sees of the state behind them (see fakes/slurm_stand_in.py)."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antioversmooth import runs
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import journal
from antioversmooth.runs.draws import DRAWS

STAND_IN = Path(__file__).parent / "fakes" / "slurm_stand_in.py"
CLIENTS = ("sbatch", "squeue", "sacct", "scancel", "scontrol", "srun", "sinfo")


class FakeSlurm:
    """The state behind the stand-ins."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "jobs").mkdir(parents=True)

    def install(self, folder: Path) -> None:
        folder.mkdir()
        for client in CLIENTS:
            program = folder / client
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {STAND_IN} {client} "$@"\n')
            program.chmod(0o755)

    def jobs(self) -> list[dict[str, Any]]:
        paths = sorted((self.home / "jobs").glob("*.json"), key=lambda path: int(path.stem))
        return [json.loads(path.read_text()) for path in paths]

    def change(self, job_id: str, **facts: str) -> None:
        path = self.home / "jobs" / f"{job_id}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))

    def forget(self, job_id: str) -> None:
        (self.home / "jobs" / f"{job_id}.json").unlink()

    def account(self, *lines: str) -> None:
        """Lines of sacct: id|state|nodes|start|name."""
        (self.home / "accounting.json").write_text(json.dumps(lines))

    def cache_lists(self) -> None:
        """Has squeue list nothing, as a site's cache that is still empty: it knows jobs by id."""
        (self.home / "stale").touch()

    def hide_others(self, what: str) -> None:
        """Sets PrivateData, as SLURM's configuration shows it."""
        (self.home / "private").write_text(what)

    def refuse(self, **messages: str) -> None:
        (self.home / "refuses.json").write_text(json.dumps(messages))

    def limit(self, number: int, message: str = "sbatch: error: AssocMaxSubmitJobLimit") -> None:
        """Refuses further jobs while so many are live."""
        (self.home / "limit.json").write_text(json.dumps([number, message]))

    def nodes(self, *lines: str) -> None:
        """Lines of sinfo: partition|state|availability|features|gres."""
        (self.home / "nodes").write_text("\n".join(lines))

    def calls(self, client: str) -> list[str]:
        log = self.home / "calls.log"
        lines = log.read_text().splitlines() if log.exists() else []
        return [line for line in lines if line.split()[0] == client]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    """SLURM's clients on PATH, before any real ones."""
    fake = FakeSlurm(tmp_path / "fake-slurm")
    fake.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(fake.home))
    return fake


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    """A snapshot that is never started from."""
    return Snapshot("0" * 12, tmp_path / "snapshots" / ("0" * 12), "c0ffee", False)


@pytest.fixture
def begin_attempt() -> Callable[..., int]:
    """Writes what training writes when an attempt starts: `begin_attempt(run, "7", step=100)`."""

    def begin(run: runs.Run, job_id: str, step: int = 0, **facts: Any) -> int:
        number = run.new_attempt()
        start = {"attempt": number, "event": "start", "step": step, "job_id": job_id}
        journal.append(run.attempts_path, {**start, "draws": DRAWS, **facts})
        return number

    return begin

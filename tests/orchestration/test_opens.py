"""A question about runs opens each file of a run at most once, so that its answer is of one
moment."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from completed import finish
from fake_slurm import FakeSlurm
from opens import counted_opens

from antioversmooth import cli, files, spec
from antioversmooth.cli.main import launch
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import preflight
from antioversmooth.orchestration.slurm.submission import submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, journal
from antioversmooth.runs.attempts import EndReason, write_end

BeginAttempt = Callable[..., int]
MINI = ["deit_s12", "profile=mini"]


@pytest.fixture
def run(tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "experiments").symlink_to(experiments)
    (tmp_path / "tables").mkdir()
    monkeypatch.chdir(tmp_path)
    request = spec.load([tmp_path / "experiments" / "deit_s12.yaml"], ["profile=mini"])
    (run,) = request.plan([0], tmp_path / "results")
    run.prepare()
    return run


def _journal_an_epoch(run: Run) -> None:
    record = {"attempt": 1, "step": 62, "epoch": 1, "val/top1": 91.5, "train/loss": 1.0}
    journal.append(run.metrics_path, record)


@pytest.fixture
def done(run: Run, begin_attempt: BeginAttempt) -> Run:
    intent = {"id": run.id, "backend": "local", "spec": files.sha256(run.dir / "spec.yaml")}
    files.write_json(run.dir / "intent.json", intent)
    begin_attempt(run, "")
    _journal_an_epoch(run)
    write_end(run.attempts_path, 1, EndReason.completed, step=62)
    return finish(run)


@pytest.fixture
def failed_on_slurm(
    run: Run, slurm: FakeSlurm, snapshot: Snapshot, begin_attempt: BeginAttempt
) -> Run:
    submit(run, snapshot)
    begin_attempt(run, "1")
    _journal_an_epoch(run)
    write_end(run.attempts_path, 1, EndReason.crash, step=62, message="ValueError: no")
    slurm.change("1", state="FAILED")
    return run


@pytest.fixture
def running(run: Run, begin_attempt: BeginAttempt) -> Run:
    files.write_json(run.dir / "intent.json", {"id": run.id, "backend": "local"})
    begin_attempt(run, "", time=time.time())
    _journal_an_epoch(run)
    (run.dir / "heartbeat").touch()
    return run


COMMANDS = {
    "status": ["status", *MINI],
    "status of all": ["status"],
    "status as JSON": ["status", *MINI, "--json"],
    "why": ["why", *MINI],
    "why as JSON": ["why", *MINI, "--json"],
    "table": ["table", "table2", "profile=mini", "--allow-partial", "--output", "elsewhere"],
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("state", ["done", "failed_on_slurm", "running"])
def test_a_command_opens_each_file_of_a_run_once(
    command: str, state: str, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(state)
    with counted_opens(run.dir) as counts:
        assert cli.main(COMMANDS[command]) in (0, 3)
    assert counts["attempts.jsonl"] == 1
    assert max(counts.values()) == 1, counts


@pytest.mark.parametrize("state", ["done", "failed_on_slurm", "running"])
def test_a_plan_opens_each_file_of_a_run_once(
    state: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    run: Run = request.getfixturevalue(state)
    arguments = [*MINI, "--backend=local", "--dry-run"]
    with counted_opens(run.dir) as counts:
        assert launch(arguments, project=tmp_path) == 0
    assert counts["attempts.jsonl"] == 1
    assert max(counts.values()) == 1, counts


@pytest.mark.parametrize("state", ["done", "failed_on_slurm", "running"])
def test_a_launch_opens_each_file_of_a_run_once_before_it_starts_any(
    state: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Run = request.getfixturevalue(state)
    before: Counter[str] = Counter()
    with counted_opens(run.dir) as counts:

        def end_of_checks(results: Path) -> None:
            before.update(counts)
            raise LaunchError("all checks have passed")

        monkeypatch.setattr(preflight, "make_results_folder", end_of_checks)
        assert launch([*MINI, "--backend=local"], project=tmp_path) == 2
    assert before["attempts.jsonl"] == 1
    assert max(before.values()) == 1, before


# MLflow's own use of SQLAlchemy
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy", "ignore::ResourceWarning")
@pytest.mark.parametrize("state", ["done", "failed_on_slurm", "running"])
def test_a_sync_with_nothing_new_opens_each_file_of_a_run_once(
    state: str, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(state)
    assert cli.main(["sync", *MINI, "--no-models"]) == 0
    with counted_opens(run.dir) as counts:
        assert cli.main(["sync", *MINI, "--no-models"]) == 0
    assert counts["attempts.jsonl"] == 1
    assert max(counts.values()) == 1, counts

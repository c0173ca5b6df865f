"""status, why, logs, cancel and retry as they are typed, for runs on SLURM and on this machine."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from completed import finish
from fake_slurm import FakeSlurm

from antioversmooth import cli, files, spec
from antioversmooth.cli.main import launch
from antioversmooth.orchestration import devices
from antioversmooth.orchestration.local import process
from antioversmooth.orchestration.slurm.submission import submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import Run, journal
from antioversmooth.runs.lock import try_lock

BeginAttempt = Callable[..., int]
MINI = ["deit_s12", "profile=mini"]


@pytest.fixture
def project(tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the shipped specs and no results, as the working directory."""
    (tmp_path / "experiments").symlink_to(experiments)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project: Path) -> Run:
    """The run that `deit_s12 profile=mini cluster.max_crashes=1` means in this project."""
    request = spec.load(
        [project / "experiments" / "deit_s12.yaml"], ["profile=mini", "cluster.max_crashes=1"]
    )
    (run,) = request.plan([0], project / "results")
    run.prepare()
    return run


@pytest.fixture
def job(run: Run, slurm: FakeSlurm, snapshot: Snapshot) -> Run:
    """The same with job 1 on SLURM."""
    submit(run, snapshot)
    return run


def crash(run: Run, attempt: int, message: str = "ValueError: no") -> None:
    end = {"attempt": attempt, "event": "end", "reason": "crash", "message": message, "step": 0}
    journal.append(run.attempts_path, end)


def status(*arguments: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert cli.main(["status", *arguments, "--json"]) == 0
    statuses = json.loads(capsys.readouterr().out)
    assert isinstance(statuses, list)
    return statuses


def test_status_tells_slurms_truth_for_one_squeue(
    job: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.change("1", reason="Priority", start="2030-01-01T10:00:00")
    before = len(slurm.calls("squeue"))
    (seen,) = status(*MINI, capsys=capsys)
    assert len(slurm.calls("squeue")) == before + 1
    assert not slurm.calls("sacct")
    assert (seen["state"], seen["job_id"], seen["attempts"]) == ("pending", "1", [])
    assert (
        seen["detail"]
        == "jobs of higher priority run first [Priority], not before 2030-01-01T10:00:00"
    )


def test_status_tells_attempts_and_what_they_cost(
    job: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.change("1", state="RUNNING", nodes="node[1-2]")
    an_hour_ago = time.time() - 3600
    first = begin_attempt(job, "1", time=an_hour_ago, world_size=4)
    end = {"attempt": first, "event": "end", "reason": "preempted", "time": an_hour_ago + 1800}
    journal.append(job.attempts_path, end)
    begin_attempt(job, "1", step=10, world_size=4)
    (job.dir / "heartbeat").touch()
    (seen,) = status(*MINI, capsys=capsys)
    assert (seen["state"], seen["nodes"]) == ("running", "node[1-2]")
    assert [attempt["reason"] for attempt in seen["attempts"]] == ["preempted", None]
    assert seen["device_hours_used"] == pytest.approx(2.0, abs=0.1)
    cli.main(["status", *MINI])
    assert "2: preempted" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["status", "why"])
def test_values_of_the_cluster_are_those_of_the_launch(
    command: str,
    project: Path,
    slurm: FakeSlurm,
    snapshot: Snapshot,
    begin_attempt: BeginAttempt,
    capsys: pytest.CaptureFixture[str],
) -> None:
    launched = ["cluster.gpus_per_node=0", "runtime.timeout_s=100000", "cluster.max_crashes=5"]
    request = spec.load([project / "experiments" / "deit_s12.yaml"], ["profile=mini", *launched])
    (run,) = request.plan([0], project / "results")
    submit(run, snapshot)
    started = time.time() - 50_000
    begin_attempt(run, "1", time=started, world_size=1, device_type="cpu")
    record = {"attempt": 1, "step": 31, "time": started, "throughput/images_per_s": 10.0}
    journal.append(run.metrics_path, record)
    slurm.change("1", state="RUNNING", nodes="node1")
    cli.main([command, *MINI, "--json"])
    found = json.loads(capsys.readouterr().out)
    seen = found if command == "why" else found[0]
    assert seen["state"] == "running"
    total = run.experiment.total_steps
    left = (total - 31) * run.experiment.recipe.global_batch / 10.0 / 3600
    assert seen["device_hours_left"] == pytest.approx(left)


def test_status_without_a_spec_is_of_all_that_ran(
    job: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (seen,) = status(capsys=capsys)
    assert (seen["experiment"], seen["profile"], seen["paper_imagenet_top1"]) == (
        "deit_s12",
        "mini",
        79.8,
    )


def test_status_of_a_row_that_ran_with_other_overrides_names_them(
    job: Run, begin_attempt: BeginAttempt, capsys: pytest.CaptureFixture[str]
) -> None:
    begin_attempt(job, "1")
    (seen,) = status(*MINI, "recipe.epochs=3", capsys=capsys)
    epochs = job.experiment.recipe.epochs
    assert seen["state"] == "stale"
    assert seen["detail"].startswith(
        f"{job.dir.name} ran, with recipe.epochs={epochs} (now 3); launch it as it is now"
    )


def test_status_says_that_nothing_has_run(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status"]) == 2
    assert "nothing has run yet" in capsys.readouterr().err


def test_a_result_that_cannot_be_trusted_spoils_no_other_row(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.dir / "result.json").write_text("{")
    one, other = status(*MINI, "--seeds=0,1", capsys=capsys)
    assert (one["state"], other["state"]) == ("failed", "missing")
    assert "is not JSON" in str(one["detail"])


@pytest.fixture(params=["intent.json", "spec.yaml"])
def copied(
    job: Run, begin_attempt: BeginAttempt, project: Path, request: pytest.FixtureRequest
) -> Run:
    """A run in whose place lies a copy of the directory of job 1, which a file of it says."""
    begin_attempt(job, "1", time=time.time() - 3600)
    journal.append(job.metrics_path, {"attempt": 1, "step": 62, "epoch": 1, "val/top1": 91.5})
    (job.dir / "heartbeat").touch()
    words = ["profile=mini", "recipe.epochs=3"]
    other = spec.load([project / "experiments" / "deit_s12.yaml"], words).plan(
        [0], project / "results"
    )[0]
    shutil.copytree(job.dir, other.dir)
    if request.param == "spec.yaml":
        (other.dir / "intent.json").unlink()
    return other


def test_a_copy_of_another_run_shows_none_of_its_numbers_and_is_not_launched(
    copied: Run, job: Run, project: Path, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*MINI, "recipe.epochs=3"]
    reason = f"is of run {job.id[:8]}, not of {copied.id[:8]}: the directory is a copy of another"
    (seen,) = status(*words, capsys=capsys)
    assert (seen["state"], seen["top1"], seen["epoch"], seen["step"]) == ("failed", None, 0, 0)
    assert (seen["attempts"], seen["device_hours_used"]) == ([], 0)
    assert reason in seen["detail"]
    row = observe(copied)
    assert (row.attempts, row.epochs, row.result) == ([], [], None)
    assert reason in row.problem
    assert str(project) not in row.problem
    before = {path: path.read_bytes() for path in copied.dir.rglob("*") if path.is_file()}
    for command in (["--backend=local"], ["--backend=slurm", "--yes"]):
        assert launch([*words, *command], project=project) == 2
        assert reason in capsys.readouterr().err
    assert {path: path.read_bytes() for path in before} == before
    assert cli.main(["why", *words]) == 0
    assert capsys.readouterr().out.strip().endswith("move it away and launch again.")
    assert cli.main(["cancel", *words]) == 0
    assert "nothing to cancel" in capsys.readouterr().out
    assert not slurm.calls("scancel")


def test_status_of_all_leaves_a_copy_out_and_says_so(
    copied: Run, job: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["status", "--json"]) == 0
    told = capsys.readouterr()
    assert [seen["dir"] for seen in json.loads(told.out)] == [str(job.dir)]
    assert f"left out: {copied.dir}: it is a copy of run {job.id[:8]}" in told.err


def test_a_copy_that_was_moved_away_is_no_obstacle(
    copied: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(copied.dir, copied.dir.with_name("away"))
    (seen,) = status(*MINI, "recipe.epochs=3", capsys=capsys)
    assert seen["state"] == "stale"


def test_why_cancel_and_retry_answer_programs_too(
    job: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["why", *MINI, "--json"]) == 0
    why = json.loads(capsys.readouterr().out)
    assert (why["id"], why["state"]) == (job.id, "pending")
    assert why["why"].startswith("deit_s12 seed 0 is ")
    assert cli.main(["cancel", *MINI, "--json"]) == 0
    (cancelled,) = json.loads(capsys.readouterr().out)
    assert (cancelled["dir"], cancelled["message"]) == (
        str(job.dir),
        "deit_s12 seed 0: job 1 cancelled",
    )
    assert cli.main(["retry", *MINI, "--failed", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_watching_ends_when_nothing_waits_or_runs(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(run)
    assert cli.main(["status", *MINI, "--watch"]) == 0
    assert "done" in capsys.readouterr().out


def test_why_is_a_paragraph(job: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["why", *MINI]) == 0
    assert capsys.readouterr().out.startswith(
        "deit_s12 seed 0 is pending: SLURM has not looked at it yet"
    )


def test_a_row_that_was_launched_with_another_profile_is_found(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["why", "deit_s12"]) == 2
    said = capsys.readouterr().err
    assert "seed 0 has never been launched like this; name the one that you mean: " in said
    assert str(run.dir) in said
    assert cli.main(["why", str(run.dir)]) == 0


@pytest.mark.parametrize("command", ["why", "logs"])
def test_a_table_is_no_row(command: str, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "smoke", "profile=mini"]) == 2
    assert "names several rows; choose one with --row: deit_s12, " in capsys.readouterr().err


TABLE = """title: One row of its own
rows:
  - {label: one, experiment: deit_s12, name: d1, overrides: [recipe.epochs=3]}
"""


@pytest.fixture
def table_rows(tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs of table `dirty`, in a project of its own."""
    shutil.copytree(experiments, tmp_path / "experiments")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "experiments" / "tables" / "dirty.yaml"
    path.write_text(TABLE)
    runs = spec.load([path], ["profile=mini"]).plan([7], tmp_path / "results")
    for run in runs:
        run.prepare()
    return runs


@pytest.mark.parametrize("row", [[], ["--row", "d1"]], ids=["its only row", "by name"])
def test_a_row_of_a_table_is_found_by_the_table(
    row: list[str], table_rows: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["why", "dirty", "profile=mini", "--seed", "7", *row, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["row"], found["id"]) == ("d1", table_rows[0].id)


def test_one_of_several_rows_is_chosen_by_the_name_that_the_message_lists(
    table_rows: list[Run], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["why", "dirty", "deit_s24", "profile=mini", "--seed", "7", "--json"]
    assert cli.main(words) == 2
    assert "choose one with --row: d1, deit_s24" in capsys.readouterr().err
    assert cli.main([*words, "--row", "d2"]) == 2
    assert "has no row d2; choose one with --row: d1, deit_s24" in capsys.readouterr().err
    assert cli.main([*words, "--row", "d1"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == table_rows[0].id


def test_logs_are_of_a_rank_of_the_newest_attempt(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("first", "second"):
        folder = run.dir / "logs" / f"attempt{run.new_attempt()}"
        for rank in (0, 1):
            (folder / f"rank{rank}.out").write_text(f"{text} attempt, rank {rank}\n")
            (folder / f"rank{rank}.err").touch()
    # names that nothing of ours writes
    (folder / "rankx.err").touch()
    (run.dir / "logs" / "attempt²").mkdir()
    assert cli.main(["logs", *MINI, "--rank", "1"]) == 0
    path = run.dir / "logs" / "attempt2" / "rank1.out"
    assert capsys.readouterr().out == f"==> {path} <==\nsecond attempt, rank 1\n"
    assert cli.main(["logs", *MINI, "--rank", "2"]) == 2
    assert "has no rank 2; it has 0 to 1" in capsys.readouterr().err


def test_logs_before_training_are_those_of_the_job(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["logs", *MINI]) == 2
    assert "the logs of deit_s12 seed 0 are empty" in capsys.readouterr().err
    raw = run.dir / "slurm" / "1_0_log.err"
    raw.parent.mkdir()
    raw.write_text("module: command not found\n")
    assert cli.main(["logs", *MINI]) == 0
    assert "module: command not found" in capsys.readouterr().out


def test_following_ends_with_the_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    (run.dir / "logs" / "launcher.log").write_text("the end\n")
    finish(run)
    assert cli.main(["logs", *MINI, "-f"]) == 0
    assert capsys.readouterr().out.endswith("the end\n")


def test_cancel_says_which_job_it_ended_and_the_run_stays_resumable(
    job: Run, slurm: FakeSlurm, snapshot: Snapshot, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cancel", *MINI, "--seeds=0,1"]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "deit_s12 seed 0: job 1 cancelled"
    assert told[1] == "deit_s12 seed 1: not launched"
    # what was not launched has no directory by that
    assert len(list(job.dir.parent.iterdir())) == 1
    assert [job["state"] for job in slurm.jobs()] == ["CANCELLED"]
    assert cli.main(["cancel", str(job.dir)]) == 0
    assert capsys.readouterr().out == "deit_s12 seed 0: cancelled already\n"
    assert submit(job, snapshot) == "2"


def test_cancel_leaves_alone_what_a_row_starts_from(
    project: Path, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["cancel", "cait_s24_featscale", "profile=mini"]) == 0
    assert [line.split(" seed")[0] for line in capsys.readouterr().out.splitlines()] == [
        "cait_s24_featscale"
    ]


def test_what_slurm_refuses_is_one_message(
    job: Run, slurm: FakeSlurm, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.refuse(scancel="scancel: error: Access/permission denied")
    assert cli.main(["cancel", *MINI]) == 2
    assert capsys.readouterr().err == "deit_s12 seed 0: job 1 goes on: Access/permission denied\n"


def test_retry_submits_what_was_given_up_and_nothing_else(
    job: Run, slurm: FakeSlurm, begin_attempt: BeginAttempt, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["retry", "--failed", *MINI, "cluster.max_crashes=1", "--seeds=0,1"]
    assert cli.main(again) == 0
    assert capsys.readouterr().out == "None of these runs was given up.\n"
    crash(job, begin_attempt(job, "1"))
    slurm.change("1", state="FAILED")
    assert cli.main(again) == 0
    assert [job["state"] for job in slurm.jobs()] == ["FAILED", "PENDING"]


def test_a_retry_that_is_refused_announces_nothing_and_grants_nothing(
    job: Run,
    slurm: FakeSlurm,
    begin_attempt: BeginAttempt,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    again = ["retry", *MINI, "cluster.max_crashes=1"]
    crash(job, begin_attempt(job, "1"))
    slurm.change("1", state="FAILED")
    slurm.refuse(sbatch="sbatch: error: invalid partition specified: debug")
    for _ in range(2):
        assert cli.main(again) == 2
        said = capsys.readouterr()
        assert (said.out, "invalid partition" in said.err) == ("", True)


def test_retry_trains_again_what_failed_on_this_machine(
    run: Run,
    stand_in: Snapshot,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(devices, "visible_gpus", list)
    monkeypatch.setattr("antioversmooth.orchestration.snapshot.take", lambda results: stand_in)
    (run.dir / "behaviour").write_text("done")
    files.write_json(run.dir / "intent.json", {"id": run.id, "backend": "local", "time": 0.0})
    journal.append(run.attempts_path, {"attempt": 1, "event": "start", "step": 0})
    crash(run, 1)
    # without --failed, as with it, failed runs are retried
    assert cli.main(["retry", *MINI]) == 0
    assert run.result() is not None
    assert "Given up, and started again: deit_s12 seed 0\n" in capsys.readouterr().out


def test_logs_of_a_run_that_is_done_and_wrote_none_are_no_fault(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(run)
    assert cli.main(["logs", *MINI]) == 0
    assert f"is done, and its logs are empty: {run.dir / 'logs'}" in capsys.readouterr().out


def test_a_process_of_another_machine_is_not_touched(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    process.record_process(run, os.getpid(), {"time": 5.0})
    known = files.read_json(run.dir / "process.json")
    files.write_json(run.dir / "process.json", {**known, "host": "elsewhere"})
    files.write_json(run.dir / "intent.json", {"id": run.id, "backend": "local", "time": 5.0})
    lock = try_lock(run.dir)
    assert lock is not None
    assert cli.main(["cancel", *MINI]) == 2
    os.close(lock)
    assert "is trained on elsewhere; cancel it there" in capsys.readouterr().err

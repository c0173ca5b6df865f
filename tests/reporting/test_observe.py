from __future__ import annotations

import os

import pytest
from fabricated import NOON, Lab

from antioversmooth import files
from antioversmooth.errors import ResultError
from antioversmooth.reporting.rendering import page
from antioversmooth.reporting.sharing import bundle
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import RunState, journal


def test_a_run_that_never_started_is_missing(lab: Lab) -> None:
    assert observe(lab.run("wide")).state is RunState.missing


def test_a_run_with_a_living_heartbeat_is_running(lab: Lab) -> None:
    run = lab.run("wide")
    lab.start(run, epochs=3)
    seen = observe(run, now=NOON + 1)
    assert (seen.state, seen.epoch) == (RunState.running, 3)


def test_a_run_that_vanished_is_lost_and_says_so(lab: Lab) -> None:
    run = lab.run("wide")
    lab.start(run, epochs=1)
    seen = observe(run, now=NOON + 3600)
    assert seen.state is RunState.lost
    assert "vanished" in seen.problem


def test_how_an_attempt_ended_decides_the_state(lab: Lab) -> None:
    for reason, expected in [
        ("preempted", RunState.preempted),
        ("timeout", RunState.timed_out),
        ("crash", RunState.failed),
    ]:
        run = lab.run("wide", seed=len(reason))
        lab.start(run, epochs=1)
        lab.end(run, reason, message="loss is nan")
        seen = observe(run)
        assert seen.state is expected
        assert seen.problem == f"attempt 1 ended: {reason} (loss is nan)"


def test_only_a_run_of_another_identity_makes_a_row_stale(lab: Lab) -> None:
    old = lab.finish(lab.run("wide", 0, "recipe.base_lr=0.5"), 90.0)
    # prepared, never started: nothing that could be stale
    lab.run("wide", 0, "recipe.base_lr=0.7")
    seen = observe(lab.run("wide"))
    assert (seen.state, seen.older) == (RunState.stale, [old.dir.name])
    way_out = "launch it as it is now, or give the overrides of then"
    assert seen.problem == f"{old.dir.name} ran, with recipe.base_lr=0.5 (now 0.001); {way_out}"
    changes = (
        "recipe.epochs=2",
        "recipe.global_batch=50",
        "recipe.eps=1e-6",
        "model.class_token_std=1",
    )
    other = lab.run("wide", 0, *changes)
    lab.start(other, epochs=1)
    os.utime(other.dir, (2e9, 2e9))
    assert observe(lab.run("wide")).problem.startswith(
        f"{other.dir.name} ran, with model.class_token_std=1.0 (now null), recipe.epochs=2"
        " (now 4), recipe.global_batch=50 (now 100), 1 more; "
    )
    (other.dir / "spec.yaml").write_text("torn")
    assert observe(lab.run("wide")).problem.startswith(f"{other.dir.name} ran, which was another; ")
    assert observe(lab.run("wide", 1)).state is RunState.missing


def test_a_torn_result_is_a_failure_and_not_a_number(lab: Lab) -> None:
    run = lab.finish(lab.run("wide"), 90.0)
    (run.dir / "result.json").write_text('{"id": "')
    seen = observe(run)
    assert seen.state is RunState.failed
    assert seen.result is None
    assert str(run.dir) not in seen.problem


def test_a_result_that_lacks_its_accuracy_is_a_failure(lab: Lab) -> None:
    run = lab.finish(lab.run("wide"), 90.0, metrics={"val/loss": 0.1})
    assert "metrics.val/top1" in observe(run).problem


def test_a_result_that_its_journal_contradicts_is_a_failure_and_not_a_number(lab: Lab) -> None:
    run = lab.finish(lab.run("deep"), 90.0)
    result = files.read_json(run.dir / "result.json")
    result["metrics"]["val/top1"] = 99.0
    files.write_json(run.dir / "result.json", result)
    seen = observe(run)
    assert (seen.state, seen.result) == (RunState.failed, None)
    assert "result.json says metrics.val/top1 = 99.0, metrics.jsonl 90.0" in seen.problem
    with pytest.raises(ResultError, match=r"result\.json says metrics\.val/top1 = 99\.0"):
        bundle.export([run], lab.root / "x.tar")
    assert not (lab.root / "x.tar").exists()


def test_epochs_that_a_later_attempt_did_again_count_once(lab: Lab) -> None:
    run = lab.run("wide")
    lab.start(run, epochs=3)
    lab.start(run, epochs=4, attempt=2, step=run.experiment.steps_per_epoch)
    assert [r["epoch"] for r in observe(run).epochs] == [1, 2, 3, 4]


def test_a_torn_last_line_is_left_out(lab: Lab) -> None:
    run = lab.run("wide")
    lab.start(run, epochs=2)
    with run.metrics_path.open("a") as file:
        file.write('{"time": 1, "attempt": 1, "step": 24, "epoch": 3, "val/top1": 9')
    assert observe(run).epoch == 2


def test_provenance_names_every_host_and_job_once(lab: Lab) -> None:
    run = lab.run("wide")
    lab.start(run, epochs=1)
    lab.start(run, epochs=1, attempt=2)
    origin = observe(run).provenance
    assert origin is not None
    assert (origin["hosts"], origin["job_ids"], origin["commits"]) == (
        ["node7"],
        ["4711"],
        ["c0ffee"],
    )
    assert origin["packages"] == {"torch": "2.14.1", "timm": "1.0.31"}
    assert observe(lab.run("wide", 1)).provenance is None


def test_an_attempt_without_intent_or_provenance_is_still_observed(lab: Lab) -> None:
    run = lab.run("wide")
    journal.append(run.attempts_path, {"time": NOON, "attempt": 1, "event": "start", "step": 0})
    files.write_json(run.dir / "intent.json", {})
    assert observe(run, now=NOON).state is RunState.running


def test_uncommitted_changes_of_any_attempt_count(lab: Lab) -> None:
    """Of the attempts, not of the newest launch; the note and the page name the snapshot."""
    run = lab.run("wide")
    lab.start(run, epochs=1, snapshot="aaaaaaaaaaaa", dirty=True)
    lab.start(run, epochs=4, step=8, attempt=2, snapshot="bbbbbbbbbbbb")
    seen = observe(lab.finish(run, 90.0))
    assert seen.provenance is not None
    assert seen.provenance["uncommitted_changes"] is True
    assert seen.provenance["uncommitted_snapshots"] == ["aaaaaaaaaaaa"]
    made = lab.collect()
    note = "Attempts of these runs ran uncommitted changes, others did not (aaaaaaaaaaaa: wide seed"
    assert note in " ".join(made["notes"])
    assert "yes in aaaaaaaaaaaa" in page.render(made)
    # as old versions left it: the newest launch only
    (run.dir / "intents.jsonl").unlink()
    assert "uncommitted_snapshots" not in (observe(run).provenance or {})


def test_code_that_was_committed_between_two_launches_is_named_by_its_commit(lab: Lab) -> None:
    run = lab.run("wide")
    lab.start(run, epochs=4, dirty=True)
    intent = files.read_json(run.dir / "intent.json")
    assert (observe(run).provenance or {})["uncommitted_changes"] is True
    # launched again, after it was done
    files.write_json(run.dir / "intent.json", {**intent, "commit": "beef", "dirty": False})
    assert (observe(run).provenance or {})["uncommitted_changes"] is True

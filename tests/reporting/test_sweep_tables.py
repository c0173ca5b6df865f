"""The rows of a sweep, which share a spec and a folder, are told apart in tables and elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from fabricated import Lab

from antioversmooth import cli
from antioversmooth.orchestration.monitor.status import statuses
from antioversmooth.reporting.rendering.terminal import show_statuses
from antioversmooth.reporting.sharing import verify
from antioversmooth.reporting.sharing.checks import Verdict
from antioversmooth.reporting.table import document, tables
from antioversmooth.runs import Run, RunRecord, RunState
from antioversmooth.spec import Request, load_experiment
from antioversmooth.spec.changes import contradictions

SWEEP = "recipe.base_lr=1e-3,2e-3"
SEEDS = (0, 1)


def fill(
    lab: Lab, seeds: Sequence[int] = SEEDS, *, honestly: bool = False
) -> tuple[Request, dict[str, list[float]]]:
    """A sweep whose runs are done, each with another accuracy; the accuracies by row."""
    request = lab.request(SWEEP)
    accuracies: dict[str, list[float]] = {}
    for index, run in enumerate(request.plan(seeds, lab.results)):
        run.prepare()
        finish = lab.finish_honestly if honestly else lab.finish
        finish(run, 60.0 + index * 1.5)
        accuracies.setdefault(run.experiment.row_name, []).append(60.0 + index * 1.5)
    return request, accuracies


def test_a_row_of_a_sweep_has_the_accuracies_of_its_own_runs(lab: Lab) -> None:
    request, accuracies = fill(lab)
    (table,) = request.tables
    made = document.collect(table, request, SEEDS, lab.results)
    measured = [row for row in made["rows"] if row["experiment"]]
    found = {row["row"]: row["top1"]["mean"] for row in measured}
    assert found == pytest.approx({name: sum(both) / 2 for name, both in accuracies.items()})
    for row in measured:
        if row["baseline"]:
            assert row["baseline"].partition("-")[2] == row["row"].partition("-")[2]
            assert row["gain"]["mean"] == pytest.approx(found[row["row"]] - found[row["baseline"]])
    assert any(row["gain"] for row in measured)
    assert made["complete"]
    assert not any("Not counted" in note for note in made["notes"])


def test_a_table_of_a_sweep_is_written_under_its_own_name_and_verified(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    request, _ = fill(lab, (0,), honestly=True)
    (table,) = request.tables
    folder = tables.destination(request, lab.results)
    assert folder == lab.results / "mini"
    assert cli.main(["table", "small", SWEEP]) == 0
    path = folder / "small-base_lr_0.001_0.002.json"
    reports = verify.verify(tables.load_committed(path), folder, table)
    fine = (Verdict.confirmed, Verdict.underivable)
    checks = [check for report in reports for check in report.checks]
    assert [check for check in checks if check.verdict not in fine] == []
    assert any(check.verdict is Verdict.confirmed for check in checks)


def test_a_changed_number_of_a_row_of_a_sweep_is_found(lab: Lab) -> None:
    request, _ = fill(lab, honestly=True)
    (table,) = request.tables
    made = document.collect(table, request, SEEDS, lab.results)
    one, other = made["rows"][:2]
    one["seeds"], other["seeds"] = other["seeds"], one["seeds"]
    reports = verify.verify(made, lab.results / "mini", table)
    differing = [check.key for report in reports for check in report.having(Verdict.differs)]
    assert "top1.mean" in differing


def test_a_row_with_the_runs_of_another_value_is_found(lab: Lab) -> None:
    request, _ = fill(lab)
    (table,) = request.tables
    made = document.collect(table, request, SEEDS, lab.results)
    one, other = made["rows"][:2]
    for key in ("label", "row"):
        one[key], other[key] = other[key], one[key]
    reports = verify.verify(made, lab.results / "mini", table)
    differing = {check.key for report in reports for check in report.having(Verdict.differs)}
    assert "overrides.recipe.base_lr" in differing


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["recipe.base_lr=1e-3", "recipe.clip_grad=null", "profile=mini"], {}),
        (["recipe.betas=[0.9,0.999]", "model.method=none", "recipe=mini/deit_12"], {}),
        (["recipe.base_lr=0.002"], {"recipe.base_lr": ("0.002", "0.001")}),
        (["recipe.betas=[0.9,0.9]"], {"recipe.betas": ("[0.9, 0.9]", "[0.9, 0.999]")}),
        (["model.method=attnscale"], {"model.method": ("attnscale", "none")}),
        (["recipe.clip_grad=1"], {"recipe.clip_grad": ("1.0", "null")}),
    ],
)
def test_values_that_an_experiment_does_not_have_are_named(
    overrides: list[str], expected: dict[str, tuple[str, str]], experiments: Path
) -> None:
    given = ["profile=mini", "recipe.base_lr=0.001", "recipe.clip_grad=null"]
    experiment = load_experiment(experiments / "deit_s12.yaml", given)
    found = {key: (value, actual) for key, value, actual in contradictions(overrides, experiment)}
    assert found == expected


def test_status_names_the_rows_of_a_sweep(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    request, accuracies = fill(lab)
    found = statuses(request.plan(SEEDS, lab.results), request.tables)
    assert list(dict.fromkeys(status["row"] for status in found)) == list(accuracies)
    assert {status["experiment"] for status in found} == {"deep", "deep_featscale", "wide"}
    show_statuses(found, sys.stdout)
    said = capsys.readouterr().out
    assert all(name in said for name in accuracies)


def test_a_run_is_launched_and_recorded_under_the_name_of_its_row(lab: Lab) -> None:
    request, _ = fill(lab)
    run = request.plan([0], lab.results)[0]
    loaded = Run.load(run.dir)
    assert loaded.name == run.name
    assert loaded.name.endswith("-base_lr_0.001 seed 0")
    # launched with one value, it is the same run of the same directory
    alone = lab.request("recipe.base_lr=0.001").plan([0], lab.results)[0]
    assert (alone.id, alone.dir) == (run.id, run.dir)
    alone.prepare()
    again = Run.load(run.dir)
    assert again.name == alone.name
    assert again.result() is not None


def test_commands_about_one_row_ask_for_one_value(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(lab.root)
    fill(lab)
    assert cli.main(["why", "deep", SWEEP]) == 2
    *_, names = capsys.readouterr().err.strip().partition("choose one with --row: ")
    assert cli.main(["why", "deep", SWEEP, "--row", names.split(", ")[0]]) == 0
    assert cli.main(["why", "deep", "recipe.base_lr=1e-3"]) == 0
    assert "is done" in capsys.readouterr().out


def test_a_combination_that_never_ran_is_missing_beside_others_that_ran(lab: Lab) -> None:
    request = lab.request(SWEEP)
    first, second, *_ = request.plan([0], lab.results)
    assert first.dir.parent == second.dir.parent
    first.prepare()
    lab.finish(first, 90.0)
    assert [RunRecord.read(run).status.state for run in (first, second)] == [
        RunState.done,
        RunState.missing,
    ]
    # the same row of another revision
    changed = lab.request(SWEEP, "revision=2").plan([0], lab.results)[0]
    row = replace(changed.experiment, row=first.experiment.row)
    assert RunRecord.read(replace(changed, experiment=row)).status.state is RunState.stale
    # and the row without a sweep, of which no run is there
    plain = lab.request("recipe.base_lr=3e-3").plan([0], lab.results)[0]
    assert RunRecord.read(plain).status.state is RunState.missing


def test_a_bundle_of_a_sweep_holds_all_its_runs(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(lab.root)
    _, accuracies = fill(lab)
    target = tmp_path / "sweep.tar"
    words = ["small", SWEEP, "-o", str(target), "--seeds=0,1", "--without-checkpoints"]
    assert cli.main(["export", *words]) == 0
    assert f"{2 * len(accuracies)} runs" in capsys.readouterr().out

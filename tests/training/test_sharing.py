"""Runs that really trained: packed, taken in by others, their tables confirmed to the last number
and weight."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from antioversmooth.config import Table, TableRow
from antioversmooth.reporting.sharing import bundle, verify
from antioversmooth.reporting.sharing.unbundle import import_bundle
from antioversmooth.reporting.sharing.verify import RowReport, Verdict
from antioversmooth.reporting.table import document
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import Run
from antioversmooth.training.train import train

TABLE = Table(name="one", title="One row", rows=[TableRow(label="DeiT", experiment="deit_s12")])


def committed(runs: list[Run]) -> document.Document:
    """The table of these runs."""
    observed = {"deit_s12": [observe(run) for run in runs]}
    return document.build(TABLE, observed, [run.seed for run in runs])


def unconfirmed(reports: list[RowReport]) -> list[str]:
    return [
        str(check)
        for report in reports
        for check in report.checks
        if check.verdict is not Verdict.confirmed
    ]


@pytest.mark.slow
def test_a_table_of_imported_runs_is_confirmed(
    tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    runs = [tiny_run(seed=seed) for seed in (0, 1)]
    for run in runs:
        train(run)
    table, ours, theirs = committed(runs), tmp_path / "results" / "mini", tmp_path / "theirs"
    reports = verify.verify(table, ours, TABLE)
    assert unconfirmed(reports) == []
    keys = {check.key for check in reports[0].checks}
    assert {"top1.std", "gmacs", "seed 0: metrics", "seed 1: best", "seed 1: images_per_s"} <= keys
    assert any(key.startswith("seed 1: checkpoints/") for key in keys)

    bundle.export(runs, tmp_path / "runs.tar")
    shutil.rmtree(ours)
    imported = import_bundle(tmp_path / "runs.tar", theirs)
    assert [one.run.id for one in imported] == [run.id for run in runs]
    assert unconfirmed(verify.verify(table, theirs / "mini", TABLE)) == []
    assert committed([one.run for one in imported])["rows"][0]["top1"] == table["rows"][0]["top1"]

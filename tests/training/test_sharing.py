"""Runs that really trained: packed, taken in by others, their tables confirmed to the last number
and weight."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from antioversmooth import files
from antioversmooth.config import Table, TableRow
from antioversmooth.reporting.sharing import bundle, records, verify
from antioversmooth.reporting.sharing.checks import Verdict
from antioversmooth.reporting.sharing.reevaluate import evaluation_checks
from antioversmooth.reporting.sharing.unbundle import import_bundle
from antioversmooth.reporting.sharing.verify import RowReport
from antioversmooth.reporting.table import document
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import Run, journal
from antioversmooth.runs.metrics import EMA_TOP1, VAL_LOSS, VAL_TOP1, VAL_TOP5
from antioversmooth.training.train import train

TABLE = Table(name="one", title="One row", rows=[TableRow(label="DeiT", experiment="deit_s12")])


def committed(runs: list[Run]) -> document.Document:
    """The table of these runs."""
    observed = {"deit_s12": [observe(run) for run in runs]}
    return document.build(TABLE, observed, [run.seed for run in runs])


def having(reports: list[RowReport], *verdicts: Verdict) -> list[str]:
    return [str(c) for report in reports for c in report.checks if c.verdict in verdicts]


def unconfirmed(reports: list[RowReport]) -> list[str]:
    return having(reports, Verdict.differs, Verdict.foreign, Verdict.gone)


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
    assert {"top1.std", "gmacs", "seed 0: metrics.val/top1", "seed 1: best.epoch"} <= keys
    # whatever training writes into a result is derived again, each part by a rule of its own
    underivable = having(reports, Verdict.underivable)
    # no launch recorded its code
    of_launch = ("commits", "uncommitted_changes", "snapshots", "backend")
    single = [f"provenance.{key}: {records.SINGLE}" for key in of_launch]
    beside = "older: other runs, which need not be here"
    assert underivable == [f"seeds[{n}].{line}" for n in (0, 1) for line in (beside, *single)]
    assert any(key.startswith("seed 1: checkpoints/") for key in keys)

    bundle.export(runs, tmp_path / "runs.tar")
    shutil.rmtree(ours)
    imported = import_bundle(tmp_path / "runs.tar", theirs)
    assert [one.run.id for one in imported] == [run.id for run in runs]
    assert unconfirmed(verify.verify(table, theirs / "mini", TABLE)) == []
    assert committed([one.run for one in imported])["rows"][0]["top1"] == table["rows"][0]["top1"]


def test_a_result_forged_with_its_journal_is_found_by_its_weights(
    tiny_run: Callable[..., Run],
) -> None:
    run = tiny_run()
    train(run)
    result = run.result()
    assert result is not None
    honest = result["metrics"][VAL_TOP1]
    # a number that these images can give
    forged = result["metrics"][VAL_TOP5]
    assert forged > honest
    result["metrics"][VAL_TOP1] = result["best"][VAL_TOP1] = forged
    files.write_json(run.dir / "result.json", result)
    records = journal.read(run.metrics_path)
    for record in records:
        if VAL_TOP1 in record:
            record[VAL_TOP1] = forged if record["step"] == run.experiment.total_steps else 0.0
    run.metrics_path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
    result["best"]["epoch"] = run.experiment.recipe.epochs
    files.write_json(run.dir / "result.json", result)
    assert unconfirmed(verify.verify(committed([run]), run.dir.parents[2], TABLE)) == []
    found = {check.key: check for check in evaluation_checks("seed 0", observe(run))}
    assert found["seed 0: evaluation.val/top1"].verdict is Verdict.differs
    assert found["seed 0: evaluation.val/top1"].derived == honest
    others = {check.verdict for key, check in found.items() if not key.endswith("val/top1")}
    assert others == {Verdict.confirmed}
    assert {f"seed 0: evaluation.{key}" for key in (VAL_LOSS, EMA_TOP1)} <= found.keys()


def test_weights_without_their_file_or_their_data_are_not_confirmed(
    tiny_run: Callable[..., Run], tmp_path: Path
) -> None:
    run = tiny_run()
    train(run)

    def reason() -> str:
        (check,) = evaluation_checks("seed 0", observe(run))
        assert check.verdict is Verdict.gone
        return check.reason

    provenance = files.read_json(run.dir / "provenance.json")
    other = {**provenance["data"], "fingerprint": "0" * 64}
    files.write_json(run.dir / "provenance.json", {**provenance, "data": other})
    assert "other images than the run was evaluated on (fingerprint 000000000000 then" in reason()
    files.write_json(run.dir / "provenance.json", provenance)
    (weights,) = {
        path for path in run.checkpoints_dir.glob("*.pt") if path.name in str(run.result())
    }
    weights.write_bytes(b"others")
    assert "is not the file that result.json names" in reason()
    weights.unlink()
    assert "there is no" in reason()

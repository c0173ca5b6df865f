"""Columns that a table has only where its spec names them."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Mapping
from typing import Any

import pytest
from fabricated import TABLE, Lab

from antioversmooth.config.table import EXTRA_COLUMNS
from antioversmooth.errors import SpecError
from antioversmooth.reporting.rendering import csv_file, markdown
from antioversmooth.reporting.sharing import verify
from antioversmooth.reporting.sharing.checks import Verdict
from antioversmooth.reporting.table import tables
from antioversmooth.reporting.table.columns import COLUMNS
from antioversmooth.runs import journal
from antioversmooth.runs.metrics import TRAIN_LOSS
from antioversmooth.runs.result import last_epoch_loss

SIMILARITY = {"deep": (0.70, 0.74), "deep_featscale": (0.62, 0.65)}
SPEED = {"deep": (600.0, 500.0), "deep_featscale": (500.0, 400.0)}


@pytest.fixture
def asking(lab: Lab) -> Lab:
    """A project whose table asks for all extra columns."""
    lab.table_path.write_text(f"columns: [{', '.join(EXTRA_COLUMNS)}]\n{TABLE}")
    return lab


def fill(lab: Lab, **more: Mapping[int, Mapping[str, Any]]) -> None:
    for name in SIMILARITY:
        for seed in (0, 1):
            size = {"parameters": 1000 + 24 * (name != "deep"), "gmacs": 2.0 + (name != "deep")}
            measured = {
                "similarity": {"tokens": [0.1, SIMILARITY[name][seed]]},
                "images_per_s": SPEED[name][seed],
                **size,
                **more.get(name, {}).get(seed, {}),
            }
            lab.finish(lab.run(name, seed), 90.0 + seed, **measured)


def test_a_table_has_the_columns_that_it_asks_for_and_no_others(lab: Lab) -> None:
    fill(lab)
    extra = {column.key for column in COLUMNS if column.extra}
    assert not extra & lab.collect(0, 1)["rows"][1].keys()
    lab.table_path.write_text(f"columns: [similarity]\n{TABLE}")
    made = lab.collect(0, 1)
    assert extra & made["rows"][1].keys() == {"similarity", "similarity_difference"}
    assert "similarity − baseline's" in markdown.render(made)
    assert "Similarity: mean |cos| over all pairs of tokens" in " ".join(made["caption"])
    header = next(csv.reader(io.StringIO(csv_file.render(made))))
    assert "similarity_difference_low" in header
    assert "step_time_percent" not in header


def test_extra_columns_are_measured_beside_the_baseline_at_the_same_seed(asking: Lab) -> None:
    fill(asking)
    baseline, row = asking.collect(0, 1)["rows"][:2]
    assert row["similarity"]["mean"] == pytest.approx(0.635)
    assert row["similarity"]["std"] == pytest.approx(statistics.stdev((0.62, 0.65)))
    assert row["similarity_difference"]["pairs"] == pytest.approx([-0.08, -0.09])
    assert row["step_time"]["pairs"] == pytest.approx([20.0, 25.0])
    assert row["added_macs"] == pytest.approx(50.0)
    assert row["added_parameters"] == 24
    assert row["train_loss"]["mean"] == pytest.approx(2.0 / 4)
    assert row["train_loss_difference"]["pairs"] == [0.0, 0.0]
    for key in ("similarity_difference", "step_time", "added_macs", "added_parameters"):
        assert baseline[key] is None
    text = markdown.render(asking.collect(0, 1))
    assert "| 0.635 ± 0.021 | −0.085 \\[−0.149, −0.021\\] (n=2) | 0.500 ± 0.000 | +0.000 |" in text
    assert "| +22 \\[−9, +54\\] (n=2) | +50.0 | +24 |" in text


def test_step_times_of_different_devices_are_not_compared(asking: Lab) -> None:
    fill(asking, deep={1: {"device": "H100"}})
    row = asking.collect(0, 1)["rows"][1]
    assert (row["step_time"]["seeds"], row["step_time"]["pairs"]) == ([0], pytest.approx([20.0]))


def test_training_loss_is_the_mean_over_the_steps_of_the_last_epoch(lab: Lab) -> None:
    experiment = lab.run("deep").experiment
    assert (experiment.total_steps, experiment.steps_per_epoch) == (32, 8)
    records = [
        {"step": 24, TRAIN_LOSS: 9.0},
        {"step": 27, TRAIN_LOSS: 2.0},
        {"step": 32, TRAIN_LOSS: 1.0},
    ]
    assert last_epoch_loss(records, experiment) == (3 * 2.0 + 5 * 1.0) / 8
    assert last_epoch_loss(records[:2], experiment) is None
    assert last_epoch_loss([], experiment) is None


def test_every_extra_value_is_verified(asking: Lab) -> None:
    asking.fill_honestly()
    made = asking.collect(0, 1)

    def verdicts() -> dict[str, Verdict]:
        tables.write_table(made, asking.results / "mini")
        committed = tables.load_committed(asking.results / "mini" / "small.json")
        reports = verify.verify(committed, asking.results / "mini", asking.table())
        return {check.key: check.verdict for check in reports[1].checks}

    found = verdicts()
    keys = [
        "similarity.mean",
        "similarity_difference.mean",
        "train_loss.mean",
        "train_loss_difference.pairs",
        "step_time.mean",
        "added_macs",
        "added_parameters",
    ]
    assert {found[key] for key in keys} == {Verdict.confirmed}
    made["rows"][1]["similarity_difference"]["mean"] = -0.5
    made["rows"][1]["added_parameters"] += 1
    changed = {key for key, verdict in verdicts().items() if verdict is not found[key]}
    assert changed == {"similarity_difference.mean", "added_parameters"}


def test_a_loss_that_was_edited_in_the_journal_is_found(asking: Lab) -> None:
    asking.fill_honestly()
    made = asking.collect(0, 1)
    run = asking.run("deep", 0)
    record = {"time": 1.7e9, "attempt": 1, "step": run.experiment.total_steps, TRAIN_LOSS: 0.1}
    journal.append(run.metrics_path, record)
    reports = verify.verify(made, asking.results / "mini", asking.table())
    differing = {check.key for check in reports[0].having(Verdict.differs)}
    assert {"train_loss.mean", "train_loss.std"} <= differing


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("[similarty]", "columns.*similarty.*similarity"),
        ("[similarity, similarity]", "each column at most once"),
    ],
)
def test_a_column_that_there_is_not_is_one_message(lab: Lab, columns: str, message: str) -> None:
    lab.table_path.write_text(f"columns: {columns}\n{TABLE}")
    with pytest.raises(SpecError, match=f"(?s){message}"):
        lab.table()

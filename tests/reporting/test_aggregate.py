from __future__ import annotations

import statistics

import pytest
from fabricated import Lab

from antioversmooth.reporting.table.aggregate import Sample
from antioversmooth.reporting.table.columns import measured_row
from antioversmooth.runs import Run

ACCURACIES = [90.1, 90.6, 91.3]


def test_mean_and_std_are_those_of_the_standard_library(lab: Lab) -> None:
    for seed, accuracy in enumerate(ACCURACIES):
        lab.finish(lab.run("deep", seed), accuracy)
    top1 = lab.rows(0, 1, 2)["deep"].top1
    assert top1 is not None
    assert top1.mean == pytest.approx(statistics.mean(ACCURACIES), abs=1e-12)
    assert top1.std == pytest.approx(statistics.stdev(ACCURACIES), abs=1e-12)
    assert top1.n == 3


def test_one_seed_has_no_spread() -> None:
    assert Sample.of([90.0]) == Sample(90.0, None, 1)
    assert Sample.of([]) is None


def test_top1_is_that_of_the_last_epoch_and_the_best_is_beside_it(lab: Lab) -> None:
    lab.finish(lab.run("deep"), 90.1)
    row = lab.rows()["deep"]
    assert row.top1 == Sample(90.1, None, 1)
    assert row.best == Sample(90.6, None, 1)


def test_gain_is_against_this_tables_own_baseline_and_paired_by_seed(lab: Lab) -> None:
    for seed, (plain, scaled) in enumerate([(90.0, 91.0), (90.4, 92.0)]):
        lab.finish(lab.run("deep", seed), plain)
        lab.finish(lab.run("deep_featscale", seed), scaled)
    measured = lab.rows(0, 1)["deep_featscale"].gain
    assert measured is not None
    assert measured.mean == pytest.approx(1.3, abs=1e-12)
    assert (measured.n, measured.seeds) == (2, (0, 1))
    assert measured.pairs == pytest.approx((1.0, 1.6), abs=1e-12)


def test_a_gain_is_over_the_seeds_that_both_rows_have(lab: Lab) -> None:
    for seed, plain in [(0, 90.0), (1, 90.5), (2, 91.0)]:
        lab.finish(lab.run("deep", seed), plain)
    for seed, scaled in [(1, 91.0), (2, 92.0), (3, 99.0)]:
        lab.finish(lab.run("deep_featscale", seed), scaled)
    measured = lab.rows(0, 1, 2, 3)["deep_featscale"].gain
    assert measured is not None
    assert (measured.seeds, measured.pairs, measured.mean) == ((1, 2), (0.5, 1.0), 0.75)
    note = "Gain over the seeds that both have, row and baseline: 1, 2 (deep_featscale)."
    assert note in lab.collect(0, 1, 2, 3)["notes"]


def test_rows_without_a_common_seed_are_compared_by_their_means_and_that_is_said(lab: Lab) -> None:
    lab.finish(lab.run("deep", 0), 90.0)
    lab.finish(lab.run("deep_featscale", 1), 95.0)
    measured = lab.rows(0, 1)["deep_featscale"].gain
    assert measured is not None
    assert (measured.mean, measured.n, measured.interval) == (5.0, 0, None)
    notes = lab.collect(0, 1)["notes"]
    assert any("not paired" in note and "(deep_featscale)" in note for note in notes)


def test_there_is_no_gain_over_a_baseline_that_is_missing(lab: Lab) -> None:
    lab.finish(lab.run("deep_featscale"), 95.0)
    assert lab.rows()["deep_featscale"].gain is None


def crash(lab: Lab, run: Run) -> None:
    lab.start(run, epochs=2)
    lab.end(run, "crash")


def stop(lab: Lab, run: Run) -> None:
    lab.start(run, epochs=2)
    lab.end(run, "preempted")


def keep_running(lab: Lab, run: Run) -> None:
    lab.start(run, epochs=3)
    (run.dir / "heartbeat").touch()


def test_states_of_a_row(lab: Lab) -> None:
    assert lab.rows()["wide"].state == "missing"
    stop(lab, lab.run("wide", 0))
    assert lab.rows(0, 1)["wide"].state == "preempted e2/4"
    crash(lab, lab.run("wide", 1))
    assert lab.rows(0, 1)["wide"].state == "failed"
    keep_running(lab, lab.run("wide", 2))
    assert lab.rows(0, 1, 2)["wide"].state == "running e3/4"
    lab.finish(lab.run("wide", 3), 90.0)
    assert lab.rows(0, 1, 2, 3)["wide"].state == "partial (1/4)"
    assert lab.rows(3)["wide"].state == "done (n=1)"
    assert lab.rows()[None].state == "quoted"


def test_other_identities_are_never_averaged(lab: Lab) -> None:
    lab.finish(lab.run("wide", 0, "recipe.base_lr=0.5"), 10.0)
    lab.finish(lab.run("wide", 1), 90.0)
    row = lab.rows(0, 1)["wide"]
    assert row.top1 == Sample(90.0, None, 1)
    assert row.state == "partial (1/2)"
    assert lab.rows()["wide"].state == "stale"


@pytest.mark.parametrize(
    "change", ["revision=2", "recipe.epochs=5", "data.num_train=900", "model.depth=12"]
)
def test_a_row_is_stale_once_its_revision_or_its_spec_has_changed(lab: Lab, change: str) -> None:
    lab.finish(lab.run("wide", 0, change), 90.0)
    assert lab.rows()["wide"].state == "stale"
    lab.finish(lab.run("wide", 0), 91.0)
    assert lab.rows()["wide"].top1 == Sample(91.0, None, 1)


def test_throughput_of_different_devices_is_not_averaged(lab: Lab) -> None:
    lab.finish(lab.run("wide", 0), 90.0, device="A100")
    lab.finish(lab.run("wide", 1), 90.0, device="H100")
    row = measured_row(lab.rows(0, 1)["wide"])
    assert (row["device"], row["images_per_s"]) == ("A100, H100", None)


def test_device_hours_are_summed_over_seeds(lab: Lab) -> None:
    for seed in (0, 1):
        lab.finish(lab.run("wide", seed), 90.0, device_hours=0.1)
    assert measured_row(lab.rows(0, 1)["wide"])["device_hours"] == 0.2


def test_a_fine_tuned_row_has_the_accuracy_it_started_from(lab: Lab) -> None:
    lab.finish(lab.run("wide"), 90.0, start={"val/top1": 83.5})
    assert lab.rows()["wide"].start == Sample(83.5, None, 1)


@pytest.mark.parametrize(
    ("loaded", "shown"), [({"unchanged": 150, "reset": 2}, False), ({"unchanged": 152}, True)]
)
def test_an_untrained_classifier_has_no_accuracy_to_start_from(
    lab: Lab, loaded: dict[str, int], shown: bool
) -> None:
    lab.finish(lab.run("wide"), 90.0, start={"val/top1": 9.5, "weights": loaded})
    assert (lab.rows()["wide"].start is not None) is shown

from __future__ import annotations

import statistics

from antioversmooth.runs import journal
from antioversmooth.runs.metrics import IMAGES_PER_SECOND, START_TOP1, TRAIN_LOSS, VAL_TOP1
from antioversmooth.runs.result import outcome


def evaluated(*epochs: tuple[int, int, float]) -> list[journal.Record]:
    return [{"step": step, "epoch": epoch, VAL_TOP1: top1} for step, epoch, top1 in epochs]


def test_the_best_epoch_is_the_first_of_the_highest_and_never_the_start() -> None:
    records = evaluated((0, 0, 99.0), (10, 1, 70.0), (20, 2, 80.0), (30, 3, 80.0))
    assert outcome(records)["best"] == {VAL_TOP1: 80.0, "epoch": 2}
    assert outcome(records[:1])["best"] == {VAL_TOP1: 99.0, "epoch": 0}


def test_the_last_evaluation_is_the_number() -> None:
    records = [*evaluated((10, 1, 80.0), (20, 2, 79.0)), {"step": 25, TRAIN_LOSS: 0.1}]
    assert outcome(records)["metrics"] == {VAL_TOP1: 79.0}


def test_the_start_and_the_throughput_are_in_the_journal() -> None:
    speeds = [900.0, 1000.0, 1200.0, 100.0]
    fast = [{"step": step, IMAGES_PER_SECOND: speed} for step, speed in enumerate(speeds, start=1)]
    records = [{"step": 0, START_TOP1: 83.5}, *evaluated((4, 1, 84.0)), *fast]
    assert outcome(records)["start"] == {VAL_TOP1: 83.5}
    assert outcome(records)["images_per_s"] == statistics.median(speeds)
    assert outcome(evaluated((4, 1, 84.0)))["start"] is None

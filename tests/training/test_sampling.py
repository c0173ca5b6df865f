from __future__ import annotations

import numpy as np
import pytest

from antioversmooth.training.data.sampling import MicroBatches, SampleOrder, View


def test_an_epoch_shows_every_image_once() -> None:
    order = SampleOrder(100, 10, seed=0)
    assert sorted(order.images(3)) == list(range(100))


def test_the_order_follows_from_seed_and_epoch_alone() -> None:
    first, again = SampleOrder(100, 10, seed=0), SampleOrder(100, 10, seed=0)
    again.images(7)
    assert np.array_equal(first.images(2), again.images(2))
    assert not np.array_equal(first.images(2), first.images(3))
    assert not np.array_equal(first.images(2), SampleOrder(100, 10, seed=1).images(2))


def test_repeated_views_are_consecutive_in_an_epoch_of_unchanged_length() -> None:
    images = SampleOrder(100, 10, seed=0, repeats=3).images(0)
    assert len(images) == 100
    assert all(len(set(images[i : i + 3])) == 1 for i in range(0, 99, 3))
    assert len(set(images)) == 34


def test_a_partial_last_batch_is_dropped_and_views_are_numbered_on() -> None:
    order = SampleOrder(25, 10, seed=0)
    assert order.steps_per_epoch == 2
    assert [view.number for view in order.views(2)] == list(range(20, 30))
    assert [view.image for view in order.views(2)] == list(order.images(1)[:10])


@pytest.mark.parametrize(("ranks", "accumulation_steps"), [(1, 1), (1, 4), (2, 2), (4, 1)])
def test_the_micro_batches_of_all_ranks_are_the_global_batch_in_order(
    ranks: int, accumulation_steps: int
) -> None:
    order = SampleOrder(64, 16, seed=5)
    views: list[View] = []
    for rank in range(ranks):
        for micro_batch in MicroBatches(
            order,
            16 // ranks // accumulation_steps,
            accumulation_steps,
            rank,
            start_step=3,
            stop_step=4,
        ):
            views += micro_batch
    assert views == order.views(3)


def test_micro_batches_resume_from_any_step() -> None:
    order = SampleOrder(64, 16, seed=5)
    whole = list(MicroBatches(order, 8, 2, 0, 0, 8))
    assert list(MicroBatches(order, 8, 2, 0, 5, 8)) == whole[10:]

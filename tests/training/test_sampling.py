from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from antioversmooth import spec
from antioversmooth.config import RepeatedViews
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


@pytest.mark.parametrize("group", [None, 1, 2, 10, 20])
def test_a_batch_has_the_repeated_views_of_consecutive_images_whatever_the_groups(
    group: int | None,
) -> None:
    drawn = SampleOrder(100, 20, seed=0, group=group).images(1)
    images = SampleOrder(100, 20, seed=0, group=group, repeats=3).images(1)
    views = [image for image in drawn for _ in range(3)]
    assert len(images) == 100
    for start in range(0, 100, 20):
        assert sorted(images[start : start + 20]) == sorted(views[start : start + 20])


@pytest.mark.parametrize("group", [2, 4, 16])
def test_images_with_one_view_keep_their_order_whatever_the_groups(group: int) -> None:
    alone, grouped = (SampleOrder(70, 16, seed=2, group=g).images(3) for g in (1, group))
    assert np.array_equal(alone, grouped)


class Shares(NamedTuple):
    """Shares of views of one image that are mixed alike; `groups`, [steps, groups, views], hold its
    number."""

    own: float
    """Of views, those whose partner in the reversed group shows their own image."""
    draw: float
    """Of the pairs of views of an image in a batch, those in one group."""

    @classmethod
    def of(cls, groups: npt.NDArray[np.int64]) -> Shares:
        together = pairs = 0
        for batch in groups:
            for image in np.unique(batch):
                in_group = (batch == image).sum(1)
                together += int((in_group * (in_group - 1)).sum())
                pairs += int(in_group.sum() * (in_group.sum() - 1))
        return cls(float((groups == groups[..., ::-1]).mean()), together / pairs)


def released(batch: int, devices: int, steps: int) -> npt.NDArray[np.int64]:
    """Batches of the released code's devices: its RASampler deals three views of each image, in a
    row, to the devices in turn."""
    views = np.random.default_rng(0).permutation(batch * steps).repeat(3)[: batch * steps]
    dealt = np.stack([views[device::devices] for device in range(devices)])
    return dealt.reshape(devices, steps, -1).swapaxes(0, 1)


BATCHES = {"deit_s12": 1024, "deit_s24": 512, "cait_s24_featscale": 256}
STEPS = 9


@pytest.mark.parametrize("row", BATCHES)
def test_views_of_an_image_are_as_far_apart_as_on_eight_devices_of_the_released_code(
    row: str, experiments: Path
) -> None:
    config = spec.load_experiment(
        experiments / f"{row}.yaml", [f"data.num_train={STEPS * BATCHES[row]}"]
    )
    batch, group = config.recipe.global_batch, config.recipe.mix_group
    assert (batch, config.recipe.repeated_augmentation) == (BATCHES[row], 3)
    order = SampleOrder.of(config, seed=0).images(0)
    assert Shares.of(order.reshape(STEPS, -1, group)) == Shares(0, 0)
    assert Shares.of(released(batch, 8, STEPS)) == Shares(0, 0)
    # docs/fidelity.md has these
    on_two = Shares.of(released(batch, 2, STEPS))
    assert 0 < on_two.own < 0.006
    assert on_two.draw == pytest.approx(1 / 3, abs=0.01)
    together = dataclasses.replace(
        config,
        recipe=dataclasses.replace(config.recipe, repeated_views=RepeatedViews.together),
    )
    before = Shares.of(SampleOrder.of(together, seed=0).images(0).reshape(STEPS, -1, group))
    assert before.own == pytest.approx(4 / 3 / group, abs=0.005)
    assert before.draw > 0.9


@pytest.mark.parametrize(
    ("batch", "group", "repeats"),
    [(64, 8, 2), (64, 4, 3), (64, 4, 5), (48, 4, 3), (70, 10, 5), (96, 2, 4), (60, 4, 15)],
)
def test_no_group_has_two_views_of_an_image_where_there_are_as_many_groups_as_views(
    batch: int, group: int, repeats: int
) -> None:
    order = SampleOrder(5 * batch + 7, batch, seed=1, group=group, repeats=repeats)
    for step in range(10):
        images = np.array([view.image for view in order.views(step)]).reshape(-1, group)
        assert all(len(set(row)) == group for row in images)


@pytest.mark.parametrize("group", [2, 4, 16, 64])
def test_without_a_group_views_are_apart_in_groups_of_any_size(group: int) -> None:
    order = SampleOrder(640, 256, seed=1, repeats=3)
    for step in range(4):
        images = np.array([view.image for view in order.views(step)]).reshape(-1, group)
        assert all(len(set(row)) == group for row in images)


def test_fewer_groups_than_views_share_the_views_of_an_image_evenly() -> None:
    order = SampleOrder(300, 30, seed=1, group=10, repeats=5)
    for step in range(10):
        images = np.array([view.image for view in order.views(step)]).reshape(3, 10)
        assert max(np.bincount(row).max() for row in images) <= 2


@pytest.mark.parametrize("size", [1024, 512, 256, 128])
def test_a_micro_batch_of_four_groups_has_all_views_of_nearly_all_of_its_images(size: int) -> None:
    order = SampleOrder(8 * 1024, 1024, seed=0, group=32, repeats=3)
    decodes = [len(set(part)) for part in order.images(0).reshape(-1, size)]
    assert sum(decodes) / (8 * 1024) == pytest.approx(1 / 3, abs=0.007)


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

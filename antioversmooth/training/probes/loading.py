"""The data of a run: there, as its spec says, and how fast one core makes views of it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import torch

from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.datasets.decoded import training_images
from antioversmooth.datasets.images import ArrayImages
from antioversmooth.finding import Finding, Place
from antioversmooth.training.data.loading import OK, Batch, Loaders
from antioversmooth.training.data.sampling import MicroBatches
from antioversmooth.training.probes import inputs
from antioversmooth.training.probes.context import Context, ok, warning

FEWEST = 3
"""Batches that a speed is measured by, however slow they are."""
NOT_COMPARED = "; ways of input are compared for image files that are cropped at random"


def look_at_data(context: Context) -> Iterator[Finding]:
    """Opens the data set, and compares it with the spec; the first rank of each node reports."""
    assert context.run is not None
    config = context.run.experiment.data
    started = time.monotonic()
    context.established.dataset = None
    dataset = open_dataset(config)
    context.established.dataset = dataset
    if context.info.local_rank == 0:
        seconds = time.monotonic() - started
        place = config.root or "an installed package"
        yield ok(
            "data",
            f"{dataset.summary()} in {place}, listed in {seconds:.1f} s",
            Place.data,
            **dataset.counts(),
            listed_s=round(seconds, 3),
        )


def look_at_decoding(context: Context) -> Iterator[Finding]:
    """Makes training views in this process, as a loading process does, all ranks at once."""
    assert context.run is not None
    config, dataset = context.run.experiment, context.established.dataset
    context.established.views_per_s, context.established.rates = None, {}
    if dataset is None:
        return
    in_process = replace(config, runtime=replace(config.runtime, workers=0))
    loaders = Loaders(in_process, seed=context.run.seed, cpus=1)
    micro_batches = MicroBatches.of(
        config,
        seed=context.run.seed,
        rank=context.info.rank,
        world_size=context.info.world_size,
    )
    is_compared = not isinstance(dataset.train, ArrayImages) and config.recipe.resizes
    # as in a loading process
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        speed, unreadable = _measure(
            loaders.training(training_images(config.data_read, dataset), micro_batches),
            context.request.measure_s,
        )
        if is_compared and not isinstance(dataset.train, ArrayImages):
            seconds = context.request.measure_s / len(inputs.SETTINGS)
            # where there is no room for temporary files, runs train all the same
            with suppress(OSError):
                context.established.rates = inputs.rates(config, dataset.train, seconds)
    finally:
        torch.set_num_threads(threads)
    context.established.views_per_s = speed
    names = [dataset.train.name(index) for index in unreadable]
    if names:
        yield warning(
            "images",
            f"{len(names)} of the images that were read are damaged, such as {names[0]}",
            "antioversmooth data check reads all of them; restore them, or allow some by"
            " data.max_corrupt",
            Place.data,
        )
    kind = "in memory" if isinstance(dataset.train, ArrayImages) else "decoded and augmented"
    yield ok(
        "decoding",
        f"{speed:,.0f} views/s on one core ({kind}){'' if is_compared else NOT_COMPARED}",
        Place.data,
        views_per_s_per_core=round(speed, 2),
    )


def _measure(batches: Iterator[Batch], seconds: float) -> tuple[float, list[int]]:
    """Views a second, the median over batches but the first, and the images that are damaged."""
    speeds: list[float] = []
    unreadable: set[int] = set()
    began = before = time.perf_counter()
    for batch in batches:
        now = time.perf_counter()
        speeds.append(len(batch.labels) / (now - before))
        unreadable |= set(batch.corrupt[batch.corrupt != OK].tolist())
        before = now
        if now - began > seconds and len(speeds) >= FEWEST:
            break
    return statistics.median(speeds[1:] or speeds), sorted(unreadable)

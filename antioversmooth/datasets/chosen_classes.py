"""A part of the classes of a data set, as ImageNet-100 is of ImageNet-1k."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from antioversmooth.config import DataConfig
from antioversmooth.datasets.images import FileImages
from antioversmooth.errors import DataError, and_more


def images_of_classes(
    config: DataConfig, classes: list[str], images: FileImages
) -> tuple[list[str], FileImages]:
    """The classes that `data.classes` names, in the order of the data set, and their images.

    Args:
        classes: All classes of the split.

    Raises:
        DataError: The data set has no class of such a name.
    """
    if unknown := sorted(set(config.classes) - set(classes)):
        raise DataError(
            f"data.classes: {config.root} has no class {and_more(unknown, 5)}; it has"
            f" {and_more(classes, 5)}"
        )
    chosen = [label for label, name in enumerate(classes) if name in set(config.classes)]
    numbers = np.full(len(classes), -1)
    numbers[chosen] = np.arange(len(chosen))
    labels = numbers[images.labels]
    of_them = labels >= 0
    return [classes[label] for label in chosen], replace(
        images,
        names=images.names[of_them],
        labels=labels[of_them],
        ranges=images.ranges[of_them] if images.archives else images.ranges,
    )

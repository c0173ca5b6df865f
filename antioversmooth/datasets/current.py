"""Checksums of data sets as they are now, for comparison with those that runs have recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from antioversmooth.config import DataConfig
from antioversmooth.datasets.layouts.packaged import PACKAGED
from antioversmooth.errors import DataError

FEW_IMAGES = 50_000
"""Images up to which a data set is listed again, and sampled, wherever it is compared."""
Facts = Mapping[str, int | str]


class CurrentData:
    """Counts and checksums of the data sets at their `data.root` now, each read once.

    Args:
        thorough: Whether large data sets are listed again, too; otherwise they are compared where
            their listing is cached and up to date, without their content.
    """

    def __init__(self, *, thorough: bool = False) -> None:
        self.thorough = thorough
        self._read: list[tuple[DataConfig, Facts | None]] = []

    def facts(self, config: DataConfig) -> Facts | None:
        """Counts and checksums, or the `problem` of a data set that is there and cannot be read.

        None where it is not there, only the nodes have it, or a long search would be needed.
        """
        for known, facts in self._read:
            if known == config:
                return facts
        found = self._facts(config)
        self._read.append((config, found))
        return found

    def _facts(self, config: DataConfig) -> Facts | None:
        if config.source in PACKAGED:
            try:
                return PACKAGED[config.source].facts()
            except DataError:
                return None
        if config.on_nodes_only or not config.root or _is_absent(Path(config.root)):
            return None
        # NumPy, for the names of a million files
        from antioversmooth.datasets import dataset

        if not self.thorough and config.num_train + config.num_val > FEW_IMAGES:
            return dataset.cached_checksums(config)
        try:
            found = dataset.open_unchecked(config)
        except DataError as err:
            return {"problem": str(err)}
        return {**found.counts(), **found.checksums()}


def _is_absent(root: Path) -> bool:
    """Whether there is no such folder, or an empty one: the place of a disk that is not mounted."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except PermissionError:
        return False
    except OSError:
        return True

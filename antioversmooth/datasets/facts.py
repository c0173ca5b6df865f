"""Facts of a data set, compared with what its spec says."""

from __future__ import annotations

from collections.abc import Mapping

from antioversmooth.config import DataConfig
from antioversmooth.datasets.passed_over import EXTENSIONS, PassedOver
from antioversmooth.errors import DataError

Facts = dict[str, int | str | PassedOver]
"""Facts of a data set, by name."""


def check_facts(config: DataConfig, found: Mapping[str, int | str | PassedOver]) -> None:
    """Raises DataError where counts or fingerprint differ from the spec's."""
    where = f" under {config.root}" if config.root else ""
    passed = found.get("passed_over", PassedOver())
    # the only value of its kind
    assert isinstance(passed, PassedOver)
    if found.get("num_classes", 2) == 1:
        raise DataError(
            f"{config.name}{where} has a single class: there is nothing to classify; is the data"
            f" set complete?{passed.note()}"
        )
    expected = ["num_classes", "num_train", "num_val"] + ["fingerprint"] * bool(config.fingerprint)
    for key in (key for key in expected if key in found):
        if found[key] != getattr(config, key):
            raise DataError(
                f"data.{key}: the spec says {getattr(config, key)!r}, {config.name}{where} has"
                f" {found[key]!r}{passed.note()}; {_advice(key, found[key], passed)}"
            )


def _advice(key: str, value: object, passed: PassedOver) -> str:
    """The last part of the message about a fact that differs: the correction of the data or spec.

    It never asks for a number from which images may be missing.
    """
    if passed.may_hold_images():
        return (
            f"images end in {', '.join(EXTENSIONS)}: rename or convert others, and restore files"
            " that links lead to; only if nothing that was passed over belongs to the data set,"
            f" set data.{key} to the value found"
        )
    return f"if this is the right data set, set data.{key}={value} (which makes it another run)"

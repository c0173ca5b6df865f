"""The data that a run began on, compared with the data at its `data.root` now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.errors import DataError
from antioversmooth.runs.directory import Run

CLASSES = "classes.json"
"""In a run directory: the names of the classes of its data, in order."""

_WHAT = {
    "fingerprint": "names, sizes or number of images",
    "sample": "content of a sample of images",
    "classes": "names or order of the classes",
}
"""Measures of data that are compared, for people. Runs of old versions lack some."""
_COUNTS = ("num_classes", "num_train", "num_val")


def recorded_data(directory: Path) -> dict[str, Any]:
    """Name, root and measures of the data of the newest attempt; empty before the first.

    Args:
        directory: The run directory.
    """
    data = files.read_mapping(directory / "provenance.json").get("data")
    return data if isinstance(data, dict) else {}


def record_classes(run: Run, classes: Sequence[str]) -> None:
    """Writes the names of the classes of a run's data, which its model's outputs are."""
    path = run.dir / CLASSES
    if recorded_classes(run.dir) != list(classes):
        files.write_json(path, list(classes))


def recorded_classes(directory: Path) -> list[str] | None:
    """The names of the classes of a run, in order; None where they are not recorded.

    Args:
        directory: The run directory.
    """
    try:
        names = files.read_json(directory / CLASSES)
    except (ValueError, OSError):
        return None
    is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if is_list else None


def require_same_data(run: Run, found: Mapping[str, Any]) -> None:
    """Raises DataError where a run would resume with other images than it began with.

    Args:
        found: Checksums of the data at its `data.root`, as far as they are known.
    """
    began = recorded_data(run.dir)
    key = _first_difference(began, found)
    if key is None:
        return
    then, now = began.get("root"), run.experiment.data.root
    there = "put the images back" if then == now else f"continue with data.root={then}"
    raise DataError(
        f"data.root: {run.name} began with the images of {then}. Those of {now} differ by the"
        f" {_WHAT[key]} ({str(began[key])[:12]} then, {str(found[key])[:12]} now); {there}, or move"
        f" {run.dir} away to start again"
    )


def measured_data(result: Mapping[str, Any]) -> dict[str, Any]:
    """Name, root, counts, subset and checksums of the data of a done run, as far as recorded.

    Args:
        result: Content of `result.json`.
    """
    data = result.get("data")
    types = dict.fromkeys(("name", "root", "subset", *_WHAT), str) | dict.fromkeys(_COUNTS, int)
    recorded = data if isinstance(data, dict) else {}
    return {key: recorded[key] for key in types if isinstance(recorded.get(key), types[key])}


def describe_change(result: Mapping[str, Any], found: Mapping[str, Any] | None) -> str | None:
    """A clause on how the data of a done run differs from the data now.

    Empty where it is the same, None where nothing can be compared, as where it cannot be read.

    Args:
        result: Content of `result.json`.
        found: Facts of the data now, as far as they are known; None: not at all.
    """
    recorded = measured_data(result)
    if found is None or not any(recorded.get(key) for key in _WHAT):
        return None
    counts = [
        f"{key} {recorded[key]} then, {found[key]} now"
        for key in _COUNTS
        if recorded.get(key) and found.get(key) and recorded[key] != found[key]
    ]
    key = _first_difference(recorded, found)
    if key is None:
        return None if "problem" in found else ""
    then, now = (str(facts[key])[:12] for facts in (recorded, found))
    sums = f"{key} {then} then, {now} now ({_WHAT[key]})"
    return f"measured on other images than are there now: {'; '.join([*counts, sums])}"


def describe_change_of_weights(target: Path, found: Mapping[str, Any]) -> str:
    """A sentence on how the data of the run that weights belong to differs from the data now.

    Empty where it is the same, and for weights outside of a run.

    Args:
        target: A run directory, or a file of weights.
        found: Checksums of the data now.
    """
    if not target.is_dir() and target.parent.name != "checkpoints":
        return ""
    run_dir = target if target.is_dir() else target.parent.parent
    change = describe_change({"data": recorded_data(run_dir)}, found)
    return f"the run was {change}" if change else ""


def describe_unreadable(found: Mapping[str, Any] | None) -> str:
    """A clause on why the data of a done run is not compared; empty where it can be read.

    Args:
        found: As in `describe_change`.
    """
    if found is None or "problem" not in found:
        return ""
    cannot = "not compared with those there now, which cannot be read any more"
    return f"measured on images that were {cannot}: {found['problem']}"


def _first_difference(recorded: Mapping[str, Any], found: Mapping[str, Any]) -> str | None:
    """The first measure that is known of both and differs."""
    known = [key for key in _WHAT if recorded.get(key) and found.get(key)]
    return next((key for key in known if recorded[key] != found[key]), None)

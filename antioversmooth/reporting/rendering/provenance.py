"""The unfolded part of a row of the page: provenance of its numbers, one column for each seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from antioversmooth.reporting.table.columns import Row, dig

Seed = dict[str, Any]


def summary(row: Row) -> str:
    """The line that is shown while the row is folded."""
    return " · ".join(f"seed {seed['seed']}: {_brief(seed)}" for seed in row["seeds"])


def _brief(seed: Seed) -> str:
    result = seed["result"]
    return f"{result['metrics']['val/top1']:g} %" if result else str(seed["state"])


def facts(row: Row) -> list[tuple[str, list[str]]]:
    """Name and text for each seed of the facts that are known of at least one."""
    found = [(name, [fact(seed) for seed in row["seeds"]]) for name, fact in FACTS.items()]
    return [(name, texts) for name, texts in found if any(texts)]


def spec(row: Row) -> str:
    """The fields that the ids of the row's runs are hashed from; empty in an older table."""
    if not row.get("spec"):
        return ""
    return str(yaml.safe_dump(row["spec"], sort_keys=False, allow_unicode=True))


def _of(path: str) -> Callable[[Seed], str]:
    return lambda seed: _text(dig(seed, path))


def _text(value: Any) -> str:
    """A value for people; empty where there is none."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


def _uncommitted(seed: Seed) -> str:
    """Whether uncommitted changes ran, and in which snapshots if not in all."""
    found = _of("provenance.uncommitted_changes"), _of("provenance.uncommitted_snapshots")
    return " in ".join(filter(None, (text(seed) for text in found)))


FACTS: dict[str, Callable[[Seed], str]] = {
    "run": _of("id"),
    "state": lambda seed: ", ".join(filter(None, [seed["state"], seed["problem"]])),
    "last epoch": _of("result.metrics"),
    "best epoch": _of("result.best"),
    "start": _of("result.start"),
    "attempts": lambda seed: str(seed["attempts"] or ""),
    "attempts ended": _of("provenance.ends"),
    "imported from": _of("provenance.imported"),
    "back end": _of("provenance.backend"),
    "hosts": _of("provenance.hosts"),
    "jobs": _of("provenance.job_ids"),
    "device": _of("result.device"),
    "processes": _of("result.world_size"),
    "images/s": _of("result.images_per_s"),
    "training seconds": _of("result.seconds"),
    "device-hours": _of("result.device_hours"),
    "commit": _of("provenance.commits"),
    "uncommitted changes": _uncommitted,
    "code snapshot": _of("provenance.snapshots"),
    "Python": _of("provenance.python"),
    "packages": _of("provenance.packages"),
    "data": _of("result.data"),
    "checkpoint": _of("result.checkpoint"),
    "older runs, not counted": _of("older"),
}
"""Name of each fact, and its text for one seed."""

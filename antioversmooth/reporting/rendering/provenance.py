"""What a row of the page unfolds: where each of its numbers comes from, one column a seed, and the
spec behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import yaml

Seed = dict[str, Any]


def details(row: dict[str, Any]) -> str:
    """The folded part of a row."""
    seeds = row["seeds"]
    summary = " · ".join(f"seed {seed['seed']}: {_brief(seed)}" for seed in seeds)
    return "\n".join(
        [
            f"<details><summary>{escape(summary)}</summary>",
            '<div class="wide"><table class="facts">',
            "<tr><td></td>"
            + "".join(f'<th scope="col">seed {seed["seed"]}</th>' for seed in seeds)
            + "</tr>",
            *_facts(seeds),
            "</table></div>",
            *_spec(row),
            "</details>",
        ]
    )


def _brief(seed: Seed) -> str:
    result = seed["result"]
    return f"{result['metrics']['val/top1']:g} %" if result else str(seed["state"])


def _facts(seeds: list[Seed]) -> Iterator[str]:
    for name, fact in FACTS.items():
        texts = [fact(seed) for seed in seeds]
        if any(texts):
            cells = "".join(f"<td>{escape(text)}</td>" for text in texts)
            yield f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'


def _spec(row: dict[str, Any]) -> Iterator[str]:
    """What is hashed into the ids of the row's runs; a table of before it was kept has none."""
    if row.get("spec"):
        text = yaml.safe_dump(row["spec"], sort_keys=False, allow_unicode=True)
        name = f"Spec of {row['experiment']}: what its identity is made of, besides the seed"
        yield f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>"


def dig(value: Any, path: tuple[str, ...]) -> Any:
    """The value at a path of keys; None where there is none."""
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _of_result(*path: str) -> Callable[[Seed], str]:
    return lambda seed: _text(dig(seed["result"], path))


def _of_provenance(key: str) -> Callable[[Seed], str]:
    return lambda seed: _text(dig(seed["provenance"], (key,)))


def _text(value: Any) -> str:
    """A fact for people; empty where there is none."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items() if item is not None)
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


FACTS: dict[str, Callable[[Seed], str]] = {
    "run": lambda seed: str(seed["id"]),
    "state": lambda seed: ", ".join(filter(None, [seed["state"], seed["problem"]])),
    "last epoch": _of_result("metrics"),
    "best epoch": _of_result("best"),
    "start": _of_result("start"),
    "attempts": lambda seed: str(seed["attempts"] or ""),
    "attempts ended": _of_provenance("ends"),
    "imported from": _of_provenance("imported"),
    "back end": _of_provenance("backend"),
    "hosts": _of_provenance("hosts"),
    "jobs": _of_provenance("job_ids"),
    "device": _of_result("device"),
    "processes": _of_result("world_size"),
    "images/s": _of_result("images_per_s"),
    "training seconds": _of_result("seconds"),
    "device-hours": _of_result("device_hours"),
    "commit": _of_provenance("commits"),
    "uncommitted changes": _of_provenance("uncommitted_changes"),
    "code snapshot": _of_provenance("snapshots"),
    "Python": _of_provenance("python"),
    "packages": _of_provenance("packages"),
    "data": _of_result("data"),
    "checkpoint": _of_result("checkpoint"),
    "older runs, not counted": lambda seed: _text(seed["older"]),
}
"""Name, and the text for one seed."""

"""A measurement as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from benchmarks import host, methods, size
from benchmarks.compiled import COMPILED
from benchmarks.goals import Goal, exact, goals, speeds
from benchmarks.models import PLAIN
from benchmarks.timing import Spread, relative, spread

COMPILED_TITLE = (
    "Host, blocks compiled: the same step with `runtime.compile`, beside timm's without it"
)
METHODS_TITLE = "Methods: a whole step of 4 images, DeiT-S of 12 layers, one CPU thread"
HOST_TITLE = (
    "Host: a step of 8 images of two tokens, 24 layers; timm's is forward, backward and AdamW alone"
)


def markdown(measured: dict[str, Any]) -> str:
    """All tables, with the machine and the goals that are reached."""
    case = next(iter(measured["models"].values()))
    machine = ", ".join(f"{key} {value}" for key, value in measured["machine"].items())
    parts = [
        "# Speed and memory, side by side",
        f"Rendered from `bench.json` by `make bench`. {machine}.",
        *_measured_again(measured.get("again", {})),
        (
            "Times are of one CPU thread (or of the GPU), variants interleaved and rotated within"
            " each round; a ratio is taken within a round and given as its median, with the middle"
            " half of the rounds in brackets. Bytes saved for backward and bytes moved by the"
            f" operations of a step are exact, for a step of {case['exact_images']} images (with"
            " fewer, what is folded once a step weighs more); peak memory and times are of"
            f" {case['images']}. `explicit` is the textbook form: attention matrix built, split,"
            " scaled and multiplied. Scales are not zero."
        ),
        *(
            section(f"{name}, multiples of timm's own", _model(case))
            for name, case in measured["models"].items()
        ),
        section(
            "DeiT-S's attention layer alone, multiples of timm's own",
            _attention(measured["attention"]),
        ),
        *(
            section(title, rows(measured[part]))
            for part, (title, rows) in _PARTS.items()
            if part in measured
        ),
        section("Input, one core", _pipeline(measured)),
        section("Start, checkpoints, MLflow, tables and listings", _start(measured)),
        *([section("Size", size.rows(measured["size"]))] if "size" in measured else []),
        section("Goals", goal_rows(goals(measured))),
    ]
    return "\n\n".join(parts) + "\n"


def _measured_again(machines: dict[str, Any]) -> Iterator[str]:
    """Says which parts `--only` measured later, when, and beside how much other work."""
    if machines:
        parts = [f"{part} {one['measured']}, load {one['load']}" for part, one in machines.items()]
        yield f"Measured again alone: {'; '.join(parts)}."


def section(title: str, rows: Iterator[list[str]]) -> str:
    """A heading and a table, whose first row is its head; empty where that is its only row."""
    head, *body = rows
    if not body:
        return ""
    lines = [head, ["---"] * len(head), *body]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _model(case: dict[str, Any]) -> Iterator[list[str]]:
    yield ["", "forward", "training step", "peak memory", "saved for backward", "moved per step"]
    forward, step = relative(case["forward_s"], PLAIN), relative(case["step_s"], PLAIN)
    for name in case["step_s"]:
        measures = (case["peak_bytes"], case["saved_bytes"], case["moved_bytes"])
        ratios = [f"{exact(m, name).median:.3f}" if m[name] else "-" for m in measures]
        yield [name, spread_text(forward[name]), spread_text(step[name]), *ratios]
    seconds = [
        f"{spread(case[key][PLAIN]).median / case['images']:.3f} s"
        for key in ("forward_s", "step_s")
    ]
    peak = case["peak_bytes"][PLAIN]
    sizes = [peak / case["images"] if peak else None]
    sizes += [case[key][PLAIN] / case["exact_images"] for key in ("saved_bytes", "moved_bytes")]
    yield [
        "*plain, an image*",
        *seconds,
        *(f"{size / 2**20:.0f} MiB" if size else "-" for size in sizes),
    ]


def _attention(times: dict[str, Any]) -> Iterator[list[str]]:
    yield ["", "forward", "forward and backward"]
    forward, both = relative(times["forward_s"], PLAIN), relative(times["backward_s"], PLAIN)
    for name in forward:
        yield [name, spread_text(forward[name]), spread_text(both[name])]


def _methods(times: dict[str, Any]) -> Iterator[list[str]]:
    yield ["", "a training step", f"multiple of {methods.BACKBONE}'s"]
    for name, ratio in relative(times, methods.BACKBONE).items():
        yield [name, f"{spread(times[name]).median:.2f} s", spread_text(ratio)]


def _host(times: dict[str, Any]) -> Iterator[list[str]]:
    yield ["", "host time of a step", "multiple of timm's"]
    for wrapped, rounds in times.items():
        ratios = relative(rounds, host.STOCK)
        for name, seconds in rounds.items():
            median = f"{1000 * spread(seconds).median:.1f} ms"
            yield [f"{name}{wrapped}", median, spread_text(ratios[name])]


def _compiled(rows: dict[str, Any]) -> Iterator[list[str]]:
    yield [
        "",
        "backend",
        "first step",
        "graphs",
        "graphs of later steps",
        "graph breaks",
        "host time of a step",
        "multiple of timm's",
    ]
    for name, found in rows.items():
        counts = [str(found[key]) for key in ("graphs", "again", "breaks")]
        line = [name, found["backend"], f"{found['first_s']:.0f} s", *counts]
        if "step_s" in found:
            median = spread(found["step_s"][COMPILED]).median
            ratio = relative(found["step_s"], host.STOCK)[COMPILED]
            yield [*line, f"{1000 * median:.1f} ms", spread_text(ratio)]
        else:
            yield [*line, "-", "-"]


_PARTS = {
    "methods": (METHODS_TITLE, _methods),
    "host": (HOST_TITLE, _host),
    "compiled": (COMPILED_TITLE, _compiled),
}
"""Sections that a measurement of before may lack."""


def _pipeline(measured: dict[str, Any]) -> Iterator[list[str]]:
    found = measured["pipeline"]
    yield [
        "",
        "views a second",
        f"multiple of timm's ({found['mean_bytes'] / 1024:.0f} KiB JPEGs, 500 x 375)",
        "grey levels from `ours`, mean (99th percentile)",
    ]
    apart = found.get("grey_levels", {})
    ratios = speeds(measured)
    for name, seconds in found["round_s"].items():
        rate = f"{found['images'] / spread(seconds).median:.0f}"
        levels = "{mean:.1f} ({percentile_99})".format(**apart[name]) if name in apart else ""
        yield [name, rate, spread_text(ratios[name]), levels]
    black = f"{found['black']:,} of them black, as posterize to 0 bits makes them"
    yield [
        "*views of DeiT's recipe that came out whole*",
        f"{found['whole']:,} of {found['augmentations']:,}",
        black,
        "",
    ]


def _start(measured: dict[str, Any]) -> Iterator[list[str]]:
    yield ["", "seconds"]
    for name, seconds in {**measured["start"], **measured["checkpoint"]}.items():
        yield [name, spread_text(spread(seconds))]
    later = {**measured["mirror"], **measured["table"], **measured["listing"]}
    yield from ([name, spread_text(spread(seconds))] for name, seconds in later.items())


def goal_rows(found: Iterable[Goal]) -> Iterator[list[str]]:
    """Rows of a table of goals, with its head: what was measured, the limit and the verdict."""
    yield ["", "measured", "goal", ""]
    for goal in found:
        verdict = "reached" if goal.reached else "**missed**"
        sign = "≤" if goal.at_most else "≥"
        noise = "" if goal.is_clear else ", within the noise"
        yield [goal.name, spread_text(goal.measured), f"{sign} {goal.limit:.2f}", verdict + noise]


def spread_text(found: Spread) -> str:
    """A median with the middle half of the rounds."""
    if found.low == found.high:
        return f"{found.median:.3f}"
    return f"{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"

"""Goals beside other programs, and whether a measurement reaches them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.goals import PIPELINE_LIMIT, Goal
from benchmarks.peers import training
from benchmarks.peers.turns import Measurement
from benchmarks.timing import Spread, spread

NO_WAITS: dict[str, Any] = {"commands": {}, "failed": {}}
"""Those of a measurement that ended before them."""
START_LIMIT = 1.3
"""Other programs' CPU seconds to the first step, as a multiple of ours."""
MEMORY_LIMIT = 1.0
"""Ours, as a multiple of another program's."""
WAIT_LIMIT = 1.0
"""Our CPU seconds, as a multiple of the fastest other command's."""
WAITS = {
    "launch --help": ("dora --help", "dvc --help"),
    "antioversmooth --help": ("dora --help", "dvc --help"),
    "launch --dry-run, a row": ("hydra: app.py --cfg job",),
    "launch --dry-run, 12 rows x 3 seeds": (
        "dora grid --dry_run, 36 runs",
        "snakemake -n, 36 jobs",
    ),
    "status, 36 runs": ("dvc status, 36 stages",),
}
"""Commands of other tools for the same end as each of ours."""


def goals(measured: dict[str, Any]) -> Iterator[Goal]:
    """All goals between programs that were measured."""
    cases = measured["training"]["cases"]
    for name, case in cases.items():
        for peer, rounds in _others(case["rounds"]):
            faster = ratio(case["rounds"][training.OURS], rounds, "images_per_cpu_s")
            limit = speed_limit(case["is_input_bound"], rounds)
            title = f"{name}: images per CPU second beside {peer}"
            yield Goal(title, faster, limit, at_most=False)
    for name, case in cases.items():
        for peer, rounds in _others(case["rounds"]):
            memory = ratio(case["rounds"][training.OURS], rounds, "peak_bytes")
            yield Goal(f"{name}: peak memory beside {peer}", memory, MEMORY_LIMIT)
    starts = measured["training"]["starts"]
    for peer, rounds in _others(starts):
        longer = ratio(rounds, starts[training.OURS], "cpu_s")
        title = f"CPU seconds of {peer} to its first step, multiple of ours"
        yield Goal(title, longer, START_LIMIT, at_most=False)
    yield from _wait_goals(measured.get("waits", NO_WAITS)["commands"])


def _others(
    rounds: dict[str, list[Measurement]],
) -> Iterator[tuple[str, list[Measurement]]]:
    """The other programs, where ours was measured."""
    if training.OURS in rounds:
        yield from ((peer, rounds[peer]) for peer in training.PEERS if peer in rounds)


def _wait_goals(commands: dict[str, list[Measurement]]) -> Iterator[Goal]:
    for ours, others in WAITS.items():
        seconds = {name: _median(commands[name]) for name in others if name in commands}
        if ours in commands and seconds:
            fastest = min(seconds, key=lambda name: seconds[name])
            found = ratio(commands[ours], commands[fastest], "cpu_s")
            yield Goal(f"{ours}: CPU seconds beside `{fastest}`", found, WAIT_LIMIT)


def _median(rounds: list[Measurement]) -> float:
    return spread([one["cpu_s"] for one in rounds]).median


def speed_limit(is_input_bound: bool, rounds: list[Measurement]) -> float:
    """The goal for images per CPU second, as a multiple of a program's.

    It is the input's where the model is next to nothing. Elsewhere only the input has to be as
    much faster: with its share s of the program's time and the input's goal g, 1 / (1 - s + s / g).
    """
    share = spread([one["input_share"] for one in rounds]).median
    spent = share / PIPELINE_LIMIT + (1 - share)
    return PIPELINE_LIMIT if is_input_bound else round(1 / spent, 2)


def ratio(ours: list[Measurement], others: list[Measurement], key: str) -> Spread:
    """One measurement as a multiple of another, within each round."""
    return spread([one[key] / other[key] for one, other in zip(ours, others, strict=True)])

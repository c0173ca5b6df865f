"""Goals for speed and memory, and whether a measurement reaches them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from antioversmooth.config import FAST
from benchmarks import host
from benchmarks.compiled import COMPILED
from benchmarks.mlflow_sync import FIRST
from benchmarks.models import PLAIN
from benchmarks.pipeline import OURS, TIMM, Variant
from benchmarks.size import LIMIT_BYTES, LIMITS_S
from benchmarks.timing import Spread, relative, spread

_LIMITS = {
    ("DeiT-S", "attnscale"): (1.02, 1.11, 1.02),
    ("DeiT-S", "featscale"): (1.02, 1.11, 1.02),
    ("CaiT-S24", "attnscale"): (0.90, 0.85, 0.97),
    ("CaiT-S24", "featscale"): (0.90, 0.88, 0.99),
    ("Swin-S", "attnscale"): (1.06, 1.10, 1.04),
    ("Swin-S", "featscale"): (1.06, 1.10, 1.04),
}
"""Multiples of timm's own model: saved for backward, moved per step, time of a step."""
ATTENTION_LIMIT = 1.05
"""Forward pass of DeiT's attention layer, as a multiple of timm's."""
HOST_LIMIT = 1.15
"""Host time of a whole step, as a multiple of a plain step of timm's model."""
COMPILE_LIMIT_S = 60.0
"""First step of a compiled model, which compiles each kind of block once."""
SYNC_LIMIT_S = 60.0
"""On two cores, into SQLite."""
TABLE_LIMIT_S = 2.0
"""Of a thousand runs of 300 epochs, on two cores."""
PIPELINE_LIMIT, FAST_LIMIT, CACHE_LIMIT = 2.0, 3.0, 6.0
"""Views per second and core, as multiples of Pillow with timm's float transform: with the exact
policy, the fast one, and a decoded cache."""


@dataclass(frozen=True)
class Goal:
    """A measured number, and its limit."""

    name: str
    measured: Spread
    limit: float
    at_most: bool = True

    @property
    def reached(self) -> bool:
        """Whether the median, rounded to the two digits of the goal, is within the limit."""
        value = round(self.measured.median, 2)
        return value <= self.limit if self.at_most else value >= self.limit

    @property
    def is_clear(self) -> bool:
        """Whether the middle half of the rounds is on the same side of the limit as the median."""
        worst, best = (
            (self.measured.high, self.measured.low)
            if self.at_most
            else (-self.measured.low, -self.measured.high)
        )
        limit = self.limit if self.at_most else -self.limit
        return round(worst, 2) <= limit if self.reached else round(best, 2) > limit


def goals(measured: dict[str, Any]) -> list[Goal]:
    """All goals, each with its measurement."""
    found = []
    for (family, scaling), (saved, moved, time) in _LIMITS.items():
        case = measured["models"][family]
        name = f"{family}, {scaling}"
        step = relative(case["step_s"], PLAIN)[scaling]
        found += [
            Goal(f"{name}: saved for backward", exact(case["saved_bytes"], scaling), saved),
            Goal(f"{name}: moved per step", exact(case["moved_bytes"], scaling), moved),
            Goal(f"{name}: time of a step", step, time),
        ]
    layer = relative(measured["attention"]["forward_s"], PLAIN)
    found += [
        Goal(f"attention layer, {s}: forward", layer[s], ATTENTION_LIMIT)
        for s in dict.fromkeys(scaling for _, scaling in _LIMITS)
    ]
    found += [
        Goal(f"host, {name}{wrapped}", ratio, HOST_LIMIT)
        for wrapped, times in measured.get("host", {}).items()
        for name, ratio in relative(times, host.STOCK).items()
        if name != host.STOCK
    ]
    found += _compile_goals(measured.get("compiled", {}))
    speed = speeds(measured)
    mirrored = spread(measured["mirror"][FIRST])
    found.append(Goal(f"{FIRST}: seconds by the clock", mirrored, SYNC_LIMIT_S))
    name, seconds = next(iter(measured["table"].items()))
    found.append(Goal(f"{name}: seconds by the clock", spread(seconds), TABLE_LIMIT_S))
    found += _size_goals(measured.get("size", {}))
    return found + [
        Goal(f"input, {name}: views per core", speed[name], _input_limit(variant), at_most=False)
        for name, variant in OURS.items()
        if name in speed
    ]


def _compile_goals(rows: dict[str, Any]) -> list[Goal]:
    """The goals of compiled steps; of their time only where there is a compiler."""
    found = []
    for row, measured in rows.items():
        name = f"{row}, {COMPILED}"
        if "step_s" in measured:
            ratio = relative(measured["step_s"], host.STOCK)[COMPILED]
            found.append(Goal(f"host, {name}", ratio, HOST_LIMIT))
        counts = {
            "seconds of the first step": (measured["first_s"], COMPILE_LIMIT_S),
            "graph breaks": (measured["breaks"], 0),
            "graphs of later steps": (measured["again"], 0),
        }
        for what, (number, limit) in counts.items():
            found.append(Goal(f"{name}: {what}", Spread(number, number, number), limit))
    return found


def _input_limit(variant: Variant) -> float:
    if variant.cached:
        return CACHE_LIMIT
    return FAST_LIMIT if variant.policy == FAST else PIPELINE_LIMIT


def _size_goals(costs: dict[str, Any]) -> list[Goal]:
    """The goals of the commands about the largest number of runs."""
    found = []
    for command, limit in LIMITS_S.items() if costs else ():
        size, cost = list(costs[command].items())[-1]
        seconds, memory = cost["cpu_s"], cost["peak_bytes"] / 1e9
        name = f"{command}, {size} runs"
        found += [
            Goal(f"{name}: CPU seconds", Spread(seconds, seconds, seconds), limit),
            Goal(f"{name}: GB at the peak", Spread(memory, memory, memory), LIMIT_BYTES / 1e9),
        ]
    return found


def exact(values: dict[str, int], name: str) -> Spread:
    """A multiple of the plain model's number, without a spread."""
    ratio = values[name] / values[PLAIN]
    return Spread(ratio, ratio, ratio)


def speeds(measured: dict[str, Any]) -> dict[str, Spread]:
    """Views per second of each pipeline, as a multiple of timm's."""
    slower = relative(measured["pipeline"]["round_s"], TIMM)
    return {
        name: Spread(1 / found.median, 1 / found.high, 1 / found.low)
        for name, found in slower.items()
    }

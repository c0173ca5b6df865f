"""From observed runs to rows: mean and spread over seeds, the gain over the table's own baseline,
and a state.

Pure: nothing here touches the disk. A row only ever sees runs that were planned from its spec as it
is now, so numbers of different identities are never averaged.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from antioversmooth.config import Table, TableRow
from antioversmooth.reporting.table.observe import Observation, State
from antioversmooth.runs.metrics import VAL_TOP1


@dataclass(frozen=True)
class Sample:
    """A number that was measured n times."""

    mean: float
    std: float | None
    """Sample standard deviation (n - 1 in the denominator); None for n = 1."""
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Sample | None:
        """The sample of at least one value, else None."""
        if not values:
            return None
        return cls(
            statistics.mean(values),
            statistics.stdev(values) if len(values) > 1 else None,
            len(values),
        )


@dataclass(frozen=True)
class Gain:
    """A row's mean accuracy minus its baseline's, in points."""

    mean: float
    spread: float | None
    """Standard deviation of the difference of two runs, sqrt(std² + std²); None where either row
    has one seed."""
    beyond_spread: bool | None
    """Whether the gain is larger than that spread; None where there is none."""


@dataclass(frozen=True)
class RowResult:
    """A row of the table, measured."""

    row: TableRow
    seeds: tuple[Observation, ...]
    """One for each seed that was asked for; empty for a quoted row."""
    state: str
    """done (n=3), partial (2/3), running e5/8, submitted, stopped e5/8, failed, stale, missing, or
    quoted."""
    top1: Sample | None
    """Accuracy after the last epoch, in percent."""
    best: Sample | None
    """Accuracy after the best epoch: chosen on the validation set, so only for comparison with
    others who do that."""
    start: Sample | None
    """Accuracy of the weights that a fine-tuned row started from."""
    gain: Gain | None
    parameters: int | None
    gmacs: float | None
    """Multiply-adds of one image's forward pass, in 10⁹."""
    images_per_s: float | None
    """Training throughput of the run; None where the seeds ran on different devices."""
    device: str
    """On what the done seeds ran."""
    epochs: int | None
    device_hours: float | None
    """Summed over the done seeds."""

    @property
    def complete(self) -> bool:
        """Whether every seed that was asked for is done."""
        return all(seen.state is State.done for seen in self.seeds)


def aggregate(table: Table, observed: Mapping[str, Sequence[Observation]]) -> list[RowResult]:
    """One result for each row of the table, in its order.

    Args:
        observed: The runs of each experiment of the table, one for each seed that was asked for.
    """
    accuracy = {name: _sample(seeds, VAL_TOP1) for name, seeds in observed.items()}
    return [
        _row(row, observed.get(row.experiment or "", ()), accuracy.get(row.baseline or ""))
        for row in table.rows
    ]


def _row(row: TableRow, seeds: Sequence[Observation], baseline: Sample | None) -> RowResult:
    results = _results(seeds)
    top1 = _sample(seeds, VAL_TOP1)
    devices = list(dict.fromkeys(r["device"] for r in results))
    return RowResult(
        row=row,
        seeds=tuple(seeds),
        state=row_state(seeds),
        top1=top1,
        best=_sample(seeds, VAL_TOP1, within="best"),
        start=_sample(seeds, VAL_TOP1, within="start"),
        gain=gain(top1, baseline),
        parameters=results[0]["parameters"] if results else None,
        gmacs=results[0]["gmacs"] if results else None,
        images_per_s=_mean([r["images_per_s"] for r in results]) if len(devices) == 1 else None,
        device=", ".join(devices),
        epochs=seeds[0].run.experiment.recipe.epochs if seeds else None,
        device_hours=math.fsum(r["device_hours"] for r in results) if results else None,
    )


def _results(seeds: Sequence[Observation]) -> list[dict[str, Any]]:
    return [seen.result for seen in seeds if seen.result is not None]


def _sample(seeds: Sequence[Observation], metric: str, *, within: str = "metrics") -> Sample | None:
    """The sample of a metric over the done seeds; None unless all of them have it."""
    parts = [result.get(within) or {} for result in _results(seeds)]
    return Sample.of([part[metric] for part in parts]) if all(parts) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if known else None


def gain(ours: Sample | None, baseline: Sample | None) -> Gain | None:
    """How much better the row is than its baseline; None while either is not measured."""
    if ours is None or baseline is None:
        return None
    difference = ours.mean - baseline.mean
    if ours.std is None or baseline.std is None:
        return Gain(difference, None, None)
    spread = math.hypot(ours.std, baseline.std)
    return Gain(difference, spread, difference > spread)


def row_state(seeds: Sequence[Observation]) -> str:
    """The state of a row in a few words: of all its seeds once some are done, before that of the
    furthest."""
    if not seeds:
        return "quoted"
    done = sum(seen.state is State.done for seen in seeds)
    if done:
        return f"done (n={done})" if done == len(seeds) else f"partial ({done}/{len(seeds)})"
    return seed_state(min(seeds, key=_furthest))


_ORDER = [State.running, State.failed, State.stopped, State.submitted, State.stale, State.missing]


def _furthest(seen: Observation) -> tuple[int, int]:
    return _ORDER.index(seen.state), -seen.epoch


def seed_state(seen: Observation) -> str:
    """The state of one run in a few words."""
    if seen.state in (State.running, State.stopped):
        return f"{seen.state.name} e{seen.epoch}/{seen.run.experiment.recipe.epochs}"
    return seen.state.name

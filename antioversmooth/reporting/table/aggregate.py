"""Rows of a table from observed runs: mean and spread over seeds, gain over the baseline, state.

Pure: nothing here touches the disk. A row only sees runs that were planned from its current spec,
so numbers of different identities are never averaged.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from antioversmooth.config import Table, TableRow
from antioversmooth.reporting.table.differences import Difference, difference
from antioversmooth.reporting.table.observe import Observation
from antioversmooth.runs.metrics import VAL_TOP1
from antioversmooth.runs.status import RunState


@dataclass(frozen=True)
class Sample:
    """Mean and spread of a number that was measured n times."""

    mean: float
    std: float | None
    """Sample standard deviation (n - 1 in the denominator); None for n = 1."""
    n: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Sample | None:
        """The sample of at least one value, else None."""
        if not values:
            return None
        std = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.mean(values), std, len(values))


@dataclass(frozen=True)
class RowResult:
    """A row of the table with its runs; its columns are measured from here (columns.py)."""

    row: TableRow
    seeds: tuple[Observation, ...]
    """One for each seed that was asked for; empty for a quoted row."""
    baseline: RowResult | None = None
    """The row that differences are measured against."""
    footnote: int | None = None
    """Number of the source of the paper's value, from 1."""
    comparable: bool = False
    """Whether it was measured on what the paper measured on."""

    @cached_property
    def done(self) -> dict[int, Observation]:
        """The runs that are done, by their seeds."""
        return {seen.run.seed: seen for seen in self.seeds if seen.result is not None}

    @cached_property
    def results(self) -> list[dict[str, Any]]:
        """`result.json` of the done seeds."""
        return [seen.result for seen in self.done.values() if seen.result is not None]

    @property
    def complete(self) -> bool:
        """Whether every seed that was asked for is done."""
        return all(seen.state is RunState.done for seen in self.seeds)

    @property
    def state(self) -> str:
        """done (n=3), partial (2/3), quoted, or the state of the seed that is furthest."""
        return row_state(self.seeds)

    @cached_property
    def top1(self) -> Sample | None:
        """Accuracy after the last epoch, in percent."""
        return self.sample(_top1)

    @property
    def best(self) -> Sample | None:
        """Accuracy after the best epoch: chosen on the validation set, so only for comparison with
        others who do that."""
        return self._sample_of("best")

    @property
    def start(self) -> Sample | None:
        """Accuracy of the weights that a fine-tuned row started from; None where its classifier
        started anew, since an untrained one only guesses."""
        loaded = [(result.get("start") or {}).get("weights") or {} for result in self.results]
        return None if any("reset" in one for one in loaded) else self._sample_of("start")

    def _sample_of(self, part: str) -> Sample | None:
        """The accuracy in a part of the results; None unless all of them have it."""
        parts = [result.get(part) or {} for result in self.results]
        return Sample.of([part[VAL_TOP1] for part in parts]) if all(parts) else None

    @property
    def gain(self) -> Difference | None:
        """Accuracy minus that of the baseline, in points."""
        return self.over_baseline(_top1)

    def sample(self, value: Callable[[Observation], float | None]) -> Sample | None:
        """Mean and spread of a value over the done seeds that have it."""
        return Sample.of(list(self.by_seed(value).values()))

    def by_seed(self, value: Callable[[Observation], float | None]) -> dict[int, float]:
        """A value of the done seeds that have it."""
        found = {seed: value(seen) for seed, seen in self.done.items()}
        return {seed: number for seed, number in found.items() if number is not None}

    def over_baseline(self, value: Callable[[Observation], float | None]) -> Difference | None:
        """The difference of a value from the baseline's; None while either is not measured."""
        if self.baseline is None:
            return None
        return difference(self.by_seed(value), self.baseline.by_seed(value))


def _top1(seen: Observation) -> float | None:
    return float(seen.result["metrics"][VAL_TOP1]) if seen.result else None


def aggregate(
    table: Table, observed: Mapping[str, Sequence[Observation]], *, comparable: bool = False
) -> list[RowResult]:
    """One result for each row of the table, in its order.

    Args:
        observed: The runs of each row, by its name, one for each seed that was asked for.
        comparable: Whether they were measured on what the paper measured on.
    """
    footnotes = {source: number for number, source in enumerate(sources(table), start=1)}
    rows = [
        RowResult(
            row,
            # the spec of a run may be of a launch under another name
            tuple(replace(seen, row=row.row_name) for seen in observed.get(row.row_name, ())),
            footnote=footnotes[row.paper.reference] if row.paper else None,
            comparable=comparable,
        )
        for row in table.rows
    ]
    by_name = {row.row.row_name: row for row in rows if row.row.row_name}
    return [replace(row, baseline=by_name.get(row.row.baseline or "")) for row in rows]


def sources(table: Table) -> list[str]:
    """The sources of the paper's values with their settings, in the order of their footnotes."""
    return list(dict.fromkeys(row.paper.reference for row in table.rows if row.paper))


def row_state(seeds: Sequence[Observation]) -> str:
    """The state of a row: counts once some seeds are done, else that of the furthest seed."""
    if not seeds:
        return "quoted"
    done = sum(seen.state is RunState.done for seen in seeds)
    if done:
        return f"done (n={done})" if done == len(seeds) else f"partial ({done}/{len(seeds)})"
    return seed_state(min(seeds, key=lambda seen: (_ORDER.index(seen.state), -seen.epoch)))


_ORDER = (
    RunState.running,
    RunState.failed,
    RunState.out_of_memory,
    RunState.stopped,
    RunState.preempted,
    RunState.timed_out,
    RunState.node_failure,
    RunState.lost,
    RunState.submitted,
    RunState.waiting,
    RunState.stale,
    RunState.missing,
)
"""States of unfinished runs, as their directories tell them; the one to show first comes first."""


def seed_state(seen: Observation) -> str:
    """The state of one run in a few words."""
    if seen.state is RunState.running or seen.state.is_resumable:
        return f"{seen.state.value} e{seen.epoch}/{seen.run.experiment.recipe.epochs}"
    return str(seen.state.value)

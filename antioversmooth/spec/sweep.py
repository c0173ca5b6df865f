"""Sweeps: overrides with several values make a table of all their combinations.

A row of the table is named after what differs: `deit_s12-base_lr_0.001-scaling_variant_paper`. It
has the spec, and so the run directory, of the row that it changes: the same change as a single
override is the same run. Combinations that compute the same are one row.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from typing import Any

from antioversmooth.config import Experiment, Table, TableRow
from antioversmooth.config.types import is_config
from antioversmooth.errors import SpecError, and_more
from antioversmooth.runs import ORIGINS, to_json
from antioversmooth.runs.identity import computed_fields, origin
from antioversmooth.spec import fields, naming
from antioversmooth.spec.commandline import Axis, key_of, merged

MOST_ROWS = 10_000
Combination = tuple[str, ...]
"""One override of each axis."""
Composed = Mapping[tuple[str, Combination], Experiment]
"""The experiment of each row, by its name, and combination."""


def ordered(axes: Sequence[Axis]) -> list[Axis]:
    """The axes in the order of their names, whatever that of the command line."""
    shorts = naming.short_keys([axis.key for axis in axes])
    return sorted(axes, key=lambda axis: (shorts[axis.key], axis.key))


def combinations(axes: Sequence[Axis], overrides: Sequence[str], rows: int) -> list[Combination]:
    """All combinations of the axes, the first one changing slowest.

    Args:
        overrides: All of the command line.
        rows: The number of rows that they change.

    Raises:
        SpecError: A key is given twice, or there are more rows than a request may have.
    """
    keys = [key_of(override) for override in overrides]
    for axis in axes:
        if keys.count(axis.key) > 1:
            raise SpecError("is given twice", where=f"command line: {axis.key}")
    if rows * prod(len(axis.overrides) for axis in axes) > MOST_ROWS:
        swept = " x ".join(axis.key for axis in axes)
        message = f"makes more than {MOST_ROWS:,} rows; launch parts of it"
        raise SpecError(message, where=f"command line: {swept}")
    return [*product(*(axis.overrides for axis in axes))]


@dataclass(frozen=True)
class Column:
    """The names of an axis and of its values."""

    axis: Axis
    short: str
    """Its key in names."""
    labels: Mapping[str, str]
    """Key and value for people, by override."""
    slugs: Mapping[str, str]
    """Key and value as a part of the name of a row, by override."""


@dataclass(frozen=True)
class Variant:
    """A row in one of its combinations."""

    name: str
    combination: Combination
    """The first of those that compute the same."""
    effective: Sequence[int]
    """The axes that change the row."""


class Sweep:
    """The rows that the axes of a command line make of other rows.

    Args:
        fixed: The overrides with one value.

    Raises:
        SpecError: An axis has a value twice.
    """

    def __init__(self, axes: Sequence[Axis], fixed: Sequence[str], composed: Composed) -> None:
        self.composed = composed
        self.fixed = [text for text in fixed if changes_rows(text)]
        self.combinations = [*dict.fromkeys(combination for _, combination in composed)]
        self.of_spec = {(found.name, one): found for (_, one), found in composed.items()}
        shorts = naming.short_keys([axis.key for axis in axes])
        self.columns = [self._column(axis, shorts[axis.key]) for axis in axes]
        self.experiments: dict[str, Experiment] = {}
        """Those of the tables that were made, by the name of the row."""
        self.dropped: dict[str, list[str]] = {}
        """Rows by a note on those of their combinations that are no rows of their own."""

    def _column(self, axis: Axis, short: str) -> Column:
        examples = {
            override: experiment
            for (_, combination), experiment in self.composed.items()
            for override in combination
        }
        texts = [_value(axis.key, override, examples[override]) for override in axis.overrides]
        text, uses = Counter(texts).most_common(1)[0]
        if uses > 1:
            raise SpecError(f"has the value {text} twice", where=f"command line: {axis.key}")
        slugs, key = naming.slugs(texts), short.replace("_", " ")
        pairs = [*zip(axis.overrides, texts, strict=True)]
        return Column(
            axis,
            short,
            {override: f"{key} {text}" for override, text in pairs},
            {override: f"{short}_{slugs[text]}" for override, text in pairs},
        )

    def title(self, row: str) -> str:
        """The title of a row."""
        experiment = self.composed[row, self.combinations[0]]
        return experiment.title or experiment.name

    def table(self, table: Table) -> Table:
        """The table with each of its rows in all combinations."""
        made_of = {
            row.row_name: self._variants(row.row_name) for row in table.rows if row.experiment
        }
        rows = [new for row in table.rows for new in self._rows(row, made_of)]
        by = ", ".join(column.short.replace("_", " ") for column in self.columns)
        name = naming.join([table.name, *self.differences])
        return Table(name, f"{table.title}: by {by}", table.caption, rows)

    @property
    def notes(self) -> list[str]:
        """Sentences about combinations that are no rows of their own."""
        return [f"{and_more(rows, 3)}: {note}" for note, rows in self.dropped.items()]

    @cached_property
    def differences(self) -> tuple[str, ...]:
        """Parts of a name that tell what differs from the specs: values, and other overrides."""
        parts = []
        for column in self.columns:
            start = len(column.short) + 1
            values = sorted(slug[start:] for slug in column.slugs.values())
            parts.append("_".join([column.short, *values]))
        # the profile has a results folder of its own
        others = [text for text in self.fixed if key_of(text) != "profile"]
        shorts = naming.short_keys([key_of(text) for text in others])
        values = [f"{shorts[key_of(text)]}_{text.partition('=')[2]}" for text in others]
        return (*parts, *sorted(naming.slugs(values).values()))

    def _variants(self, row: str) -> dict[Combination, Variant]:
        """The variant of a row in each combination."""
        sciences = {one: self._science(self.composed[row, one], one) for one in self.combinations}
        effective = [
            index
            for index, column in enumerate(self.columns)
            if any(
                sciences[one] != sciences[_with(one, index, column.axis.overrides[0])]
                for one in self.combinations
            )
        ]
        first: dict[str, Variant] = {}
        for one in self.combinations:
            slugs = [self.columns[index].slugs[one[index]] for index in effective]
            variant = Variant(naming.join([row, *slugs]), one, effective)
            first.setdefault(sciences[one], variant)
        if dropped := len(self.combinations) - len(first):
            keys = [c.axis.key for i, c in enumerate(self.columns) if i not in effective]
            reason = f"; {' and '.join(keys)} without effect" if keys else ""
            number = f"{dropped:,} of {len(self.combinations):,} combinations"
            note = f"{number} compute the same as others, and are no rows of their own{reason}"
            self.dropped.setdefault(note, []).append(row)
        return {one: first[science] for one, science in sciences.items()}

    def _science(
        self, experiment: Experiment, combination: Combination, chain: tuple[str, ...] = ()
    ) -> str:
        """Text that identifies what an experiment computes, with what it starts from."""
        before = []
        for field in ORIGINS:
            kind, name = origin(experiment, field)
            needed = self.of_spec.get((name, combination)) if kind == "run" else None
            if needed and name not in chain:
                before.append(self._science(needed, combination, (*chain, name)))
        return json.dumps([computed_fields(experiment), before], sort_keys=True)

    def _rows(
        self, row: TableRow, made_of: Mapping[str, Mapping[Combination, Variant]]
    ) -> Iterator[TableRow]:
        """The rows that a row becomes; one that only quotes stays as it is."""
        if not row.experiment:
            yield row
            return
        for variant in {one.name: one for one in made_of[row.row_name].values()}.values():
            one = variant.combination
            labels = [self.columns[index].labels[one[index]] for index in variant.effective]
            changes = [*self.fixed, *(one[index] for index in variant.effective)]
            overrides = merged(row.overrides, changes)
            self._add(row, variant, labels)
            yield replace(
                row,
                label=", ".join(filter(None, [row.label, *labels])) or row.group,
                name=variant.name if overrides else row.name,
                baseline=made_of[row.baseline][one].name if row.baseline else None,
                overrides=overrides,
            )

    def _add(self, row: TableRow, variant: Variant, labels: Sequence[str]) -> None:
        """Keeps the experiment of a variant, named as its row."""
        experiment = self.composed[row.row_name, variant.combination]
        is_named = variant.name != experiment.name
        title = ": ".join(filter(None, [experiment.title or experiment.name, ", ".join(labels)]))
        self.experiments[variant.name] = replace(
            experiment, row=variant.name if is_named else "", title=title
        )


def _with(combination: Combination, index: int, override: str) -> Combination:
    return (*combination[:index], override, *combination[index + 1 :])


def changes_rows(override: str) -> bool:
    """Whether an override belongs to what a row is, rather than to where and how it runs."""
    return key_of(override) == "profile" or fields.identifies(key_of(override))


def _value(key: str, override: str, experiment: Experiment) -> str:
    """The value of an override as the experiment has it; of a group its option."""
    kind = fields.kind_of(key)
    if kind is None or is_config(kind):
        return override.partition("=")[2]
    value: Any = to_json(experiment)
    for name in key.split("."):
        value = value[name]
    return naming.value_text(value)

"""Tables, and the published numbers in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from antioversmooth.config.constraints import (
    MISSING,
    between,
    each,
    file_name,
    not_blank,
    not_empty,
    one_of,
    option,
)
from antioversmooth.config.rules import Broken, Config, rule

CONFIDENCES = ("V", "Q", "C", "M", "D")
"""V: seen verbatim; Q: quoted by a named follow-up; C: computed; M: from memory; D: derived."""


@dataclass
class PaperValue(Config, section="paper"):
    """A number that the table compares with."""

    top1: float = option(MISSING, between(1, 100, "a percentage, such as 79.8"))
    """ImageNet-1k top-1 accuracy, in percent."""
    source: str = option(MISSING, not_blank("the source of the number"))
    """The publication that printed it."""
    confidence: str = option(MISSING, one_of(*CONFIDENCES))
    """V: seen verbatim; Q: quoted by a named follow-up; M: from memory; D: derived."""


@dataclass
class TableRow(Config, section="rows"):
    """A row: an experiment, or a number quoted from literature."""

    label: str = option(prose=True)
    """Text in the table: DeiT-S + AttnScale."""
    experiment: str | None = None
    """Name of the row's spec; null: the row only quotes."""
    group: str = option("", prose=True)
    """Heading that adjacent rows share: DeiT-S, 12 layers."""
    baseline: str | None = None
    """Experiment of this table that `gain` is measured against."""
    paper: PaperValue | None = None
    """The paper's number."""


@dataclass
class Table(Config):
    """A table of results: which rows, and what they are compared with."""

    name: str = option(MISSING, file_name())
    """The file name without ending; names the rendered files."""
    title: str = option(prose=True)
    """First line of the rendered table."""
    caption: str = option("", prose=True)
    """Text below the table."""
    rows: list[TableRow] = option([], not_empty("row"))
    """In the order they are printed."""
    figures: list[str] = option([], each(file_name()))
    """Names of figures that are drawn along with the table; their rows are rows of it."""

    @rule("rows", "rows[].experiment")
    def _each_experiment_once(self) -> Iterator[Broken]:
        names = [row.experiment for row in self.rows]
        for i, name in enumerate(names):
            if name is not None and name in names[:i]:
                yield Broken(f"rows[{i}].experiment", name, "each experiment at most once")

    @rule("rows", "rows[].experiment", "rows[].paper")
    def _a_number_in_each_row(self) -> Iterator[Broken]:
        for i, row in enumerate(self.rows):
            if row.experiment is None and row.paper is None:
                expected = "an experiment, or null in a row with a paper value to quote"
                yield Broken(f"rows[{i}].experiment", None, expected)

    @rule("rows", "rows[].experiment", "rows[].baseline")
    def _baselines_are_other_rows(self) -> Iterator[Broken]:
        names = [row.experiment for row in self.rows if row.experiment]
        for i, row in enumerate(self.rows):
            if row.baseline is not None and row.baseline not in names:
                expected = f"an experiment of this table: {', '.join(names)}"
                yield Broken(f"rows[{i}].baseline", row.baseline, expected)
            elif row.baseline is not None and row.baseline == row.experiment:
                yield Broken(f"rows[{i}].baseline", row.baseline, "another row than this one")

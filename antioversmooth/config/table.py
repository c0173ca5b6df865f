"""Tables, and the published numbers in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from antioversmooth.config.rules import Broken, Config, rule
from antioversmooth.constraints import (
    MISSING,
    at_least,
    between,
    distinct,
    each,
    file_name,
    file_name_or_empty,
    not_blank,
    not_empty,
    one_of,
    option,
)

CONFIDENCES = ("V", "Q", "C", "M", "D")
"""V: seen verbatim; Q: quoted by a named follow-up; C: computed; M: from memory; D: derived."""
EXTRA_COLUMNS = ("similarity", "train_loss", "step_time", "added_macs", "added_parameters")
"""Columns that a table has only where its spec names them; docs/results.md describes them."""


@dataclass
class PaperValue(Config, section="paper"):
    """A number that the table compares with."""

    top1: float = option(MISSING, between(1, 100, "a percentage, such as 79.8"))
    """ImageNet-1k top-1 accuracy, in percent."""
    source: str = option(MISSING, not_blank("the source of the number"))
    """The publication that printed it."""
    confidence: str = option(MISSING, one_of(*CONFIDENCES))
    """V: seen verbatim; Q: quoted by a named follow-up; M: from memory; D: derived."""
    setting: str = option("", prose=True)
    """How the model behind it was trained, beside `epochs`: 20 epochs of warm-up."""
    epochs: int | None = option(None, at_least(1))
    """Epochs of the training behind it; null: not known."""

    @property
    def reference(self) -> str:
        """The source with the setting, which the footnote of the number shows."""
        epochs = f"{self.epochs} epochs" if self.epochs else ""
        details = "; ".join(filter(None, [epochs, self.setting]))
        return f"{self.source} ({details})" if details else self.source


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
    """Row of this table, by its name, that `gain` is measured against."""
    paper: PaperValue | None = None
    """The paper's number."""
    name: str = option("", file_name_or_empty())
    """Name of the row where the table has several rows of one spec; empty: that of the spec."""
    overrides: list[str] = option([])
    """Changes of the spec, as on the command line: recipe.base_lr=0.001."""

    @property
    def row_name(self) -> str:
        """Name of the row in its table; empty: the row only quotes."""
        return self.name or self.experiment or ""

    @rule("overrides", "name")
    def _changed_rows_have_a_name(self) -> Iterator[Broken]:
        if self.overrides and not self.name:
            expected = "a name, beside overrides: another row of the table may have this spec, too"
            yield Broken("name", "", expected, also=("overrides",))


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
    related: list[str] = option([], each(file_name()))
    """Names of other tables, which its page links to."""
    columns: list[str] = option([], each(one_of(*EXTRA_COLUMNS)), distinct("column"))
    """Further columns: similarity, train_loss, step_time, added_macs, added_parameters."""

    @rule("rows", "rows[].experiment", "rows[].name")
    def _each_row_once(self) -> Iterator[Broken]:
        seen = set()
        for i, row in enumerate(self.rows):
            if row.row_name in seen:
                key, expected = "experiment", "each experiment at most once"
                if row.name:
                    key, expected = "name", "each name at most once"
                yield Broken(f"rows[{i}].{key}", row.row_name, expected)
            seen |= {row.row_name} - {""}

    @rule("rows", "rows[].experiment", "rows[].paper")
    def _a_number_in_each_row(self) -> Iterator[Broken]:
        for i, row in enumerate(self.rows):
            if row.experiment is None and row.paper is None:
                expected = "an experiment, or null in a row with a paper value to quote"
                yield Broken(f"rows[{i}].experiment", None, expected)

    @rule("rows", "rows[].experiment", "rows[].baseline", "rows[].name")
    def _baselines_are_other_rows(self) -> Iterator[Broken]:
        names = [row.row_name for row in self.rows if row.experiment]
        for i, row in enumerate(self.rows):
            if row.baseline is not None and row.baseline not in names:
                expected = f"an experiment of this table: {', '.join(names)}"
                yield Broken(f"rows[{i}].baseline", row.baseline, expected)
            elif row.baseline is not None and row.baseline == row.row_name:
                yield Broken(f"rows[{i}].baseline", row.baseline, "another row than this one")

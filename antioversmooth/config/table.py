"""Tables, and the published numbers in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from antioversmooth.config.checks import MISSING, rules

CONFIDENCES = ("V", "Q", "C", "M", "D")
"""V: seen verbatim; Q: quoted by a named follow-up; C: computed; M: from memory; D: derived."""


@dataclass
class PaperValue:
    """A number that the table compares with."""

    top1: float = MISSING
    """ImageNet-1k top-1 accuracy, in percent."""
    source: str = MISSING
    """Who printed it."""
    confidence: str = MISSING
    """V: seen verbatim; Q: quoted by a named follow-up; M: from memory; D: derived. Never left
    out."""

    def __post_init__(self) -> None:
        with rules() as require:
            require(1 <= self.top1 <= 100, "paper.top1", self.top1, "a percentage, such as 79.8")
            require(
                self.confidence in CONFIDENCES,
                "paper.confidence",
                self.confidence,
                f"one of {', '.join(CONFIDENCES)}",
            )
            require(
                bool(self.source.strip()),
                "paper.source",
                self.source,
                "a paper value needs its source",
            )


@dataclass
class TableRow:
    """A row: an experiment, or a number quoted from literature."""

    label: str = MISSING
    """What the table prints: DeiT-S + AttnScale."""
    experiment: str | None = None
    """Name of the spec, beside the tables folder; null: the row is only quoted."""
    group: str = ""
    """Rows of one group stand together: DeiT-S, 12 layers."""
    baseline: str | None = None
    """Experiment of this table that `gain` is measured against."""
    paper: PaperValue | None = None
    """The paper's number."""


@dataclass
class Table:
    """A table of results: which rows, and what they are compared with."""

    name: str = MISSING
    """The file name without ending; names the rendered files."""
    title: str = MISSING
    """First line of the rendered table."""
    caption: str = ""
    """What a reader must know to read it."""
    rows: list[TableRow] = field(default_factory=list)
    """In the order they are printed."""
    figures: list[str] = field(default_factory=list)
    """Names of figures that are drawn along with the table; their rows are rows of it."""

    def __post_init__(self) -> None:
        with rules() as require:
            names = [row.experiment for row in self.rows if row.experiment]
            require(bool(self.rows), "rows", [], "at least one row")
            for i, row in enumerate(self.rows):
                once = row.experiment not in [
                    before.experiment for before in self.rows[:i] if before.experiment
                ]
                require(
                    once, f"rows[{i}].experiment", row.experiment, "each experiment at most once"
                )
                known = row.baseline is None or row.baseline in names
                require(
                    known,
                    f"rows[{i}].baseline",
                    row.baseline,
                    f"an experiment of this table: {', '.join(names)}",
                )
                own = row.baseline is not None and row.baseline == row.experiment
                require(not own, f"rows[{i}].baseline", row.baseline, "another row than this one")
                filled = row.experiment is not None or row.paper is not None
                right = f"row {row.label!r} needs an experiment, or a paper value to quote"
                require(filled, f"rows[{i}].experiment", None, right)

"""Registry of the columns of a table: one entry each, from the measurement to every format.

A new column is one entry in `COLUMNS`. JSON, Markdown, LaTeX, CSV, the HTML page and the terminal
take their columns from here.
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from antioversmooth import runs
from antioversmooth.config import PaperValue
from antioversmooth.constraints import NAME
from antioversmooth.reporting.table.aggregate import RowResult
from antioversmooth.reporting.table.differences import Difference, paired
from antioversmooth.reporting.table.observe import Observation
from antioversmooth.runs.metrics import AMOUNT, COSINE, PERCENT, SPEED
from antioversmooth.shapes import Bounds, Shape

Row = dict[str, Any]
"""A row of the JSON document."""


@dataclass(frozen=True)
class Column:
    """A column of the table."""

    key: str
    """Key in a row of the JSON; with a dot: a part of another column's value."""
    header: str = ""
    """Heading in tables for people; empty: only in JSON and CSV."""
    header_elsewhere: str = ""
    """Heading where the table was measured on other data than the paper's, if it differs."""
    measure: Callable[[RowResult], Any] | None = None
    """The value in the JSON; None: a part of another column's value, which is measured there."""
    shape: Shape = (float, None)
    """The JSON value (shapes.py)."""
    text: Callable[[Any, int], str] = lambda value, digits: str(value)
    """The cell for people, from a value that is not None and the decimals of accuracies."""
    sort: str | None = None
    """Path of the number to sort by within the value, "" for the value itself; None: a column of
    words, aligned left."""
    csv: Mapping[str, str] | None = None
    """Names of CSV columns, and their paths within the value; None: the key and the value."""
    tier: int = 1
    """Order in tables for people: 0 for the comparison, 1 for its circumstances, 2 for the end."""
    priority: int = 9
    """Order in which columns get room on a narrow terminal, 1 first."""
    in_print: bool = True
    """Whether a printed page has room for it."""
    extra: str = ""
    """Name in `columns` of a table's spec, which alone has it then; empty: every table has it."""
    beside_baseline: bool = False
    """Whether the value comes from the runs of the row's baseline, too."""
    from_spec: bool = False
    """Whether the value comes from the table's spec and not from runs."""

    def heading(self, *, comparable: bool) -> str:
        """The header in a table that was measured on the paper's data, or on other data."""
        return self.header if comparable else self.header_elsewhere or self.header

    def value(self, row: Row) -> Any:
        """The value in a row of the JSON; None where it is unknown, or older than the column."""
        return dig(row, self.key)

    def cell(self, row: Row, digits: int) -> str:
        """The text in a row; empty where there is no value."""
        value = self.value(row)
        return "" if value is None else self.text(value, digits)

    def number(self, row: Row) -> float | None:
        """The number to sort a row by."""
        return None if self.sort is None else dig(self.value(row), self.sort)

    def csv_paths(self) -> Mapping[str, str]:
        """The names of its CSV columns, and their paths within the value."""
        return {self.key: ""} if self.csv is None else self.csv


def dig(value: Any, path: str) -> Any:
    """The value at a path of keys with dots between them; None where there is none."""
    for key in filter(None, path.split(".")):
        value = value.get(key) if isinstance(value, dict) else None
    return value


# -- measurements ----------------------------------------------------------------------------------


def _first(key: str) -> Callable[[RowResult], Any]:
    """A value of `result.json` that all seeds share."""
    return lambda row: row.results[0][key] if row.results else None


def _paper(row: RowResult) -> Row | None:
    paper = row.row.paper
    return {**stated(paper), "footnote": row.footnote} if paper else None


def stated(paper: PaperValue) -> Row:
    """The fields of a published value, without a setting and a length that are not known."""
    return {key: value for key, value in runs.to_json(paper).items() if value not in ("", None)}


def _difference(row: RowResult) -> float | None:
    paper = row.row.paper
    return row.top1.mean - paper.top1 if row.comparable and row.top1 and paper else None


def _devices(row: RowResult) -> list[str]:
    """The devices of all attempts of the done seeds, each once."""
    return list(dict.fromkeys(device for seen in row.done.values() for device in seen.devices))


def _images_per_s(row: RowResult) -> float | None:
    """The mean over the seeds; None where their attempts ran on different devices."""
    speeds = [speed for result in row.results if (speed := result["images_per_s"]) is not None]
    return statistics.mean(speeds) if speeds and len(_devices(row)) == 1 else None


def _epochs(row: RowResult) -> int | None:
    return row.seeds[0].run.experiment.recipe.epochs if row.seeds else None


def _device_hours(row: RowResult) -> float | None:
    """The sum over the done seeds."""
    hours = [result["device_hours"] for result in row.results]
    return math.fsum(hours) if hours else None


def _similarity(seen: Observation) -> float | None:
    """Similarity of tokens after the last block, by the authors' definition."""
    layers = dig(seen.result, "similarity.tokens")
    return layers[-1] if layers else None


def _train_loss(seen: Observation) -> float | None:
    return seen.record.train_loss


def _step_time(row: RowResult) -> Difference | None:
    """Percent of training time per image that the row adds, of runs on equal devices."""
    if row.baseline is None:
        return None
    added = {}
    for seed, seen in row.done.items():
        base = row.baseline.done.get(seed)
        if base and _machine(base) == _machine(seen):
            ours, theirs = (dig(one.result, "images_per_s") for one in (seen, base))
            if ours and theirs:
                added[seed] = 100 * (theirs / ours - 1)
    return paired(added) if added else None


def _machine(seen: Observation) -> tuple[list[str], int | None]:
    return seen.devices, dig(seen.result, "world_size")


def _added_macs(row: RowResult) -> float | None:
    """Percent of multiply-adds of a forward pass that the row adds."""
    ours, theirs = _beside_baseline(row, "gmacs")
    return 100 * (ours / theirs - 1) if ours and theirs else None


def _added_parameters(row: RowResult) -> int | None:
    ours, theirs = _beside_baseline(row, "parameters")
    return ours - theirs if ours and theirs else None


def _beside_baseline(row: RowResult, key: str) -> tuple[Any, Any]:
    """A value that all seeds share, of the row and its baseline."""
    value = _first(key)
    return value(row), value(row.baseline) if row.baseline else None


# -- texts -----------------------------------------------------------------------------------------


def sample(value: Row, digits: int) -> str:
    """80.12 ± 0.08, or the mean alone where there is one seed."""
    return f"{value['mean']:.{digits}f}{_spread(value['std'], digits)}"


def signed(value: float, digits: int) -> str:
    """A difference with its sign, which rounding to zero does not change: −0.04 is −0.0, so that an
    interval from there on is seen to contain zero."""
    # a sum that is zero but for its rounding errors is +0.0
    return f"{round(value, 9) + 0.0:+.{digits}f}".replace("-", "−")


def significant(value: float, digits: int, unit: float = 1.0) -> str:
    """Three significant digits, or all digits of the whole part, with thousands separated."""
    scaled = value / unit
    return f"{scaled:,.0f}" if abs(scaled) >= 100 else f"{scaled:#.3g}"


def _spread(value: float | None, digits: int) -> str:
    return "" if value is None else f" ± {value:.{digits}f}"


def _paper_text(value: Row, digits: int) -> str:
    return f"{value['top1']:.1f} {value['confidence']} [{value['footnote']}]"


def difference(value: Row, digits: int) -> str:
    """+0.31 [−0.12, +0.74] (n=3): the mean, its 95 % interval, and the pairs that it is over."""
    mean, interval, n = signed(value["mean"], digits), value.get("interval"), value.get("n")
    if not interval:
        return f"{mean} (unpaired)" if n == 0 else mean
    ends = f"[{signed(interval['low'], digits)}, {signed(interval['high'], digits)}]"
    return f"{mean} {ends} ({f'n={n}' if n else 'unpaired'})"


def _three_digits(text: Callable[[Any, int], str]) -> Callable[[Any, int], str]:
    """The text of a value near 1, whatever the digits of accuracies."""
    return lambda value, digits: text(value, 3)


def _yes_no(value: bool, digits: int) -> str:
    return "yes" if value else "no"


# -- registry --------------------------------------------------------------------------------------

_NAME = (re.compile(NAME), None)
_POINTS = Bounds(-100, 100)
_PAPER = {
    "top1": PERCENT,
    "source": str,
    "confidence": str,
    "setting?": str,
    "epochs?": int,
    "footnote": int,
}


def _sample_shape(mean: Shape) -> Shape:
    return ({"mean": mean, "std": (AMOUNT, None), "n": int}, None)


def _difference_shape(mean: Shape) -> Shape:
    """The shape of a `Difference`, of which tables of format 1 had the mean only."""
    interval = ({"low": float, "high": float, "contains_zero": bool}, None)
    rest = {"interval?": interval, "n?": int, "seeds?": [int], "pairs?": [mean]}
    return ({"mean": mean, **rest}, None)


def _difference_csv(name: str) -> dict[str, str]:
    ends = {f"{name}_low": "interval.low", f"{name}_high": "interval.high"}
    return {name: "mean", **ends, f"{name}_pairs": "n"}


COLUMNS = [
    Column(
        "group",
        "backbone",
        measure=lambda row: row.row.group,
        shape=str,
        tier=0,
        priority=6,
        from_spec=True,
    ),
    Column(
        "label",
        "model",
        measure=lambda row: row.row.label,
        shape=str,
        tier=0,
        priority=1,
        from_spec=True,
    ),
    Column("experiment", measure=lambda row: row.row.experiment, shape=_NAME, from_spec=True),
    Column("baseline", measure=lambda row: row.row.baseline, shape=_NAME, csv={}, from_spec=True),
    Column("state", "state", measure=lambda row: row.state, shape=str, tier=2, priority=3),
    Column(
        "top1",
        "top-1 (%)",
        measure=lambda row: row.top1,
        shape=_sample_shape(PERCENT),
        text=sample,
        sort="mean",
        csv={"n": "n", "top1_mean": "mean", "top1_std": "std"},
        tier=0,
        priority=2,
    ),
    Column(
        "best",
        "best epoch",
        measure=lambda row: row.best,
        shape=_sample_shape(PERCENT),
        text=sample,
        sort="mean",
        csv={"best_mean": "mean", "best_std": "std"},
        in_print=False,
    ),
    Column(
        "start",
        "start",
        measure=lambda row: row.start,
        shape=_sample_shape(PERCENT),
        text=sample,
        sort="mean",
        csv={"start_mean": "mean"},
    ),
    Column(
        "paper",
        "paper",
        header_elsewhere="paper (ImageNet-1k)",
        measure=_paper,
        shape=(_PAPER, None),
        text=_paper_text,
        sort="top1",
        csv={
            "paper_imagenet_top1": "top1",
            "paper_confidence": "confidence",
            "paper_source": "source",
            "paper_setting": "setting",
            "paper_epochs": "epochs",
        },
        tier=0,
        from_spec=True,
    ),
    Column(
        "difference",
        "ours − paper",
        measure=_difference,
        shape=(_POINTS, None),
        text=signed,
        sort="",
        tier=0,
        priority=5,
    ),
    Column(
        "gain",
        "gain",
        measure=lambda row: row.gain,
        shape=_difference_shape(_POINTS),
        text=difference,
        sort="mean",
        csv={
            "gain": "mean",
            "gain_low": "interval.low",
            "gain_high": "interval.high",
            "gain_pairs": "n",
        },
        tier=0,
        priority=4,
        beside_baseline=True,
    ),
    Column(
        "gain.interval.contains_zero",
        "within noise",
        text=_yes_no,
        csv={"gain_within_noise": ""},
        tier=0,
        priority=8,
    ),
    Column(
        "similarity",
        "similarity",
        measure=lambda row: row.sample(_similarity),
        shape=_sample_shape(COSINE),
        text=_three_digits(sample),
        sort="mean",
        csv={"similarity_mean": "mean", "similarity_std": "std"},
        tier=0,
        extra="similarity",
    ),
    Column(
        "similarity_difference",
        "similarity − baseline's",
        measure=lambda row: row.over_baseline(_similarity),
        shape=_difference_shape(Bounds(-2.002, 2.002)),
        text=_three_digits(difference),
        sort="mean",
        csv=_difference_csv("similarity_difference"),
        tier=0,
        extra="similarity",
        beside_baseline=True,
    ),
    Column(
        "train_loss",
        "training loss",
        measure=lambda row: row.sample(_train_loss),
        shape=_sample_shape(float),
        text=_three_digits(sample),
        sort="mean",
        csv={"train_loss_mean": "mean", "train_loss_std": "std"},
        tier=0,
        extra="train_loss",
    ),
    Column(
        "train_loss_difference",
        "loss − baseline's",
        measure=lambda row: row.over_baseline(_train_loss),
        shape=_difference_shape(float),
        text=_three_digits(difference),
        sort="mean",
        csv=_difference_csv("train_loss_difference"),
        tier=0,
        extra="train_loss",
        beside_baseline=True,
    ),
    Column(
        "step_time",
        "+ step time (%)",
        measure=_step_time,
        shape=_difference_shape(float),
        text=lambda value, digits: difference(value, 0),
        sort="mean",
        csv=_difference_csv("step_time_percent"),
        extra="step_time",
        beside_baseline=True,
    ),
    Column(
        "added_macs",
        "+ MACs (%)",
        measure=_added_macs,
        text=lambda value, digits: signed(value, 1),
        sort="",
        csv={"added_macs_percent": ""},
        extra="added_macs",
        beside_baseline=True,
    ),
    Column(
        "added_parameters",
        "+ params",
        measure=_added_parameters,
        shape=(int, None),
        text=lambda value, digits: f"{value:+,}".replace("-", "−"),
        sort="",
        extra="added_parameters",
        beside_baseline=True,
    ),
    Column(
        "parameters",
        "params (M)",
        measure=_first("parameters"),
        shape=(range(2**63), None),
        text=lambda value, digits: significant(value, digits, 1e6),
        sort="",
    ),
    Column(
        "gmacs",
        "GMACs",
        measure=_first("gmacs"),
        shape=(AMOUNT, None),
        text=significant,
        sort="",
    ),
    Column(
        "images_per_s",
        "images/s",
        measure=_images_per_s,
        shape=(SPEED, None),
        text=significant,
        sort="",
        in_print=False,
    ),
    Column(
        "device",
        "device",
        measure=lambda row: ", ".join(_devices(row)),
        shape=str,
        in_print=False,
    ),
    Column(
        "epochs",
        "epochs",
        measure=_epochs,
        shape=(int, None),
        sort="",
        priority=7,
        in_print=False,
    ),
    Column(
        "device_hours",
        "device-hours",
        measure=_device_hours,
        shape=(AMOUNT, None),
        text=significant,
        sort="",
        in_print=False,
    ),
]
"""All columns, in the order of JSON and CSV; tables for people order them by tier."""


def columns_of(extra: Collection[str]) -> list[Column]:
    """The columns of a table whose spec names these extra ones."""
    return [column for column in COLUMNS if not column.extra or column.extra in extra]


def row_shape() -> dict[str, Shape]:
    """The shape of a row of the JSON; columns are younger than some tables, so any may be absent
    but those of the table's spec."""
    measured = [column for column in COLUMNS if column.measure]
    return {c.key if c.from_spec else f"{c.key}?": c.shape for c in measured}


def measured_row(row: RowResult, extra: Collection[str] = ()) -> Row:
    """The values of all columns, as JSON types."""
    columns = columns_of(extra)
    return {column.key: runs.to_json(column.measure(row)) for column in columns if column.measure}

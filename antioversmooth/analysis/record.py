"""Measures of a model's layers, as values and as files; needs no torch."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from antioversmooth import files
from antioversmooth.methods import METHODS
from antioversmooth.shapes import Shape, misfits

AXES = ("head", "channel", "frequency", "power")


class Measure(NamedTuple):
    """A quantity with one value for each layer, or nested lists over its axes."""

    axes: tuple[str, ...]
    meaning: str


MEASURES = {
    "tokens/similarity": Measure(
        (),
        "mean |cos| over all pairs of tokens, i = j, class token and registers included (the"
        " authors' definition)",
    ),
    "tokens/off_diagonal": Measure(
        (), "mean cos over pairs of patch tokens with i != j (the form of follow-ups)"
    ),
    "tokens/amplitude": Measure(("frequency",), "L2 norm over channels of the tokens' unitary DFT"),
    "tokens/dc_energy": Measure((), "|DC[X]|_F squared, X all tokens"),
    "tokens/hc_energy": Measure((), "|HC[X]|_F squared, X all tokens"),
    "attention/similarity": Measure(
        ("head",), "mean |cos| over all pairs of rows of the attention map"
    ),
    "attention/off_diagonal": Measure(
        ("head",), "mean cos over pairs of rows of the attention map with i != j"
    ),
    "attention/spectrum": Measure(
        ("head", "frequency"), "L2 norm of the rows of F A F^T, F the unitary DFT"
    ),
    "decay/hc": Measure(("head", "power"), "|HC[A^t X]|_F, X the input of the attention layer"),
    "decay/dc": Measure(("head", "power"), "|DC[A^t X]|_F"),
    "bounds/input": Measure((), "|HC[X]|_F of the input of the attention layer"),
    "bounds/head/measured": Measure(("head",), "Theorem 3: |HC[A X W_V]|_F"),
    "bounds/head/bound": Measure(("head",), "Theorem 3: the right-hand side"),
    "bounds/layer/measured": Measure((), "Proposition 4: |HC[MSA(X)]|_F"),
    "bounds/layer/bound": Measure((), "Proposition 4: the right-hand side"),
    "bounds/residual/measured": Measure((), "Proposition 5: |HC[X + MSA(X)]|_F"),
    "bounds/residual/bound": Measure((), "Proposition 5: the right-hand side"),
    "bounds/violations": Measure(
        (), "share of these inequalities that are violated beyond rounding"
    ),
}
"""Measures that every method has; each value is a mean over images. Layers count from 1; layer 0 is
the input of the first block."""


def all_measures() -> dict[str, Measure]:
    """MEASURES, and the learned parameters of each method by their symbols."""
    learned = {
        f"scales/{parameter.symbol}": Measure((method.axis,), parameter.meaning)
        for method in METHODS.values()
        for parameter in method.parameters
        if method.axis
    }
    return MEASURES | learned


Values = dict[int, Any]
"""Numbers by layer, or lists nested as the measure's axes."""


@dataclass(frozen=True)
class Analysis:
    """The measures of one model."""

    title: str
    """Title for people: DeiT-S, 24 layers, + AttnScale."""
    weights: str
    """Name of the weights; empty for a model that was never saved."""
    num_images: int
    """Validation images that the means are over."""
    depth: int
    """Self-attention blocks."""
    measures: dict[str, Values]
    """Values by the names in `all_measures`; measures that the model lacks are absent."""
    data: str = ""
    """Data set of the images; empty if unknown."""
    loaded: list[str] = field(default_factory=list)
    """Lines on how the weights were loaded; empty if unknown."""
    changed: str = ""
    """How the data of the run of the weights differs from the images; empty if not, or unknown."""
    checksums: dict[str, str] = field(default_factory=dict)
    """Of the data set of the images; empty if unknown."""
    selection: str = ""
    """Which images of the data set: their number, of how many, and the rule; empty if unknown."""

    @staticmethod
    def evenly_spaced(count: int, total: int, order: str = "in their order") -> str:
        """Value of `selection` for at most `count` of `total` images, evenly spaced."""
        return f"{min(count, total):,} of {total:,}, evenly spaced {order}"

    @staticmethod
    def weights_name(file: str, sha256: str) -> str:
        """Value of `weights` for a file."""
        return f"{file}, sha256 {sha256[:12]}"

    def json(self) -> str:
        """JSON text, with five significant digits."""
        known = all_measures()
        axes = {name: list(known[name].axes) for name in self.measures}
        value = {**asdict(self), "axes": axes, "measures": _rounded(self.measures)}
        return json.dumps(value, allow_nan=False) + "\n"

    def csv(self) -> str:
        """CSV text: one number a line, with its layer and its indices on the axes, from 0."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["measure", "layer", *AXES, "value"])
        known = all_measures()
        for name, values in self.measures.items():
            axes = known[name].axes
            for layer, value in values.items():
                for indices, number in _numbers(value):
                    at = dict(zip(axes, indices, strict=True))
                    place = [at.get(axis, "") for axis in AXES]
                    writer.writerow([name, layer, *place, f"{number:.5g}"])
        return text.getvalue()

    def write(self, folder: Path) -> list[Path]:
        """Writes JSON and CSV into a folder; returns the paths."""
        paths = [folder / "analysis.json", folder / "analysis.csv"]
        files.write_atomic(paths[0], self.json())
        files.write_atomic(paths[1], self.csv())
        return paths

    @classmethod
    def read(cls, path: Path) -> Analysis | None:
        """The analysis in a file; None if there is none that `write` wrote."""
        try:
            value = files.read_json(path)
            if any(misfits(value, _shape())):
                return None
            measures = {
                name: {int(layer): item for layer, item in value["measures"][name].items()}
                for name in all_measures().keys() & value["measures"].keys()
            }
        except ValueError:
            return None
        numbers = value["num_images"], value["depth"]
        optional = {key: value[key] for key in _OF_IMAGES if key in value}
        return cls(value["title"], value["weights"], *numbers, measures, **optional)


_OF_IMAGES: dict[str, Shape] = {"data": str, "checksums": {"*": str}, "selection": str}
"""Fields about the images, which analyses of old versions lack."""


def _shape() -> Shape:
    """The shape of the JSON (shapes.py): a number for each layer, or lists along the axes."""
    nested: list[Shape] = [float, [float], [[float]]]
    measures = {f"{name}?": {"*": nested[len(m.axes)]} for name, m in all_measures().items()}
    numbers = {"num_images": int, "depth": int}
    data = {f"{key}?": shape for key, shape in _OF_IMAGES.items()}
    return {"title": str, "weights": str, **numbers, **data, "measures": measures}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.5g}")


def _numbers(value: Any, indices: tuple[int, ...] = ()) -> Iterator[tuple[tuple[int, ...], float]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _numbers(item, (*indices, index))
    else:
        yield indices, value

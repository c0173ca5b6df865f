"""Title, caption and notes of a table, which state what its numbers mean."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from antioversmooth.config import Experiment, Table
from antioversmooth.datasets.current import CurrentData
from antioversmooth.errors import and_more
from antioversmooth.reporting.table import deviations
from antioversmooth.reporting.table.aggregate import RowResult
from antioversmooth.reporting.table.observe import Observation, distinct
from antioversmooth.runs.recorded_data import describe_change, measured_data
from antioversmooth.runs.result import counted_images

CONFIDENCE = {
    "V": "seen verbatim",
    "Q": "quoted by the named source",
    "C": "computed",
    "M": "from memory, not verified",
    "D": "derived",
}


EXTRA = {
    "similarity": (
        "Similarity: mean |cos| over all pairs of tokens after the last block, the authors'"
        " definition; lower is less smooth."
    ),
    "train_loss": "Training loss: mean over the steps of the last epoch.",
    "step_time": (
        "Step time: training time per image above that of the baseline's run of the same seed on"
        " the same kind of device; it contains what else the machine did."
    ),
    "added_macs": "MACs: multiply-adds of a forward pass above the baseline's, which are exact.",
    "added_parameters": "Params: above the baseline's.",
}
"""A sentence on each of the extra columns."""


@dataclass(frozen=True)
class Setting:
    """The profile and data that a table was measured with."""

    profile: str
    data: str
    num_classes: int
    num_train: int
    num_val: int

    @classmethod
    def of(cls, experiment: Experiment) -> Setting:
        """The setting that an experiment measures in."""
        data = experiment.data
        return cls(experiment.profile, data.name, data.num_classes, data.num_train, data.num_val)

    @property
    def comparable(self) -> bool:
        """Whether this is what the paper measured on: all of ImageNet-1k, at the paper's sizes."""
        return self == Setting("imagenet", "ImageNet-1k", 1000, 1_281_167, 50_000)


def title(table: Table, setting: Setting) -> str:
    """The table's title, with the data and the profile if they are not the paper's."""
    if setting.comparable:
        return table.title
    return f"{table.title} on {setting.data} ({setting.profile} profile)"


def caption(
    table: Table, setting: Setting, rows: Sequence[RowResult], seeds: Sequence[int]
) -> list[str]:
    """Sentences under the title, the most important first."""
    sentences = [
        _incomplete(rows),
        table.caption,
        (
            f"Data: {setting.data}, {setting.num_train:,} training and {setting.num_val:,}"
            " validation images."
        ),
        "" if setting.comparable else _elsewhere(setting, rows, seeds),
        _spread(seeds),
        *(EXTRA[name] for name in table.columns),
    ]
    return [sentence for sentence in sentences if sentence]


def _incomplete(rows: Sequence[RowResult]) -> str:
    absent = [row for row in rows if not row.complete]
    if not absent:
        return ""
    measured = [row for row in rows if row.seeds]
    return f"INCOMPLETE: {len(measured) - len(absent)} of {len(measured)} rows are done."


def _elsewhere(setting: Setting, rows: Sequence[RowResult], seeds: Sequence[int]) -> str:
    """The sentence on numbers that are on other data than the paper's, or at other sizes."""
    seeds_of_rows = [seen for row in rows for seen in row.seeds]
    num_images = min(map(_num_images, seeds_of_rows), default=setting.num_val)
    error = standard_error([row.top1.mean for row in rows if row.top1], num_images)
    images = f"{num_images:,} images" + (
        f" (±{error:.1f} points, binomial standard error)" if error else ""
    )
    is_one = len(seeds) == 1
    if setting.profile == "imagenet":
        said = f"Measured with {'one seed' if is_one else f'{len(seeds)} seeds'} on {images}."
    else:
        subject = f"One seed on {images} demonstrates"
        several = f"{len(seeds)} seeds on {images} demonstrate"
        shown = "the pipeline and the oversmoothing, not the paper's gain"
        said = f"{subject if is_one else several} {shown}."
    quoted = " The paper's values are for ImageNet-1k and stand beside ours for orientation only."
    return f"{said}{quoted if any(row.row.paper for row in rows) else ''}"


def _num_images(seen: Observation) -> int:
    """Validation images that the accuracy of a run is over."""
    num_val = seen.run.experiment.data.num_val
    return counted_images(seen.result, num_val) if seen.result else num_val


def standard_error(accuracies: Sequence[float], num_images: int) -> float | None:
    """Binomial standard error, in points, at the mean of `accuracies` in percent."""
    if not accuracies:
        return None
    rate = statistics.mean(accuracies) / 100
    return 100 * math.sqrt(rate * (1 - rate) / num_images)


def _spread(seeds: Sequence[int]) -> str:
    if len(seeds) == 1:
        return (
            f"Seed {seeds[0]} only: the spread over seeds is not known. Gain: over this table's own"
            " baseline."
        )
    return (
        f"Ours: mean ± sample standard deviation over seeds {', '.join(map(str, seeds))}. Gain:"
        " over this table's own baseline, mean of the n differences at equal seeds [95 % interval,"
        " Student's t]; within noise: whether the interval contains 0."
    )


def notes(rows: Sequence[RowResult]) -> list[str]:
    """Lines below the table."""
    seeds = [seen for row in rows for seen in row.seeds]
    # one for each row: a changed experiment is checked against all rules
    experiments = {seen.row: seen.run.experiment for seen in seeds}
    return [
        *_confidence(rows),
        *_lengths(rows),
        *_pairing(rows),
        *deviations.notes([replace(one, row=row) for row, one in experiments.items()]),
        *_unreadable(seeds),
        *_differences(seeds),
        *origins(seeds),
        *_stale(seeds),
        *(f"{seen.name}: {seen.problem}." for seen in seeds if seen.problem),
    ]


def origins(seeds: Sequence[Observation]) -> Iterator[str]:
    """Notes on where runs come from: bundles, and data that differs or has changed."""
    yield from _imported(seeds)
    yield from _data(seeds)


def _confidence(rows: Sequence[RowResult]) -> Iterator[str]:
    used = {row.row.paper.confidence for row in rows if row.row.paper}
    if used:
        legend = [f"{mark}: {meaning}" for mark, meaning in CONFIDENCE.items() if mark in used]
        yield f"Confidence of the paper's values: {'; '.join(legend)}."


def _lengths(rows: Sequence[RowResult]) -> Iterator[str]:
    """Names the lengths of training behind the paper's values, where there are several."""
    footnotes: dict[int | None, set[int]] = {}
    for row in rows:
        if row.row.paper and row.footnote:
            footnotes.setdefault(row.row.paper.epochs, set()).add(row.footnote)
    if len(footnotes) > 1:
        lengths = sorted(footnotes.items(), key=lambda item: item[0] or math.inf)
        listed = [
            f"{f'{epochs} epochs' if epochs else 'a length that is not known'}"
            f" {''.join(f'[{number}]' for number in sorted(numbers))}"
            for epochs, numbers in lengths
        ]
        yield (
            "The paper's values are of trainings of different lengths, and part of a difference"
            f" between them may come from that: {'; '.join(listed)}."
        )


def _pairing(rows: Sequence[RowResult]) -> Iterator[str]:
    """Names the rows whose gain is not over the seeds of their accuracy."""
    measured = [(row, gain) for row in rows if (gain := row.gain) is not None]
    if unpaired := [row.row.row_name for row, gain in measured if not gain.n]:
        yield (
            "No seed in common with the baseline, so not paired: the difference of two means"
            f" [interval: Welch's standard error] ({', '.join(unpaired)})."
        )
    for row, gain in measured:
        done = max(len(one.results) for one in (row, row.baseline) if one)
        if 0 < gain.n < done:
            shared = ", ".join(map(str, gain.seeds))
            yield (
                f"Gain over the seeds that both have, row and baseline: {shared}"
                f" ({row.row.row_name})."
            )


def _unreadable(seeds: Sequence[Observation]) -> Iterator[str]:
    """Names the runs whose accuracy is not over all validation images."""
    incomplete = [seen for seen in seeds if _num_images(seen) < seen.run.experiment.data.num_val]
    counts = _runs_by(
        incomplete,
        lambda seen: [f"{_num_images(seen):,} of {seen.run.experiment.data.num_val:,}"],
    )
    if counts:
        yield f"Validation images that cannot be read are not counted ({'; '.join(counts)})."


def _differences(seeds: Sequence[Observation]) -> Iterator[str]:
    """Names the runs of each snapshot, version and number of devices, where there are several.

    Each attempt of a run counts.
    """
    snapshots = _runs_by(seeds, lambda seen: (seen.provenance or {}).get("snapshots", []))
    if len(snapshots) > 1:
        yield f"Runs started from different snapshots of the code ({'; '.join(snapshots)})."
    part = _runs_by(seeds, lambda seen: (seen.provenance or {}).get("uncommitted_snapshots", []))
    if part:
        yield f"Attempts of these runs ran uncommitted changes, others did not ({'; '.join(part)})."
    for name in dict.fromkeys(name for seen in seeds for name in seen.versions):
        versions = _runs_by(seeds, partial(_versions_of, name))
        if len(versions) > 1:
            yield f"Attempts ran with different versions of {name} ({'; '.join(versions)})."
    if unknown := [seen.name for seen in seeds if seen.lacks_versions]:
        yield f"Versions of packages of earlier attempts are not recorded ({and_more(unknown, 3)})."
    sizes = _runs_by(seeds, lambda seen: distinct(seen.attempts, "world_size"))
    if len(sizes) > 1:
        yield f"Attempts ran on different numbers of devices ({'; '.join(sizes)})."


def _versions_of(name: str, seen: Observation) -> list[str]:
    return seen.versions.get(name, [])


def _imported(seeds: Sequence[Observation]) -> Iterator[str]:
    """Names the imported runs of each bundle."""
    bundles = _runs_by(seeds, lambda seen: filter(None, [(seen.provenance or {}).get("imported")]))
    if bundles:
        yield f"Imported, not run here ({'; '.join(bundles)})."


def _data(seeds: Sequence[Observation]) -> Iterator[str]:
    """Names the parts of data sets, the runs of each set if several, and those of changed ones."""
    done = [(seen, seen.result) for seen in seeds if seen.result is not None]
    subsets = [measured_data(result).get("subset") for _, result in done]
    yield from (f"Data: {subset}." for subset in dict.fromkeys(subsets) if subset)
    for key, what in (("fingerprint", "images"), ("classes", "classes")):
        yield from _apart(done, key, what)
    same: dict[str | None, list[tuple[Observation, dict[str, Any]]]] = {}
    for seen, result in done:
        same.setdefault(measured_data(result).get("fingerprint"), []).append((seen, result))
    for group in same.values():
        yield from _apart(group, "sample", "images of the same names")
    current = CurrentData()
    changed = [
        seen.name
        for seen, result in done
        if not seen.run.is_imported
        if describe_change(result, current.facts(seen.run.experiment.data))
    ]
    if changed:
        yield f"{_CHANGED}: {and_more(changed, 3)}."


def _apart(
    done: Sequence[tuple[Observation, dict[str, Any]]], key: str, what: str
) -> Iterator[str]:
    """Names the runs of each value of a checksum of the data, where there are several values."""
    names: dict[str, list[str]] = {}
    for seen, result in done:
        if recorded := measured_data(result).get(key):
            names.setdefault(recorded[:12], []).append(seen.name)
    if len(names) > 1:
        listed = "; ".join(f"{sum_}: {and_more(found, 3)}" for sum_, found in names.items())
        yield f"Runs measured on data with different {what} ({key} {listed})."


_CHANGED = "Measured on other images than are there now"


def is_about_changed_data(note: str, runs: Collection[str]) -> bool:
    """Whether a note says that images of runs have changed, which is of one machine and time only.

    Args:
        runs: The names of the runs that it may be about.
    """
    name = "|".join(map(re.escape, runs))
    listed = rf"({name})(, ({name})){{0,2}}( and \d{{1,6}} more)?"
    return bool(runs) and re.fullmatch(rf"{_CHANGED}: {listed}\.", note) is not None


def _runs_by(
    seeds: Sequence[Observation], values: Callable[[Observation], Iterable[Any]]
) -> list[str]:
    """Each value that runs have, with the names of these runs."""
    names: dict[str, list[str]] = {}
    for seen in seeds:
        for value in values(seen):
            names.setdefault(str(value), []).append(seen.name)
    return [f"{value}: {and_more(found, 3)}" for value, found in names.items()]


def _stale(seeds: Sequence[Observation]) -> Iterator[str]:
    names = [seen.name for seen in seeds if seen.older]
    if names:
        which = "runs of another identity (another spec, data or revision)"
        yield f"Not counted: {which} of {and_more(names, 3)}."

"""Compares `result.json` with what it was made from: the spec, the attempts and the metrics.

Every value of a result is derived here, or in `reporting.sharing.run_checks` from other sources
(the model, the files of weights, the data), or has its reason in `NOT_DERIVABLE`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from antioversmooth.config import Experiment
from antioversmooth.errors import ResultError
from antioversmooth.runs.attempts import CORRUPT_IMAGE, Attempt, extend_last_seen
from antioversmooth.runs.checkpoints import Checkpoint
from antioversmooth.runs.journal import Record
from antioversmooth.runs.metrics import (
    ACCURACIES,
    OFF_DIAGONAL_SIMILARITY,
    PERCENT,
    SIMILARITY_IMAGES,
    SYSTEM,
    TOKEN_SIMILARITY,
    VAL_IMAGES,
    impossible,
)
from antioversmooth.runs.result import RESULT, incomplete_reason, outcome, scores
from antioversmooth.shapes import Bounds

NOT_DERIVABLE = {
    "data.root": "a folder of the machine that ran it",
    "evaluation.images_per_s": "measured once, and recorded nowhere else",
    "evaluation.per_class_top1": "recorded nowhere else; `verify --evaluate` measures top-1 again",
}
"""Values of a result that nothing else in a run directory tells, with the reason."""

CLOCK_SKEW_S = 300.0
"""Seconds by which the clocks of two machines may differ."""
_ROUNDING_S = 0.01
"""Journals round times to milliseconds."""
_ROUNDING_HITS = 1e-3
"""Images by which the rounding of a percentage may move their number."""


@dataclass(frozen=True)
class Derived:
    """A value of a result, as another file of the run directory has it."""

    value: Any
    """The value; its `Bounds`; a tuple of the values that it can have; or the set of a list."""
    source: str
    """Name of the file."""

    @property
    def is_exact(self) -> bool:
        """Whether it is one value, and not a choice or a range."""
        return not isinstance(self.value, Bounds | tuple | frozenset)

    def agrees_with(self, recorded: Any) -> bool:
        """Whether a result may have this value."""
        if isinstance(self.value, Bounds):
            return recorded in self.value
        if isinstance(self.value, tuple):
            return recorded in self.value
        if isinstance(self.value, frozenset):
            return isinstance(recorded, list) and set(map(str, recorded)) == self.value
        return equal(recorded, self.value)


def derive_cheaply(
    experiment: Experiment, seed: int, attempts: Sequence[Attempt], epochs: Sequence[Record]
) -> dict[str, Derived]:
    """Values of a result, by their paths in it, that need no more than the records of epochs.

    Args:
        epochs: The records with an accuracy, without those that later attempts superseded.

    Raises:
        ResultError: They are not those of a run that is complete.
    """
    found = scores(epochs, experiment)
    if found["best"] is None:
        # the record of an epoch is lost, and with it perhaps the best one
        del found["best"]
    return {
        **_sourced("metrics.jsonl", found),
        **_sourced("spec.yaml", _from_spec(experiment, seed)),
        **_sourced("attempts.jsonl", _from_attempts(experiment, attempts, epochs)),
    }


def derive(
    experiment: Experiment, seed: int, attempts: Sequence[Attempt], metrics: Sequence[Record]
) -> dict[str, Derived]:
    """All values of a result that follow from the spec and the journals, by their paths in it.

    Args:
        metrics: All metrics, without those that later attempts superseded.

    Raises:
        ResultError: They are not those of a run that is complete.
    """
    # a thread measures the machine, also while the result is being written
    ordered = [r for r in metrics if not any(key.startswith(SYSTEM) for key in r)]
    lived = _from_attempts(experiment, attempts, ordered) | _unreadable(experiment, attempts)
    return {
        **_sourced("metrics.jsonl", outcome(metrics, experiment) | _similarity(metrics)),
        **_sourced("spec.yaml", _from_spec(experiment, seed)),
        **_sourced("attempts.jsonl", lived),
    }


def _unreadable(experiment: Experiment, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Images that the evaluation of a run without training could not read."""
    notes = attempts[-1].notes if attempts else ()
    names = frozenset(str(note.get("file")) for note in notes if note["event"] == CORRUPT_IMAGE)
    return {
        "evaluation.unreadable": names,
        "evaluation.num_images": experiment.data.num_val - len(names),
    }


def _similarity(metrics: Sequence[Record]) -> dict[str, Any]:
    """The similarity after each block; a definition that no record has is left out."""
    of_layer = {r["layer"]: r for r in metrics if TOKEN_SIMILARITY in r and "layer" in r}
    records = [of_layer[layer] for layer in sorted(of_layer)]
    names = {"tokens": TOKEN_SIMILARITY, "off_diagonal": OFF_DIAGONAL_SIMILARITY}
    return {
        f"similarity.{key}": [record.get(name) for record in records]
        for key, name in names.items()
        if key == "tokens" or any(name in record for record in records)
    }


def _sourced(source: str, values: Mapping[str, Any]) -> dict[str, Derived]:
    return {key: Derived(value, source) for key, value in values.items()}


def _from_spec(experiment: Experiment, seed: int) -> dict[str, Any]:
    data = experiment.data
    return {
        "experiment": experiment.name,
        "seed": seed,
        "epochs": experiment.recipe.epochs,
        "steps": experiment.total_steps,
        "data.name": data.name,
        "data.num_classes": data.num_classes,
        "data.num_train": data.num_train,
        "data.num_val": data.num_val,
        "similarity.images": min(SIMILARITY_IMAGES, data.num_val),
    }


def _from_attempts(
    experiment: Experiment, attempts: Sequence[Attempt], metrics: Sequence[Record]
) -> dict[str, Any]:
    """Facts of the attempts; one that no record has is left out."""
    if not attempts:
        return {}
    seen = extend_last_seen(attempts, metrics)
    newest, ends = seen[-1], _latest_ends(seen)
    return {
        "attempts": len(seen),
        **{key: newest.start[key] for key in ("device", "world_size") if key in newest.start},
        "seconds": _total(seen, ends, [1.0] * len(seen)),
        "device_hours": _total(seen, ends, [one.world_size / 3600 for one in seen]),
        "finished": Bounds(newest.last_seen - CLOCK_SKEW_S, ends[-1] + CLOCK_SKEW_S),
        **_final_checkpoint(experiment, seen),
    }


def _final_checkpoint(experiment: Experiment, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """The names that the checkpoint of the last step can have; nothing where nothing trained."""
    step = experiment.total_steps
    names = (Checkpoint.named(Path(), step, attempt.number).path.name for attempt in attempts)
    return {"checkpoint.file": tuple(names)} if experiment.recipe.epochs else {"checkpoint": None}


def _latest_ends(attempts: Sequence[Attempt]) -> list[float]:
    """The time until which each attempt can have lived: its end, else the next start."""
    starts = [*(attempt.started for attempt in attempts[1:]), math.inf]
    ends = [attempt.ended for attempt in attempts]
    return [start if end is None else end for end, start in zip(ends, starts, strict=True)]


def _total(attempts: Sequence[Attempt], ends: Sequence[float], weights: Sequence[float]) -> Bounds:
    """Bounds of the sum of the attempts' seconds, each multiplied by its weight.

    An attempt lasts until its newest record at least. Its end may have been recorded later, by
    another process, and the result was written before the end of the last one.
    """
    low = high = 0.0
    for attempt, end, weight in zip(attempts, ends, weights, strict=True):
        least = attempt.last_seen - attempt.started
        low += weight * (min(least, end - attempt.started) - _ROUNDING_S)
        high += weight * (max(least, end - attempt.started) + _ROUNDING_S)
    return Bounds(max(0.0, low), high)


# -- comparison ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """A value of a result beside the value that it was derived again as."""

    path: str
    """Keys with dots between them: best.epoch."""
    recorded: Any
    derived: Derived

    @property
    def agrees(self) -> bool:
        """Whether the result has the derived value."""
        return self.derived.agrees_with(self.recorded)

    def __str__(self) -> str:
        ours, theirs = shortened(self.recorded), shortened(self.derived.value)
        return f"result.json says {self.path} = {ours}, {self.derived.source} {theirs}"


def compare(result: Mapping[str, Any], derived: Mapping[str, Derived]) -> Iterator[Comparison]:
    """A comparison for each derived value that the result has, or must have.

    Results of old versions lack some values, which are compared with nothing.
    """
    for path, value in derived.items():
        recorded = _dig(result, path)
        if isinstance(recorded, Mapping) and isinstance(value.value, Mapping):
            for key in {**value.value, **recorded}:
                part = Derived(value.value.get(key), value.source)
                yield Comparison(f"{path}.{key}", recorded.get(key), part)
        elif recorded is not _ABSENT:
            yield Comparison(path, recorded, value)
        elif path in RESULT or (path == "start" and value.value is not None):
            yield Comparison(path, None, value)


def require_agreement(
    result: Mapping[str, Any],
    experiment: Experiment,
    seed: int,
    attempts: Sequence[Attempt],
    epochs: Sequence[Record],
    directory: Path,
) -> None:
    """Raises ResultError where a result is not that of the last step, or contradicts its run.

    `verify` compares the values, too, that need more than the attempts and the records of epochs.

    Args:
        epochs: The records with an accuracy, without those that later attempts superseded.
        directory: The run directory.
    """
    if reason := incomplete_reason(epochs, experiment):
        raise ResultError(
            f"{directory}/result.json is there, but {reason}; put the journal back, or move"
            " result.json away and launch again: the last checkpoint is evaluated again"
        )
    derived = derive_cheaply(experiment, seed, attempts, epochs)
    wrong = next((one for one in compare(result, derived) if not one.agrees), None)
    if wrong is not None:
        raise ResultError(f"{directory}/{wrong}; one of them was edited: restore it")


_ABSENT = object()


def _dig(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key, _ABSENT) if isinstance(value, Mapping) else _ABSENT
    return value


def paths(value: Any, parent: str = "") -> Iterator[str]:
    """The paths of all values in a mapping of mappings, with dots between the keys."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from paths(inner, f"{parent}.{key}" if parent else str(key))
    else:
        yield parent


def is_within(path: str, paths: Collection[str]) -> bool:
    """Whether a path is one of several paths, or leads further from one."""
    parts = path.split(".")
    return any(".".join(parts[:end]) in paths for end in range(1, len(parts) + 1))


def equal(one: Any, other: Any) -> bool:
    """Whether two values are the same; numbers to twelve digits, since another Python may round
    sums differently."""
    if isinstance(one, float | int) and isinstance(other, float | int) and type(one) is not bool:
        close = math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)
        return close or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(one == other)


def shortened(value: Any) -> str:
    """A value for a message, in at most 60 characters."""
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# -- journals --------------------------------------------------------------------------------------


def journal_problems(
    experiment: Experiment, attempts: Sequence[Attempt], metrics: Sequence[Record]
) -> Iterator[str]:
    """Contradictions in the journals of a run: steps beyond its last one, times that run
    backwards by more than clocks differ, numbers that cannot be measured.

    Args:
        metrics: All records of metrics.jsonl.
    """
    total, epochs = experiment.total_steps, experiment.recipe.epochs
    if not attempts:
        yield "attempts.jsonl: no attempt is recorded"
    for attempt in attempts:
        if not 0 <= attempt.step <= total:
            place = f"step {attempt.step} of {total}"
            yield f"attempts.jsonl: attempt {attempt.number} starts at {place}"
    for earlier, later in pairwise(attempts):
        if later.started < earlier.started - CLOCK_SKEW_S:
            yield (f"attempts.jsonl: attempt {later.number} starts before attempt {earlier.number}")
    started = {attempt.number: attempt.started for attempt in attempts}
    for attempt in attempts:
        if attempt.ended is not None and attempt.ended < attempt.started - CLOCK_SKEW_S:
            yield f"attempts.jsonl: attempt {attempt.number} ends before it starts"
    for record in metrics:
        step, epoch, number = record.get("step"), record.get("epoch"), record.get("attempt")
        if not 0 <= record.get("step", 0) <= total or not 0 <= record.get("epoch", 0) <= epochs:
            yield f"metrics.jsonl: step {step}, epoch {epoch}, of {total} steps and {epochs} epochs"
        elif started and number is not None and number not in started:
            yield f"metrics.jsonl: a record is of attempt {number}, which attempts.jsonl lacks"
        elif number in started and record.get("time", math.inf) < started[number] - CLOCK_SKEW_S:
            yield f"metrics.jsonl: a record of attempt {number} is older than its start"
        for reason in (*impossible(record), *_fractions(experiment, attempts, record)):
            yield f"metrics.jsonl: {reason}"


def _fractions(
    experiment: Experiment, attempts: Sequence[Attempt], record: Record
) -> Iterator[str]:
    """Accuracies that no whole number of the validation images gives.

    Images that attempts could not read may have been left out of the count, which records of old
    versions do not say.
    """
    notes = [note for attempt in attempts for note in attempt.notes]
    unreadable = {str(note.get("file")) for note in notes if note["event"] == CORRUPT_IMAGE}
    images, counted = experiment.data.num_val, record.get(VAL_IMAGES)
    possible = range(max(1, images - len(unreadable)), images + 1)
    possible = range(counted, counted + 1) if type(counted) is int else possible
    for key in sorted(key for key in ACCURACIES if record.get(key) in PERCENT):
        hits = (record[key] * n / 100 for n in possible)
        if all(abs(count - round(count)) > _ROUNDING_HITS for count in hits):
            yield f"{key} = {record[key]} is of no whole number of {counted or images} images"

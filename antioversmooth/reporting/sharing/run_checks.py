"""Checks a done run against itself: `result.json` against the spec, the journals and the model that
it was made from, and its files against their recorded checksums."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.config import Experiment
from antioversmooth.errors import ResultError
from antioversmooth.reporting.sharing.checks import Check, Verdict, compare
from antioversmooth.reporting.sharing.content import NAMES
from antioversmooth.reporting.sharing.records import Fact
from antioversmooth.reporting.table.observe import Observation, imported_files
from antioversmooth.runs import Run, agreement, to_json
from antioversmooth.runs.agreement import Derived
from antioversmooth.runs.attempts import in_lineage

FROM_WEIGHTS = "figures draw it; `analyze` measures it again from the weights"
"""Why an analysis is not derivable."""


def run_checks(
    name: str, seen: Observation, facts: Sequence[Fact], *, checkpoints: bool
) -> Iterator[Check]:
    """Checks of a done run against itself.

    Args:
        name: Begins the keys: seed 0.
        facts: See `compare_records`.
        checkpoints: Whether the files of weights are read, too.
    """
    yield from result_checks(name, seen, facts, _model_values(seen.run.experiment))
    yield from _file_checks(name, seen.run, checkpoints)
    if (seen.run.dir / "analysis" / "analysis.json").exists():
        yield Check(f"{name}: analysis", Verdict.underivable, reason=FROM_WEIGHTS)


def result_checks(
    name: str,
    seen: Observation,
    facts: Sequence[Fact],
    more: Mapping[str, Derived] | None = None,
) -> Iterator[Check]:
    """Checks of the `result.json` of a done run against the files that it was made from, and of
    these against each other.

    Args:
        name: Begins the keys: seed 0.
        facts: See `compare_records`.
        more: Further values of the result that were derived, by their paths in it.
    """
    assert seen.result is not None
    run, record = seen.run, seen.record
    # read here and not kept by the record: those of ten thousand runs take gigabytes
    metrics = record.parse_metrics()
    try:
        valid = in_lineage(metrics, seen.attempts)
        derived = agreement.derive(run.experiment, run.seed, seen.attempts, valid)
    except (ResultError, KeyError, TypeError, ValueError) as err:
        reason = f"is not the journal of a run: {err!r}"
        yield Check(f"{name}: metrics.jsonl", Verdict.differs, reason=reason)
        return
    derived |= {**_data_values(record.provenance), **(more or {})}
    for comparison in agreement.compare(seen.result, derived):
        value = comparison.derived.value
        shown = value if comparison.derived.is_exact else str(value)
        key, agrees = f"{name}: {comparison.path}", comparison.agrees
        verdict, reason = Verdict.confirmed, ""
        if not agrees:
            verdict, reason = Verdict.differs, str(comparison)
        yield Check(key, verdict, comparison.recorded, shown, reason)
    for path in agreement.paths(seen.result):
        if not agreement.is_within(path, {"id", "checkpoint", *derived}):
            reason = agreement.NOT_DERIVABLE.get(path, "no other file of the run has it")
            yield Check(f"{name}: {path}", Verdict.underivable, reason=reason)
    for problem in agreement.journal_problems(run.experiment, seen.attempts, metrics):
        yield Check(f"{name}: journals", Verdict.differs, reason=problem)
    for fact in facts:
        for problem in fact.problems:
            yield Check(f"{name}: {fact.name}", Verdict.differs, reason=problem)


def _data_values(provenance: Mapping[str, Any]) -> dict[str, Derived]:
    """Values of `provenance.json` about the data, by their paths in a result."""
    data = provenance.get("data")
    found = data if isinstance(data, dict) else {}
    return {f"data.{key}": Derived(value, "provenance.json") for key, value in found.items()}


def _model_values(experiment: Experiment) -> dict[str, Derived]:
    """Size and cost of the model of a spec, which is built for it without weights."""
    model, data = experiment.model, experiment.data
    key = json.dumps([to_json(model), data.num_classes, data.in_channels])
    if key not in _measured:
        # imports torch
        from antioversmooth.models.measure import measure_spec

        _measured[key] = measure_spec(experiment)
    parameters, gmacs = _measured[key]
    source = "the model of spec.yaml"
    return {"parameters": Derived(parameters, source), "gmacs": Derived(gmacs, source)}


_measured: dict[str, tuple[int, float]] = {}
"""By the spec of the model: rows share models."""


def _file_checks(name: str, run: Run, checkpoints: bool) -> Iterator[Check]:
    """Checks of files against their recorded checksums."""
    difference = "sha256 {0:.12} is recorded, the file has {1:.12}"
    for file, expected in _checksums(run).items():
        path, key = run.dir / file, f"{name}: {file}"
        if file.endswith(".pt") and not checkpoints:
            yield Check(key, Verdict.underivable, expected, reason="weights were not to be read")
        elif path.is_file():
            yield compare(key, expected, files.sha256(path), difference)
        else:
            yield Check(key, Verdict.gone, expected, reason="the file is not there")


def _checksums(run: Run) -> dict[str, str]:
    """The recorded checksums of the final weights, and of all files that came in a bundle."""
    imported = imported_files(run).items()
    recorded = {name: checksum for name, checksum in imported if NAMES.fullmatch(name)}
    if final := (run.result() or {}).get("checkpoint"):
        recorded[f"checkpoints/{Path(str(final.get('file'))).name}"] = str(final.get("sha256"))
    return recorded

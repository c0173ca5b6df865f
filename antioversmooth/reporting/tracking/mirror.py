"""Mirrors run directories into MLflow: an experiment for each table, a parent run for each row, a
child run for each seed.

The mirror can be deleted and made again: run directories are the record. Mirroring is idempotent:
metrics have the time stamps of the journal, runs are found by their tags, and the mark that a run
is up to date is written last. If metrics that were sent no longer belong to the run (a later
attempt superseded them, its directory was removed, a file was corrected), the MLflow run is deleted
and mirrored again, since MLflow cannot delete or change single metrics.

An MLflow run belongs to one run directory: that of a copy is passed over while the first is there.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth import runs
from antioversmooth.config import Experiment, Table
from antioversmooth.errors import ResultError, TrackingError, UserError, and_more
from antioversmooth.reporting.table.observe import Observation, observe
from antioversmooth.reporting.tracking import database, logged_models
from antioversmooth.reporting.tracking.database import (
    DIRECTORY,
    ID,
    MIRRORED,
    PARENT,
    ROW,
    TABLE,
    Held,
    place,
)
from antioversmooth.reporting.tracking.experiments import Experiments, Home
from antioversmooth.runs import Run
from antioversmooth.runs.attempts import in_lineage
from antioversmooth.runs.journal import NOT_FINITE, Record
from antioversmooth.runs.metrics import VAL_TOP1
from antioversmooth.runs.status import RunState
from antioversmooth.shapes import misfits
from antioversmooth.text import one_line, visible

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag


def mlflow_status(state: RunState) -> str:
    """MLflow's word for the state of a run that began; KILLED is what can be resumed."""
    if state is RunState.done:
        return "FINISHED"
    if state.is_failure:
        return "FAILED"
    return "RUNNING" if state is RunState.running else "KILLED"


ROW_STATUS = ("RUNNING", "FAILED", "KILLED", "FINISHED")
"""The status of a row is the first of these that one of its seeds has."""

ROW_MEAN, ROW_STD = "row/top1_mean", "row/top1_std"
"""Metrics of a row over its seeds. Their steps count seeds, so they are not named like metrics of
runs, which would share a chart with them."""

ARTIFACTS = ("spec.yaml", "result.json", "provenance.json")
NOT_METRICS = {"time", "attempt", "step", "epoch", "layer"}


SUPERSEDED = "superseded"
"""The mark of an MLflow run that another one replaces: a restored experiment holds both."""


@dataclass(frozen=True)
class Mark:
    """The content of an MLflow run, recorded in its tag."""

    records: int = 0
    """Records that may have been sent."""
    sent: str = ""
    """Digest of these; empty in the marks of older versions, which counted lines only."""
    digest: str = ""
    """Digest of everything that was sent; empty while sending, and after an interruption."""

    @classmethod
    def of(cls, run: Held | None) -> Mark:
        """The mark of an MLflow run, an empty one where there is none."""
        text = run.tags.get(MIRRORED, "") if run else ""
        count, sent, digest = (*text.split(" "), "", "")[:3]
        return cls(int(count), sent, digest) if count.isdecimal() else cls()

    @classmethod
    def over(cls, records: Sequence[Record], digest: str = "") -> Mark:
        """The mark of an MLflow run that has these records."""
        return cls(len(records), _digest([], records), digest)

    def begins(self, records: Sequence[Record]) -> bool:
        """Whether the records that may have been sent are the first of these."""
        return self == Mark() or self.sent == _digest([], records[: self.records])

    def __str__(self) -> str:
        return f"{self.records} {self.sent} {self.digest}"


@dataclass(frozen=True)
class Mirrored:
    """An MLflow experiment after a sync."""

    name: str
    experiment_id: str
    num_runs: int
    """Run directories that it mirrors."""
    num_changed: int
    """Number of those that this sync wrote."""
    compared: tuple[str, ...] = ()
    """MLflow's id of the first seed of each row."""
    note: str = ""
    """A change in MLflow that a person did not ask for: something deleted is restored."""
    problem: str = ""
    """Reason why its runs are not mirrored; empty where they are."""


def sync(observed: Sequence[Observation], tables: Sequence[Table], results: Path) -> list[Mirrored]:
    """Brings MLflow up to date with all runs that have started.

    Args:
        tables: A run goes to the experiment of each table with its row, or to one for single rows.
        results: The project's results folder.

    Returns:
        An entry for each MLflow experiment; one that fails, with its problem, stops no other.

    Raises:
        TrackingError: MLflow does not answer. Calling again completes the sync.
    """
    started = [seen for seen in observed if seen.attempts]
    with database.open_client(results) as client:
        experiments = Experiments(client, results)
        mirrored = []
        for name, table, seen in _grouped(started, tables):
            try:
                with database.refusals(results):
                    experiment = _Experiment(client, experiments.home(name), table, results)
                    mirrored.append(experiment.sync(seen))
            except TrackingError as err:
                # the others cannot be mirrored either, and each would wait
                database.require_answer(client)
                mirrored.append(Mirrored(name, "", len(seen), 0, problem=str(err)))
        return mirrored


def _grouped(
    observed: Iterable[Observation], tables: Sequence[Table]
) -> list[tuple[str, Table | None, list[Observation]]]:
    """The name of each MLflow experiment, its table and its runs."""
    groups: dict[str, tuple[Table | None, list[Observation]]] = {}
    for seen in observed:
        experiment = seen.run.experiment
        setting = f"({experiment.profile}: {experiment.data.name})"
        homes = [t for t in tables if any(row.row_name == experiment.row_name for row in t.rows)]
        for table in homes or (None,):
            name = f"{table.name if table else 'rows'} {setting}"
            groups.setdefault(name, (table, []))[1].append(seen)
    return [(name, table, seen) for name, (table, seen) in groups.items()]


class _Experiment:
    """One MLflow experiment, and the runs that are in it already."""

    def __init__(
        self, client: MlflowClient, home: Home, table: Table | None, results: Path
    ) -> None:
        self.client, self.home, self.table, self.results = client, home, table, results
        held = database.held_runs(client, results, home.id)
        self.known = self._by_key(run for run in held if not run.is_deleted)
        valid = [run for run in held if run.is_deleted and not _is_superseded(run)]
        self._deleted = {_key(run.tags): run for run in _by_records(valid)}
        self._restored = 0
        self._copies: list[str] = []
        self._children: dict[str, list[Held]] = {}
        for run in self.known.values():
            self._children.setdefault(run.tags.get(PARENT, ""), []).append(run)

    def _by_key(self, found: Iterable[Held]) -> dict[tuple[str, ...], Held]:
        """The runs by their tags.

        A restored experiment may hold two of a run: the superseded one is deleted again. Of two
        that an older version left, it is the one with fewer records.
        """
        known: dict[tuple[str, ...], Held] = {}
        for run in _by_records(found):
            key = _key(run.tags)
            if _is_superseded(run):
                self._delete(run)
                continue
            if any(key) and key in known:
                self._delete(known[key])
            known[key] = run
        return known

    def sync(self, observed: Sequence[Observation]) -> Mirrored:
        rows: dict[str, list[Observation]] = {}
        own = [seen for seen in observed if not self._is_copy(seen.run)]
        for seen in own:
            rows.setdefault(row_id(seen.run), []).append(seen)
        changed, first = 0, []
        for row, seeds in rows.items():
            parent = self._parent(row, seeds)
            changed += sum(self._child(seen, parent) for seen in seeds)
            first.append(self.known[_key(_child_tags(seeds[0], parent))].id)
        if self.table and own:
            self._files(self.table, own[0].run.dir.parents[2])
        return Mirrored(self.home.name, self.home.id, len(own), changed, tuple(first), self._note())

    def _note(self) -> str:
        restored = f"restored runs that were deleted in MLflow: {self._restored}"
        copies = (
            "passed over copies of runs that are mirrored from other directories:"
            f" {and_more(self._copies, 3)}; set MLFLOW_TRACKING_URI to another store for them"
        )
        said = [restored if self._restored else "", copies if self._copies else ""]
        return "; ".join(filter(None, [self.home.note, *said]))

    def _is_copy(self, run: Run) -> bool:
        """Whether MLflow has the run from another directory, which is still there.

        A run beside the database is none, as after a copy of a project with its database.
        """
        key = _key({ID: run.id})
        held = self.known.get(key) or self._deleted.get(key)
        first = held.tags.get(DIRECTORY, "") if held else ""
        is_copy = first not in ("", place(run)) and (Path(first) / "spec.yaml").is_file()
        if is_copy and database.is_own(self.results):
            is_copy = not Path(place(run)).is_relative_to(self.results.resolve())
        if is_copy:
            self._copies.append(f"{run.dir} of {first}")
        return is_copy

    def _find(self, tags: dict[str, str]) -> Held | None:
        """The run with these tags; one that was deleted is restored."""
        key = _key(tags)
        if key not in self.known and (deleted := self._deleted.pop(key, None)):
            self.client.restore_run(deleted.id)
            self.known[key] = deleted
            self._restored += 1
        return self.known.get(key)

    def _create(self, tags: dict[str, str], name: str, start_s: float) -> Held:
        created = self.client.create_run(self.home.id, _ms(start_s), tags, one_line(name))
        self.known[_key(tags)] = database.held(created)
        return self.known[_key(tags)]

    def _delete(self, run: Held) -> None:
        """Deletes a run that another one replaces, and its models."""
        self.client.set_tag(run.id, MIRRORED, SUPERSEDED)
        logged_models.forget(self.client, run.id, self.home.id)
        self.client.delete_run(run.id)

    def _child(self, seen: Observation, parent: Held) -> bool:
        """Mirrors a run; returns whether there was anything to do."""
        tags = _child_tags(seen, parent)
        child = self._find(tags)
        # its row may have been deleted for good, its directory moved
        for tag in (PARENT, DIRECTORY):
            if child and child.tags.get(tag) != tags[tag]:
                self.client.set_tag(child.id, tag, tags[tag])
        mark, digest = Mark.of(child), self._digest(seen)
        if mark.digest == digest:
            return False
        records = in_lineage(seen.record.parse_metrics(), seen.attempts)
        records += _outcome(seen)
        if child and not mark.begins(records):
            self._delete(child)
            child, mark = None, Mark()
        child = child or self._create(tags, seen.run.name, seen.attempts[0].started)
        # after an interruption none counts as sent, and MLflow ignores those that it knows
        sent = mark.records if mark.digest else 0
        self._mark(child, Mark.over(records))
        self._write(child, seen, records[sent:], is_new=not sent)
        self._mark(child, Mark.over(records, digest))
        return True

    def _digest(self, seen: Observation) -> str:
        """Digest of all that is sent of a run; the journal is not read for it."""
        record, journal = seen.record, seen.run.metrics_path
        stat = journal.stat() if journal.exists() else None
        attempts = runs.to_json(seen.attempts)
        return _digest(
            _analyses(seen.run),
            [
                record.spec_checksum,
                *(seen.state.value, attempts, record.result, record.provenance),
                stat and (stat.st_size, stat.st_mtime_ns),
            ],
        )

    def _write(
        self, child: Held, seen: Observation, records: Sequence[Record], *, is_new: bool
    ) -> None:
        """Sends these records of a run, its facts and its files."""
        params = _params(seen.run.experiment, seed=seen.run.seed) if is_new else []
        self.client.log_batch(child.id, _metrics(records), params, _tags(_facts(seen)))
        for path in _artifacts(seen.run):
            self.client.log_artifact(child.id, str(path))
        self._set_status(child, mlflow_status(seen.state), _end_time(seen))

    def _parent(self, row: str, named: Sequence[Observation]) -> Held:
        """The MLflow run of a row, with the mean over its done seeds and its parameters.

        Args:
            named: Seeds that this sync was asked for; the row has those that MLflow knows, too.
        """
        tags, experiment = {ROW: row}, named[0].run.experiment
        parent = self._find(tags)
        ids = {seen.run.id for seen in named}
        children = self._children.get(parent.id, []) if parent else []
        others = [child for child in children if child.tags.get(ID) not in ids]
        seeds = [*named, *filter(None, map(_observed_again, others))]
        means = _means(seeds)
        digest = _digest([], [sorted((seen.run.id, seen.state.value) for seen in seeds), means])
        mark = Mark.of(parent)
        if parent and mark.digest == digest:
            return parent
        if parent and not mark.begins(means):
            self._delete(parent)
            parent = None
        if parent is None:
            start_s = min(seen.attempts[0].started for seen in seeds)
            parent = self._create(tags, experiment.title, start_s)
            for other in others:
                self.client.set_tag(other.id, PARENT, parent.id)
        facts = {"experiment": experiment.name, "profile": experiment.profile}
        self._mark(parent, Mark.over(means))
        self.client.log_batch(parent.id, _metrics(means), _params(experiment), _tags(facts))
        status = min((mlflow_status(seen.state) for seen in seeds), key=ROW_STATUS.index)
        self._set_status(parent, status, max(map(_end_time, seeds)))
        self._mark(parent, Mark.over(means, digest))
        return parent

    def _files(self, table: Table, folder: Path) -> None:
        """Mirrors the files of the table and its figures, as artifacts of a separate run."""
        figures = [f"figures/{name}" for name in (*table.figures, "index") if table.figures]
        names = [table.name, *figures]
        files = (path for name in names for path in sorted(folder.glob(f"{name}.*")))
        # names of sweeps hold dots
        paths = [path for path in files if path.stem in {Path(name).name for name in names}]
        if not paths:
            return
        digest, time_s = _digest(paths), paths[0].stat().st_mtime
        tags = {TABLE: table.name}
        home = self._find(tags) or self._create(tags, f"{table.name} (files)", time_s)
        if Mark.of(home).digest != digest:
            for path in paths:
                self.client.log_artifact(home.id, str(path))
            self._set_status(home, "FINISHED", time_s)
            self._mark(home, Mark.over([], digest))

    def _set_status(self, run: Held, status: str, end_s: float) -> None:
        if status == "RUNNING":
            self.client.update_run(run.id, status=status)
        else:
            self.client.set_terminated(run.id, status, _ms(end_s))

    def _mark(self, run: Held, mark: Mark) -> None:
        self.client.set_tag(run.id, MIRRORED, str(mark))


def _by_records(found: Iterable[Held]) -> list[Held]:
    """The runs, those with the most records last."""
    return sorted(found, key=lambda run: Mark.of(run).records)


def _is_superseded(run: Held) -> bool:
    return run.tags.get(MIRRORED) == SUPERSEDED


def _child_tags(seen: Observation, parent: Held) -> dict[str, str]:
    return {ID: seen.run.id, PARENT: parent.id, DIRECTORY: place(seen.run)}


def _observed_again(child: Held) -> Observation | None:
    """The run that an MLflow run was mirrored from; None where it is no longer there."""
    try:
        seen = observe(Run.load(Path(child.tags.get(DIRECTORY, ""))))
    except (ResultError, UserError):
        return None
    return seen if seen.attempts and seen.run.id == child.tags.get(ID) else None


def _key(tags: Mapping[str, str]) -> tuple[str, ...]:
    """The tags that identify an MLflow run."""
    return tuple(tags.get(tag, "") for tag in (ID, ROW, TABLE))


def row_id(run: Run) -> str:
    """Hash of the identity of a run without its seed, shared by the seeds of a row."""
    fields = runs.identity_fields(run.experiment)
    before = row_id(run.upstream) if run.upstream else None
    teacher = [row_id(run.teacher)] if run.teacher else []
    return _digest([], [run.experiment.name, fields, before, *teacher])[:12]


def _digest(paths: Iterable[Path], value: Any = None) -> str:
    """sha256 in hex over a JSON value and the content of files."""
    parts = [path.read_bytes() for path in paths]
    return hashlib.sha256(b"\0".join([json.dumps(value).encode(), *parts])).hexdigest()


def _artifacts(run: Run) -> list[Path]:
    """The files of a run that are mirrored, with the analysis of its model, if any."""
    return [*filter(run.owns, (run.dir / name for name in ARTIFACTS)), *_analyses(run)]


def _analyses(run: Run) -> list[Path]:
    return sorted(filter(run.owns, run.dir.glob("analysis/[!.]*")))


def _end_time(seen: Observation) -> float:
    """Time of the newest record of its attempts."""
    return max(max(attempt.last_seen, attempt.ended or 0.0) for attempt in seen.attempts)


def _ms(seconds: float) -> int:
    """Milliseconds; 0 for a time that is none, as an edited journal may hold it."""
    return 0 if any(misfits(seconds, float)) else round(seconds * 1000)


_METRIC = re.compile(r"[\w-]+(/[\w-]+)*", re.ASCII)
"""Names that training writes; MLflow refuses a whole batch for the sake of another one."""


def _metrics(records: Iterable[Record]) -> list[Metric]:
    """All metrics of the journal, at their step and time; the step of a similarity is its layer.

    Records without a time and a step are passed over, as are values that are no number.
    """
    from mlflow.entities import Metric

    found = []
    for record in records:
        time, step = record.get("time"), record.get("layer" if "layer" in record else "step")
        if time is not None and step is not None and not any(misfits([time, step], [float])):
            found += [
                Metric(key, number, _ms(time), int(step))
                for key, value in record.items()
                if key not in NOT_METRICS and _METRIC.fullmatch(key)
                if _is_mirrored(number := float(value) if value in NOT_FINITE else value)
            ]
    return found


def _is_mirrored(value: object) -> bool:
    """Whether a value is a number that fits into a column of a database; NaN does."""
    return isinstance(value, float) or not any(misfits(value, float))


def _outcome(seen: Observation) -> list[Record]:
    """The record of the result, at the last step; none before it."""
    if seen.result is None:
        return []
    record = {f"result/{key}": seen.result[key] for key in ("parameters", "gmacs", "device_hours")}
    if best := seen.result["best"]:
        record["result/best_top1"] = best[VAL_TOP1]
    at = {"step": seen.run.experiment.total_steps, "time": _end_time(seen)}
    return [{**record, **at}]


def _means(row: Sequence[Observation]) -> list[Record]:
    """Mean and sample deviation of the accuracy over the first n done seeds, at step n."""
    done = [seen for seen in row if seen.result]
    done.sort(key=lambda seen: (_end_time(seen), seen.run.seed))
    accuracies = [seen.result["metrics"][VAL_TOP1] for seen in done if seen.result]
    records: list[Record] = []
    for n, seen in enumerate(done, start=1):
        spread = {ROW_STD: statistics.stdev(accuracies[:n])} if n > 1 else {}
        mean = {ROW_MEAN: math.fsum(accuracies[:n]) / n}
        records.append({"time": _end_time(seen), "step": n, **mean, **spread})
    return records


def _params(experiment: Experiment, **more: int) -> list[Param]:
    """The scientific fields, flattened: exactly what cannot change for this id, since MLflow's
    params cannot either."""
    from mlflow.entities import Param

    fields = {**runs.identity_fields(experiment), **more}
    return [Param(key, visible(value)) for key, value in runs.flatten(fields).items()]


def _facts(seen: Observation) -> dict[str, str]:
    """Tags of a run: its state, and its provenance."""
    origin = seen.provenance or {}
    keys = ("commits", "snapshots", "hosts", "job_ids", "ends")
    return {
        "state": seen.state.value,
        "problem": seen.problem,
        "attempts": str(len(seen.attempts)),
        "experiment": seen.run.experiment.name,
        "profile": seen.run.experiment.profile,
        **{key: ", ".join(origin[key]) for key in keys},
        "uncommitted_changes": "yes" if origin["uncommitted_changes"] else "no",
    }


def _tags(facts: dict[str, str]) -> list[RunTag]:
    from mlflow.entities import RunTag

    return [RunTag(f"antioversmooth.{key}", visible(value)) for key, value in facts.items()]

"""A run and its directory. A directory may come from anywhere: nothing in it is trusted.

results/runs/<experiment>/seed<k>-<id8>/
  spec.yaml          the resolved experiment: read by people and by `train`
  intent.json        written before a launch starts anything: back end, user, time, code
  intents.jsonl      all launches; intent.json is the newest of them
  attempts.jsonl     starts and ends of attempts, with the reasons
  metrics.jsonl      training and validation metrics (see metrics.py)
  checkpoints/       the last two and the best, each with its checksum
  result.json        written last; a valid one makes the run done
  classes.json       the names of the classes of its data, in order
  provenance.json    machine and packages of the newest attempt, and the data of the run
  heartbeat          touched every few seconds while an attempt lives
  logs/attempt<n>/   created exclusively, which gives an attempt its number
  logs/launcher.log  output on this machine before an attempt has logs of its own
  launch.lock        held by a launcher and by the processes that it started (see lock.py)
  lock               held by the process that trains it
  process.json       on this machine: the process that trains it (see orchestration/local)
  cancelled          touched to end a run on this machine
  jobs.jsonl         on SLURM: submissions, ends of jobs, cancellations (see jobs.py)
  slurm/             on SLURM: the batch script, output before an attempt has logs of its own, and
                     how far each job came
  analysis/          measurements and figures of its layers, by `antioversmooth analyze`
  notified/          events that `cluster.notify` was called with, one file each
  imported.json      of a run that ran elsewhere: its bundle, and the checksums of its files
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from antioversmooth import files
from antioversmooth.config import Experiment
from antioversmooth.errors import CheckpointError, ResultError, UserError
from antioversmooth.redact import redact_all
from antioversmooth.runs import journal
from antioversmooth.runs.agreement import require_agreement
from antioversmooth.runs.attempts import (
    Attempt,
    EndReason,
    extend_last_seen,
    in_lineage,
    read_attempts,
    write_end,
)
from antioversmooth.runs.checkpoints import Checkpoint, checkpoints_in_lineage, list_checkpoints
from antioversmooth.runs.identity import (
    ORIGINS,
    checksum,
    file_checksums,
    identity,
    origin,
    to_json,
    weight_ids,
)
from antioversmooth.runs.metrics import VAL_TOP1
from antioversmooth.runs.recorded_spec import read_spec, spec_text
from antioversmooth.runs.result import epoch_records, read_result

IMPORTED = "imported.json"
"""In the directory of a run that came out of a bundle: from which, and the checksums of its
files."""
ENTRIES = {
    "spec.yaml", "intent.json", "intents.jsonl", "attempts.jsonl", "metrics.jsonl", "checkpoints",
    "result.json", "classes.json", "provenance.json", "heartbeat", "logs", "launch.lock", "lock",
    "process.json", "cancelled", "jobs.jsonl", "slurm", "analysis", "notified",
    IMPORTED,
}  # fmt: skip
"""Names in the directory of a run; see above."""


def dir_name(seed: int, run_id: str) -> str:
    """Name of the directory of a run, in the folder of its experiment."""
    return f"seed{seed}-{run_id[:8]}"


@dataclass(frozen=True)
class Run:
    """One experiment with one seed."""

    experiment: Experiment
    seed: int
    id: str
    """sha256 in hex; see `identity`."""
    dir: Path
    """The run directory."""
    upstream: Run | None = None
    """The run whose final weights this one starts from."""
    teacher: Run | None = None
    """The run whose final weights this one learns from."""
    files: dict[str, str] = field(default_factory=dict)
    """Checksums of the files that it takes weights from, by the field of the recipe."""
    is_loaded: bool = field(default=False, compare=False)
    """Whether the `spec.yaml` of its directory was read, and has its id."""

    @property
    def dependencies(self) -> list[Run]:
        """The runs that must be done before this one can start."""
        return [run for run in (self.upstream, self.teacher) if run is not None]

    @property
    def name(self) -> str:
        """For people: deit_s12 seed 0."""
        return f"{self.experiment.row_name} seed {self.seed}"

    @property
    def metrics_path(self) -> Path:
        return self.dir / "metrics.jsonl"

    @property
    def attempts_path(self) -> Path:
        return self.dir / "attempts.jsonl"

    @property
    def jobs_path(self) -> Path:
        return self.dir / "jobs.jsonl"

    @property
    def checkpoints_dir(self) -> Path:
        return self.dir / "checkpoints"

    @property
    def is_imported(self) -> bool:
        """Whether it came out of a bundle, so that the paths in its spec are of another machine."""
        return (self.dir / IMPORTED).exists()

    def owns(self, path: Path) -> bool:
        """Whether a path is a file, or leads to one, that lies in the directory of the run."""
        return path.is_file() and path.resolve().is_relative_to(self.dir.resolve())

    def result(self) -> dict[str, Any] | None:
        """Content of result.json; None while the run is not done.

        Raises:
            ResultError: It is torn, of another run, of another shape than a result, or contradicts
                the metrics; or a journal cannot be read.
        """
        intent = files.read_mapping(self.dir / "intent.json")
        if reason := self.unreadable_reason(intent):
            raise ResultError(reason)
        result = read_result(self.dir / "result.json", self.id)
        if result is not None:
            if not self.is_loaded:
                self.require_own_spec(intent, self.spec_checksum())
            attempts, records = self.attempts(), journal.read(self.metrics_path, holding=VAL_TOP1)
            epochs = epoch_records(in_lineage(records, attempts))
            require_agreement(result, self.experiment, self.seed, attempts, epochs, self.dir)
        return result

    def unreadable_reason(self, intent: Mapping[str, Any] | None = None) -> str:
        """Why the journals of the run cannot be read; empty where they can be, or are missing.

        Those of another run are none of this one.

        Args:
            intent: See `foreign_reason`.
        """
        paths = (self.attempts_path, self.metrics_path, self.jobs_path)
        unreadable = next(filter(None, map(journal.unreadable_reason, paths)), "")
        return self.foreign_reason(intent) or unreadable

    def foreign_reason(self, intent: Mapping[str, Any] | None = None) -> str:
        """Why the directory is another run's, as after a copy; empty where nothing says so.

        Args:
            intent: Content of intent.json; default: it is read.
        """
        intent = files.read_mapping(self.dir / "intent.json") if intent is None else intent
        name, found = "intent.json", intent.get("id")
        if not isinstance(found, str):
            name, found = "spec.yaml", _recorded_id(self.dir / "spec.yaml")
        if found in (None, self.id):
            return ""
        return (
            f"{self.dir / name} is of run {found[:8]}, not of {self.id[:8]}: the directory is a"
            " copy of another run's; move it away and launch again"
        )

    def spec_checksum(self) -> str:
        """sha256 in hex of `spec.yaml`; empty where it is not there."""
        path = self.dir / "spec.yaml"
        return files.sha256(path) if path.is_file() else ""

    def require_own_spec(self, intent: Mapping[str, Any], checksum: str) -> None:
        """Raises ResultError where `spec.yaml` was edited so that it is another run's.

        A file with the checksum that the launch recorded is not read further; old versions
        recorded none, and their files are not compared here.

        Args:
            intent: Content of intent.json.
            checksum: See `spec_checksum`.
        """
        is_known = not checksum or intent.get("spec") in (None, checksum)
        # a launch that was killed has written it with other values that do not identify a run
        if not is_known and Run.load(self.dir).id != self.id:
            raise ResultError(
                f"{self.dir}/spec.yaml is that of another run than {self.id[:8]}; put it back"
            )

    def invalid_result_reason(self) -> str:
        """Why the result of the run is invalid; empty where it is valid or absent."""
        try:
            self.result()
        except ResultError as err:
            return str(err)
        return ""

    def attempts(self) -> list[Attempt]:
        """Attempts so far, in the order of their numbers."""
        return read_attempts(self.attempts_path)

    def metrics(self) -> list[journal.Record]:
        """Records of metrics.jsonl, without those that later attempts superseded."""
        return in_lineage(journal.read(self.metrics_path), self.attempts())

    def checkpoints(self) -> list[Checkpoint]:
        """Checkpoints that no later attempt has superseded, newest step first."""
        return checkpoints_in_lineage(list_checkpoints(self.checkpoints_dir), self.attempts())

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint file, whole or not."""
        return bool(list_checkpoints(self.checkpoints_dir))

    def last_step(self) -> int:
        """Last step in the metrics; 0 before the first."""
        return max((r.get("step", 0) for r in self.metrics()), default=0)

    def close_attempt(
        self,
        reason: EndReason,
        message: str,
        *,
        number: int | None = None,
        instead_of: Collection[EndReason] = (),
    ) -> bool:
        """Records the end of an attempt that did not record it; returns whether it did.

        It ended at its last sign of life, however much later this is called.

        Args:
            number: Its number; default: the newest attempt.
            instead_of: Recorded reasons that this one replaces; any other end stays as it is.
        """
        attempts = {attempt.number: attempt for attempt in self.attempts()}
        closed = attempts.get(max(attempts, default=0) if number is None else number)
        if closed is None or (closed.reason is not None and closed.reason not in instead_of):
            return False
        step = self.last_step() if closed.end_step is None else closed.end_step
        seen = extend_last_seen(
            list(attempts.values()), journal.read(self.metrics_path), self.heartbeat()
        )
        (last_seen,) = (one.last_seen for one in seen if one.number == closed.number)
        ended = last_seen if closed.ended is None else closed.ended
        write_end(
            self.attempts_path, closed.number, reason, step=step, message=message, ended=ended
        )
        return True

    def heartbeat(self) -> float | None:
        """Time of the newest heartbeat, in seconds since 1970; None before the first.

        It is never later than now: the clock of a file server may be ahead.
        """
        try:
            return min((self.dir / "heartbeat").stat().st_mtime, time.time())
        except OSError:
            return None

    def no_checkpoint_message(self, reached: int) -> str:
        """A warning about a run that had reached a step and has no checkpoint to resume from."""
        return (
            f"{self.name} had reached step {reached}, and no whole checkpoint of it is there: it"
            " begins again at step 0"
        )

    def prepare(self) -> None:
        """Makes the directory and writes `spec.yaml`; does nothing where they are there already."""
        self.checkpoints_dir.mkdir(parents=True, exist_ok=True)
        (self.dir / "logs").mkdir(exist_ok=True)
        content = {
            "id": self.id,
            "seed": self.seed,
            "upstream": str(self.upstream.dir) if self.upstream else None,
            **({"teacher": str(self.teacher.dir)} if self.teacher else {}),
            **({"files": self.files} if self.files else {}),
            "experiment": {
                **to_json(self.experiment),
                "cluster": redact_all(to_json(self.experiment.cluster)),
            },
        }
        path, text = self.dir / "spec.yaml", spec_text(content)
        with suppress(OSError, ValueError):
            if path.read_text() == text:
                return
        files.write_atomic(path, text)

    def require_file(self, field: str) -> None:
        """Raises CheckpointError where the file of a field of the recipe has changed."""
        if field in self.files and checksum(self.experiment, field) != self.files[field]:
            raise CheckpointError(
                f"{self.name}: recipe.{field}: {origin(self.experiment, field)[1]} has other"
                " content than when this run was planned; put that file back, or launch the spec"
                " again, which makes it another run"
            )

    def as_launched(self) -> Run:
        """This run with the values of its newest launch that do not identify it: of `cluster` and
        `runtime`. Itself before the first launch."""
        if not (self.dir / "intent.json").exists():
            return self
        before = {"upstream": self.upstream, "teacher": self.teacher}
        known = {role: run for role, run in before.items() if run is not None}
        try:
            content, recorded, science = read_spec(self.dir / "spec.yaml")
            weights = weight_ids(recorded, known, content["files"])
        except (ResultError, UserError):
            return self
        if not content["id"] == self.id == identity(science, content["seed"], weights):
            return self
        cluster, runtime = recorded.cluster, recorded.runtime
        launched = replace(self.experiment, cluster=cluster, runtime=runtime)
        return replace(self, experiment=launched, is_loaded=True)

    def new_attempt(self) -> int:
        """Number of a fresh attempt, from 1; its log folder is made exclusively."""
        number = 1 + max((n for n, _ in self.attempt_dirs()), default=0)
        while True:
            try:
                (self.dir / "logs" / f"attempt{number}").mkdir(parents=True)
                return number
            except FileExistsError:
                number += 1

    def attempt_dirs(self) -> Iterator[tuple[int, Path]]:
        """Number and log folder of each attempt."""
        for path in sorted((self.dir / "logs").glob("attempt*")):
            if path.name.removeprefix("attempt").isdecimal():
                yield int(path.name.removeprefix("attempt")), path

    @classmethod
    def load(cls, directory: Path) -> Run:
        """The run that lives in a directory, wherever that has been moved to since it ran.

        Raises:
            ResultError: There is no readable spec, or it is not what its id was made of.
        """
        return cls._load(Path(directory), ())

    @classmethod
    def _load(cls, directory: Path, chain: tuple[Path, ...]) -> Run:
        """The run of a directory; `chain` holds those of the runs that need it."""
        path = directory / "spec.yaml"
        content, experiment, science = read_spec(path)
        places = {
            role: _place(directory, content[role]) for role in ORIGINS.values() if content.get(role)
        }
        if not {directory, *chain}.isdisjoint(places.values()):
            raise ResultError(f"{path}: the run depends on itself")
        before = {role: cls._load(place, (*chain, directory)) for role, place in places.items()}
        try:
            weights = weight_ids(experiment, before, content["files"])
        except UserError as err:
            raise ResultError(f"{path}: {err}") from err
        run_id = identity(science, content["seed"], weights)
        if run_id != content["id"]:
            raise ResultError(
                f"{path} was edited, or written by other code: its content has id {run_id[:8]}, it"
                f" says {content['id'][:8]}; launch the spec again instead"
            )
        checksums = file_checksums(weights)
        return cls(
            experiment,
            content["seed"],
            run_id,
            directory,
            before.get("upstream"),
            before.get("teacher"),
            checksums,
            is_loaded=True,
        )


def _recorded_id(path: Path) -> str | None:
    """The id in a `spec.yaml`, of which the rest is not read; None where it has none."""
    try:
        found = re.search(r"^id: '?([0-9a-f]{64})\b", path.read_text(), re.MULTILINE)
    except (ValueError, OSError):
        return None
    return found[1] if found else None


def _place(directory: Path, needed: str) -> Path:
    """Directory of a dependency: beside the run, as after a move of results, else as recorded."""
    recorded = Path(needed)
    beside = directory.absolute().parents[1] / recorded.parent.name / recorded.name
    return beside if (beside / "spec.yaml").is_file() else recorded

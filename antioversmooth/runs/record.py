"""Everything that a run directory says, read once: the value that all questions about a run take.

A question (status, why, table, sync, a plan) reads one record of each run. No file is opened twice,
so an answer does not mix two moments.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from antioversmooth.errors import ResultError
from antioversmooth.files import read_mapping
from antioversmooth.runs import jobs, journal
from antioversmooth.runs.agreement import require_agreement
from antioversmooth.runs.attempts import Attempt, EndReason, extend_last_seen, in_lineage
from antioversmooth.runs.checkpoints import Checkpoint, checkpoints_in_lineage, list_checkpoints
from antioversmooth.runs.directory import Run
from antioversmooth.runs.jobs import JobEvent
from antioversmooth.runs.journal import Record
from antioversmooth.runs.metrics import IMAGES_PER_SECOND, TRAIN_LOSS, VAL_TOP1, is_number
from antioversmooth.runs.result import epoch_records, last_epoch_loss, read_result
from antioversmooth.runs.siblings import RowFolders, explain_identity_change, sibling_runs
from antioversmooth.runs.status import AFTER_END, RunState, RunStatus
from antioversmooth.runs.trace import Trace

HEARTBEATS = 6
"""Periods of the heartbeat without one after which an attempt counts as dead."""

SLURM = "slurm"
"""The back end in `intent.json` of a run that was launched on SLURM."""


@dataclass(frozen=True)
class RunRecord:
    """A run directory at one moment; files that few questions need are read when first asked for.

    `RunRecord.read` makes it.
    """

    run: Run
    now: float
    """When it was read, in seconds since 1970."""
    attempts: list[Attempt]
    events: list[JobEvent]
    """Events of its SLURM jobs."""
    intent: Mapping[str, Any]
    """The newest launch; empty before the first."""
    heartbeat: float | None
    """Time of the newest heartbeat; None before the first."""
    folders: RowFolders
    """The folders of rows, in which it looks for siblings."""
    keep_metrics: bool = True
    """Whether the content of metrics.jsonl stays in memory, so that it is read once."""
    unreadable: str = ""
    """Why a journal cannot be read, or is another run's; all of them then count as empty, and the
    run as failed."""

    @classmethod
    def read(
        cls,
        run: Run,
        *,
        now: float | None = None,
        keep_metrics: bool = True,
        folders: RowFolders | None = None,
    ) -> RunRecord:
        """Reads a run directory.

        Args:
            now: Seconds since 1970, to tell a living attempt from a dead one; default: the clock.
            keep_metrics: Whether `metrics` will be asked for; else only `epochs` are read.
            folders: The folders of rows that a question about many runs shares.
        """
        intent = read_mapping(run.dir / "intent.json")
        unreadable = run.unreadable_reason(intent)
        events = [] if unreadable else jobs.read_events(run.jobs_path)
        record = cls(
            run=run,
            now=time.time() if now is None else now,
            attempts=[] if unreadable else jobs.mark_cancelled(run.attempts(), events),
            events=events,
            intent=intent,
            heartbeat=run.heartbeat(),
            folders=folders or RowFolders(),
            keep_metrics=keep_metrics,
            unreadable=unreadable,
        )
        # after the attempts: an attempt records that it has completed after it wrote the result
        _ = record._result
        return record

    @cached_property
    def _result(self) -> dict[str, Any] | ResultError | None:
        if self.unreadable:
            return ResultError(self.unreadable)
        try:
            result = read_result(self.run.dir / "result.json", self.run.id)
            if result is not None:
                run = self.run
                if not run.is_loaded:
                    run.require_own_spec(self.intent, self.spec_checksum)
                require_agreement(
                    result, run.experiment, run.seed, self.attempts, self.epochs, run.dir
                )
        except ResultError as err:
            return err
        return result

    @property
    def result(self) -> dict[str, Any] | None:
        """Content of result.json; None where the run is not done or its result is invalid."""
        return None if isinstance(self._result, ResultError) else self._result

    @property
    def invalid_result_reason(self) -> str:
        """Why the result of the run is invalid; empty where it is valid or absent."""
        return str(self._result) if isinstance(self._result, ResultError) else ""

    def parse_metrics(self, *, holding: str = "") -> list[Record]:
        """All records of metrics.jsonl, or those with a key; nothing of them is cached."""
        if self.unreadable:
            return []
        if self.keep_metrics:
            return journal.parse(self._metrics_data, holding=holding)
        return journal.read(self.run.metrics_path, holding=holding)

    @cached_property
    def _metrics_data(self) -> bytes:
        return journal.read_bytes(self.run.metrics_path)

    @cached_property
    def all_metrics(self) -> list[Record]:
        """All records of metrics.jsonl, also those that later attempts superseded."""
        return self.parse_metrics()

    @cached_property
    def metrics(self) -> list[Record]:
        """Records of metrics.jsonl, without those that later attempts superseded."""
        return in_lineage(self.all_metrics, self.attempts)

    @cached_property
    def epochs(self) -> list[Record]:
        """One record for each finished epoch: those with the accuracy after it."""
        return epoch_records(in_lineage(self.parse_metrics(holding=VAL_TOP1), self.attempts))

    @cached_property
    def train_loss(self) -> float | None:
        """Mean training loss over the last epoch; None where the run is not done."""
        records = in_lineage(self.parse_metrics(holding=TRAIN_LOSS), self.attempts)
        return last_epoch_loss(records, self.run.experiment)

    @cached_property
    def last_step(self) -> int:
        """Last step in the metrics; 0 before the first."""
        if self.result is not None:
            # its last evaluation is that of the last step, or the result would be invalid
            return self.run.experiment.total_steps
        return max((record.get("step", 0) for record in self.metrics), default=0)

    @cached_property
    def trace(self) -> Trace:
        """The numbers that a look at many runs needs of the metrics."""
        return Trace(
            last_step=self.last_step,
            epochs_done=sum(1 for record in self.epochs if record["step"] > 0),
            top1=self.epochs[-1][VAL_TOP1] if self.epochs else None,
            loss=self._newest(TRAIN_LOSS),
            images_per_s=self._newest(IMAGES_PER_SECOND),
            device_speed=self._device_speed(),
        )

    def _newest(self, metric: str) -> float | None:
        """The last value of a metric in the journal."""
        if self.unreadable:
            return None
        for record in journal.newest_first(self._metrics_data, holding=metric):
            if is_number(record.get(metric)) and in_lineage([record], self.attempts):
                return float(record[metric])
        return None

    def _device_speed(self) -> float | None:
        result = self.result or {}
        if is_number(result.get("images_per_s")):
            return float(result["images_per_s"]) / int(result.get("world_size", 1))
        worlds = {attempt.number: attempt.world_size for attempt in self.attempts}
        speeds = [
            r[IMAGES_PER_SECOND] / worlds.get(r.get("attempt", 0), 1)
            for r in self.all_metrics
            if is_number(r.get(IMAGES_PER_SECOND))
        ]
        return statistics.median(speeds) if speeds else None

    def forget_metrics(self) -> None:
        """Frees the memory of all metrics: ten thousand runs have more than a machine may hold."""
        for name in ("_metrics_data", "all_metrics", "metrics", "epochs"):
            vars(self).pop(name, None)

    @cached_property
    def attempts_with_cost(self) -> list[Attempt]:
        """The attempts, last seen at their last sign of life."""
        if any(attempt.ended is None for attempt in self.attempts):
            return extend_last_seen(self.attempts, self.all_metrics, self.heartbeat)
        return self.attempts

    @cached_property
    def all_checkpoints(self) -> list[Checkpoint]:
        """All checkpoint files, newest step first."""
        return list_checkpoints(self.run.checkpoints_dir)

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """Checkpoints that no later attempt has superseded, newest step first."""
        return checkpoints_in_lineage(self.all_checkpoints, self.attempts)

    @property
    def saved_step(self) -> int:
        """Step of the newest checkpoint that belongs to the run; 0 without one."""
        return max((checkpoint.step for checkpoint in self.checkpoints), default=0)

    @cached_property
    def provenance(self) -> Mapping[str, Any]:
        """Content of provenance.json; empty before the first attempt."""
        return read_mapping(self.run.dir / "provenance.json")

    @cached_property
    def spec_checksum(self) -> str:
        """sha256 in hex of spec.yaml; empty where it is not there."""
        return self.run.spec_checksum()

    @cached_property
    def launches(self) -> list[Record]:
        """All launches, as intents.jsonl has them; empty in runs of old versions.

        A link out of the run, or a pipe, is no record of it.
        """
        path = self.run.dir / "intents.jsonl"
        return journal.read(path) if self.run.owns(path) else []

    @cached_property
    def siblings(self) -> list[str]:
        """Directories of runs of the same row and seed with another identity."""
        return sibling_runs(self.run, self.folders)

    @property
    def is_on_slurm(self) -> bool:
        """Whether the run was launched on SLURM, or ever had a job there."""
        return self.intent.get("backend") == SLURM or bool(self.events)

    @property
    def launched_code(self) -> str:
        """Id of the snapshot of the newest launch; empty where none is recorded."""
        return str(self.intent.get("snapshot") or "")

    @property
    def is_cancelled(self) -> bool:
        """Whether a person cancelled its job and nobody has asked for it since."""
        return jobs.is_cancelled(self.events)

    @cached_property
    def job_ids(self) -> list[str]:
        """Ids of its SLURM jobs, the newest first."""
        return jobs.job_ids(self.events, self.attempts)

    @property
    def waiting_reason(self) -> str:
        """Why it has no job though a launch asked for it; empty where nothing has to submit it."""
        return jobs.waiting_reason(self.events, self.attempts)

    @property
    def newest_job_id(self) -> str | None:
        """Id of the SLURM job that was submitted last."""
        return next(iter(self.job_ids), None)

    def job_user(self, job_id: str) -> str:
        """The user whose job that is, as far as the job or the newest launch records it."""
        users = [e.user for e in self.events if e.job_id == job_id and e.user]
        return users[-1] if users else str(self.intent.get("user", ""))

    def attempts_of_job(self, job_id: str) -> list[Attempt]:
        """The attempts that a SLURM job made."""
        return [attempt for attempt in self.attempts if attempt.job_id == job_id]

    @cached_property
    def status(self) -> RunStatus:
        """The status of the run by its directory alone."""
        if self.invalid_result_reason:
            return RunStatus(RunState.failed, self.invalid_result_reason)
        if self.result is not None:
            return RunStatus(RunState.done)
        if self.waiting_reason:
            return RunStatus(RunState.waiting, self.waiting_reason)
        if not self.attempts:
            return self._status_without_attempt()
        newest = self.attempts[-1]
        if newest.reason is not None:
            return status_after(newest.reason, newest.message)
        if self._is_alive(newest):
            return RunStatus(RunState.running)
        return RunStatus(RunState.lost, f"attempt {newest.number} vanished without an end record")

    def _status_without_attempt(self) -> RunStatus:
        if self.is_on_slurm:
            return RunStatus(RunState.submitted, job_id=self.newest_job_id)
        if self.siblings:
            return RunStatus(RunState.stale, explain_identity_change(self.run, self.folders))
        return RunStatus(RunState.missing)

    def _is_alive(self, attempt: Attempt) -> bool:
        beat = attempt.last_seen if self.heartbeat is None else self.heartbeat
        return self.now - beat < HEARTBEATS * self.run.experiment.runtime.heartbeat_s


def read_records(
    runs: Iterable[Run], *, now: float | None = None, traced: bool = False
) -> list[RunRecord]:
    """The records of runs, for one question about all of them; none keeps its metrics in memory.

    Args:
        now: See `RunRecord.read`.
        traced: Whether the traces of the metrics will be asked for, and what the attempts cost.
    """
    folders, records = RowFolders(), []
    for run in runs:
        record = RunRecord.read(run, now=now, folders=folders)
        if traced:
            _ = record.trace, record.attempts_with_cost
        record.forget_metrics()
        records.append(record)
    return records


def status_after(
    reason: EndReason, message: str, *, job_id: str | None = None, nodes: str = ""
) -> RunStatus:
    """The status of a run without a result, after an attempt that ended."""
    if reason is EndReason.completed:
        message = "its last attempt completed, but result.json is gone; the next start writes it"
    return RunStatus(AFTER_END[reason], message or reason.value, reason, job_id, nodes)

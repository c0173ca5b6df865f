"""Decides what each run needs and submits it. Called by a launch and by `--follow`; no daemon.

Everything is read from the run directories and from SLURM, so it does not matter who submitted a
run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from antioversmooth.orchestration.intent import launched_tables
from antioversmooth.orchestration.monitor.state import look
from antioversmooth.orchestration.notify.events import Event
from antioversmooth.orchestration.slurm import submission
from antioversmooth.orchestration.slurm.client import Job, LimitReached
from antioversmooth.orchestration.slurm.lookup import find_jobs
from antioversmooth.orchestration.slurm.retry_budget import RetryDecision, retry_decision
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.jobs import EventKind, append_event
from antioversmooth.runs.record import RunRecord, read_records
from antioversmooth.runs.siblings import RowFolders
from antioversmooth.runs.status import RunState, RunStatus


class Action(Enum):
    """The kinds of steps."""

    leave = "leave"
    submit = "submit"
    replace = "replace"
    """Cancel its job, which will never start or makes no progress, and submit again."""
    wait = "wait"
    """A limit on jobs is reached; a later look submits it."""
    give_up = "give up"
    blocked = "blocked"
    """It depends on a run that is not on its way."""


@dataclass(frozen=True)
class Step:
    """The decision for a run, and why."""

    run: Run
    action: Action
    status: RunStatus
    """Status of the run before the step."""
    why: str
    """For people."""
    event: Event | None = None
    """The end of the run that a person is notified of; None where it has not ended for good."""
    job_id: str | None = None
    """The run's job after the step, as long as it is not known to be over."""
    code: str = ""
    """Id of the snapshot that the newest launch before the step gave the run."""


ENDED_BY_A_PERSON = frozenset(
    {RunState.cancelled_pending, RunState.cancelled_running, RunState.stopped}
)
_LEAVE = frozenset({RunState.done, RunState.unknown})


def decide(status: RunStatus, decision: RetryDecision, *, asked: bool) -> Action:
    """The action for a run with this status.

    Args:
        decision: Whether it may be started again by itself.
        asked: A person asks for the run now, so that one that was cancelled starts again.
    """
    if status.state.never_began or status.state is RunState.waiting:
        return Action.submit
    if status.state in (RunState.hung, RunState.dependency_failed):
        # nobody else may end another user's job
        return Action.leave if status.owner else Action.replace
    if status.state.is_live or status.state in _LEAVE:
        return Action.leave
    if status.state in ENDED_BY_A_PERSON:
        return Action.submit if asked else Action.leave
    return Action.submit if decision.again else Action.give_up


def _describe_decision(action: Action, status: RunStatus, decision: RetryDecision) -> str:
    """Why an action was chosen, for people."""
    if status.state.never_began:
        return "not launched yet"
    if action is Action.replace:
        return status.detail
    if action is Action.give_up:
        return f"{status}; {decision.why}"
    if action is Action.submit and status.state in ENDED_BY_A_PERSON:
        return "asked for again"
    return str(status)


def reconcile(
    runs: Sequence[Run],
    snapshot: Snapshot,
    *,
    asked: bool = True,
    tables: Sequence[str] | None = None,
) -> Iterator[Step]:
    """Submits what needs submitting; yields for each run what was done, as soon as it is.

    Args:
        runs: Dependencies first.
        snapshot: The code that new jobs run.
        asked: See `decide`.
        tables: Names of the tables that the runs are rows of; default: those of the launch before.

    Raises:
        LaunchError: SLURM refuses a job; those that were yielded before are submitted.
    """
    if asked:
        # values that identify no run may differ from those of the launch before
        for run in runs:
            run.prepare()
    records = read_records(runs)
    statuses, doubles = look(records)
    wanted = [_first_step(record, statuses[record.run.id], asked=asked) for record in records]
    with_job = sum(step.job_id is not None for step in wanted)
    submitter = _Submitter(snapshot, tables, with_job)
    for step in wanted:
        if step.action is Action.leave and step.run.id in doubles:
            submission.end_doubles(step.run)
        yield submitter.take(step)


def _first_step(record: RunRecord, status: RunStatus, *, asked: bool) -> Step:
    """The decision for a run, after SLURM's word on the end of its newest attempt is recorded."""
    if _close_attempt(record, status):
        record = RunRecord.read(record.run)
    decision = retry_decision(record)
    action = decide(status, decision, asked=asked)
    may_live = status.state.is_live or status.state is RunState.unknown
    why = _describe_decision(action, status, decision)
    ended = decision.event if action is Action.give_up else None
    event = Event.run_done if status.state is RunState.done else ended
    job_id = status.job_id if may_live else None
    return Step(record.run, action, status, why, event, job_id, record.launched_code)


def _close_attempt(record: RunRecord, status: RunStatus) -> bool:
    """Records SLURM's word on the newest attempt of a job, where it recorded none; whether it did.

    Attempts of other jobs may go on, and so may a job of another user that seems to hang.
    """
    made = record.attempts_of_job(status.job_id) if status.job_id else []
    if status.reason is None or status.owner or not made:
        return False
    return record.run.close_attempt(status.reason, status.detail, number=made[-1].number)


class _Submitter:
    """Takes the steps of one look at the queue, as far as limits on jobs allow."""

    def __init__(self, snapshot: Snapshot, tables: Sequence[str] | None, with_job: int) -> None:
        self._snapshot, self._tables = snapshot, tables
        self._with_job = with_job
        """How many of the runs have a job."""
        self._taken: dict[str, Step] = {}
        """Steps by run id."""
        self._reached: dict[tuple[str | None, ...], str] = {}
        """Limits of SLURM's that are reached, by where they hold."""

    def take(self, step: Step) -> Step:
        """The step after it was taken: submitted, waiting for a limit, or blocked."""
        if step.action in (Action.submit, Action.replace):
            step = self._submit_or_wait(step)
        self._taken[step.run.id] = step
        return step

    def _submit_or_wait(self, step: Step) -> Step:
        needed = [run for run in step.run.dependencies if run.result() is None]
        for run in needed:
            if not self._is_on_its_way(run):
                why = f"it needs {run.name}, which is not on its way"
                return replace(step, action=Action.blocked, why=why)
        earlier = [self._taken[run.id] for run in needed]
        if why := self._waiting_reason(step, earlier):
            return self._hold_back(step, why)
        return self._submit(step, [one.job_id for one in earlier if one.job_id])

    def _hold_back(self, step: Step, why: str) -> Step:
        replaced_job_id = _replaced_job_id(step)
        self._with_job -= bool(replaced_job_id)
        if step.status != RunStatus(RunState.waiting, why):
            submission.hold_back(
                step.run, self._snapshot, why, replaced_job_id=replaced_job_id, tables=self._tables
            )
        return replace(step, action=Action.wait, why=why, job_id=None)

    def _is_on_its_way(self, run: Run) -> bool:
        step = self._taken.get(run.id)
        return step is not None and (step.job_id is not None or step.action is Action.wait)

    def _waiting_reason(self, step: Step, earlier: Iterable[Step]) -> str:
        """The limit that the run waits for; empty where none is known to be reached."""
        for needed in earlier:
            if needed.action is Action.wait:
                return needed.why
        # its job makes room for the next one
        if step.action is Action.replace:
            return ""
        limit = step.run.experiment.cluster.max_queued
        if limit and self._with_job >= limit:
            return f"for cluster.max_queued={limit}"
        return self._reached.get(_where_limits_hold(step.run), "")

    def _submit(self, step: Step, dependencies: Sequence[str]) -> Step:
        replaced_job_id = _replaced_job_id(step)
        try:
            job_id = submission.submit(
                step.run,
                self._snapshot,
                after=dependencies,
                replaced_job_id=replaced_job_id,
                tables=self._tables,
            )
        except LimitReached as err:
            why = self._reached[_where_limits_hold(step.run)] = submission.describe_limit(err)
            self._with_job -= bool(replaced_job_id)
            return replace(step, action=Action.wait, why=why, job_id=None)
        self._with_job += not replaced_job_id
        owner = submission.other_user(step.run, job_id)
        if owner:
            status = RunStatus(RunState.submitted, job_id=job_id, owner=owner)
            return replace(step, action=Action.leave, status=status, why=str(status), job_id=job_id)
        return replace(step, job_id=job_id)


def _replaced_job_id(step: Step) -> str:
    """Id of the job that a step replaces; empty where it replaces none."""
    return step.job_id or "" if step.action is Action.replace else ""


def _where_limits_hold(run: Run) -> tuple[str | None, ...]:
    """Runs that agree in it share SLURM's limits on jobs, so that one refusal tells for all."""
    cluster = run.experiment.cluster
    return cluster.account, cluster.qos, cluster.partition


def leftover_jobs(runs: Iterable[Run], tables: Collection[str] = ()) -> list[tuple[Run, Job]]:
    """Runs that are not asked for any more since specs were edited, and their live jobs.

    Args:
        runs: Those that are asked for; others of the same rows and seeds are left over.
        tables: Names of tables that are asked for; rows that were launched with one of them, and
            left it since, are left over.
    """
    runs = list(runs)
    wanted = {run.dir: run.seed for run in runs}
    rows = {path.parent for path in wanted}
    folders = RowFolders()
    beside = {folder for place in {row.parent for row in rows} for folder in place.glob("*")}
    seeds = set(wanted.values())
    found = {path for row in beside for seed in seeds for path in folders.of_seed(row, seed)}
    others = {path for path in found if (path / "jobs.jsonl").exists()}
    others -= wanted.keys()
    left = {path for path in others if not set(tables).isdisjoint(launched_tables(path))}
    beside_them = {path for path in others if path.parent in rows}
    records = read_records(map(Run.load, sorted(left | beside_them)))
    # a sweep has several rows in one folder
    names = {run.experiment.row_name for run in runs}
    strays = [
        r
        for r in records
        if r.result is None and not r.invalid_result_reason
        if r.run.dir in left or r.run.experiment.row_name in names
    ]
    jobs = find_jobs(strays)
    return [(r.run, job) for r in strays for job in jobs[r.run.id] if job.is_live]


def retry(run: Run) -> None:
    """Grants a run that was given up new budgets; the next launch submits it."""
    newest = max((attempt.number for attempt in run.attempts()), default=0)
    append_event(run.jobs_path, EventKind.retry, attempt=newest)

"""What to do for each run so that the work gets done, and doing it. Called by hand or by
`--follow`; no daemon.

Everything is read afresh from the run directories and from SLURM, so it does not matter who
submitted a run, or what happened to whoever did.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from antioversmooth import files
from antioversmooth.orchestration.local.worker import close_attempt, last_lines
from antioversmooth.orchestration.monitor.state import Phase, State, states
from antioversmooth.orchestration.slurm import client, jobs, submission
from antioversmooth.orchestration.slurm.budget import Verdict, verdict
from antioversmooth.orchestration.slurm.script import job_name
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.journal import EndReason


class Action(Enum):
    """What a run needs."""

    leave = "leave"
    submit = "submit"
    replace = "replace"
    """Cancel its job, which will never get anywhere, and submit again."""
    give_up = "give up"
    blocked = "blocked"
    """It needs a run that will not be finished by itself."""


@dataclass(frozen=True)
class Step:
    """What was decided for a run, and why."""

    run: Run
    action: Action
    why: str
    job_id: str | None = None
    """The run's job after the step, as long as it is not known to be over."""


ENDED_BY_A_PERSON = frozenset({Phase.cancelled_pending, Phase.cancelled_running, Phase.stopped})


def decide(state: State, judged: Verdict, *, asked: bool) -> tuple[Action, str]:
    """What a run in this state needs, and why.

    Args:
        asked: A person asks for the run now, so that one that was cancelled starts again.
    """
    if state.phase is Phase.missing:
        return Action.submit, "not launched yet"
    if state.phase is Phase.hung:
        return Action.replace, state.detail
    if state.phase is Phase.pending and "DependencyNeverSatisfied" in state.detail:
        return Action.replace, state.detail
    if state.is_live or state.phase in (Phase.done, Phase.unknown):
        return Action.leave, state.words
    if state.phase in ENDED_BY_A_PERSON:
        return (Action.submit, "asked for again") if asked else (Action.leave, state.words)
    if not judged.again:
        return Action.give_up, f"{state.words}; {judged.why}"
    return Action.submit, state.words


def reconcile(runs: Sequence[Run], snapshot: Snapshot, *, asked: bool = True) -> list[Step]:
    """Submits what needs submitting and says for each run what was done.

    Args:
        runs: Those that others start from first.
        snapshot: The code that new jobs run.
        asked: See `decide`.

    Raises:
        LaunchError: SLURM refuses a job; those before it are submitted.
    """
    for run in runs:
        run.prepare()
    known = states(runs)
    done: dict[str, Step] = {}
    for run in runs:
        _tell_end(run, known[run.id])
        action, why = decide(known[run.id], verdict(run), asked=asked)
        may_live = known[run.id].is_live or known[run.id].phase is Phase.unknown
        step = Step(run, action, why, known[run.id].job_id if may_live else None)
        if action in (Action.submit, Action.replace):
            step = _start(step, done, known, snapshot)
        done[run.id] = step
    return list(done.values())


_ENDS = {
    Phase.hung: EndReason.hang,
    Phase.preempted: EndReason.preempted,
    Phase.timed_out: EndReason.timeout,
    Phase.node_failure: EndReason.node_fail,
    Phase.out_of_memory: EndReason.out_of_memory,
    Phase.failed: EndReason.crash,
    Phase.lost: EndReason.crash,
    Phase.cancelled_running: EndReason.cancelled,
}


def _tell_end(run: Run, state: State) -> None:
    """Writes the end of an attempt that was killed before it could, as SLURM tells it."""
    if state.phase in _ENDS:
        close_attempt(run, _ENDS[state.phase], state.detail)


def _start(step: Step, done: dict[str, Step], known: dict[str, State], snapshot: Snapshot) -> Step:
    run, waits_for = step.run, []
    for needed in [needed for needed in run.dependencies if needed.result() is None]:
        job_id = done[needed.id].job_id if needed.id in done else None
        if job_id is None:
            return Step(
                run, Action.blocked, f"it needs {needed.name}, which is not on its way", step.job_id
            )
        waits_for.append(job_id)
    stuck = known[run.id].job_id if step.action is Action.replace else None
    return Step(
        run,
        step.action,
        step.why,
        submission.submit(run, snapshot, after=waits_for, instead_of=stuck or ""),
    )


def left_over(runs: Iterable[Run], tables: Collection[str] = ()) -> list[tuple[Run, str]]:
    """What the specs meant before they were edited: runs that are not asked for any more, with
    their live jobs' ids.

    Args:
        runs: Those that are asked for; others of the same rows and seeds are left over.
        tables: Names of tables that are asked for; rows that were launched with them, and left
            them, are left over.
    """
    wanted = {run.dir: run.seed for run in runs}
    rows = {path.parent for path in wanted}
    patterns = {(row.parent, f"*/seed{seed}-*") for row in rows for seed in wanted.values()}
    beside = {
        path
        for folder, pattern in patterns
        for path in folder.glob(pattern)
        if (path / "jobs.jsonl").exists()
    }
    meant = [
        path
        for path in beside - wanted.keys()
        if path.parent in rows or _was_launched_with(tables, path)
    ]
    strays = [
        run
        for run in map(Run.load, sorted(meant))
        if not run.invalid_result_reason() and run.result() is None
    ]
    live = (
        {job.name: job.id for job in client.queue() if job.stage is not client.Stage.over}
        if strays
        else {}
    )
    return [(run, live[job_name(run)]) for run in strays if job_name(run) in live]


def _was_launched_with(tables: Collection[str], directory: Path) -> bool:
    """Whether the newest launch of a run was one of a table; an evaluation is no row, and ends by
    itself."""
    words = (files.read_json(directory / "intent.json") or {}).get("command", "").split()
    return "--eval" not in words and any(
        Path(word).stem in tables for word in words if "=" not in word
    )


def last_words(run: Run) -> str:
    """The end of the log that says most about why a run failed: of its last attempt, else of its
    last job."""
    raw = max((run.dir / "slurm").glob("*.err"), key=lambda log: log.stat().st_mtime, default=None)
    of_job = raw.read_text(errors="replace").splitlines()[-12:] if raw else []
    ended = [r for r in jobs.events(run) if r["event"] == "ended"]
    got_to_no_attempt = bool(ended) and "attempt" not in ended[-1]
    lines = (
        (of_job or last_lines(run, 12)) if got_to_no_attempt else (last_lines(run, 12) or of_job)
    )
    return "\n".join(f"    {line}" for line in lines)


def retry(run: Run) -> None:
    """Grants a run that was given up a fresh start of its budgets; the next launch submits it."""
    jobs.note(run, "retry")

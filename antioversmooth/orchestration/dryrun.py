"""`--dry-run`: the plan of a launch, for people and for programs; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from antioversmooth.config import Compiler
from antioversmooth.datasets.current import CurrentData
from antioversmooth.errors import UserError, and_more
from antioversmooth.orchestration import preflight, scripts, totals
from antioversmooth.orchestration.backend import Backend, Choice, untrusted_outcomes
from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.estimate import Estimate, Estimator
from antioversmooth.orchestration.monitor.progress import progress_of
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.monitor.status import describe_changed_data
from antioversmooth.orchestration.slurm.reconcile import Action, decide
from antioversmooth.orchestration.slurm.retry_budget import retry_decision
from antioversmooth.orchestration.snapshot import Snapshot, older_code
from antioversmooth.runs import Run, memory
from antioversmooth.runs.record import RunRecord, read_records
from antioversmooth.runs.status import RunState, RunStatus
from antioversmooth.text import one_line, open_console
from antioversmooth.text_table import TextColumn, show_columns

_STARTS = (Action.submit, Action.replace)
_NOT_STARTED = {Action.give_up: "given up", Action.blocked: "blocked"}
"""Words in the place of the state of runs that ended too often, and that need one of these."""


@dataclass(frozen=True)
class _Planned:
    """A run of a plan."""

    record: RunRecord
    placement: Placement
    estimate: Estimate
    status: RunStatus
    action: Action
    """The action of a launch."""

    @property
    def state(self) -> str:
        """The state, or the word in its place."""
        return _NOT_STARTED.get(self.action, self.status.state.value)

    def cost(self) -> totals.Cost:
        record = self.record
        is_pending = record.result is None and not record.invalid_result_reason
        return totals.Cost(
            record.run,
            self.estimate.device_hours,
            progress_of(record).fraction,
            self.placement.processes,
            is_done=record.result is not None,
            starts=is_pending and self.action in _STARTS,
            is_live=is_pending and self.action is Action.leave,
        )


def describe(
    runs: Sequence[Run], choice: Choice, snapshot: Snapshot, results: Path
) -> dict[str, Any]:
    """The plan of a launch, as JSON types.

    Args:
        results: The results folder of these runs.

    Raises:
        SpecError: A global batch does not divide over the processes.
    """
    backend = choice.backend
    records = read_records(runs, traced=True)
    planned = [*_plan(records, backend)]
    costs = [one.cost() for one in planned]
    most = backend.at_a_time(
        [one.record.run.experiment for one in planned if one.cost().is_to_come]
    )
    return {
        "backend": backend.name,
        "because": choice.reason,
        "snapshot": snapshot.id,
        "refused": _refusal(records, backend, results),
        "changed_data": _changed_data(records),
        "notes": [*filter(None, [older_code(_live_codes(planned), snapshot), _no_graphs(planned)])],
        "totals": totals.totals(costs, submits=backend.submits, at_a_time=most),
        "runs": [_describe_run(one, backend.script(one.record.run, snapshot)) for one in planned],
    }


def _live_codes(planned: Iterable[_Planned]) -> list[str]:
    """Ids of the snapshots that runs which a launch leaves to their jobs were launched with."""
    return [one.record.launched_code for one in planned if one.cost().is_live]


def _no_graphs(planned: Iterable[_Planned]) -> str:
    """A sentence about runs that ask for CUDA graphs and have no GPU; empty where there is none."""
    rows = [
        one.record.run.experiment.row_name
        for one in planned
        if one.record.run.experiment.runtime.compile is Compiler.reduce_overhead
        and one.record.result is None
        and not one.placement.on_gpu
    ]
    if not rows:
        return ""
    return (
        "runtime.compile=reduce_overhead records CUDA graphs on GPUs only; here it is as inductor,"
        f" on CPUs: {and_more(list(dict.fromkeys(rows)), 3)}"
    )


def _plan(records: Sequence[RunRecord], backend: Backend) -> Iterator[_Planned]:
    estimator, actions = Estimator(records), dict[str, Action]()
    statuses = _statuses(records, backend)
    for record in records:
        run, status = record.run, statuses[record.run.id]
        placement = backend.placement(run.experiment)
        estimate = estimator.estimate(record, on_gpu=placement.on_gpu)
        action = _action(record, status, backend)
        needed = {actions.get(needed.id) for needed in run.dependencies}
        if action in _STARTS and not needed.isdisjoint(_NOT_STARTED):
            action = Action.blocked
        actions[run.id] = action
        yield _Planned(record, placement, estimate, status, action)


def _statuses(records: Sequence[RunRecord], backend: Backend) -> dict[str, RunStatus]:
    """Statuses by run id as a launch would find them, without SLURM as the directories say."""
    if not backend.submits:
        return {record.run.id: record.status for record in records}
    known = query_statuses(records)
    for record in records:
        status = known[record.run.id]
        if status.state is RunState.unknown and not status.owner:
            known[record.run.id] = record.status
    return known


def _action(record: RunRecord, status: RunStatus, backend: Backend) -> Action:
    """The action of a launch for a run, as far as its dependencies allow it."""
    if backend.submits:
        return decide(status, retry_decision(record), asked=True)
    return Action.leave if record.result or status.state.is_live else Action.submit


def _describe_run(planned: _Planned, script: str | None) -> dict[str, Any]:
    record, placement, estimate = planned.record, planned.placement, planned.estimate
    run, experiment, peak = record.run, record.run.experiment, placement.peak_bytes
    return {
        "experiment": experiment.name,
        "row": experiment.row_name,
        "seed": run.seed,
        "id": run.id,
        "dir": str(run.dir),
        "state": planned.state,
        "starts_from": run.upstream.name if run.upstream else experiment.recipe.init_from,
        "learns_from": run.teacher.name if run.teacher else experiment.recipe.teacher,
        "processes": placement.processes,
        "device": "GPU" if placement.on_gpu else "CPU",
        "device_batch": placement.device_batch,
        "accumulation": placement.accumulation,
        "peak_memory_bytes": peak and round(peak),
        "memory_unknown": memory.unknown_because(experiment) if placement.on_gpu else None,
        "global_batch": experiment.recipe.global_batch,
        "lr": experiment.recipe.lr,
        "epochs": experiment.recipe.epochs,
        "steps": experiment.total_steps,
        "device_hours": estimate.device_hours,
        "estimate": estimate.source,
        "sbatch_script": script,
    }


def _changed_data(records: Sequence[RunRecord]) -> list[str]:
    """Sentences about done runs whose data differs now from what they, or runs that a table
    compares with planned ones, were measured on."""
    data = CurrentData()
    changes = {record.run.name: describe_changed_data(record, data) for record in records}
    done = [f"{name} is done, {change}" for name, change in changes.items() if change]
    return [*done, *preflight.on_other_images(records, data)]


def _refusal(records: Sequence[RunRecord], backend: Backend, results: Path) -> str | None:
    """Why a launch of these runs would be refused."""
    untrusted = untrusted_outcomes(records)
    if untrusted and len(untrusted) == len(records):
        return "\n".join(filter(None, (record.invalid_result_reason for record in records)))
    unfinished = [r for r in records if r.result is None and r.run.id not in untrusted]
    try:
        preflight.check(unfinished, backend, results)
    except UserError as err:
        return str(err)
    return None


def show(plan: dict[str, Any], stream: TextIO, *, all_scripts: bool = False) -> None:
    """Prints a plan for people.

    Args:
        all_scripts: Whether the batch script of every run is printed, rather than one of each
            shape.
    """
    caption = "batch: processes x micro-batch x accumulation steps = global batch."
    show_columns(_columns(plan["runs"]), stream, caption)
    print("\n- ".join(totals.lines(plan["totals"])), file=stream)
    for line in (*_unknown_memory(plan["runs"]), *plan["changed_data"], *plan["notes"]):
        print(line, file=stream)
    if plan["refused"]:
        print(f"A launch would be refused: {plan['refused']}", file=stream)
    shown = scripts.all_scripts if all_scripts else scripts.one_of_each_shape
    for text in shown(plan["runs"]):
        open_console(stream).print(text, soft_wrap=True)


def _memory(run: dict[str, Any]) -> str:
    """Peak memory of a GPU in a training step, for people."""
    if run["peak_memory_bytes"] is not None:
        return memory.gib(run["peak_memory_bytes"])
    return "not known" if run["memory_unknown"] else "-"


def _unknown_memory(runs: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Sentences about rows whose memory is not known, with the key that makes it so."""
    for key in dict.fromkeys(run["memory_unknown"] for run in runs if run["memory_unknown"]):
        rows = dict.fromkeys(run["row"] for run in runs if run["memory_unknown"] == key)
        yield f"GPU memory is not known because of {key}: {', '.join(rows)}"


def _columns(runs: Sequence[dict[str, Any]]) -> list[TextColumn]:
    def column(
        header: str, priority: int, text: Callable[[dict[str, Any]], str], *, no_wrap: bool = True
    ) -> TextColumn:
        return TextColumn(header, [one_line(text(run)) for run in runs], True, priority, no_wrap)

    return [
        column("run", 1, scripts.run_name),
        column("id", 6, lambda run: run["id"][:8]),
        column("state", 2, lambda run: run["state"]),
        column("on", 8, lambda run: run["device"]),
        column("batch", 3, _batch),
        column("GPU memory", 7, _memory),
        column("lr", 9, lambda run: f"{run['lr']:.3g}"),
        column("epochs", 5, lambda run: str(run["epochs"])),
        column("steps", 10, lambda run: str(run["steps"])),
        column("device-hours", 4, _device_hours, no_wrap=False),
    ]


def _batch(run: dict[str, Any]) -> str:
    split = f"{run['processes']} x {run['device_batch']} x {run['accumulation']}"
    return f"{split} = {run['global_batch']}"


def _device_hours(run: dict[str, Any]) -> str:
    if run["device_hours"] is None:
        return str(run["estimate"])
    return f"{totals.device_hours_text(run['device_hours'])} ({run['estimate']})"

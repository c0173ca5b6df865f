"""`--dry-run`: the plan of a launch, for people and for programs; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from antioversmooth.datasets.current import CurrentData
from antioversmooth.errors import UserError
from antioversmooth.orchestration import preflight, scripts, totals
from antioversmooth.orchestration.backend import Backend, Choice
from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.estimate import Estimate, Estimator
from antioversmooth.orchestration.monitor.progress import progress_of
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.monitor.status import describe_changed_data
from antioversmooth.orchestration.slurm.reconcile import Action, decide
from antioversmooth.orchestration.slurm.retry_budget import retry_decision
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, memory
from antioversmooth.runs.record import RunRecord, read_records
from antioversmooth.runs.status import RunState
from antioversmooth.text import one_line, open_console
from antioversmooth.text_table import TextColumn, show_columns

GIVEN_UP, BLOCKED = "given up", "blocked"
"""States of runs that a launch does not start: those that ended too often, and that need one."""
LEFT = {
    RunState.pending.value,
    RunState.held.value,
    RunState.requeued.value,
    RunState.running.value,
}
"""States of runs that a launch leaves alone, since they run or wait for their turn already."""


@dataclass(frozen=True)
class _Planned:
    """A run of a plan."""

    record: RunRecord
    placement: Placement
    estimate: Estimate
    state: str

    def cost(self) -> totals.Cost:
        record = self.record
        is_pending = record.result is None and not record.invalid_result_reason
        is_left = is_pending and self.state in LEFT
        return totals.Cost(
            record.run,
            self.estimate.device_hours,
            progress_of(record).fraction,
            self.placement.processes,
            is_done=record.result is not None,
            starts=is_pending and not is_left and self.state not in (GIVEN_UP, BLOCKED),
            is_live=is_left,
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
        "totals": totals.totals(costs, submits=backend.submits, at_a_time=most),
        "runs": [_describe_run(one, backend.script(one.record.run, snapshot)) for one in planned],
    }


def _plan(records: Sequence[RunRecord], backend: Backend) -> Iterator[_Planned]:
    estimator, states = Estimator(records), _states(records, backend)
    for record in records:
        placement = backend.placement(record.run.experiment)
        estimate = estimator.estimate(record, on_gpu=placement.on_gpu)
        yield _Planned(record, placement, estimate, states[record.run.id])


def _states(records: Sequence[RunRecord], backend: Backend) -> dict[str, str]:
    """States by run id as a launch would find them, without SLURM as the directories say."""
    if not backend.submits:
        return {record.run.id: record.status.state.value for record in records}
    known, states = query_statuses(records), dict[str, str]()
    for record in records:
        status = known[record.run.id]
        if status.state is RunState.unknown and not status.owner:
            status = record.status
        state = status.state.value
        if decide(status, retry_decision(record), asked=True) is Action.give_up:
            state = GIVEN_UP
        elif status.state is not RunState.done and not status.state.is_live:
            needed = {states.get(run.id) for run in record.run.dependencies}
            state = BLOCKED if needed & {GIVEN_UP, BLOCKED} else state
        states[record.run.id] = state
    return states


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
    """Sentences about done runs whose data differs now from what they were measured on."""
    data = CurrentData()
    changes = {record.run.name: describe_changed_data(record, data) for record in records}
    return [f"{name} is done, {change}" for name, change in changes.items() if change]


def _refusal(records: Sequence[RunRecord], backend: Backend, results: Path) -> str | None:
    """Why a launch of these runs would be refused."""
    invalid = [r.invalid_result_reason for r in records if r.invalid_result_reason]
    if invalid and len(invalid) == len(records):
        return "\n".join(invalid)
    unfinished = [r for r in records if r.result is None and not r.invalid_result_reason]
    pending = [record.run for record in unfinished]
    try:
        preflight.check_machine(pending, backend)
        clusters = [run.experiment.cluster for run in pending]
        preflight.check_profiles(clusters, submits=backend.submits)
        preflight.check_inputs(pending)
        preflight.check_draws(unfinished)
        preflight.check_writable(results)
        preflight.check_space(pending, results)
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
    for line in (*_unknown_memory(plan["runs"]), *plan["changed_data"]):
        print(line, file=stream)
    if plan["refused"]:
        print(f"A launch would be refused: {plan['refused']}", file=stream)
    shown = scripts.all_scripts if all_scripts else scripts.one_of_each_shape
    for text in shown(plan["runs"]):
        open_console(stream).print(text, soft_wrap=True)


def _name(run: dict[str, Any]) -> str:
    return f"{run['row']} seed {run['seed']}"


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
        column("run", 1, _name),
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

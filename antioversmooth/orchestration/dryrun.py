"""`--dry-run`: the plan of a launch, for people and for programs; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from antioversmooth.errors import UserError
from antioversmooth.orchestration import preflight
from antioversmooth.orchestration.backend import Backend, Choice
from antioversmooth.orchestration.estimate import Estimator
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run
from antioversmooth.runs.record import RunRecord
from antioversmooth.text import open_console

if TYPE_CHECKING:
    from rich.table import Table

TABLE_WIDTH = 140
"""Characters that the widest row needs."""


def describe(
    runs: Sequence[Run], choice: Choice, snapshot: Snapshot, results: Path
) -> dict[str, Any]:
    """The plan of a launch, as JSON types.

    Args:
        results: The results folder of these runs.

    Raises:
        SpecError: A global batch does not divide over the processes.
    """
    records = [RunRecord.read(run) for run in runs]
    estimator = Estimator(records)
    return {
        "backend": choice.backend.name,
        "because": choice.reason,
        "snapshot": snapshot.id,
        "refused": _refusal(records, choice.backend, results),
        "runs": [_describe_run(record, choice.backend, snapshot, estimator) for record in records],
    }


def _describe_run(
    record: RunRecord, backend: Backend, snapshot: Snapshot, estimator: Estimator
) -> dict[str, Any]:
    run, experiment = record.run, record.run.experiment
    placement = backend.placement(experiment)
    estimate = estimator.estimate(record, on_gpu=placement.on_gpu)
    return {
        "experiment": experiment.name,
        "seed": run.seed,
        "id": run.id,
        "dir": str(run.dir),
        "state": record.status.state.value,
        "starts_from": run.upstream.name if run.upstream else experiment.recipe.init_from,
        "learns_from": run.teacher.name if run.teacher else experiment.recipe.teacher,
        "processes": placement.processes,
        "device": "GPU" if placement.on_gpu else "CPU",
        "device_batch": placement.device_batch,
        "accumulation": placement.accumulation,
        "global_batch": experiment.recipe.global_batch,
        "lr": experiment.recipe.lr,
        "epochs": experiment.recipe.epochs,
        "steps": experiment.total_steps,
        "device_hours": estimate.device_hours,
        "estimate": estimate.source,
        "sbatch_script": backend.script(run, snapshot),
    }


def _refusal(records: Sequence[RunRecord], backend: Backend, results: Path) -> str | None:
    """Why a launch of these runs would be refused."""
    invalid = [r.invalid_result_reason for r in records if r.invalid_result_reason]
    if invalid and len(invalid) == len(records):
        return "\n".join(invalid)
    pending = [r.run for r in records if r.result is None and not r.invalid_result_reason]
    try:
        preflight.check_machine(pending, backend)
        preflight.check_inputs(pending)
        preflight.check_space(pending, results)
    except UserError as err:
        return str(err)
    return None


def show(plan: dict[str, Any], stream: TextIO) -> None:
    """Prints a plan for people."""
    console = open_console(stream)
    # a terminal may wrap a line, but no number is cut off
    console.width = max(console.width, TABLE_WIDTH)
    console.print(_table(plan["runs"]))
    if plan["refused"]:
        console.print(f"A launch would be refused: {plan['refused']}")
    for run in plan["runs"]:
        if run["sbatch_script"]:
            name = f"{run['experiment']} seed {run['seed']}"
            print(f"\n----- {name}: sbatch script\n{run['sbatch_script']}", file=stream)


def _table(runs: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table

    caption = "batch: processes x micro-batch x accumulation steps = global batch"
    table = Table(box=None, padding=(0, 1), caption=caption)
    table.caption_justify = "left"
    for column in ("run", "id", "state", "on", "batch", "lr", "epochs", "steps", "device-hours"):
        table.add_column(column, no_wrap=True)
    for run in runs:
        hours = run["device_hours"]
        batch = f"{run['processes']} x {run['device_batch']} x {run['accumulation']}"
        table.add_row(
            f"{run['experiment']} seed {run['seed']}",
            run["id"][:8],
            run["state"],
            run["device"],
            f"{batch} = {run['global_batch']}",
            f"{run['lr']:.3g}",
            str(run["epochs"]),
            str(run["steps"]),
            run["estimate"] if hours is None else f"{hours:,.2f} ({run['estimate']})",
        )
    return table

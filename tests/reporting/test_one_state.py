"""status, why, the table, MLflow and a launch say the same of a run, whatever happened to it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fabricated import Lab

from antioversmooth import files
from antioversmooth.errors import ResultError
from antioversmooth.orchestration.backend import Outcome, stopped_outcome, untrusted_outcomes
from antioversmooth.orchestration.monitor.explain import explain
from antioversmooth.orchestration.monitor.state import query_statuses
from antioversmooth.orchestration.monitor.status import statuses
from antioversmooth.reporting.sharing import bundle
from antioversmooth.reporting.table.aggregate import seed_state
from antioversmooth.reporting.table.observe import observe
from antioversmooth.reporting.tracking.mirror import mlflow_status
from antioversmooth.runs import Run, RunRecord, RunState
from antioversmooth.runs.record import read_records


def without_result(lab: Lab) -> Run:
    """A done run whose result.json was moved away."""
    run = lab.finish(lab.run("wide"), 90.0)
    (run.dir / "result.json").rename(lab.root / "result.json")
    return run


def edited(lab: Lab) -> Run:
    """A done run with another accuracy in result.json than in its metrics."""
    run = lab.finish(lab.run("wide"), 90.0)
    result = files.read_json(run.dir / "result.json")
    result["metrics"]["val/top1"] = 99.0
    files.write_json(run.dir / "result.json", result)
    return run


def with_another_spec(lab: Lab) -> Run:
    """A done run whose spec.yaml was edited by hand."""
    run = lab.finish(lab.run("wide"), 90.0)
    path = run.dir / "spec.yaml"
    path.write_text(path.read_text().replace("base_lr: 0.001", "base_lr: 0.002"))
    return run


def after_node_failure(lab: Lab) -> Run:
    run = lab.run("wide")
    lab.start(run, epochs=2)
    lab.end(run, "node-fail")
    return run


def never_begun(lab: Lab) -> Run:
    """A run whose launch was interrupted before it began."""
    run = lab.run("wide")
    files.write_json(run.dir / "intent.json", {"id": run.id, "backend": "local"})
    return run


CASES = [
    (without_result, RunState.stopped, "KILLED", "stopped e4/4"),
    (edited, RunState.failed, "FAILED", "failed"),
    (with_another_spec, RunState.failed, "FAILED", "failed"),
    (after_node_failure, RunState.node_failure, "KILLED", "node failure e2/4"),
    (never_begun, RunState.missing, None, "missing"),
]


@pytest.mark.parametrize(("make", "state", "mlflow", "cell"), CASES)
def test_all_readers_agree_on_the_state(
    lab: Lab, make: Callable[[Lab], Run], state: RunState, mlflow: str | None, cell: str
) -> None:
    run = make(lab)
    (status,) = statuses([run], [])
    assert status["state"] == state.value
    record = RunRecord.read(run)
    why = explain(record, query_statuses([record])[run.id])
    assert why.startswith(
        tuple(f"{run.name} {verb}{state.value}" for verb in ("", "is ", "ended by "))
    )
    seen = observe(run)
    assert seen.state is state
    assert seed_state(seen) == cell
    assert mlflow is None or mlflow_status(seen.state) == mlflow


def test_a_launch_does_not_skip_a_run_with_an_edited_result_as_done(lab: Lab) -> None:
    run = edited(lab)
    assert untrusted_outcomes(read_records([run])) == {run.id: Outcome.failed}
    assert (
        "result.json says metrics.val/top1 = 99.0, metrics.jsonl 90.0"
        in run.invalid_result_reason()
    )


def test_a_done_run_with_an_edited_spec_is_no_result_and_not_exported(lab: Lab) -> None:
    run = with_another_spec(lab)
    assert untrusted_outcomes(read_records([run])) == {run.id: Outcome.failed}
    edited = f"spec.yaml was edited, or written by other code: its content has id (?!{run.id[:8]})"
    with pytest.raises(ResultError, match=edited):
        bundle.export([run], lab.root / "runs.tar")
    # also where its id was edited alike
    path = run.dir / "spec.yaml"
    (other,) = re.findall(r"content has id (\w+)", run.invalid_result_reason())
    planned = lab.request("recipe.base_lr=0.002").plan([0], lab.results)
    (full,) = [one.id for one in planned if one.id.startswith(other)]
    path.write_text(path.read_text().replace(run.id, full))
    assert "is that of another run" in run.invalid_result_reason()
    assert not (lab.root / "runs.tar").exists()


def test_values_of_a_spec_that_identify_nothing_may_differ_from_the_launch(lab: Lab) -> None:
    """A launch that is killed after it wrote the spec has recorded no checksum of it."""
    run = lab.finish(lab.run("wide"), 90.0)
    path = run.dir / "spec.yaml"
    path.write_text(path.read_text().replace("max_crashes: 3", "max_crashes: 4"))
    assert (observe(run).state, run.invalid_result_reason()) == (RunState.done, "")


def test_a_launch_calls_a_run_stopped_only_after_it_began(lab: Lab) -> None:
    assert stopped_outcome(never_begun(lab)) is Outcome.missing
    assert stopped_outcome(after_node_failure(lab)) is Outcome.stopped

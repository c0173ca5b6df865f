"""The price of a launch as a whole, and its scripts by shape."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from completed import finish
from fake_slurm import FakeSlurm

from antioversmooth.orchestration import devices, dryrun, scripts
from antioversmooth.orchestration.backend import Choice
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.slurm.submission import submit
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.orchestration.totals import Cost, lines, totals, wall_hours
from antioversmooth.runs import Run
from antioversmooth.runs.jobs import EventKind, append_event
from antioversmooth.text import wrapped

MakeRun = Callable[..., Run]


def cost(run: Run, device_hours: float | None, *, trained: float = 0.0, processes: int = 1) -> Cost:
    return Cost(run, device_hours, trained, processes, is_done=trained == 1, starts=trained < 1)


@pytest.fixture
def seeds(make_run: MakeRun) -> list[Run]:
    return [make_run("deit_s12", seed=seed) for seed in range(5)]


@pytest.mark.parametrize(
    ("at_a_time", "hours"), [(1, 1 + 2 + 3 + 4 + 5), (2, 9), (3, 7), (5, 5), (1000, 5)]
)
def test_wall_time_is_that_of_runs_which_start_as_others_end(
    seeds: Sequence[Run], at_a_time: int, hours: float
) -> None:
    costs = [cost(run, number) for number, run in enumerate(seeds, start=1)]
    assert wall_hours(costs, at_a_time) == pytest.approx(hours)


def test_a_run_that_needs_another_is_computed_after_it(make_run: MakeRun) -> None:
    tuned = make_run("cait_s24_attnscale")
    assert tuned.upstream is not None
    other = make_run("deit_s12")
    costs = [cost(tuned.upstream, 2.0), cost(tuned, 3.0), cost(other, 4.0)]
    assert wall_hours(costs, 1000) == pytest.approx(2 + 3)
    assert wall_hours(costs, 1) == pytest.approx(2 + 3 + 4)
    # done already: nothing to wait for
    assert wall_hours(costs[1:], 1000) == pytest.approx(4)


def test_totals_are_sums_of_rows_less_what_is_trained(seeds: Sequence[Run]) -> None:
    costs = [
        cost(seeds[0], 8.0, trained=1.0),
        cost(seeds[1], 8.0, trained=0.25, processes=2),
        cost(seeds[2], 8.0),
        cost(seeds[3], None),
    ]
    found = totals(costs, submits=True)
    assert (found["runs"], found["done"], found["to_start"]) == (4, 1, 3)
    assert (found["device_hours"], found["device_hours_left"]) == (24.0, 6.0 + 8.0)
    assert found["not_estimated"] == 1
    assert found["wall_hours"] == {"1": 3.0 + 8.0, "all": 8.0}
    said = "\n".join(lines(found))
    assert "24.00 device-hours in all, 14.00 of them still to come; 1 of the runs cannot" in said
    assert "at least 11.0 h with 1 at a time, 8.0 h with all at once" in said


@pytest.mark.parametrize(
    ("hours", "devices", "time"),
    [
        (0.004, "under 0.01", "under 1 min"),
        (0.02, "0.02", "1 min"),
        (0.4, "0.40", "24 min"),
        (1.25, "1.25", "1.2 h"),
    ],
)
def test_short_runs_are_not_rounded_to_nothing(
    seeds: Sequence[Run], hours: float, devices: str, time: str
) -> None:
    said = "\n".join(lines(totals([cost(seeds[0], hours), cost(seeds[1], None)], submits=False)))
    assert f"{devices} device-hours in all; 1 of the runs cannot" in said
    assert f"at least {time} with 1 at a time" in said


def test_a_limit_on_jobs_at_a_time_is_the_one_that_is_told(seeds: Sequence[Run]) -> None:
    found = totals([cost(run, 1.0) for run in seeds], submits=True, at_a_time=2)
    assert found["wall_hours"] == {"2": 3.0}
    found = totals([cost(run, 1.0) for run in seeds], submits=True, at_a_time=5)
    assert found["wall_hours"] == {"all": 1.0}


@pytest.mark.parametrize(
    ("gpus", "cpus", "overrides", "number"),
    [
        (8, 4, ["cluster.gpus_per_node=2"], 4),
        (8, 4, ["cluster.gpus_per_node=2", "cluster.max_parallel=3"], 3),
        (1, 4, ["cluster.gpus_per_node=2"], 1),
        (0, 4, ["cluster.gpus_per_node=0", "cluster.tasks_per_node=2"], 2),
        (0, 1, ["cluster.gpus_per_node=0", "cluster.tasks_per_node=2"], 1),
        (0, 1, ["cluster.max_parallel=7"], 7),
        (8, 4, ["cluster.gpus_per_node=2", "cluster.max_queued=2"], 4),
    ],
)
def test_this_machine_runs_as_many_at_a_time_as_have_room(
    make_run: MakeRun,
    monkeypatch: pytest.MonkeyPatch,
    gpus: int,
    cpus: int,
    overrides: Sequence[str],
    number: int,
) -> None:
    monkeypatch.setattr(devices, "visible_gpus", lambda: [str(gpu) for gpu in range(gpus)])
    monkeypatch.setattr(devices, "cpus", lambda: cpus)
    assert LocalBackend().at_a_time([make_run("deit_s12", *overrides).experiment]) == number


def test_a_launch_on_this_machine_waits_for_no_queue(seeds: Sequence[Run]) -> None:
    said = lines(totals([cost(run, 1.0) for run in seeds], submits=False, at_a_time=2))
    assert "3.0 h with 2 at a time" in said
    one = "\n".join(lines(totals([cost(seeds[0], 1.0)], submits=True)))
    assert "total: 1 run, 0 done, 1 to start" in one
    assert "at least 1 job, by" in one


@pytest.mark.parametrize(("device_hours", "jobs"), [(1, 1), (8 * 23.9, 1), (8 * 24, 2), (500, 3)])
def test_a_run_beyond_its_time_limit_takes_several_jobs(
    make_run: MakeRun, device_hours: float, jobs: int
) -> None:
    # a day less the 180 s in which it saves
    run = make_run("deit_s12", "cluster.time_min=1440")
    found = totals([cost(run, device_hours, processes=8)], submits=True)
    assert found["jobs"] == jobs
    assert totals([cost(run, device_hours, processes=8)], submits=False)["jobs"] is None


def test_disk_is_that_of_three_checkpoints_of_each_run_that_starts(make_run: MakeRun) -> None:
    run = make_run("deit_s12", profile="imagenet")
    found = totals([cost(run, 1.0), cost(make_run("deit_s24"), 1.0, trained=1.0)], submits=True)
    # 22 million parameters of 16 bytes, and a journal of 12,510 steps and 500 x 13 records
    expected = 3 * 16 * 22e6 + 300 * (12510 + 6500)
    assert found["disk_bytes"] == pytest.approx(expected, rel=0.1)


def test_nothing_to_start_has_no_jobs_and_no_disk(seeds: Sequence[Run]) -> None:
    found = totals([cost(run, 1.0, trained=1.0) for run in seeds], submits=True)
    assert (found["jobs"], found["disk_bytes"], found["wall_hours"]) == (0, 0, {"all": 0.0})
    assert len(lines(found)) == 2


def plan(runs: Sequence[Run], snapshot: Snapshot) -> dict[str, Any]:
    choice = Choice(SlurmBackend(), "--backend slurm")
    return dryrun.describe(runs, choice, snapshot, runs[0].dir.parents[2])


def test_runs_whose_scripts_differ_in_names_alone_are_one_shape(
    make_run: MakeRun, snapshot: Snapshot
) -> None:
    runs = [make_run("deit_s12", seed=0), make_run("deit_s12", seed=1), make_run("deit_s24")]
    slow = make_run("cait_s24", "cluster.time_min=60", "cluster.partition=debug")
    planned = plan([*runs, slow], snapshot)["runs"]
    assert [len(shape.runs) for shape in scripts.shapes(planned)] == [3, 1]
    said = "\n".join(scripts.one_of_each_shape(planned))
    assert said.count("#!/bin/bash") == 2
    assert "the same but for names and paths: deit_s12 seed 1, deit_s24 seed 0\n" in said
    differences = said.partition("----- differs from that of deit_s12 seed 0 in\n")[2]
    assert sorted(differences.split("\n")) == [
        "",
        "+#SBATCH --partition=debug",
        "+#SBATCH --time=60",
        "-#SBATCH --time=1440",
    ]
    every = "\n".join(scripts.all_scripts(planned))
    assert every.count("#!/bin/bash") == 4


def test_the_total_of_a_plan_is_the_sum_of_its_rows(make_run: MakeRun, snapshot: Snapshot) -> None:
    done = finish(make_run("deit_s12"))
    planned = plan([done, make_run("deit_s12", seed=1), make_run("cait_s24")], snapshot)
    hours = [run["device_hours"] for run in planned["runs"]]
    assert planned["totals"]["device_hours"] == pytest.approx(sum(filter(None, hours)))
    assert (planned["totals"]["done"], planned["totals"]["to_start"]) == (1, 2)


def test_the_totals_of_a_plan_wrap_on_a_narrow_terminal(
    make_run: MakeRun, snapshot: Snapshot
) -> None:
    said = io.StringIO()
    dryrun.show(plan([make_run("deit_s12")], snapshot), said)
    found = wrapped(said.getvalue().partition("total:")[2], 40)
    assert "time in\n  the queue comes on top\n- about" in found


def test_a_plan_has_the_states_that_a_launch_would_find(
    make_run: MakeRun, snapshot: Snapshot, slurm: FakeSlurm
) -> None:
    refused, needy = make_run("cait_s24"), make_run("cait_s24_featscale")
    assert refused in needy.dependencies
    cancelled, waiting = make_run("deit_s12"), make_run("deit_s12", seed=1)
    for run in (refused, cancelled, waiting):
        submit(run, snapshot)
    append_event(refused.jobs_path, EventKind.ended, job_id="1", code=2, state="RUNNING")
    slurm.change("1", state="FAILED")
    slurm.change("2", state="CANCELLED")
    asked = len(slurm.calls("squeue"))
    planned = plan([refused, needy, cancelled, waiting], snapshot)
    states = [run["state"] for run in planned["runs"]]
    assert states == ["given up", "blocked", "cancelled pending", "pending"]
    assert (planned["totals"]["to_start"], planned["totals"]["live"]) == (1, 1)
    assert "4 runs, 0 done, 1 running or waiting, 1 to start" in lines(planned["totals"])[0]
    assert len(slurm.calls("squeue")) == asked + 1
    slurm.refuse(squeue="slurm_load_jobs error: Unable to contact slurm controller")
    states = [run["state"] for run in plan([refused, cancelled], snapshot)["runs"]]
    assert states == ["given up", "submitted"]

"""launch.py where `sbatch` answers: the whole way from the command line to the queue."""

from __future__ import annotations

import json
import runpy
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_slurm import FakeSlurm

from antioversmooth.cli.exit_codes import INCOMPLETE, OK

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., int]:
    """Runs launch.py on a spec, with results of its own."""
    main = runpy.run_path(str(PROJECT / "launch.py"))["main"]

    def go(spec: str, *arguments: str) -> int:
        path = str(PROJECT / "experiments" / f"{spec}.yaml")
        code = main(
            [
                path,
                "profile=mini",
                "--gpus-per-node=1",
                f"cluster.results={tmp_path / 'results'}",
                *arguments,
            ]
        )
        assert isinstance(code, int)
        return code

    return go


def test_a_table_is_submitted_once_however_often_it_is_launched(
    slurm: FakeSlurm, launch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch("tables/table2") == 0
    assert "Back end: slurm (sbatch answers" in capsys.readouterr().out
    assert len(slurm.jobs()) == 12
    assert launch("tables/table2") == 0
    assert len(slurm.jobs()) == 12


def test_a_sweep_and_its_single_overrides_are_the_same_jobs(
    slurm: FakeSlurm, launch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["recipe.base_lr=5e-4,1e-3", "cluster.partition=main,low"]
    assert launch("deit_s12", *sweep) == 0
    said = capsys.readouterr().out
    assert "deit_s12-base_lr_0.0005 seed 0" in said
    assert len(slurm.jobs()) == 2
    assert launch("deit_s12", *sweep) == 0
    assert launch("deit_s12", "recipe.base_lr=1e-3", "cluster.partition=main,low") == 0
    assert len(slurm.jobs()) == 2
    assert all("#SBATCH --partition=main,low\n" in job["script"] for job in slurm.jobs())


def test_a_dry_run_says_the_wall_time_with_at_most_so_many_jobs(
    slurm: FakeSlurm, launch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    launch("deit_s12", "--seeds=0,1,2", "--max-queued=2", "--dry-run")
    said = capsys.readouterr().out
    assert " with 2 at a time; time in the queue comes on top" in said
    assert "all at once" not in said


def test_the_script_of_a_dry_run_is_the_script_that_is_submitted(
    slurm: FakeSlurm, launch: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launch("deit_s12", "--nodes=2", "--dry-run")
    shown = capsys.readouterr().out.split(": sbatch script\n", 1)[1]
    assert slurm.jobs() == []
    launch("deit_s12", "--nodes=2")
    (submitted,) = (tmp_path / "results").rglob("job.sh")
    assert shown == submitted.read_text() + "\n"


def test_what_slurm_refuses_is_one_message(
    slurm: FakeSlurm, launch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.refuse(sbatch="sbatch: error: invalid partition specified: gpu-a100")
    assert launch("deit_s12", "--backend=slurm") == 2
    said = capsys.readouterr().err
    assert "invalid partition specified: gpu-a100" in said
    assert slurm.jobs() == []


def test_a_row_that_left_its_table_is_listed_and_cancelled_with_prune_only(
    slurm: FakeSlurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(PROJECT / "experiments", tmp_path / "experiments")
    table = tmp_path / "experiments" / "tables" / "mine.yaml"

    def go(rows: str, *arguments: str) -> str:
        listed = "".join(f"  - {{label: {row}, experiment: {row}}}\n" for row in rows.split())
        table.write_text(f"title: Mine\nrows:\n{listed}")
        results = f"cluster.results={tmp_path / 'results'}"
        words = ["launch.py", str(table), "profile=mini", "--gpus-per-node=1", results, *arguments]
        # the intent records sys.argv
        monkeypatch.setattr("sys.argv", words)
        assert runpy.run_path(str(PROJECT / "launch.py"))["main"]() == 0
        return capsys.readouterr().out

    go("deit_s12 deit_s24 cait_s24")
    assert "edited since" not in go("deit_s12 deit_s24 cait_s24")
    assert "job 2 is of a spec that was edited since; left alone (--prune)" in go(
        "deit_s12 cait_s24"
    )
    go("deit_s12 cait_s24", "--prune")
    assert [job["state"] for job in slurm.jobs()] == ["PENDING", "CANCELLED", "PENDING"]


def test_a_job_of_an_edited_spec_is_cancelled_with_prune_only(
    slurm: FakeSlurm, launch: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    launch("deit_s12", "recipe.epochs=3")
    launch("deit_s12")
    assert "job 1 is of a spec that was edited since; left alone" in capsys.readouterr().out
    launch("deit_s12", "--prune")
    assert [job["state"] for job in slurm.jobs()] == ["CANCELLED", "PENDING"]


@pytest.mark.parametrize("option", ["", "--prune", "--dry-run"])
def test_jobs_of_older_code_are_reported_in_one_line(
    slurm: FakeSlurm,
    launch: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
) -> None:
    """A job runs the code of its launch, whatever is edited while it waits."""
    launch("deit_s12", "--seeds=0,1")
    launch("deit_s12", "--seeds=0,1", *filter(None, [option]))
    assert "the code is now" not in capsys.readouterr().out
    for intent in (tmp_path / "results").rglob("intent.json"):
        launched = json.loads(intent.read_text())
        now, launched["snapshot"] = launched["snapshot"], "0123456789ab"
        intent.write_text(json.dumps(launched))
    assert launch("deit_s12", "--seeds=0,1,2", *filter(None, [option])) == OK
    said = capsys.readouterr().out.replace("\n", " ")
    assert (
        f"2 runs that wait or run have the code 0123456789ab, the code is now {now}; `cancel` and"
        " launch again to run the new code"
    ) in said
    assert said.count("the code is now") == 1


@pytest.mark.parametrize(
    ("compiler", "gpus", "is_told"),
    [("reduce_overhead", 0, True), ("reduce_overhead", 1, False), ("inductor", 0, False)],
)
def test_a_dry_run_says_that_a_cpu_has_no_cuda_graphs(
    slurm: FakeSlurm,
    launch: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    compiler: str,
    gpus: int,
    is_told: bool,
) -> None:
    launch("deit_s12", f"runtime.compile={compiler}", f"--gpus-per-node={gpus}", "--dry-run")
    said = capsys.readouterr().out
    told = "CUDA graphs on GPUs only; here it is as inductor, on CPUs: deit_s12"
    assert (told in said) is is_told


@pytest.mark.parametrize("option", ["--max-queued=2", ""])
def test_a_launch_that_leaves_runs_waiting_says_so_and_the_same_command_submits_the_rest(
    slurm: FakeSlurm, launch: Callable[..., int], capsys: pytest.CaptureFixture[str], option: str
) -> None:
    command = ["tables/smoke", "--seeds=0,1", "--nodes=1", *([option] if option else [])]
    if not option:
        slurm.limit(2)
    for _ in range(2):
        assert launch(*command) == INCOMPLETE
        said = capsys.readouterr().out
        limit = "cluster.max_queued=2" if option else "the limit AssocMaxSubmitJobLimit"
        assert f"2 of 4 submitted, 2 wait for {limit}" in said
        assert "2 of 4 waiting: " in said
        assert "The same command submits the rest." in said
    for job in slurm.jobs():
        slurm.change(job["id"], state="CANCELLED")
    slurm.limit(4)
    assert launch("tables/smoke", "--seeds=0,1", "--nodes=1", "cluster.max_queued=0") == OK
    assert len(slurm.jobs()) == 6

"""launch.py from the command line: what it accepts, refuses, shows and returns."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from completed import finish

from antioversmooth import spec
from antioversmooth.cli.main import launch as start
from antioversmooth.cli.parsers import parse_launch
from antioversmooth.orchestration.backend import Launched
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.runs import Run, directory

PROJECT = Path(__file__).parent.parent
ROW = str(PROJECT / "experiments" / "deit_s12.yaml")
TABLE = str(PROJECT / "experiments" / "tables" / "table2.yaml")
TINY = ["model.depth=4", "model.embed_dim=16", "model.num_heads=2", "recipe.epochs=2"]


@pytest.fixture(scope="module")
def launch() -> ModuleType:
    """launch.py, which is a program and no part of the package."""
    found = importlib.util.spec_from_file_location("launch", PROJECT / "launch.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.fixture
def mini(tmp_path: Path) -> list[str]:
    """The overrides of a mini run with results of its own, on this machine."""
    return ["profile=mini", f"cluster.results={tmp_path}", "--backend=local"]


def planned(row: str, tmp_path: Path, *overrides: str) -> Run:
    request = spec.load([Path(row)], ["profile=mini", f"cluster.results={tmp_path}", *overrides])
    return request.plan([0], tmp_path)[0]


def test_flags_specs_and_overrides_stand_in_any_order() -> None:
    args = parse_launch(
        [
            "--nodes",
            "2",
            ROW,
            "recipe.epochs=3",
            "--seeds",
            "0,2",
            TABLE,
            "~model.init",
            "--cluster=mine",
        ]
    )
    assert args.specs == [ROW, TABLE]
    assert args.seeds == [0, 2]
    assert args.overrides == ["cluster=mine", "cluster.nodes=2", "recipe.epochs=3", "~model.init"]


def test_flags_are_short_for_overrides() -> None:
    args = parse_launch([ROW, "--gpus-per-node", "4", "--max-steps", "7"])
    assert args.overrides == ["cluster.gpus_per_node=4", "runtime.max_steps=7"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: SPEC|KEY=VALUE"),
        (["profile=mini"], "which spec? for example experiments/deit_s12.yaml"),
        ([ROW, "--seeds=a"], "'a' is not a list of seeds"),
        (
            [ROW, f"--seeds=0,{2**63}"],
            "9223372036854775808 is too large for a seed: the largest is",
        ),
        (
            [ROW, "--seeds=0,0"],
            "'0,0' is not a list of seeds: different whole numbers, as in 0,1,2",
        ),
        ([ROW, "--follow", "--detach"], "not allowed with argument"),
        ([ROW, "--noddes", "2"], "there is no option --noddes; did you mean --nodes?"),
        ([ROW, "--recipe.epochs=3"], "an override has no dashes: recipe.epochs=3"),
        ([ROW, "--scripts"], "--scripts shows what a --dry-run shows; add --dry-run"),
        ([ROW, "-m"], "there is no option -m; several values are enough: recipe.base_lr=5e-4,"),
        ([ROW, "--multirun", "recipe.epochs=1,2"], "there is no option --multirun; several"),
        ([ROW, "--backend=slrum"], "invalid choice: 'slrum'"),
    ],
)
def test_a_command_that_makes_no_sense_is_one_line_and_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_launch(arguments)
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("launch.py: ")
    assert message in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no_such_row"], "no_such_row: there is no such spec; rows lie in experiments/"),
        (
            ["recipe.epochs", "=", "3"],
            "recipe.epochs: is neither a spec nor an override; an override is one word",
        ),
        ([str(PROJECT / "README.md")], "README.md: is no spec, which is a .yaml file"),
        (
            [str(PROJECT / "experiments")],
            "experiments: is a folder; name a spec, such as deit_s12 or table2",
        ),
        (
            ["similarity_deit_s24"],
            "is a figure; `antioversmooth figures similarity_deit_s24` draws it",
        ),
        (
            [str(PROJECT / "experiments" / "recipe" / "mini" / "deit_12.yaml")],
            "is a part of rows, and none by itself; name a row, and recipe=mini/deit_12 behind it",
        ),
        ([ROW, "recipe.epoch=3"], "recipe.epoch"),
        (
            [ROW, "profile=mini", "cluster.gpus_per_node=0", "cluster.tasks_per_node=3"],
            "does not divide over 3 processes",
        ),
        ([ROW, "profile=mini", "--detach"], "--detach: only SLURM goes on without this terminal"),
        ([ROW, "data.root=/nowhere"], "there is no folder /nowhere; set IMAGENET=/path"),
    ],
)
def test_a_mistake_is_one_message_and_2(
    arguments: list[str],
    message: str,
    launch: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = launch.main([*arguments, f"cluster.results={tmp_path / 'results'}", "--backend=local"])
    said = capsys.readouterr().err
    assert code == 2
    assert said.startswith("launch.py: ")
    assert message in said
    assert "Traceback" not in said
    assert not list((tmp_path / "results").rglob("spec.yaml"))


def test_a_dry_run_says_everything_and_writes_nothing(
    launch: ModuleType, mini: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert launch.main([TABLE, *mini, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["runs"]) == 12
    first = plan["runs"][0]
    assert (first["experiment"], first["state"], first["device_batch"] * first["accumulation"]) == (
        "deit_s12",
        "missing",
        first["global_batch"],
    )
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_refuses_a_results_folder_that_cannot_be_made(
    launch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unmounted = tmp_path / "unmounted"
    unmounted.symlink_to(tmp_path / "gone")
    there = f"cluster.results={unmounted / 'results'}"
    assert launch.main([ROW, "profile=mini", "--backend=local", there, "--dry-run"]) == 2
    assert f"{unmounted} is no folder" in " ".join(capsys.readouterr().out.split())
    assert list(tmp_path.iterdir()) == [unmounted]


def test_a_dry_run_for_people_fits_all_numbers(
    launch: ModuleType, mini: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    launch.main([ROW, *mini, "--dry-run"])
    said = capsys.readouterr().out
    assert "Back end: local (--backend local)" in said
    assert "1 x 64 x 1 = 64" in said
    assert "…" not in said


def test_a_dry_run_shows_the_batch_script_without_slurm(
    launch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = str(PROJECT / "experiments" / "cait_s24_featscale.yaml")
    arguments = [row, "--backend=slurm", "--nodes=2", "--dry-run", f"cluster.results={tmp_path}"]
    # 2 for lack of data, after the plan is printed
    assert launch.main(arguments) == 2
    said = capsys.readouterr().out
    assert "16 x 16 x 1 = 256" in said
    assert "#SBATCH --nodes=2" in said
    assert "A launch would be refused: data.root" in said


def test_memory_of_gpus_is_shown_chosen_for_and_refused(
    launch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("deit_s12", "deit_s12_distilled")
    rows = [str(PROJECT / "experiments" / f"{name}.yaml") for name in names]
    arguments = [*rows, "--backend=slurm", "--gpus-per-node=4", f"cluster.results={tmp_path}"]
    launch.main([*arguments, "cluster.gpu_mem_gb=8", "--dry-run", "--json"])
    known, unknown = json.loads(capsys.readouterr().out)["runs"]
    assert (known["device_batch"], known["accumulation"]) == (128, 2)
    assert 4.5 < known["peak_memory_bytes"] / 2**30 < 5
    assert (unknown["device_batch"], unknown["peak_memory_bytes"]) == (256, None)
    assert launch.main([*arguments, "cluster.gpu_mem_gb=2", "--dry-run"]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "4 x 32 x 8 = 1024" in said
    assert "GPU memory is not known because of recipe.teacher: deit_s12_distilled" in said
    assert "A launch would be refused: deit_s12: cluster.gpu_mem_gb: a step with micro-" in said
    assert launch.main([*arguments, "cluster.gpu_mem_gb=2", "--yes"]) == 2
    assert "GPUs of 4 GiB or more" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ('cluster.setup=["if true; then"]', "cluster.setup: bash cannot read its lines: line"),
        (
            "cluster.container={image: /no/torch.sif, runtime: apptainer}",
            "cluster.container.image: there is no /no/torch.sif",
        ),
        ("cluster.notify=/no/program", ""),
    ],
)
def test_a_dry_run_refuses_what_a_profile_names_and_is_not_there(
    launch: ModuleType,
    mini: list[str],
    capsys: pytest.CaptureFixture[str],
    override: str,
    message: str,
) -> None:
    row = str(PROJECT / "experiments" / "deit_s12.yaml")
    assert launch.main([row, *mini, "--backend=slurm", "--dry-run", override]) == 2
    assert f"A launch would be refused: {message}" in capsys.readouterr().out


def test_a_dry_run_shows_a_script_of_each_shape_or_all(
    launch: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mini = ["profile=mini", f"cluster.results={tmp_path}", "--backend=slurm", "--dry-run"]
    assert launch.main([ROW, *mini, "--seeds=0,1,2"]) == 0
    said = capsys.readouterr().out
    assert said.count("#!/bin/bash") == 1
    assert "the same but for names and paths: deit_s12 seed 1, deit_s12 seed 2" in said
    assert "total: 3 runs, 0 done, 3 to start" in said
    assert launch.main([ROW, *mini, "--seeds=0,1,2", "--scripts"]) == 0
    assert capsys.readouterr().out.count("#!/bin/bash") == 3


def test_a_sweep_is_planned_and_saved_right_before_its_runs_start(
    tmp_path: Path,
    mini: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(PROJECT / "experiments", tmp_path / "experiments")
    row = str(tmp_path / "experiments" / "deit_s12.yaml")
    words = [*mini, "--dry-run", "--json"]
    sweep = ["recipe.base_lr=1e-3,2e-3", "--save-table", "mine"]
    assert start([row, *sweep, *words], project=tmp_path) == 0
    said = capsys.readouterr()
    path = tmp_path / "experiments" / "tables" / "mine.yaml"
    assert f"The table would be saved as {path}" in said.err
    assert not path.exists()
    swept = json.loads(said.out)["runs"]
    assert [run["row"] for run in swept] == ["deit_s12-base_lr_0.001", "deit_s12-base_lr_0.002"]
    monkeypatch.setattr("antioversmooth.cli.launch.MANY_RUNS", 1)
    assert start([row, *sweep, *mini], project=tmp_path) == 2
    assert "this starts 2 runs; add --yes to start them" in capsys.readouterr().err
    assert not path.exists()
    # a launch starts nothing here, but is past all checks
    monkeypatch.setattr(LocalBackend, "launch", lambda *_: Launched({}, interrupted=True))
    start([row, *sweep, *mini, "--yes", "--backend=local"], project=tmp_path)
    assert f"Saved: {path}" in capsys.readouterr().out
    assert start(["mine", *words], project=tmp_path) == 0
    saved = json.loads(capsys.readouterr().out)["runs"]
    assert [(run["id"], run["dir"]) for run in saved] == [(run["id"], run["dir"]) for run in swept]


@pytest.mark.parametrize("words", [["recipe.base_lr=1e-3,2e-3"], ["--seeds=0,1"]])
def test_a_launch_of_more_than_a_thousand_runs_needs_a_yes(
    launch: ModuleType,
    mini: list[str],
    words: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("antioversmooth.cli.launch.MANY_RUNS", 1)
    assert launch.main([ROW, *mini, *words]) == 2
    assert "this starts 2 runs; add --yes to start them" in capsys.readouterr().err


def test_done_runs_are_skipped(
    launch: ModuleType,
    mini: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = planned(ROW, tmp_path)
    finish(run)
    monkeypatch.setattr("antioversmooth.reporting.publish.mirror.sync", lambda *_: [])
    assert launch.main([ROW, *mini]) == 0
    said = capsys.readouterr().out
    assert "1 of 1 runs are done already and skipped" in said
    assert "1 of 1 done: deit_s12 seed 0" in said
    assert not run.attempts()


def run_launch(results: Path, *more: str) -> subprocess.Popen[str]:
    """launch.py as a process, on a model of four small layers."""
    command = [
        sys.executable,
        str(PROJECT / "launch.py"),
        ROW,
        "profile=mini",
        f"cluster.results={results}",
        *TINY,
    ]
    # a tracking server that is down, since the mirror has its own tests
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    return subprocess.Popen(
        [*command, "--backend=local", *more],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Results folder, stdout and stderr of a launch that nobody disturbed."""
    results = tmp_path_factory.mktemp("undisturbed")
    launcher = run_launch(results, "--json")
    out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, err
    return results, out, err


def test_a_launch_trains_and_tells_the_outcome_as_json(undisturbed: tuple[Path, str, str]) -> None:
    results, out, err = undisturbed
    (described,) = json.loads(out)
    run = planned(ROW, results, *TINY)
    assert (described["id"], described["dir"], described["outcome"]) == (
        run.id,
        str(run.dir),
        "done",
    )
    assert "val/top1" in described["metrics"]
    assert "Back end: local" in err


def test_every_file_of_a_run_directory_is_documented_in_the_runs_room(
    undisturbed: tuple[Path, str, str],
) -> None:
    """`antioversmooth/runs/directory.py` lists it: what a launch wrote, and what else the code
    names."""
    listed = re.findall(r"^  ([\w.]+)", str(directory.__doc__), re.MULTILINE)
    written = {path.name for path in planned(ROW, undisturbed[0], *TINY).dir.iterdir()}
    sources = (PROJECT / "antioversmooth").rglob("*.py")
    named = {
        name
        for path in sources
        for name in re.findall(r"(?:run|self)\.dir / \"([\w.]+)\"", path.read_text())
    }
    assert {"spec.yaml", "result.json", "lock", "launch.lock", "process.json"} <= written
    assert {"jobs.jsonl", "slurm", "cancelled"} <= named
    assert written | named <= set(listed)


def test_an_evaluation_repeats_the_accuracy_of_its_run(undisturbed: tuple[Path, str, str]) -> None:
    """By the path of any other run: `--eval` on the same back end, with a result of its own, class
    by class."""
    results, _, _ = undisturbed
    evaluation = run_launch(results, "--eval")
    out, err = evaluation.communicate(timeout=120)
    assert evaluation.returncode == 0, err
    trained = planned(ROW, results, *TINY).result()
    assert trained is not None
    (path,) = (results / "mini" / "runs" / "deit_s12_eval").glob("*/result.json")
    found = json.loads(path.read_text())
    assert found["metrics"]["val/top1"] == trained["metrics"]["val/top1"]
    classes = found["evaluation"]["per_class_top1"]
    # each class has a hundred images
    assert sum(classes) / 10 == pytest.approx(found["metrics"]["val/top1"])
    assert f"top-1    {found['metrics']['val/top1']:.2f} %" in out
    assert "images/s, loading included" in out


def test_a_tracking_server_that_is_down_costs_one_line(undisturbed: tuple[Path, str, str]) -> None:
    _, _, err = undisturbed
    assert (
        len([line for line in err.splitlines() if line.startswith("Not mirrored into MLflow")]) == 1
    )
    assert "Traceback" not in err


@pytest.mark.slow
def test_ctrl_c_and_the_same_command_give_the_numbers_of_an_undisturbed_run(
    undisturbed: tuple[Path, str, str], tmp_path: Path
) -> None:
    run = planned(ROW, tmp_path, *TINY)
    launcher = run_launch(tmp_path, "runtime.log_every=1")
    deadline = time.monotonic() + 60
    while not run.metrics() and time.monotonic() < deadline:
        time.sleep(0.02)
    launcher.send_signal(signal.SIGINT)
    output, _ = launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert "The same command continues." in output
    again = run_launch(tmp_path)
    again.communicate(timeout=120)
    assert again.returncode == 0
    result, expected = run.result(), planned(ROW, undisturbed[0], *TINY).result()
    assert result is not None
    assert expected is not None
    assert result["attempts"] == 2
    assert result["metrics"] == expected["metrics"]


def test_inline_trains_in_this_process_and_a_step_limit_is_incomplete(tmp_path: Path) -> None:
    launcher = run_launch(tmp_path, "--backend=inline", "--max-steps=3")
    out, err = launcher.communicate(timeout=120)
    assert launcher.returncode == 3, err
    assert "deit_s12 seed 0 ended early: runtime.max_steps = 3 reached" in out
    assert "1 of 1 stopped: deit_s12 seed 0" in out


@pytest.mark.parametrize("torn", ["{", '{"id": "ID"}'])
def test_a_result_that_cannot_be_trusted_costs_no_other_row(
    launch: ModuleType,
    mini: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    torn: str,
) -> None:
    """The others are counted; what waits for it is blocked."""
    monkeypatch.setattr("antioversmooth.reporting.publish.mirror.sync", lambda *_: [])
    rows = [ROW, ROW.replace("deit_s12", "cait_s24_featscale")]
    finish(planned(ROW, tmp_path))
    first = planned(rows[1], tmp_path)
    assert first.experiment.name == "cait_s24"
    first.prepare()
    (first.dir / "result.json").write_text(torn.replace("ID", first.id))
    assert launch.main([*rows, *mini, "--json"]) == 1
    out, err = capsys.readouterr()
    assert [row["outcome"] for row in json.loads(out)] == ["done", "failed", "blocked"]
    problem = "is not JSON" if torn == "{" else "is not the result of a run (metrics is missing"
    assert f"{first.dir}/result.json {problem}" in err
    assert launch.main([*rows, *mini, "--dry-run", "--json"]) == 0
    assert [run["state"] for run in json.loads(capsys.readouterr().out)["runs"]] == [
        "done",
        "failed",
        "missing",
    ]


@pytest.mark.parametrize("experiment", ["deit_s12", "cait_s24_featscale"])
def test_a_torn_result_is_one_message_of_a_launch_and_of_its_dry_run(
    launch: ModuleType,
    mini: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    experiment: str,
) -> None:
    """Also where all other runs need that one."""
    row = ROW.replace("deit_s12", experiment)
    run = planned(row, tmp_path)
    run.prepare()
    (run.dir / "result.json").write_text("{")
    assert launch.main([row, *mini]) == 2
    assert "is not JSON" in capsys.readouterr().err
    assert launch.main([row, *mini, "--dry-run", "--json"]) == 2
    assert "is not JSON" in json.loads(capsys.readouterr().out)["refused"]

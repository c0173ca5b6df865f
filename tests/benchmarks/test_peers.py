"""Programs beside ours: the goals, what they are made from, and the loops that others run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from antioversmooth import spec
from antioversmooth.training.weights.initial import new_model
from benchmarks.peers import (
    __main__,
    deit_loop,
    environment,
    projects,
    shares,
    timm_script,
    training,
    waits,
)
from benchmarks.peers.environment import Tool, install
from benchmarks.peers.goals import WAITS, goals, speed_limit
from benchmarks.peers.process_tree import Reading, Watched, watch
from benchmarks.peers.report import draw, markdown
from benchmarks.peers.task import EPOCH, STEP, Task
from benchmarks.peers.training import DEIT, OURS, QUICK_LOAD, TIMM, _plain, _Programs, link_classes
from benchmarks.peers.turns import in_turns

CASE = QUICK_LOAD.cases[0]


@pytest.fixture
def task(tmp_path: Path, experiments: Path) -> Task:
    """Sixteen images of four classes, and the recipe of DeiT."""
    (tmp_path / "photographs").mkdir()
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photographs" / f"{index}.jpg")
    row = spec.load_experiment(experiments / "deit_s12.yaml", ["recipe.rand_augment=rand-m9-inc1"])
    case = training.Case("tiny", 1, 12, train=16, rounds=1, side=32, val=8)
    link_classes(tmp_path / "photographs", tmp_path / "images", case)
    return Task(
        training.TAG,
        case.sizes,
        str(tmp_path / "images"),
        training.CLASSES,
        batch=8,
        epochs=2,
        recipe=dict(_plain(row.recipe)),
        folder=str(tmp_path / "task"),
        workers=0,
    )


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("program", [timm_script, deit_loop])
def test_other_programs_train_evaluate_and_save_every_epoch(
    program: Any, task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["", str(task.write())])
    program.main()
    assert len(task.times(EPOCH)) == 2
    assert len(task.times(STEP)) == 1
    assert task.times(STEP)[0] < task.times(EPOCH)[0]
    assert [*Path(task.folder).glob("checkpoint*")]


def test_all_programs_train_one_model(experiments: Path, tmp_path: Path) -> None:
    (tmp_path / "images-64-32").mkdir()
    programs = _Programs(experiments.parent, tmp_path, CASE)
    run, other = programs.planned(0), programs.task(ends_at_first_step=False)
    shapes = {
        name: value.shape for name, value in new_model(run.experiment, 0).state_dict().items()
    }
    assert shapes == {name: value.shape for name, value in other.model().state_dict().items()}
    assert other.recipe["random_erasing"] == run.experiment.recipe.random_erasing > 0
    assert Task.read(str(other.write())) == other


def test_cpu_seconds_lie_between_readings() -> None:
    watched = Watched([Reading(0, 0, 0), Reading(1, 2, 1), Reading(2, 6, 2)], 0)
    cost = watched.cost(0.5, 1.5)
    assert (cost.tree_s, cost.first_s) == (3, 1)
    assert cost.children_share == pytest.approx(2 / 3)


def test_a_process_and_its_children_are_watched(tmp_path: Path) -> None:
    child = "import time\nheld = bytearray(2**25)\nwhile time.process_time() < 0.6: pass"
    words = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    found = watch(
        [sys.executable, "-c", words],
        cwd=tmp_path,
        env=os.environ,
        log=tmp_path / "log",
        limit_s=60,
    )
    cost = found.cost(found.started, found.readings[-1].time)
    assert cost.tree_s > cost.first_s
    assert found.peak_bytes > 2**25


def test_a_process_that_hangs_or_fails_is_ended_with_its_last_words(tmp_path: Path) -> None:
    def run(words: str, limit_s: float) -> None:
        command, log = [sys.executable, "-c", words], tmp_path / "log"
        watch(command, cwd=tmp_path, env=os.environ, log=log, limit_s=limit_s)

    with pytest.raises(RuntimeError, match="did not end within 0 s"):
        run("import time; time.sleep(600)", 0.1)
    with pytest.raises(RuntimeError, match="ended with 3, and said last: no luck"):
        run("import sys; print('no luck'); sys.exit(3)", 60)


def test_a_program_that_fails_is_left_out_and_named() -> None:
    def fail() -> dict[str, float]:
        raise RuntimeError("no luck")

    failed: dict[str, str] = {}
    programs = {"a": lambda: {"s": 1.0}, "b": fail}
    assert in_turns(programs, 2, failed, limit_s=60) == {"a": [{"s": 1.0}] * 2}
    assert failed == {"b": "no luck"}


def test_no_round_is_begun_after_the_time_is_over() -> None:
    assert in_turns({"a": lambda: {"s": 1.0}}, 9, {}, limit_s=0) == {"a": [{"s": 1.0}]}


def test_a_tool_that_cannot_be_installed_is_named_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, ...]] = []

    def uv(*words: str) -> None:
        calls.append(words)
        if "bad==1" in words:
            raise OSError("no network")
        (tmp_path / "good").mkdir(exist_ok=True)

    monkeypatch.setattr(environment, "_uv", uv)
    tools = [Tool("bad", ("bad==1",)), Tool("good", ("good==1",))]
    assert install(tmp_path, tools) == {"bad": "cannot be installed: no network"}
    calls.clear()
    assert install(tmp_path, tools[1:]) == {}
    assert not calls


@pytest.fixture
def measured() -> dict[str, Any]:
    """Ours twice as fast, in the same memory; each other wait a second."""

    def numbers(**values: float) -> list[dict[str, float]]:
        return [values] * 3

    rounds = {
        OURS: numbers(images_per_cpu_s=200, input_share=0.5, peak_bytes=2**30),
        TIMM: numbers(images_per_cpu_s=100, input_share=0.8, peak_bytes=2**30),
        DEIT: numbers(images_per_cpu_s=90, input_share=0.8, peak_bytes=2**29),
    }
    case = {"rounds": rounds, "train": 64, "epochs": 3, "shares": {shares.ALL: 10.0}}
    for part in (*shares.PARTS, shares.BESIDE):
        case["shares"][part] = 1.0
    starts = {name: numbers(cpu_s=2.0, wall_s=3.0) for name in rounds}
    commands = {name: numbers(cpu_s=0.5, wall_s=1.0) for name in waits.OURS}
    commands |= {name: numbers(cpu_s=1.0, wall_s=1.0) for name in waits.PEERS}
    return {
        "machine": {"processor": "abacus"},
        "tools": ["dvc==1"],
        "training": {
            "cases": {
                "small": {**case, "is_input_bound": True},
                "large": {**case, "is_input_bound": False},
            },
            "starts": starts,
            "failed": {},
        },
        "waits": {"commands": commands, "failed": {}},
    }


def test_goals_that_are_not_reached_are_marked(measured: dict[str, Any], tmp_path: Path) -> None:
    missed = {goal.name for goal in goals(measured) if not goal.reached}
    assert missed == {
        *(f"{case}: peak memory beside {DEIT}" for case in ("small", "large")),
        *(f"CPU seconds of {peer} to its first step, multiple of ours" for peer in (TIMM, DEIT)),
    }
    text = markdown(json.loads(json.dumps(measured)))
    assert text.count("**missed**") == 4
    assert "processor abacus" in text
    assert "| small | 10.0 % | 10.0 % | 10.0 % | 10.0 % |" in text
    assert "Could not be measured" not in text
    assert all(name in draw(measured, tmp_path).read_text() for name in training.PEERS)


def test_only_the_input_s_part_of_the_time_has_to_shrink(measured: dict[str, Any]) -> None:
    rounds = measured["training"]["cases"]["large"]["rounds"][TIMM]
    assert speed_limit(True, rounds) == 2.0
    # 0.2 stays, 0.8 becomes 0.4
    assert speed_limit(False, rounds) == round(1 / 0.6, 2)


def test_what_could_not_be_measured_has_no_goal_and_a_reason(
    measured: dict[str, Any], tmp_path: Path
) -> None:
    del measured["training"]["starts"][TIMM]
    measured["training"]["failed"] = {TIMM: "did not end within 120 s"}
    for name in WAITS["launch --help"]:
        del measured["waits"]["commands"][name]
    names = {goal.name for goal in goals(measured)}
    assert not any(TIMM in name and "first step" in name for name in names)
    assert not any("--help" in name for name in names)
    assert f"- {TIMM}: did not end within 120 s" in markdown(measured)
    draw(measured, tmp_path)


def test_every_wait_of_ours_has_others_for_its_end() -> None:
    assert set(WAITS) == set(waits.OURS)
    assert {name for others in WAITS.values() for name in others} <= set(waits.PEERS)


def test_the_projects_of_other_tools_have_as_many_runs_as_a_table(tmp_path: Path) -> None:
    for tool, make in waits.PROJECTS.items():
        make(tmp_path / tool)
    stages = (tmp_path / "dvc" / "dvc.yaml").read_text().count("cmd:")
    assert stages == projects.ROWS * projects.SEEDS == 36
    for path in tmp_path.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")


def test_a_measurement_that_is_cut_has_written_its_parts_and_names_the_others(
    measured: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupted(*given: Any) -> Iterator[dict[str, Any]]:
        yield {**measured["training"], "starts": {}}
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "install", lambda folder: {})
    monkeypatch.setattr(__main__, "compare", interrupted)
    assert __main__.main(["--quick", "--output", str(tmp_path)]) == 130
    said = capsys.readouterr().err
    assert "gets what it lacks (180 MB in all): submitit==" in said
    assert "measuring 1 layer of 48 channels, first steps, commands: up to" in said
    left = json.loads((tmp_path / "peers.json").read_text())["missing"]
    assert left == ["first steps", "commands"]
    text = (tmp_path / "peers.md").read_text()
    assert "**Not measured yet: first steps, commands.**" in text
    assert "## Training: large" in text
    assert "## Commands" not in text
    assert (tmp_path / "peers.svg").exists()

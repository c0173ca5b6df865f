"""The check of a machine with a GPU, rehearsed on a CPU."""

from __future__ import annotations

import math
import multiprocessing
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from antioversmooth import files
from antioversmooth.config import Compiler
from antioversmooth.errors import AttemptEnded
from antioversmooth.runs import Run
from antioversmooth.training.train import train
from benchmarks.gpu import __main__, compilation, parts, ranks, report, resume, steps, tests
from benchmarks.gpu.parts import BACKBONES, PARTS, TIMM, Part, run_part

PROJECT = Path(__file__).parents[2]
LOOPS = [
    TIMM,
    "ours",
    "ours, attnscale",
    "textbook, attnscale",
    "ours, featscale",
    "textbook, featscale",
]


@pytest.fixture(autouse=True)
def _on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (steps, ranks, resume, compilation):
        monkeypatch.setattr(module, "the_device", lambda: torch.device("cpu"))


def ended(found: dict[str, Any], state: str = "done", message: str = "") -> dict[str, Any]:
    """A part as `run_part` returns it."""
    return {"state": state, "seconds": 3.0, "limit_s": 9.0, "found": found, "message": message}


def test_the_whole_check_takes_eight_minutes_at_most() -> None:
    assert sum(part.limit_s for part in PARTS.values()) <= 8 * 60


def test_a_part_that_fails_or_hangs_is_ended_and_loses_nothing(tmp_path: Path) -> None:
    failed = run_part(Part("gpu_parts", "fails", 60), tmp_path)
    assert (failed["state"], failed["found"]) == ("failed", {"first": 1})
    assert failed["message"].endswith("RuntimeError: the device is lost")
    hanging = run_part(Part("gpu_parts", "hangs", 4), tmp_path)
    started = hanging["found"].pop("started")
    assert (hanging["state"], hanging["found"]) == ("out of time", {"first": 2})
    # gone, or with nobody here to take its exit code
    assert not psutil.pid_exists(started) or psutil.Process(started).status() == "zombie"
    said = report.problems({"machine": ended({}), "resume": failed, "ranks": hanging})
    assert said[0].startswith("resume: failed after")
    assert "(RuntimeError: the device is lost); 1 findings until then" in said[0]
    assert said[1].startswith("ranks: out of time after 4 s; 1 findings until then")


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_loop_is_timed_and_has_a_line(backbone: str) -> None:
    found = dict(steps.compare_loops(PROJECT, BACKBONES[backbone]))
    assert list(found) == LOOPS
    assert all(min(loop["step_s"]) > 0 for loop in found.values())
    assert all((found[name]["planned_bytes"] or 0) > 0 for name in LOOPS if "ours" in name)
    text = report.markdown({"machine": ended({}), backbone: ended(found)})
    assert [f"| {backbone} | {name} |" in text for name in LOOPS] == [True] * len(LOOPS)


def test_loops_take_the_images_of_a_device_in_the_recipe() -> None:
    for row, images in steps.BATCHES.items():
        config = steps.load(PROJECT, row, "attnscale", steps.Effort())
        assert config.recipe.global_batch == images
        assert config.recipe.epochs > 0
        assert config.model.image_size == 224


def test_a_compiled_step_has_its_graphs_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_code(module: Any, inputs: Any, **options: Any) -> Any:
        return aot_eager(module, inputs)

    monkeypatch.setattr("torch._inductor.compile_fx.compile_fx", without_code)
    monkeypatch.setattr(compilation, "usable_compiler", lambda: Compiler.inductor)
    found = dict(compilation.compile_step(PROJECT, "deit_s24", "attnscale"))
    assert list(found) == ["aot_eager", "reduce_overhead"]
    assert not report.problems({"compile": ended(found)})
    text = report.markdown({"machine": ended({}), "compile": ended(found)})
    for how, one in found.items():
        # the first block has no drop path
        assert f"- `{how}`: 2 graphs in a first step of" in text
        assert f"| DeiT-S24 | ours, attnscale, {how} |" in text
        assert one["compilation"].pop("first_s") > 0
        assert one["compilation"] == {"graphs": 2, "again": 0, "breaks": 0}


def test_cuda_graphs_that_are_refused_or_recorded_again_are_a_problem() -> None:
    def said(loss: float = 6.9, **counts: int) -> list[str]:
        compiled = {"graphs": 2, "again": 0, "breaks": 0}
        recorded = {"again": 0, "refused": 0, **counts}
        one = {"compilation": compiled, "cuda_graphs": recorded, "loss": loss}
        plain = {"compilation": compiled, "loss": 6.9}
        return report.problems({"compile": ended({"inductor": plain, "reduce_overhead": one})})

    assert compilation.cuda_graphs()["recorded"] == 0
    assert not said(recorded=96)
    assert said(recorded=96, again=4) == ["compile: reduce_overhead: 4 CUDA graphs recorded again"]
    assert said(recorded=0, refused=2) == [
        "compile: reduce_overhead: 2 CUDA graphs refused, 0 recorded"
    ]
    assert said(loss=math.nan, recorded=96) == [
        "compile: reduce_overhead: the loss is nan, not 6.9000"
    ]


def test_one_rank_and_two_take_the_same_steps() -> None:
    found = dict(ranks.compare_ranks(PROJECT))
    assert not report.problems({"ranks": ended(found)})
    losses = [loss for loss, _ in found["steps"]["1"]]
    assert len(set(losses)) == ranks.STEPS
    found["loss"] = 2e-4
    assert report.problems({"ranks": ended(found)}) == [
        "ranks: loss of two ranks differs by 2.0e-04, more than 1e-04"
    ]


def test_runs_are_compared_with_one_that_ran_through(monkeypatch: pytest.MonkeyPatch) -> None:
    attempts = []

    def train_here(run: Run, *, deterministic: bool) -> None:
        assert deterministic
        with suppress(AttemptEnded):
            train(run)
        attempts.append(run.dir)

    monkeypatch.setattr(resume, "train", train_here)
    found = dict(resume.compare_resumed(PROJECT))
    assert list(found) == ["deterministic kernels, repeated", "deterministic kernels, resumed"]
    assert all(counts["differ"] == 0 < counts["of"] for counts in found.values())
    assert (len(attempts), len(set(attempts))) == (4, 3)


def test_checkpoints_are_compared_value_by_value_but_for_times() -> None:
    left = {"model": {"w": torch.ones(3)}, "step": 5, "epoch_s": 1.0}
    right = {"model": {"w": torch.ones(3)}, "step": 5, "epoch_s": 2.0}
    assert resume.differing(left, right) == {"differ": 0, "of": 2}
    right["model"] = {"w": torch.tensor([1.0, 1.0, 1.5])}
    assert resume.differing(left, {**right, "scaler": 1}) == {"differ": 2, "of": 3}


def test_default_kernels_must_resume_exactly_only_where_they_repeat_exactly() -> None:
    same, other = {"differ": 0, "of": 9}, {"differ": 4, "of": 9}

    def said(repeated: dict[str, int], exact: dict[str, int]) -> list[str]:
        names = ("deterministic kernels, resumed", "default kernels, repeated")
        found = {names[0]: exact, names[1]: repeated, "default kernels, resumed": other}
        return report.problems({"resume": ended(found)})

    assert not said(repeated=other, exact=same)
    assert len(said(repeated=same, exact=same)) == 1
    assert len(said(repeated=other, exact=other)) == 1


def test_more_memory_than_a_plan_leaves_room_for_is_a_problem() -> None:
    def said(peak: int) -> list[str]:
        loop = {"peak_bytes": peak * 2**30, "planned_bytes": 10 * 2**30}
        return report.problems({"Swin-S": ended({"ours": loop})})

    assert not said(10)
    assert said(12) == ["Swin-S: ours: peak memory 12.0 GiB, planned 10.0"]


def test_failed_tests_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "test_three.py"
    path.write_text(
        "import pytest\npytestmark = pytest.mark.gpu\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 0\n"
        "@pytest.mark.skip(reason='no')\ndef test_none(): pass\n"
    )
    monkeypatch.setattr(tests, "FILE", str(path))
    found = dict(tests.run_tests(PROJECT))
    counts = {"tests": 3, "failures": 1, "errors": 0, "skipped": 1}
    assert found == {**counts, "failed": ["test_bad"]}
    assert report.problems({"tests": ended(found)}) == ["tests: test_bad failed"]


def test_all_tests_of_a_gpu_are_those_that_the_check_runs() -> None:
    marked = re.compile(r"mark\.gpu\b")
    # this file marks the tests that it writes
    paths = [path for path in (PROJECT / "tests").rglob("*.py") if path != Path(__file__)]
    found = [path for path in paths if marked.search(path.read_text())]
    assert found == [PROJECT / tests.FILE]


def test_a_problem_makes_the_exit_code_and_the_result_is_written_under_the_cards_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {TIMM: {"error": "CUDA out of memory."}}
    measured = {"machine": ended({"gpu": "NVIDIA H200"}), "Swin-S": ended(found)}
    monkeypatch.setattr(__main__, "run_all", lambda root, names: [measured])
    assert __main__.main(["--output", str(tmp_path)]) == 1
    assert files.read_json(tmp_path / "nvidia-h200.json") == measured
    assert "- Swin-S: timm: CUDA out of memory." in (tmp_path / "nvidia-h200.md").read_text()
    measured["Swin-S"]["found"].clear()
    assert __main__.main(["--output", str(tmp_path)]) == 0


def test_a_check_that_is_cut_has_written_what_it_found_and_says_what_did_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(root: Path, names: Sequence[str]) -> Iterator[dict[str, Any]]:
        yield {"machine": ended({"processor": "abacus"})}
        raise KeyboardInterrupt

    monkeypatch.setattr(__main__, "run_all", interrupted)
    assert __main__.main(["--output", str(tmp_path)]) == 130
    text = (tmp_path / "rehearsal.md").read_text()
    assert "Not run: tests, resume, ranks, DeiT-S24," in text
    assert re.findall(r"^(?:##|\|) .*", text, re.MULTILINE) == ["## Problems"]


def test_a_rehearsal_says_that_it_writes_no_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"machine": ended({"processor": "abacus"})}
    monkeypatch.setattr(__main__, "run_all", lambda root, names: [measured])
    assert __main__.main([]) == 0
    assert "a rehearsal, which writes no file without --output" in capsys.readouterr().err


def test_an_interrupt_ends_the_process_of_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended_processes: list[int] = []

    class Interrupted:
        pid = 12

        def __init__(self, **given: Any) -> None: ...

        def start(self) -> None: ...

        def join(self, seconds: float) -> None:
            raise KeyboardInterrupt

    context = SimpleNamespace(set_forkserver_preload=list, Process=Interrupted)
    monkeypatch.setattr(multiprocessing, "get_context", lambda kind: context)
    monkeypatch.setattr(parts, "_end_group", lambda process: ended_processes.append(process.pid))
    with pytest.raises(KeyboardInterrupt):
        run_part(Part("gpu_parts", "fails", 60), tmp_path)
    assert ended_processes == [12]

"""A question about twice as many runs costs twice as much, and one look at the queue.

Operations are counted, not seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest
import yaml
from completed import finish
from fake_slurm import FakeSlurm
from opens import counted_opens

from antioversmooth import cli, files, spec
from antioversmooth.cli.main import launch
from antioversmooth.config import DataConfig, Experiment, ModelConfig
from antioversmooth.errors import ResultError
from antioversmooth.orchestration.monitor.view import open_view
from antioversmooth.orchestration.slurm.reconcile import reconcile
from antioversmooth.orchestration.slurm.script import job_name
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, journal, recorded_spec

MINI = ["deit_s12", "profile=mini"]
SMALL, LARGE = 8, 16


@pytest.fixture
def project(tmp_path: Path, experiments: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "experiments").symlink_to(experiments)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make_runs(project: Path, slurm: FakeSlurm) -> Callable[[int], list[Run]]:
    """Runs of as many seeds: half are done, a quarter waits in the queue, a quarter never ran."""

    def make(count: int) -> list[Run]:
        request = spec.load([project / "experiments" / "deit_s12.yaml"], ["profile=mini"])
        runs = request.plan(range(count), project / "results")
        for run in runs:
            if run.seed % 4 < 3 and not run.dir.exists():
                _begin(run, slurm)
        return runs

    return make


def _begin(run: Run, slurm: FakeSlurm) -> None:
    run.prepare()
    files.write_json(run.dir / "intent.json", {"id": run.id, "backend": "slurm"})
    if run.seed % 4 < 2:
        journal.append(run.attempts_path, {"attempt": 1, "event": "start", "step": 0})
        finish(run, images_per_s=None)
        return
    job = {"id": str(run.seed + 1), "name": job_name(run), "state": "PENDING", "user": "me"}
    rest = {"reason": "Priority", "nodes": "", "start": "N/A", "script": ""}
    files.write_json(slurm.home / "jobs" / f"{job['id']}.json", job | rest)
    journal.append(run.jobs_path, {"event": "submitted", "job_id": job["id"]})


@contextmanager
def counted_comparisons() -> Iterator[list[str]]:
    """The names of the configs that are compared with others of their kind."""
    compared: list[str] = []

    def counting(kind: type) -> Callable[[object, object], bool]:
        original = kind.__eq__

        def equal(one: object, other: object) -> bool:
            compared.append(kind.__name__)
            return bool(original(one, other))

        return equal

    kinds = (Experiment, ModelConfig, DataConfig, Run)
    patches = [patch.object(kind, "__eq__", counting(kind)) for kind in kinds]
    for each in patches:
        each.start()
    try:
        yield compared
    finally:
        for each in patches:
            each.stop()


def _seeds(count: int) -> list[str]:
    return ["--seeds", ",".join(map(str, range(count)))]


QUESTIONS: dict[str, Callable[[int], list[str]]] = {
    "status": lambda count: ["status", *MINI, *_seeds(count)],
    "status of all": lambda count: ["status"],
    "status as JSON": lambda count: ["status", *MINI, *_seeds(count), "--json"],
    "export": lambda count: ["export", *MINI, *_seeds(count), "--allow-partial", "--output", "b"],
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_about_twice_the_runs_opens_twice_the_files_and_asks_the_queue_once(
    question: str, make_runs: Callable[[int], list[Run]], project: Path, slurm: FakeSlurm
) -> None:
    opened, asked, compared = [], [], []
    for count in (SMALL, LARGE):
        make_runs(count)
        before = len(slurm.calls("squeue"))
        with counted_opens(project / "results") as counts, counted_comparisons() as pairs:
            assert cli.main(QUESTIONS[question](count)) == 0
        opened.append(counts.total())
        asked.append(len(slurm.calls("squeue")) - before)
        compared.append(len(pairs))
    assert opened[1] == pytest.approx(2 * opened[0], abs=2)
    assert asked[0] == asked[1] <= 1
    assert compared[1] <= 2 * compared[0] + 2


def test_a_plan_of_twice_the_runs_opens_twice_the_files_and_lists_the_folder_of_the_row_once(
    make_runs: Callable[[int], list[Run]], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed: list[str] = []
    glob = Path.glob

    def listing(folder: Path, pattern: str) -> Iterator[Path]:
        listed.append(folder.name)
        return glob(folder, pattern)

    monkeypatch.setattr(Path, "glob", listing)
    opened, listings = [], []
    for count in (SMALL, LARGE):
        make_runs(count)
        listed.clear()
        arguments = [*MINI, "--backend=slurm", "--dry-run", "--json", *_seeds(count)]
        with counted_opens(project / "results") as counts, counted_comparisons() as pairs:
            assert launch(arguments, project=project) == 0
        assert len(pairs) <= 4 * count
        opened.append(counts.total())
        listings.append(listed.count("deit_s12"))
    assert opened[1] == pytest.approx(2 * opened[0], abs=2)
    assert listings[0] == listings[1]


def test_a_look_of_a_follow_asks_the_queue_once_and_writes_no_spec(
    make_runs: Callable[[int], list[Run]], slurm: FakeSlurm, snapshot: Snapshot
) -> None:
    asked, opened = [], []
    for count in (SMALL, LARGE):
        runs = [run for run in make_runs(count) if run.seed % 4 < 3]
        before = {run.id: (run.dir / "spec.yaml").stat().st_ino for run in runs}
        calls = len(slurm.calls("squeue"))
        with counted_opens(runs[0].dir.parent) as counts:
            steps = list(reconcile(runs, snapshot, asked=False))
        assert len(steps) == len(runs)
        asked.append(len(slurm.calls("squeue")) - calls)
        opened.append(counts.total())
        assert {run.id: (run.dir / "spec.yaml").stat().st_ino for run in runs} == before
    assert asked == [1, 1]
    assert opened[1] == pytest.approx(2 * opened[0], abs=2)


def test_the_progress_of_runs_that_did_not_change_is_not_read_again(
    make_runs: Callable[[int], list[Run]], capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_runs(SMALL)
    view = open_view(runs, sys.stdout)
    view._draw()
    with counted_opens(runs[0].dir.parent) as counts:
        view._draw()
    assert not counts
    waiting = next(run for run in runs if run.seed % 4 == 2)
    journal.append(waiting.attempts_path, {"attempt": 1, "event": "start", "step": 0})
    (waiting.dir / "heartbeat").touch()
    with counted_opens(runs[0].dir.parent) as counts:
        view._draw()
    assert {Path(name).parts[0] for name in counts} == {waiting.dir.name}
    assert f"{waiting.name:<28} running" in capsys.readouterr().out


def test_the_section_that_seeds_share_is_parsed_once(
    make_runs: Callable[[int], list[Run]], monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [run for run in make_runs(SMALL) if run.dir.exists()]
    parsed: list[int] = []
    load = yaml.load

    def counting(text: str, loader: type) -> object:
        parsed.append(len(text))
        return load(text, loader)

    monkeypatch.setattr(yaml, "load", counting)
    recorded_spec._section.cache_clear()
    recorded_spec._experiment_of.cache_clear()
    assert [Run.load(run.dir) for run in runs] == runs
    assert len(parsed) == 1


def test_a_spec_is_read_alike_whole_and_by_its_parts(make_runs: Callable[[int], list[Run]]) -> None:
    (run, *_) = make_runs(1)
    path = run.dir / "spec.yaml"
    text = path.read_text()
    by_parts = Run.load(run.dir)
    for change in ("# a comment, which no run writes\n", "\n"):
        path.write_text(change + text)
        assert Run.load(run.dir) == by_parts
    path.write_text(text.replace("depth: 12", "depth: 11"))
    with pytest.raises(ResultError, match="was edited"):
        Run.load(run.dir)

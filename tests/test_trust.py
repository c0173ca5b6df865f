"""Untrusted files execute nothing, and a full or read-only disk costs no data."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from completed import finish
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antioversmooth.errors import ResultError
from antioversmooth.orchestration.monitor.explain import explain
from antioversmooth.orchestration.monitor.status import statuses
from antioversmooth.orchestration.slurm.retry_budget import retry_decision
from antioversmooth.reporting.rendering import terminal
from antioversmooth.reporting.table.observe import observe
from antioversmooth.runs import Run, RunRecord, RunState, journal
from antioversmooth.runs.attempts import EndReason
from antioversmooth.runs.metrics import IMAGES_PER_SECOND, TRAIN_LOSS, VAL_TOP1

PROJECT = Path(__file__).parent.parent
SOURCES = sorted([PROJECT / "launch.py", *(PROJECT / "antioversmooth").rglob("*.py")])
MakeRun = Callable[..., Run]

# -- code ------------------------------------------------------------------------------------------

EXECUTES = {"eval", "exec", "compile", "__import__"}
UNPICKLES = {
    ("pickle", "load"), ("pickle", "loads"), ("pickle", "Unpickler"), ("marshal", "loads"),
    ("shelve", "open"),
    ("joblib", "load"), ("cloudpickle", "load"), ("cloudpickle", "loads"), ("dill", "load"),
    ("os", "system"),
    ("yaml", "unsafe_load"), ("yaml", "full_load"), ("yaml", "load_all"),
    ("hub", "load"), ("tar", "extractall"), ("tar", "extract"), ("zip", "extractall"),
    ("shutil", "unpack_archive"),
}  # fmt: skip
SAFE_LOADERS = {"_Loader"}
"""It is safe, as `test_loaders_are_safe` holds."""


def calls(path: Path) -> Iterator[tuple[ast.Call, tuple[str, ...]]]:
    """Every call of a file, with the last two parts of the name that is called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node, tuple(ast.unparse(node.func).split(".")[-2:])


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_nothing_that_is_read_is_executed(path: Path) -> None:
    for call, name in calls(path):
        assert not (len(name) == 1 and name[0] in EXECUTES), ast.unparse(call)
        assert name not in UNPICKLES, ast.unparse(call)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name == ("torch", "load"):
            assert given.get("weights_only") == "True", ast.unparse(call)
        if name[-1:] == ("load",) and name[0] in ("np", "numpy"):
            assert given.get("allow_pickle", "False") == "False", ast.unparse(call)
        if name == ("yaml", "load"):
            loader = ast.unparse(call.args[1] if len(call.args) > 1 else call.keywords[0].value)
            assert loader.partition("(")[0] in SAFE_LOADERS, ast.unparse(call)
        assert "shell" not in given, ast.unparse(call)


def test_loaders_are_safe() -> None:
    import yaml

    from antioversmooth.runs import recorded_spec
    from antioversmooth.spec import source

    for loader in (recorded_spec._Loader, *source._loaders()):
        assert issubclass(loader, yaml.constructor.SafeConstructor)
        # the base of all constructors that make more than plain values
        assert not issubclass(loader, yaml.constructor.FullConstructor)


# -- run directories from elsewhere ----------------------------------------------------------------


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    """A prepared run, for all examples of a test."""
    return make_run()


SEVERAL = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = [
    "time",
    "attempt",
    "event",
    "step",
    "epoch",
    "reason",
    "message",
    VAL_TOP1,
    "host",
    "commit",
    "job_id",
    "world_size",
    TRAIN_LOSS,
    IMAGES_PER_SECOND,
]
RECORDS = st.dictionaries(
    st.sampled_from(KEYS),
    st.one_of(VALUES, st.sampled_from(["start", "end", "ended", "submitted", "crash", 1, 2, 3])),
    max_size=8,
)  # fmt: skip
RESULTS = st.dictionaries(
    st.sampled_from(["metrics", "best", "start", "parameters", "gmacs", "images_per_s", "device",
    "device_hours",
                     "checkpoint", "similarity", "data", "world_size"]),
    st.one_of(VALUES, st.just({VAL_TOP1: 1.0}), st.just({"tokens": ["<b>"]})),
)  # fmt: skip


def lines(records: list[object]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@SEVERAL
@given(st.lists(RECORDS, max_size=6), st.lists(RECORDS, max_size=6), RESULTS, VALUES, VALUES)
def test_a_run_directory_with_any_content_is_observed_and_rendered(
    run: Run,
    attempts: list[object],
    metrics: list[object],
    result: dict[str, object],
    one: object,
    two: object,
) -> None:
    run.attempts_path.write_text(lines(attempts))
    run.metrics_path.write_text(lines(metrics))
    (run.dir / "result.json").write_text(json.dumps({**result, "id": run.id}))
    for name, value in (("intent", one), ("provenance", two), ("imported", one)):
        (run.dir / f"{name}.json").write_text(json.dumps(value))
    seen = observe(Run.load(run.dir))
    assert (seen.result is not None) == (seen.state is RunState.done)
    json.dumps(seen.provenance)
    shown = io.StringIO()
    terminal.show_statuses(statuses([run], []), shown)
    assert seen.state.value in shown.getvalue()


@SEVERAL
@given(st.lists(RECORDS, max_size=6), st.lists(RECORDS, max_size=6), st.lists(RECORDS, max_size=4))
def test_lines_that_are_no_records_break_no_command(
    run: Run, attempts: list[object], metrics: list[object], events: list[object]
) -> None:
    run.attempts_path.write_text(lines(attempts))
    run.metrics_path.write_text(lines(metrics))
    status = statuses([run], [])[0]
    assert status["state"] in {state.value for state in RunState}
    record = RunRecord.read(run)
    assert explain(record, record.status).startswith("deit_s12 seed 0 ")
    run.close_attempt(EndReason.crash, "in a test")
    (run.dir / "jobs.jsonl").write_text(lines(events))
    assert retry_decision(RunRecord.read(run)).why
    assert isinstance(RunRecord.read(run).newest_job_id, str | None)
    (run.dir / "jobs.jsonl").unlink()


def test_a_line_that_is_no_record_costs_no_other_line(run: Run) -> None:
    journal.append(run.attempts_path, {"attempt": 1, "event": "start", "step": 0})
    journal.append(run.metrics_path, {"attempt": 1, "step": 5, TRAIN_LOSS: 1.0})
    attempts = run.attempts()
    end = {"attempt": 1, "event": "end"}
    for foreign in (
        {"attempt": 2, "event": "start"},
        {"attempt": 2},
        end,
        {**end, "reason": "bored"},
        {"event": "end"},
    ):
        journal.append(run.attempts_path, foreign)
    assert run.attempts() == attempts
    assert [record["step"] for record in run.metrics()] == [5]


@SEVERAL
@given(st.data())
def test_a_damaged_spec_is_refused_or_is_the_run(run: Run, data: st.DataObject) -> None:
    path = run.dir / "spec.yaml"
    before = path.read_bytes()
    text = bytearray(before)
    at = data.draw(st.integers(0, len(text)))
    nasty = st.sampled_from(
        [
            b"&a ",
            b"*a",
            b"!!python/name:os.system ",
            b"${oc.env:HOME}",
            b"[" * 2000,
            b"\xff",
            b"\t",
            b"- ",
        ]
    )
    text[at : at + data.draw(st.sampled_from([0, 1, 7]))] = data.draw(
        st.one_of(nasty, st.binary(max_size=4))
    )
    path.write_bytes(bytes(text))
    with suppress(ResultError):
        # fields outside the identity may change
        assert Run.load(run.dir).id == run.id
    path.write_bytes(before)


@SEVERAL
@given(st.binary(max_size=300))
def test_json_files_of_any_bytes_are_observed(run: Run, data: bytes) -> None:
    for name in (
        "result.json",
        "intent.json",
        "provenance.json",
        "imported.json",
        "attempts.jsonl",
        "metrics.jsonl",
    ):
        (run.dir / name).write_bytes(data)
    assert isinstance(observe(run).state, RunState)


# -- disks -----------------------------------------------------------------------------------------

PROGRAM = """
import resource, signal, sys
from antioversmooth import cli
# a write beyond the limit then fails as on a full disk
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(cli.main(sys.argv[2:]))
"""


TABLE = "title: One\nrows: [{experiment: deit_s12, label: L}]\n"


@pytest.fixture
def project(tmp_path: Path, experiments: Path) -> Path:
    """A project with a table of one row, rendered."""
    folder = tmp_path / "project"
    shutil.copytree(experiments, folder / "experiments")
    (folder / "experiments" / "tables" / "one.yaml").write_text(TABLE)
    assert command(folder, "table", "one", "profile=mini", "--allow-partial").returncode == 0
    return folder


def command(
    project: Path, *arguments: str, bytes_a_file: int = resource.RLIM_INFINITY
) -> subprocess.CompletedProcess[str]:
    """A command of the project, which can write files of so many bytes."""
    limit = str(bytes_a_file)
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, limit, *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_table_that_does_not_fit_on_the_disk_is_one_message_and_the_old_one_stays(
    project: Path,
) -> None:
    before = contents(project / "results")
    (project / "experiments" / "tables" / "one.yaml").write_text(TABLE.replace("One", "Two"))
    failed = command(project, "table", "one", "profile=mini", "--allow-partial", bytes_a_file=64)
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
    place = r"antioversmooth table: \S+/one\.\w+: File too large; make room there \(df, quota\)"
    assert re.match(place, failed.stderr)
    assert contents(project / "results") == before


def test_a_bundle_that_does_not_fit_leaves_nothing(project: Path, make_run: MakeRun) -> None:
    run = make_run()
    journal.append(run.attempts_path, {"attempt": 1, "event": "start", "step": 0})
    finish(run, images_per_s=None)
    failed = command(project, "export", str(run.dir), "-o", "big.tar", bytes_a_file=2048)
    assert (failed.returncode, failed.stderr.count("\n")) == (2, 1)
    assert not list(project.glob("*.tar*")) + list(project.glob(".*tar*"))
    exported = command(project, "export", str(run.dir), "-o", "big.tar")
    assert exported.returncode == 0, exported.stderr
    failed = command(project, "import", "big.tar", bytes_a_file=1024)
    assert (failed.returncode, failed.stderr.count("\n")) == (2, 1)
    assert not list((project / "results" / "mini").glob(".import*"))
    assert not list((project / "results" / "mini").glob("runs/*/*"))
    assert command(project, "import", "big.tar").returncode == 0


def test_a_journal_on_a_full_disk_keeps_every_line_that_was_whole(tmp_path: Path) -> None:
    program = """
import resource, signal, sys
from pathlib import Path
from antioversmooth.runs import journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
step = 0
try:
    while True:
        journal.append(Path(sys.argv[1]), {"step": step, "train/loss": 0.5})
        step += 1
except OSError:
    print(step)
"""
    path = tmp_path / "metrics.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert [record["step"] for record in journal.read(path)] == list(range(int(done.stdout)))
    # the disk has space again
    journal.append(path, {"step": 99})
    assert journal.read(path)[-1]["step"] == 99


@pytest.mark.skipif(
    os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may write everywhere"
)
def test_a_results_folder_that_is_read_only_is_one_message(project: Path) -> None:
    before = contents(project / "results")
    folders = [project / "results", project / "results" / "mini"]
    for folder in folders:
        folder.chmod(0o555)
    plain = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if os.geteuid() == 0 else []
    arguments = ["table", "one", "profile=mini", "--allow-partial"]
    try:
        done = subprocess.run(
            [*plain, sys.executable, "-m", "antioversmooth", *arguments],
            cwd=project, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is not writable; choose another with cluster.results" in done.stderr
    assert contents(project / "results") == before

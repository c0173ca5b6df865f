"""A stand-in for training: real processes that do in milliseconds what a run is told to do."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from completed import RESULT
from fake_slurm import begin_attempt as begin_attempt
from fake_slurm import slurm as slurm
from fake_slurm import snapshot as snapshot

from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run

TRAINING = r"""
    import json, os, pathlib, re, signal, sys, time

    RESULT = json.loads(RESULT_AS_JSON)
    run = pathlib.Path(sys.argv[1])
    rank = os.environ.get("RANK", "0")
    behaviour = (run / "behaviour").read_text().split()
    starts = run / "starts"
    start = 1 + (len(starts.read_text().splitlines()) if starts.exists() else 0)

    def append(**record):
        now = time.time()
        with (run / "attempts.jsonl").open("a") as file:
            print(json.dumps({"time": now, "attempt": start, **record}), file=file)
        return now

    def save_and_end(*_):
        append(event="end", reason="cancelled", step=1)
        sys.exit(75)

    began = append(event="start", step=0)
    with starts.open("a") as file:
        print(time.time(), os.getpid(), file=file)
    action = behaviour[min(start, len(behaviour)) - 1]
    if action == "save":
        signal.signal(signal.SIGTERM, save_and_end)
        time.sleep(60)
    if action == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)
    if action == "linger":
        time.sleep(60)
    if action == "crash":
        raise ValueError("the loss is on holiday")
    if action == "refuse":
        print("mend the data first", file=sys.stderr)
        sys.exit(2)
    if action == "fill":
        append(event="end", reason="disk-full", step=1, message="No space left on device")
        sys.exit(2)
    if action == "stop":
        sys.exit(75)
    time.sleep(0.3)
    spec = (run / "spec.yaml").read_text()
    images, batch, epochs = (
        int(re.search(rf"^ +{key}: (\d+)$", spec, re.MULTILINE)[1])
        for key in ("num_train", "global_batch", "epochs")
    )
    with (run / "metrics.jsonl").open("a") as file:
        last = {"time": time.time(), "step": images // batch * epochs, "epoch": epochs}
        print(json.dumps(last | RESULT["metrics"]), file=file)
    result = {
        "id": json.loads((run / "intent.json").read_text())["id"],
        "ended": time.time(),
        "best": None if epochs > 1 else RESULT["metrics"] | {"epoch": epochs},
        "device_hours": (time.time() - began) / 3600,
    }
    (run / "result.json").write_text(json.dumps(RESULT | result))
    append(event="end", reason="completed", step=1)
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Snapshot:
    """A snapshot whose training obeys the file `behaviour` of a run: one word for each start, the
    last one stays."""
    package = tmp_path / "stand_in" / "antioversmooth" / "training"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(
        textwrap.dedent(TRAINING).replace("RESULT_AS_JSON", repr(json.dumps(RESULT)))
    )
    return Snapshot("0123456789ab", tmp_path / "stand_in", commit=None, dirty=False)


@pytest.fixture
def told(make_run: Callable[..., Run]) -> Callable[..., Run]:
    """Makes a run that will do what it is told: `told("crash done")`, a word for each start."""

    def make(behaviour: str, name: str = "deit_s12", *overrides: str, seed: int = 0) -> Run:
        run = make_run(name, *overrides, seed=seed)
        for needed in run.dependencies:
            needed.prepare()
        (run.dir / "behaviour").write_text(behaviour)
        return run

    return make


@pytest.fixture
def starts() -> Callable[[Run], list[tuple[float, int]]]:
    """When, and as which process, a run was started."""

    def read(run: Run) -> list[tuple[float, int]]:
        path = run.dir / "starts"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(float(line.split()[0]), int(line.split()[1])) for line in lines]

    return read

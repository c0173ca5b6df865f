"""Small runs with real training on a private cluster, and faults that hit them."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cluster
import pytest
from cluster import Cluster
from machines import wait_until

from antioversmooth import spec
from antioversmooth.orchestration import snapshot
from antioversmooth.orchestration.slurm import submission
from antioversmooth.orchestration.slurm.script import job_name
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, journal
from antioversmooth.runs.journal import Record
from antioversmooth.runs.metrics import TRAIN_LOSS

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
CHECKPOINT_EVERY_S = 0.5
SMALL = [
    "profile=mini", "model.depth=1", "model.embed_dim=16", "model.num_heads=2",
    "recipe.global_batch=8",
    "recipe.mix_group=2", "recipe.warmup_epochs=0", "recipe.epochs=1", "recipe.hflip=0.5",
    "runtime.log_every=1",
    "runtime.heartbeat_s=1",
    f"runtime.checkpoint_every_s={CHECKPOINT_EVERY_S}", "runtime.timeout_s=120", "cluster.nodes=2",
    "cluster.gpus_per_node=0", "cluster.cpus_per_task=1", "cluster.mem_gb=3",
]  # fmt: skip
"""500 steps in two ranks, some seconds where nothing else runs; every step in the journal.

Images are flipped at random since views that vary are made when they are needed: a start costs a
second less.
"""


LABS: dict[str, dict[str, Any]] = {
    "accounted": {"accounting": True, "proctrack": cluster.tracking()},
    "bare": {"accounting": False, "proctrack": "linuxproc"},
}
"""The clusters: as sites with accounting mostly are, and without it; processes are tracked
otherwise, too."""


def on(name: str) -> pytest.MarkDecorator:
    """Runs a test on one cluster only: process tracking and accounting do not matter to it."""
    return pytest.mark.parametrize("lab", [name], indirect=True)


class Lab:
    """A private cluster, a results folder on it, and the code that its jobs run."""

    def __init__(self, private: Cluster, folder: Path) -> None:
        self.cluster = private
        self._folder = folder
        self.code: Snapshot = snapshot.take(folder / "results")
        self._reference = self.new_run("undisturbed")
        self.submit(self._reference)

    def new_run(self, name: str, *overrides: str, seed: int = 0, **sbatch: str | bool) -> Run:
        """A prepared run in a results folder of its own, so that the same experiment can be run
        twice.

        Args:
            sbatch: Further options of its jobs.
        """
        chosen = {word.partition("=")[0]: word for word in (*SMALL, *overrides)}
        request = spec.load([EXPERIMENTS / "deit_s12.yaml"], list(chosen.values()))
        run = request.plan([seed], self._folder / "results" / name)[-1]
        run.experiment.cluster.sbatch.update(sbatch)
        run.experiment.cluster.notify = shlex.join(["tee", "-a", str(run.dir / "events")])
        run.prepare()
        return run

    def submit(self, run: Run) -> str:
        return submission.submit(run, self.code)

    def reference(self) -> Run:
        """The run of the same experiment without faults."""
        self.wait_done(self._reference)
        return self._reference

    def wait_done(self, run: Run, *, seconds: float = 240) -> None:
        self._wait(
            run, lambda: run.result() is not None and "completed" in ends(run), "result", seconds
        )

    def wait_saved(self, run: Run, *, attempt: int = 1, seconds: float = 120) -> None:
        """Waits until an attempt has saved a checkpoint and trained a little further."""

        def saved() -> bool:
            steps = [
                int(path.name[4:12])
                for path in run.checkpoints_dir.glob(f"step*-attempt{attempt}.pt.sha256")
            ]
            return any(
                r["attempt"] == attempt and r["step"] > min(steps) + 20
                for r in run.metrics()
                if steps
            )

        self._wait(run, saved, f"checkpoint of attempt {attempt}", seconds)

    def _wait(self, run: Run, condition: Callable[[], object], what: str, seconds: float) -> None:
        try:
            wait_until(condition, what, seconds=seconds)
        except TimeoutError as err:
            raise TimeoutError(f"{err}\n{self.account(run)}") from err

    def account(self, run: Run) -> str:
        """Journals and logs of a run, for the message of a failure."""
        logs = [
            log
            for log in sorted(run.dir.rglob("*.err")) + sorted(run.dir.rglob("*.out"))
            if log.stat().st_size
        ]
        texts = [f"--- {log}\n{log.read_text(errors='replace')[-1500:]}" for log in logs]
        files = [run.attempts_path, run.dir / "jobs.jsonl"]
        journals = [f"--- {path}\n{path.read_text()}" for path in files if path.exists()]
        return "\n".join([self.cluster.ask("squeue", "--states=all"), *journals, *texts])

    def processes(self, run: Run) -> dict[int, int]:
        """The living processes of a run: pid, as seen from here, by rank."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
                environment = (folder / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if (
                str(run.dir).encode() in words
                and b"antioversmooth.orchestration.slurm.rank" in words
            ):
                ranks = [
                    int(e.partition(b"=")[2]) for e in environment if e.startswith(b"SLURM_PROCID=")
                ]
                if ranks and words[0].endswith(b"python"):
                    found[ranks[0]] = int(folder.name)
        return found

    @contextmanager
    def paused(self, run: Run) -> Iterator[list[int]]:
        """Stops the processes of a run for the block, as on a busy machine; yields their pids."""
        pids = list(self.processes(run).values())
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield pids
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def nodes_of(self, run: Run) -> list[str]:
        """The nodes of the run's job, the first one first."""
        names = self.cluster.ask(
            "squeue", "--noheader", f"--name={job_name(run)}", "--states=running", "--format=%N"
        )
        return self.cluster.ask("scontrol", "show", "hostnames", names).split()

    def kill_rank(self, run: Run, rank: int) -> None:
        os.kill(self.processes(run)[rank], signal.SIGKILL)


def events(run: Run) -> list[str]:
    """The events that a person was notified of, at least one."""
    wait_until((run.dir / "events").exists, "event")
    return [json.loads(line)["event"] for line in (run.dir / "events").read_text().splitlines()]


def starts(run: Run) -> list[Record]:
    """The start records of the attempts."""
    return [attempt.start for attempt in run.attempts()]


def ends(run: Run) -> list[str]:
    """The reasons of the ends so far."""
    return [a.reason.value for a in run.attempts() if a.reason]


def assert_nothing_lost_or_doubled(run: Run) -> None:
    """Every step of the run is in its journal once, in order."""
    steps = [r["step"] for r in run.metrics() if TRAIN_LOSS in r]
    assert steps == list(range(1, run.experiment.total_steps + 1))


def lost_steps(run: Run, attempt: int) -> list[Record]:
    """Steps that an attempt journaled beyond the step at which the next one resumed."""
    resumed = next(r["step"] for r in starts(run) if r["attempt"] == attempt + 1)
    records = journal.read(run.metrics_path)
    return [
        r for r in records if r["attempt"] == attempt and r["step"] > resumed and TRAIN_LOSS in r
    ]


def assert_same_weights(run: Run, other: Run) -> None:
    """The final weights are equal bit for bit."""
    import torch

    def final(of: Run) -> dict[str, Any]:
        result = of.result()
        assert result is not None
        loaded = torch.load(of.checkpoints_dir / result["checkpoint"]["file"], weights_only=True)[
            "model"
        ]
        return dict(loaded)

    one, two = final(run), final(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)

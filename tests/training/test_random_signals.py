"""Random signals to every kind of process of a local launch: the run ends as if undisturbed.

`make chaos` strikes 60 times; `make chaos ROUNDS=200 SEED=7` more often, and elsewhere.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from outcomes import assert_bit_equal, final_state, losses, without_times
from processes import tiny

from antioversmooth import spec
from antioversmooth.runs import Run
from antioversmooth.runs.metrics import TRAIN_LOSS

PROJECT = Path(__file__).parents[2]
ROUNDS = int(os.environ.get("CHAOS_ROUNDS", "1"))
"""Strikes, half of them at runs of one process, half at runs of two; a single one at two."""
SEED = int(os.environ.get("CHAOS_SEED", "0"))
STRIKES_A_RUN = 6
"""After so many, a run is left to end, and another one is struck."""
STEPS = 10 * 11
"""Of a run: enough to be struck that often, and to train on for a while."""

SIGNALS = {
    signal.SIGKILL: 6,
    signal.SIGTERM: 3,
    signal.SIGINT: 2,
    signal.SIGHUP: 1,
    signal.SIGUSR2: 1,
    signal.SIGSEGV: 1,
    signal.SIGSTOP: 2,
}
"""Their weights in the draw; a stopped process continues a second later."""
ROLES = ("launcher", "agent", "rank", "loader")


@dataclass
class Launch:
    """A launch of one run as a process of its own, and what has started below it."""

    process: subprocess.Popen[bytes]

    def victims(self) -> dict[str, list[int]]:
        """Ids of the living processes by role.

        `agent` is torchrun, `rank` trains, `loader` is what a rank has forked.
        """
        found: dict[str, list[int]] = {role: [] for role in ROLES}
        if self.process.poll() is None:
            found["launcher"].append(self.process.pid)
        for pid in _children(self.process.pid):
            command = _command(pid)
            if "torch.distributed.run" in command:
                found["agent"].append(pid)
                ranks = [child for child in _children(pid) if _is_rank(child)]
            else:
                ranks = [pid] if _is_rank(pid) else []
            found["rank"] += ranks
            found["loader"] += [child for rank in ranks for child in _children(rank)]
        return found


@dataclass
class Chaos:
    """Random strikes at the launches of runs; repeatable by seed as far as timing allows."""

    tmp_path: Path
    processes: int
    draw: random.Random
    struck: Counter[str] = field(default_factory=Counter)

    def run(self, folder: str) -> Run:
        """The one run of a results folder."""
        request = spec.load([PROJECT / "experiments" / "deit_s12.yaml"], self.overrides(folder))
        return request.plan([0], self.tmp_path / folder)[0]

    def overrides(self, folder: str) -> list[str]:
        """A run of seconds; every step is journaled, and ten checkpoints are saved a second."""
        return tiny(
            "profile=mini",
            f"recipe.epochs={STEPS // 11}",
            "recipe.hflip=0.5",
            "runtime.workers=1",
            "runtime.checkpoint_every_s=0.1",
            "runtime.heartbeat_s=1",
            f"cluster.results={self.tmp_path / folder}",
            "cluster.gpus_per_node=0",
            f"cluster.tasks_per_node={self.processes}",
        )

    def launch(self, folder: str) -> Launch:
        """Starts a launch of the run."""
        command = [sys.executable, "launch.py", "experiments/deit_s12.yaml", "--backend=local"]
        with (self.tmp_path / f"{folder}.log").open("ab") as log:
            process = subprocess.Popen(
                [*command, *self.overrides(folder)],
                cwd=PROJECT,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Launch(process)

    def strike(self, launch: Launch, run: Run) -> bool:
        """Sends one random signal at a random moment; whether it hit a living process."""
        wait = self._after_progress if self.draw.random() < 0.8 else self._after_a_while
        wait(launch, run)
        victims = {role: pids for role, pids in launch.victims().items() if pids}
        if not victims:
            return False
        role = self.draw.choice(list(victims))
        pid = self.draw.choice(victims[role])
        number = self.draw.choices(list(SIGNALS), list(SIGNALS.values()))[0]
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        hit = f"{signal.Signals(number).name} to {role}"
        self.struck[hit] += 1
        print(
            f"{self.struck.total()}: {hit} of {run.dir.relative_to(self.tmp_path).parts[0]}",
            flush=True,
        )
        if number == signal.SIGSTOP:
            time.sleep(1)
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        return True

    def _after_progress(self, launch: Launch, run: Run) -> None:
        """Waits until the attempt has journaled a step, and a moment more."""
        before = _size(run.metrics_path)
        _wait_for(lambda: launch.process.poll() is not None or _size(run.metrics_path) > before)
        time.sleep(self.draw.uniform(0, 1.5))

    def _after_a_while(self, launch: Launch, run: Run) -> None:
        """Waits a moment of the start: snapshot, imports, rendezvous, data."""
        time.sleep(self.draw.uniform(0, 6))


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2] if ROUNDS > 1 else [2])
def test_a_run_struck_by_random_signals_ends_bit_equal_to_an_undisturbed_one(
    tmp_path: Path, processes: int
) -> None:
    chaos = Chaos(tmp_path, processes, random.Random(f"{SEED}-{processes}"))
    straight = chaos.run("straight")
    assert chaos.launch("straight").process.wait() == 0
    rounds, number = (ROUNDS + processes - 1) // 2, 0
    while chaos.struck.total() < rounds:
        folder = f"struck{number}"
        run = chaos.run(folder)
        goal = min(rounds, chaos.struck.total() + STRIKES_A_RUN)
        while chaos.struck.total() < goal and run.result() is None:
            launch = chaos.launch(folder)
            while chaos.struck.total() < goal and chaos.strike(launch, run):
                pass
            _wait_for(lambda launch=launch: launch.process.poll() is not None)  # type: ignore[misc]
            # of a launcher that was killed, the run's processes end by themselves
            _wait_for(lambda run=run: not _living(run))  # type: ignore[misc]
        code = chaos.launch(folder).process.wait()
        assert code == 0, (tmp_path / f"{folder}.log").read_text()
        assert_same_outcome(run, straight)
        number += 1
    print(f"{processes} processes, {number} runs: {dict(chaos.struck)}")


def assert_same_outcome(run: Run, straight: Run) -> None:
    """Weights, optimizer, every loss and every evaluation are equal bit for bit."""
    ours, expected = run.result(), straight.result()
    assert ours is not None
    assert expected is not None
    for key in ("metrics", "best", "similarity", "parameters", "gmacs"):
        assert ours[key] == expected[key]
    assert [r["step"] for r in run.metrics() if TRAIN_LOSS in r] == list(range(1, STEPS + 1))
    assert losses(run) == losses(straight)
    assert_bit_equal(without_times(final_state(run)), without_times(final_state(straight)))


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, listing.read_text().split())
    return found


def _command(pid: int) -> str:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def _is_rank(pid: int) -> bool:
    command = _command(pid)
    return "antioversmooth.training" in command and "torch.distributed.run" not in command


def _living(run: Run) -> bool:
    """Whether a process of the run lives."""
    commands = (_command(int(path.name)) for path in Path("/proc").glob("[0-9]*"))
    return any(str(run.dir) in command for command in commands)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)

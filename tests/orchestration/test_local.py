from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from completed import finish
from views import RecordingView

from antioversmooth import files
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import control, devices
from antioversmooth.orchestration.backend import Launched, Outcome
from antioversmooth.orchestration.local import pool, process
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run, RunRecord, RunState, journal
from antioversmooth.runs.lock import try_lock

Told = Callable[..., Run]
Starts = Callable[[Run], list[tuple[float, int]]]

DRIVER = """
import sys
from pathlib import Path
from antioversmooth.orchestration.local import pool
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.monitor.view import LineView
from antioversmooth.orchestration.snapshot import Snapshot
from antioversmooth.runs import Run

# each signal of a test is a key press of its own
pool.SAME_PRESS_S = 0.0
snapshot = Snapshot("0123456789ab", Path(sys.argv[1]), None, False)
runs = [Run.load(Path(directory)) for directory in sys.argv[2:]]
launched = LocalBackend().launch(runs, snapshot, LineView(runs, sys.stdout))
print(*(outcome.value for outcome in launched.outcomes.values()))
sys.exit(130 if launched.interrupted else 0)
"""


@pytest.fixture
def launch(
    stand_in: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Launched, list[str]]]:
    """Launches runs on a machine with two CPUs and no GPU; returns what became of them and what was
    said."""
    monkeypatch.setattr(devices, "visible_gpus", list)
    monkeypatch.setattr(devices, "cpus", lambda: 2)

    def go(*runs: Run) -> tuple[Launched, list[str]]:
        view = RecordingView()
        return LocalBackend().launch(runs, stand_in, view), view.messages

    return go


@pytest.fixture
def driver(stand_in: Snapshot) -> Callable[..., subprocess.Popen[str]]:
    """A launcher as a process of its own, that leads a process group as under a terminal."""

    def start(*runs: Run) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-c",
            DRIVER,
            str(stand_in.path),
            *(str(run.dir) for run in runs),
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)

    return start


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def reasons(run: Run) -> list[str]:
    return [
        record["reason"] for record in journal.read(run.attempts_path) if record["event"] == "end"
    ]


def test_independent_runs_share_the_cpus(launch, told: Told, starts: Starts) -> None:
    runs = [told("done", seed=seed) for seed in range(3)]
    launched, _ = launch(*runs)
    assert set(launched.outcomes.values()) == {Outcome.done}
    began = [starts(run)[0][0] for run in runs]
    ended = [run.result()["ended"] for run in runs]
    assert began[1] < ended[0], "two run side by side"
    assert began[2] > min(ended[:2]), "the third waits for a CPU"


def test_max_parallel_overrides_the_number_of_cpus(launch, told: Told, starts: Starts) -> None:
    runs = [told("done", "deit_s12", "cluster.max_parallel=1", seed=seed) for seed in range(2)]
    launch(*runs)
    assert starts(runs[1])[0][0] > runs[0].result()["ended"]


def test_a_run_starts_after_the_run_that_it_starts_from(launch, told: Told, starts: Starts) -> None:
    scaled = told("done", "cait_s24_featscale")
    plain = told("done", "cait_s24")
    launch(scaled, plain)
    assert starts(scaled)[0][0] > plain.result()["ended"]


def test_a_failed_upstream_blocks_its_dependents_and_no_others(
    launch, told: Told, starts: Starts
) -> None:
    scaled, plain, other = (
        told("done", "cait_s24_featscale"),
        told("crash", "cait_s24"),
        told("done"),
    )
    launched, said = launch(plain, scaled, other)
    assert [launched.outcomes[run.id] for run in (plain, scaled, other)] == [
        Outcome.failed,
        Outcome.blocked,
        Outcome.done,
    ]
    assert not starts(scaled)
    assert any("cait_s24_featscale seed 0 is blocked" in line for line in said)


def test_done_runs_are_not_started(launch, told: Told, starts: Starts) -> None:
    run = told("crash")
    finish(run)
    launched, _ = launch(run)
    assert launched.outcomes[run.id] is Outcome.done
    assert not starts(run)


def test_one_crash_is_forgiven(launch, told: Told, starts: Starts) -> None:
    run = told("crash done")
    launched, _ = launch(run)
    assert launched.outcomes[run.id] is Outcome.done
    assert reasons(run) == ["crash", "completed"]


def test_a_second_crash_fails_the_run_and_shows_its_log(launch, told: Told, starts: Starts) -> None:
    run = told("crash")
    launched, said = launch(run)
    assert launched.outcomes[run.id] is Outcome.failed
    assert len(starts(run)) == 2
    assert "ValueError: the loss is on holiday" in said[-1]


def test_what_a_person_has_to_mend_is_not_tried_again(launch, told: Told, starts: Starts) -> None:
    run = told("refuse")
    launched, said = launch(run)
    assert launched.outcomes[run.id] is Outcome.failed
    assert len(starts(run)) == 1
    assert "mend the data first" in said[-1]


def test_a_run_that_ends_early_by_itself_is_stopped(launch, told: Told, starts: Starts) -> None:
    run = told("stop")
    launched, _ = launch(run)
    assert launched.outcomes[run.id] is Outcome.stopped
    assert len(starts(run)) == 1


def test_the_intent_says_which_code_is_started(launch, told: Told, stand_in: Snapshot) -> None:
    run = told("done")
    launch(run)
    intent = files.read_json(run.dir / "intent.json")
    assert (intent["id"], intent["backend"], intent["snapshot"]) == (run.id, "local", stand_in.id)


def test_the_code_of_the_snapshot_runs_not_that_of_the_current_folder(
    launch, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoy = tmp_path / "here" / "antioversmooth"
    decoy.mkdir(parents=True)
    (decoy / "__init__.py").write_text("raise SystemExit('the wrong code')")
    monkeypatch.chdir(decoy.parent)
    run = told("done")
    launched, _ = launch(run)
    assert launched.outcomes[run.id] is Outcome.done


def test_kill_9_of_a_worker_is_a_crash_that_the_next_attempt_answers(
    driver, told: Told, starts: Starts
) -> None:
    run = told("linger done")
    launcher = driver(run)
    wait_for(lambda: len(starts(run)) == 1)
    os.kill(starts(run)[0][1], signal.SIGKILL)
    output, _ = launcher.communicate(timeout=30)
    assert "ended with exit code -9; starting again" in output
    assert output.endswith("done\n")
    assert reasons(run) == ["crash", "completed"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_runs_save_and_leaves_no_process(
    number: int, driver, told: Told, starts: Starts
) -> None:
    runs = [told("save", "deit_s12", "cluster.max_parallel=2", seed=seed) for seed in range(3)]
    launcher = driver(*runs)
    wait_for(lambda: all(starts(run) for run in runs[:2]))
    os.killpg(launcher.pid, number)
    launcher.communicate(timeout=30)
    assert launcher.returncode == 130
    assert [reasons(run) for run in runs] == [["cancelled"], ["cancelled"], []]
    assert all(is_gone(pid) for run in runs for _, pid in starts(run))
    assert not starts(runs[2])


def test_a_run_that_does_not_listen_to_signals_yet_is_stopped_not_failed(
    driver, told: Told, starts: Starts
) -> None:
    """Importing torch takes seconds, and a process dies of signals until it is through."""
    run = told("linger done")
    launcher = driver(run)
    wait_for(lambda: len(starts(run)) == 1)
    os.killpg(launcher.pid, signal.SIGINT)
    output, _ = launcher.communicate(timeout=30)
    assert launcher.returncode == 130
    assert "failed" not in output
    assert reasons(run) == ["cancelled"]


def interrupt_twice(launcher: subprocess.Popen[str]) -> None:
    """Presses Ctrl-C, and again once the launcher has answered to it."""
    os.killpg(launcher.pid, signal.SIGINT)
    assert launcher.stdout is not None
    wait_for(lambda: "runs that are saving now: 1;" in launcher.stdout.readline())
    os.killpg(launcher.pid, signal.SIGINT)


@pytest.mark.parametrize(("same_press_s", "times"), [(pool.SAME_PRESS_S, 1), (0.0, 2)])
def test_a_key_press_that_arrives_twice_counts_once(
    monkeypatch: pytest.MonkeyPatch, same_press_s: float, times: int
) -> None:
    monkeypatch.setattr(pool, "SAME_PRESS_S", same_press_s)
    with pool._interruptions() as received:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGINT] * times


def test_a_second_ctrl_c_ends_runs_that_do_not_listen(driver, told: Told, starts: Starts) -> None:
    run = told("deaf")
    launcher = driver(run)
    wait_for(lambda: len(starts(run)) == 1)
    interrupt_twice(launcher)
    launcher.communicate(timeout=30)
    assert launcher.returncode == 130
    assert is_gone(starts(run)[0][1])
    assert reasons(run) == ["cancelled"]


def test_a_stopped_run_is_continued_by_the_same_command(driver, told: Told, starts: Starts) -> None:
    run = told("save done")
    launcher = driver(run)
    wait_for(lambda: len(starts(run)) == 1)
    os.killpg(launcher.pid, signal.SIGINT)
    launcher.communicate(timeout=30)
    output, _ = driver(run).communicate(timeout=30)
    assert output.endswith("done\n")
    assert RunRecord.read(run).status.state is RunState.done


def test_concurrent_launches_start_a_run_once_and_all_see_it_done(
    driver, told: Told, starts: Starts
) -> None:
    run = told("done")
    outputs = [launcher.communicate(timeout=60)[0] for launcher in [driver(run) for _ in range(4)]]
    assert len(starts(run)) == 1
    assert all(output.endswith("done\n") for output in outputs)


def test_another_launch_takes_over_when_the_first_one_stops(
    driver, told: Told, starts: Starts
) -> None:
    run = told("save done")
    first = driver(run)
    wait_for(lambda: len(starts(run)) == 1)
    second = driver(run)
    assert second.stdout is not None
    wait_for(lambda: "another launch" in second.stdout.readline())
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=30)
    assert second.communicate(timeout=30)[0].endswith("done\n")
    assert reasons(run) == ["cancelled", "completed"]


def test_a_launch_that_stops_waiting_says_that_another_one_runs(
    driver, told: Told, starts: Starts
) -> None:
    run = told("save done")
    first = driver(run)
    wait_for(lambda: len(starts(run)) == 1)
    second = driver(run)
    assert second.stdout is not None
    wait_for(lambda: "another launch" in second.stdout.readline())
    os.killpg(second.pid, signal.SIGINT)
    assert second.communicate(timeout=30)[0].endswith("running\n")
    os.killpg(first.pid, signal.SIGINT)
    assert first.communicate(timeout=30)[0].endswith("stopped\n")


@pytest.mark.parametrize("content", ["{", "[]", '{"time": "now"}'])
@pytest.mark.parametrize("name", ["intent.json", "process.json"])
def test_a_cancel_of_a_run_with_torn_records_is_no_traceback(
    told: Told, name: str, content: str
) -> None:
    run = told("done")
    process.record_process(run, 2**22, {"time": 1.0})
    (run.dir / name).write_text(content)
    lock = try_lock(run.dir)
    assert lock is not None
    process.ask_to_end(run)
    os.close(lock)
    assert (run.dir / "cancelled").exists()


def test_a_killed_launcher_leaves_the_run_locked_while_its_process_lives(
    driver, told: Told, starts: Starts
) -> None:
    run = told("linger")
    launcher = driver(run)
    wait_for(lambda: len(starts(run)) == 1)
    launcher.kill()
    launcher.communicate()
    assert try_lock(run.dir) is None
    os.kill(starts(run)[0][1], signal.SIGKILL)

    def is_free() -> bool:
        lock = try_lock(run.dir)
        if lock is not None:
            os.close(lock)
        return lock is not None

    wait_for(is_free)


def test_several_processes_run_under_torchrun_and_none_survives_its_kill(
    driver, told: Told, starts: Starts
) -> None:
    run = told("deaf", "deit_s12", "cluster.gpus_per_node=0", "cluster.tasks_per_node=2")
    launcher = driver(run)
    wait_for(lambda: len(starts(run)) == 2)
    # the launcher looks at what torchrun has started
    time.sleep(2 * pool.POLL_S)
    agent = int(Path(f"/proc/{starts(run)[0][1]}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(agent, signal.SIGKILL)
    wait_for(lambda: all(is_gone(pid) for _, pid in starts(run)[:2]))
    interrupt_twice(launcher)
    launcher.communicate(timeout=60)
    assert all(is_gone(pid) for _, pid in starts(run))


def test_another_terminal_ends_one_run_and_the_others_go_on(
    driver: Callable[..., subprocess.Popen[str]], told: Told, starts: Starts
) -> None:
    words = ("deit_s12", "cluster.max_parallel=1")
    first, second, third = (
        told(behaviour, *words, seed=seed)
        for seed, behaviour in enumerate(("save", "done", "linger"))
    )
    launcher = driver(first, third, second)
    wait_for(lambda: bool(starts(first)) and (first.dir / "process.json").exists())
    # it waits
    assert process.ask_to_end(third) is None
    assert process.ask_to_end(first) == starts(first)[0][1]
    said, _ = launcher.communicate(timeout=30)
    assert sorted(said.split()[-3:]) == ["done", "missing", "stopped"]
    assert not starts(third)
    assert first.attempts()[-1].reason.value == "cancelled"


def test_a_disk_that_is_full_is_said(
    launch: Callable[..., tuple[Launched, list[str]]], told: Told
) -> None:
    run = told("fill")
    launched, said = launch(run)
    assert launched.outcomes == {run.id: Outcome.failed}
    assert (
        f"ended with exit code 2: no space is left for its files in {run.dir}; given up"
        in "\n".join(said)
    )


def test_a_run_that_waits_has_a_directory_by_which_it_can_be_cancelled(
    launch: Callable[..., tuple[Launched, list[str]]], told: Told
) -> None:
    waits = told("done", "cait_s24_featscale")
    shutil.rmtree(waits.dir)
    (needed,) = waits.dependencies
    (needed.dir / "behaviour").write_text("refuse")
    launched, _ = launch(needed, waits)
    assert launched.outcomes[waits.id] is Outcome.blocked
    assert control.cancel(waits).endswith("a launch that is under way will not start it")


@pytest.mark.parametrize("ahead_s", [-86400, 0, 86400])
def test_a_run_that_was_cancelled_before_a_launch_starts_again_whatever_the_clocks_say(
    launch: Callable[..., tuple[Launched, list[str]]], told: Told, ahead_s: float
) -> None:
    run = told("done")
    assert process.ask_to_end(run) is None
    os.utime(run.dir / "cancelled", (time.time() + ahead_s,) * 2)
    launched, _ = launch(run)
    assert launched.outcomes == {run.id: Outcome.done}


def test_a_cancel_counts_where_the_clock_of_the_file_server_is_behind(
    driver: Callable[..., subprocess.Popen[str]], told: Told, starts: Starts
) -> None:
    words = ("deit_s12", "cluster.max_parallel=1")
    first, waits = told("save", *words, seed=0), told("linger", *words, seed=1)
    launcher = driver(first, waits)
    wait_for(lambda: bool(starts(first)) and (first.dir / "process.json").exists())
    assert process.ask_to_end(waits) is None
    os.utime(waits.dir / "cancelled", (1.0, 1.0))
    assert process.ask_to_end(first) == starts(first)[0][1]
    launcher.communicate(timeout=30)
    assert not starts(waits)


def test_a_process_of_an_earlier_launch_is_not_touched(told: Told) -> None:
    run = told("done")
    process.record_process(run, os.getpid(), {"time": 5.0})
    files.write_json(run.dir / "intent.json", {"time": 4.0})
    lock = try_lock(run.dir)
    assert lock is not None
    assert process.ask_to_end(run) is None
    os.close(lock)


def test_a_folder_in_the_place_of_a_request_is_one_message(
    launch: Callable[..., tuple[Launched, list[str]]], told: Told
) -> None:
    run = told("done")
    (run.dir / "cancelled").mkdir()
    with pytest.raises(LaunchError, match="is a folder, and no request to end"):
        launch(run)

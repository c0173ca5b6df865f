"""The job of doctor, from its submission to the end of its second turn, without SLURM."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from antioversmooth.cli.main import main
from antioversmooth.config import ClusterConfig, ContainerConfig, ContainerRuntime
from antioversmooth.errors import LaunchError
from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration.doctor import gathering, job, processes, rank, turn
from antioversmooth.orchestration.slurm import client
from antioversmooth.orchestration.slurm.client import Job
from antioversmooth.orchestration.slurm.commands import Unreachable
from antioversmooth.orchestration.snapshot import PROJECT

FOUND = Finding("clock", Level.warning, "300 s behind", "synchronise it")
CLUSTER = ClusterConfig(name="site", nodes=2, time_min=1440, mail_user="me@site")


class Slurm:
    """Answers for one job; a test says which."""

    def __init__(self) -> None:
        self.answers: Sequence[Job | LaunchError | None] = []
        self.refusal = ""
        self.cancelled: list[str] = []
        self.signals: list[str] = []
        self.requeued: list[str] = []
        self.submitted = ""
        self._asked = itertools.count()

    def submit(self, *arguments: str, what: str, name: str = "") -> str:
        self.submitted = Path(arguments[-1]).read_text()
        return "7"

    def jobs_numbered(self, ids: Sequence[str]) -> list[Job]:
        # the last answer again and again
        answer = self.answers[min(next(self._asked), len(self.answers) - 1)]
        if isinstance(answer, LaunchError):
            raise answer
        return [answer] if answer else []

    def jobs_shown(self, ids: Sequence[str]) -> list[Job]:
        return []

    def cancel(self, ids: Sequence[str]) -> dict[str, str]:
        self.cancelled += ids
        return {}

    def send_signal(self, job_id: str, name: str) -> None:
        self.signals.append(name)

    def requeue(self, job_id: str) -> str:
        self.requeued.append(job_id)
        return self.refusal

    def test_only(self, script: str) -> str:
        return self.refusal

    def run_on_nodes(self, job_id: str, nodes: int, *command: str) -> str:
        return "n1 is fine\nblind: n2 /shared/results\n"


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    fake = Slurm()
    for name in (
        "submit", "jobs_numbered", "jobs_shown", "cancel", "send_signal", "requeue", "test_only",
        "run_on_nodes",
    ):  # fmt: skip
        monkeypatch.setattr(client, name, getattr(fake, name))
    monkeypatch.setattr(job, "LOOK_S", 0.0)
    monkeypatch.setattr(job, "ASK_S", 0.0)
    monkeypatch.setattr(gathering, "SETTLE_S", 0.0)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return fake


def state(word: str, reason: str = "None", nodes: str = "n[1-2]") -> Job:
    return Job("7", "doctor-site", word, reason, nodes, "N/A")


PENDING = state("PENDING", "Priority", "")
RUNNING = state("RUNNING")
COMPLETED = state("COMPLETED")


def run(folder: Path, wait_min: float = 1.0) -> tuple[job.JobEnd, list[str]]:
    said: list[str] = []
    end = job.run_job(CLUSTER, folder, num_models=3, wait_min=wait_min, say=said.append)
    return end, said


def test_a_container_shows_the_probes_what_they_read(slurm: Slurm, tmp_path: Path) -> None:
    slurm.answers = [COMPLETED]
    used = ContainerConfig(image="docker://torch", runtime=ContainerRuntime.apptainer)
    cluster, data = replace(CLUSTER, container=used), tmp_path / "images"
    job.run_job(cluster, tmp_path / "doctor", num_models=0, wait_min=1, say=print, paths=[data])
    for path in (data, tmp_path / "doctor", PROJECT):
        assert f" --bind {path} " in slurm.submitted


def test_the_job_is_the_profiles_but_short_and_without_mail(slurm: Slurm, tmp_path: Path) -> None:
    slurm.answers = [COMPLETED]
    run(tmp_path)
    assert "#SBATCH --nodes=2" in slurm.submitted
    assert f"#SBATCH --time={job.LIMIT_MIN + 3 * job.MODEL_MIN}\n" in slurm.submitted
    assert "me@site" not in slurm.submitted


def test_what_the_job_waits_for_is_said_once(slurm: Slurm, tmp_path: Path) -> None:
    slurm.answers = [PENDING, PENDING, RUNNING, COMPLETED]
    end, said = run(tmp_path)
    assert (end.state, end.nodes, end.problem) == ("COMPLETED", "n[1-2]", "")
    assert [line for line in said if "Priority" in line] == ["job 7 is PENDING [Priority]"]
    assert slurm.cancelled == []


def test_ranks_get_the_signal_once_when_all_of_them_wait(slurm: Slurm, tmp_path: Path) -> None:
    slurm.answers = [RUNNING] * 3 + [COMPLETED]
    (tmp_path / "rank0.waiting").touch()
    run(tmp_path)
    assert slurm.signals == []
    (tmp_path / "rank1.waiting").touch()
    slurm.answers = [RUNNING] * 9 + [COMPLETED]
    run(tmp_path)
    assert slurm.signals == ["USR2"]


def test_ranks_do_not_wait_for_ever_for_one_that_is_not_seen(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "PATIENCE_S", 0.0)
    slurm.answers = [RUNNING] * 4 + [COMPLETED]
    (tmp_path / "rank1.waiting").touch()
    run(tmp_path)
    assert slurm.signals == ["USR2"]


def test_a_job_that_waits_too_long_is_cancelled_and_its_reason_told(
    slurm: Slurm, tmp_path: Path
) -> None:
    slurm.answers = [PENDING]
    end, _ = run(tmp_path, wait_min=1e-6)
    assert slurm.cancelled == ["7"]
    assert "PENDING [Priority]" in end.problem


@pytest.mark.parametrize(
    ("waits", "advice"),
    [
        (PENDING, "wait longer (--wait), or name a partition that is free"),
        (state("PENDING", "JobHeldUser", ""), "(scontrol release 7), or submit it without a hold"),
        (state("REQUEUE_HOLD", "JobHoldMaxRequeue", ""), "cluster.sbatch.hold=null"),
    ],
)
def test_the_advice_on_a_job_that_waits_is_that_of_its_reason(
    waits: Job, advice: str, slurm: Slurm, tmp_path: Path
) -> None:
    slurm.answers = [waits]
    end, said = run(tmp_path, wait_min=1e-6)
    assert advice in end.advice
    assert any("scontrol release" in line for line in said) is ("release" in end.advice)


def test_the_wait_is_for_the_first_start_and_a_requeued_job_has_its_own(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delayed = state("PENDING", "BeginTime", "")
    slurm.answers = [RUNNING, RUNNING, delayed, delayed, RUNNING, COMPLETED]
    end, _ = run(tmp_path, wait_min=1e-6)
    assert (end.state, end.problem, slurm.cancelled) == ("COMPLETED", "", [])
    monkeypatch.setattr(job, "REQUEUE_MIN", 0.0)
    slurm.answers = [*[RUNNING] * 7, delayed]
    end, _ = run(tmp_path)
    assert end.problem == "it was PENDING [BeginTime] 0 minutes after it was requeued"
    assert "cluster.requeue=false" in end.advice


def test_ctrl_c_cancels_the_job(
    slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    slurm.answers = [RUNNING]
    monkeypatch.setattr(job.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert slurm.cancelled == ["7"]


def test_a_controller_that_restarts_is_asked_again(slurm: Slurm, tmp_path: Path) -> None:
    slurm.answers = [RUNNING, Unreachable("connect failure"), COMPLETED]
    end, said = run(tmp_path)
    assert end.state == "COMPLETED"
    assert any("looking again" in line for line in said)


def test_a_job_that_slurm_has_forgotten_is_over(slurm: Slurm, tmp_path: Path) -> None:
    slurm.answers = [RUNNING, None]
    end, _ = run(tmp_path)
    assert (end.state, end.nodes) == ("", "n[1-2]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a job, with what the login node writes."""
    request = {"nodes": 2, "processes_per_node": 1}
    (tmp_path / "request.json").write_text(json.dumps(request))
    (tmp_path / turn.SCRIPT).write_text("#!/bin/bash\n#SBATCH --requeue\n")
    for number in range(2):
        (tmp_path / f"rank{number}.jsonl").touch()
    return tmp_path


def found_by_batch(folder: Path) -> dict[str, Level]:
    return {f.check: f.level for f in gathering.read(folder / turn.FINDINGS)}


def test_the_first_turn_is_requeued_and_the_second_one_says_so(
    slurm: Slurm, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.answers = [RUNNING]
    end = job.JobEnd("7", "COMPLETED", "n[1-2]")
    turn.main([str(folder), "0", "1000.0"])
    assert slurm.requeued == ["7"]
    (missing,) = job.missing_turn(folder, end)
    assert (missing.check, missing.level) == ("requeue", Level.wrong)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert rank.main([str(folder)]) == 0
    turn.main([str(folder), "0", "2000.0"])
    assert slurm.requeued == ["7"]
    assert found_by_batch(folder) == {"SLURM on the nodes": Level.ok, "requeue": Level.ok}
    assert not list(job.missing_turn(folder, end))


def test_a_site_that_does_not_requeue_is_told_with_the_field_to_set(
    slurm: Slurm, folder: Path
) -> None:
    slurm.answers, slurm.refusal = [RUNNING], "Requested operation is presently disabled"
    turn.main([str(folder), "0", "1000.0"])
    *_, found = gathering.read(folder / turn.FINDINGS)
    assert found.level is Level.wrong
    assert "presently disabled" in found.text
    assert "cluster.requeue=false" in found.advice


def test_a_profile_without_requeue_needs_sbatch_on_the_nodes(slurm: Slurm, folder: Path) -> None:
    (folder / turn.SCRIPT).write_text("#!/bin/bash\n#SBATCH --no-requeue\n")
    slurm.answers, slurm.refusal = [RUNNING], "Access denied from compute nodes"
    turn.main([str(folder), "0", "1000.0"])
    assert slurm.requeued == []
    assert found_by_batch(folder) == {"SLURM on the nodes": Level.warning}
    assert not list(job.missing_turn(folder, job.JobEnd("7", "COMPLETED", "n1")))


def test_nodes_that_do_not_see_the_folder_are_named(slurm: Slurm, folder: Path) -> None:
    slurm.answers = [RUNNING]
    (folder / "rank1.jsonl").unlink()
    turn.main([str(folder), "1", "1000.0"])
    (blind,) = [f for f in gathering.read(folder / turn.FINDINGS) if f.check == "shared folder"]
    assert blind.level is Level.wrong
    assert blind.text == "n2 does not see /shared/results"


@pytest.mark.parametrize(
    ("log", "named"), [(None, "does not see"), ("module: command not found\n", "module: command")]
)
def test_a_job_whose_script_did_not_end_is_explained_by_its_log(
    folder: Path, log: str | None, named: str
) -> None:
    if log:
        (folder / "7_0_log.err").write_text(log)
    (found,) = job.missing_turn(folder, job.JobEnd("7", "FAILED", "n[1-2]"))
    assert found.check == "job"
    assert "FAILED on n[1-2]" in found.text
    assert named in found.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--cluster", "nowhere"], "nowhere"),
        (["--wait", "0"], "minutes"),
        (["--wait", "1h"], "minutes"),
        (["no_such_row"], "no such spec"),
        (["cluster.nodes=0"], "cluster.nodes"),
        (["--noddes"], "there is no option"),
    ],
)
def test_a_mistake_of_the_user_is_one_message(
    words: list[str],
    said: str,
    experiments: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "experiments").symlink_to(experiments)
    monkeypatch.chdir(tmp_path)
    assert exit_code(lambda: main(["doctor", "--backend", "local", "--no-job", *words])) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err


def exit_code(call: Callable[[], int]) -> int:
    """The exit code of a program that returns it, or exits with it."""
    try:
        return call()
    except SystemExit as err:
        return err.code if isinstance(err.code, int) else 1


def test_mlflow_that_cannot_be_written_is_a_warning(
    experiments: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "experiments").symlink_to(experiments)
    (tmp_path / "garbage.db").write_text("no database " * 100)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'garbage.db'}")
    assert main(["doctor", "--backend", "local", "--no-job", "--json"]) == 0
    found = {one["check"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert found["MLflow"]["level"] == "warning"
    assert "garbage.db" in found["MLflow"]["text"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_doctor_that_is_interrupted_ends_its_processes_and_shows_what_it_found(
    number: int,
    experiments: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "experiments").symlink_to(experiments)
    monkeypatch.chdir(tmp_path)
    # such as the server of processes that an earlier test has started
    before = set(psutil.Process().children())
    probes: list[psutil.Process] = []

    def interrupt(_: float) -> None:
        (folder,) = (tmp_path / "there" / "doctor").iterdir()
        (folder / "rank0.jsonl").write_text(f"{FOUND.to_line()}\n")
        probes.extend(set(psutil.Process().children()) - before)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(processes.time, "sleep", interrupt)
    on_cpu = ["cluster.gpus_per_node=0", "cluster.results=there"]
    assert main(["doctor", "--backend", "local", "--json", *on_cpu]) == 130
    monkeypatch.undo()
    captured = capsys.readouterr()
    levels = {f["check"]: f["level"] for f in json.loads(captured.out)["findings"]}
    assert (levels["interrupted"], levels["clock"]) == ("warning", "warning")
    assert probes
    assert not any(probe.is_running() for probe in probes)
    assert not list((tmp_path / "there" / "doctor").iterdir())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_findings_are_said_as_they_are_written_and_long_probes_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(gathering, "LONG_S", 0.0)
    progress = gathering.Progress(tmp_path, said.append)
    progress.look()
    (tmp_path / "rank0.jsonl").write_text(f"{replace(FOUND, level=Level.ok).to_line()}\n")
    (tmp_path / "rank0.probing").write_text("training speed of deit_s12, for at most 300 s")
    progress.look()
    progress.look()
    with (tmp_path / "rank0.jsonl").open("a") as file:
        file.write(f"{FOUND.to_line()}\n")
    progress.look()
    assert said == [
        "probing: training speed of deit_s12, for at most 300 s",
        "warning: nodes: clock: 300 s behind",
    ]


def test_a_process_of_this_machine_is_probed_where_there_is_no_slurm(
    experiments: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "experiments").symlink_to(experiments)
    monkeypatch.chdir(tmp_path)
    on_cpu = ["cluster.gpus_per_node=0", "cluster.results=there"]
    assert main(["doctor", "--backend", "local", "--json", *on_cpu]) == 0
    report = json.loads(capsys.readouterr().out)
    levels = {found["check"]: found["level"] for found in report["findings"]}
    assert levels["software"] == "ok"
    assert levels["signal"] == "ok"
    # nothing is wrong, so nothing is left
    assert not list((tmp_path / "there" / "doctor").iterdir())

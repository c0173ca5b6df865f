"""Checks of the login node: SLURM's words of other sites and releases, and planted faults."""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_slurm import FakeSlurm

from antioversmooth.config import ClusterConfig, ContainerConfig
from antioversmooth.errors import LaunchError
from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration.devices import Placement
from antioversmooth.orchestration.doctor import clients, inputs, limits, shell, storage
from antioversmooth.orchestration.doctor.costs import placements
from antioversmooth.orchestration.doctor.examination import Examination, login_findings
from antioversmooth.orchestration.doctor.site import Site, examine
from antioversmooth.orchestration.slurm import commands
from antioversmooth.orchestration.slurm.backend import SlurmBackend
from antioversmooth.orchestration.slurm.environment import RANK, ignored_variables
from antioversmooth.runs import Run

CLUSTER = ClusterConfig(name="site", partition="gpu", nodes=2, time_min=600)
PARTITION = (
    "PartitionName=gpu AllowGroups=ALL AllowAccounts=vision,nlp AllowQos=ALL Default=NO"
    " GraceTime=60 MaxNodes=8 MaxTime=1-00:00:00 State=UP TotalNodes=40 PreemptMode=REQUEUE"
)
CONFIG = """Configuration data as of 2026-11-28T23:07:00
AccountingStorageEnforce = associations,limits
AccountingStorageType   = accounting_storage/slurmdbd
ClusterName             = alps
JobRequeue              = 1
MinJobAge               = 300 sec
SLURM_VERSION           = 23.11.4

Slurmctld(primary) at login is UP
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "results").mkdir()
    return Site(CLUSTER, tmp_path / "results", on_slurm=True)


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | LaunchError]:
    """What SLURM's commands say, by the beginning of the command; a test changes it."""
    words: dict[str, str | LaunchError] = {
        "sbatch --version": "slurm 23.11.4",
        "scontrol show config": CONFIG,
        "scontrol show partition": PARTITION,
        "sacctmgr --noheader --parsable2 show associations": "vision|10|100\n",
        "sacctmgr --noheader --parsable2 show qos": "normal||\nshort|2|4\n",
        "sacct": "",
    }

    def ask(*command: str, accepts: str = "") -> str:
        line = " ".join(command)
        answer = next(said for start, said in words.items() if line.startswith(start))
        if isinstance(answer, LaunchError):
            raise answer
        return answer

    monkeypatch.setattr(commands, "ask", ask)
    monkeypatch.setattr(clients.shutil, "which", lambda name: f"/usr/bin/{name}")
    return words


def only(findings: Iterator[Finding], check: str) -> Finding:
    (found,) = [finding for finding in findings if finding.check == check]
    return found


@pytest.mark.parametrize(
    ("here", "there", "level"),
    [
        ("slurm 23.11.4", "23.11.4", Level.ok),
        ("slurm-wlm 23.11.4", "23.11.9", Level.ok),
        ("Welcome to Alps!\nslurm 23.11.4-1.sitepatch", "23.11.4", Level.ok),
        ("slurm 22.05.8", "23.11.4", Level.warning),
        ("slurm 24.05.0", "23.11.4", Level.wrong),
        ("slurm 18.08.8", "18.08.8", Level.warning),
        ("command of the site", "23.11.4", Level.warning),
    ],
)
def test_versions_of_commands_and_controller_are_compared(
    site: Site, say: dict[str, str], here: str, there: str, level: Level
) -> None:
    say["sbatch --version"] = here
    say["scontrol show config"] = CONFIG.replace("23.11.4", there)
    assert only(clients.clients(site), "SLURM's commands").level is level


def test_missing_commands_are_named_and_end_the_questions(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (found,) = clients.clients(site)
    assert found.level is Level.wrong
    assert "sbatch, squeue, scancel, scontrol, sinfo" in found.text


@pytest.mark.parametrize(
    ("config", "sacct", "level"),
    [
        (CONFIG, "", Level.ok),
        (CONFIG.replace("slurmdbd", "none"), "", Level.warning),
        (CONFIG, LaunchError("Slurm accounting storage is disabled"), Level.warning),
        (CONFIG.replace("300 sec", "5 sec"), "", Level.ok),
    ],
)
def test_a_site_without_accounting_is_a_warning(
    site: Site, say: dict[str, str | LaunchError], config: str, sacct: str, level: Level
) -> None:
    say.update({"scontrol show config": config, "sacct": sacct})
    assert only(clients.clients(site), "accounting").level is level


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"time_min": 1441}, "cluster.time_min=1441"),
        ({"nodes": 9}, "cluster.nodes=9"),
        ({"account": "physics"}, "cluster.account=physics"),
        ({"partition": "gpus"}, "gpu"),
        ({"partition": "gpu,nothing"}, "nothing"),
        ({"partition": None}, "''"),
    ],
)
def test_a_partition_that_would_refuse_the_profile_is_wrong(
    site: Site, say: dict[str, str], change: dict[str, object], named: str
) -> None:
    asked = replace(site, cluster=replace(CLUSTER, **change))  # type: ignore[arg-type]
    wrong = [found for found in limits.partitions(asked) if found.level is Level.wrong]
    assert named in wrong[-1].text


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ("State=DOWN", "DOWN"),
        ("State=INACTIVE", "INACTIVE"),
        ("AllowQos=long", "cluster.qos=short"),
        ("DenyQos=short", "cluster.qos=short"),
        ("MaxTime=09:00:00", "540 minutes"),
        ("TotalNodes=1", "1 nodes"),
    ],
)
def test_what_a_partition_forbids_is_named(
    site: Site, say: dict[str, str], fields: str, named: str
) -> None:
    # of a field that is given twice the last one counts
    say["scontrol show partition"] = f"{PARTITION} {fields}"
    asked = replace(site, cluster=replace(CLUSTER, qos="short"))
    (found,) = limits.partitions(asked)
    assert found.level is Level.wrong
    assert named in found.text


def test_a_partition_that_allows_the_profile_is_described(site: Site, say: dict[str, str]) -> None:
    (found,) = limits.partitions(site)
    assert found.level is Level.ok
    assert "time limit 1-00:00:00" in found.text
    assert "grace 60 s" in found.text


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("1-12:00:00", 2160), ("00:30:00", 30), ("100:00:30", 6000.5), ("UNLIMITED", None)],
)
def test_times_of_slurm_are_minutes(text: str, minutes: float | None) -> None:
    assert limits.minutes(text) == minutes


@pytest.mark.parametrize(
    ("change", "num_runs", "level", "named"),
    [
        ({}, 36, Level.ok, "MaxSubmit 100"),
        ({}, 101, Level.warning, "--max-queued 100"),
        ({"qos": "short"}, 5, Level.warning, "--max-queued 4"),
        ({"qos": "shrt"}, 1, Level.wrong, "normal, short"),
        ({"account": "physics"}, 1, Level.wrong, "vision"),
    ],
)
def test_limits_of_the_account_are_compared_with_the_runs(
    site: Site,
    say: dict[str, str],
    make_run: Callable[..., Run],
    change: dict[str, str],
    num_runs: int,
    level: Level,
    named: str,
) -> None:
    asked = replace(site, cluster=replace(CLUSTER, **change), runs=[make_run()] * num_runs)
    (found,) = limits.accounts(asked)
    assert found.level is level
    assert named in f"{found.text} {found.advice}"


def test_limits_that_slurm_does_not_enforce_are_none(site: Site, say: dict[str, str]) -> None:
    say["scontrol show config"] = CONFIG.replace("associations,limits", "none")
    assert not list(limits.accounts(site))


def test_slurms_refusal_of_the_profiles_job_is_quoted(
    site: Site, slurm: FakeSlurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.refuse(sbatch="sbatch: error: Invalid qos specification")
    (found,) = limits.acceptance(site)
    assert found.level is Level.wrong
    assert "Invalid qos specification" in found.text


def test_a_site_that_requeues_nothing_by_default_is_a_warning(
    site: Site, say: dict[str, str]
) -> None:
    say["scontrol show config"] = CONFIG.replace("JobRequeue              = 1", "JobRequeue = 0")
    (found,) = limits.requeue(site)
    assert found.level is Level.warning


def test_a_folder_that_keeps_its_promises_is_ok(site: Site) -> None:
    found = list(storage.results_folder(replace(site, on_slurm=False)))
    assert {finding.level for finding in found} == {Level.ok}
    assert not list(site.results.iterdir())


def test_a_lock_that_does_not_hold_is_wrong(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)
    assert only(storage.results_folder(site), "file locks").level is Level.wrong


def test_a_file_system_without_locks_is_wrong(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    found = only(storage.results_folder(site), "file locks")
    assert found.level is Level.wrong
    assert "Function not implemented" in found.text


def test_a_file_system_without_inodes_is_wrong(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.statvfs(site.results)
    values = [*there]
    # f_favail, the files that a user may still make
    values[7] = 10
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(values))
    assert only(storage.results_folder(site), "free space").level is Level.wrong


def test_a_results_folder_of_one_machine_is_a_warning_where_jobs_run_elsewhere(
    site: Site,
) -> None:
    in_memory = replace(site, results=Path("/dev/shm"))
    assert only(storage.results_folder(in_memory), "results folder").level is Level.warning


def test_a_results_folder_that_cannot_be_written_is_wrong(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    there = replace(site, results=tmp_path / "file" / "results")
    (found,) = examine(there, "results folder", storage.results_folder)
    assert found.level is Level.wrong
    assert "results folder" in found.text
    # and the report is made all the same
    placed = Placement(1, on_gpu=False, device_batch=1, accumulation=1)
    (probes,) = Examination(there, 1, print).by_processes(placed, [])
    assert (probes.level, probes.check) == (Level.wrong, "probes")
    assert probes.advice == "choose another folder with cluster.results=/path"


def test_variables_that_jobs_would_meet_are_warnings(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "SBATCH", "PYTHON"))]:
        monkeypatch.delenv(name)
    for name in RANK:
        monkeypatch.delenv(name, raising=False)
    assert not list(shell.variables(site))
    monkeypatch.setenv("SBATCH_PARTITION", "debug")
    monkeypatch.setenv("SLURM_EXPORT_ENV", "NONE")
    monkeypatch.setenv("SLURM_CPU_BIND", "none")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("PYTHONPATH", "/home/me/lib")
    found = list(shell.variables(site))
    assert {finding.level for finding in found} == {Level.warning}
    text = " ".join(finding.text for finding in found)
    assert "RANK, SBATCH_PARTITION, SLURM_CPU_BIND, SLURM_EXPORT_ENV: not used" in text
    assert "PYTHONPATH" in text


def test_variables_that_a_job_sets_itself_are_no_mistake_of_its_shell() -> None:
    of_job = {"SLURM_JOB_ID": "7", "SLURM_CPU_BIND": "cores", "RANK": "0", "OMPI_MCA_plm": "slurm"}
    assert ignored_variables(of_job) == []
    assert ignored_variables({**of_job, "SBATCH_QOS": "high"}) == ["SBATCH_QOS"]
    outside = {"WORLD_SIZE": "2", "SLURM_CPU_BIND": "none", "SLURM_CONF": "/x", "HOME": "/home/me"}
    assert ignored_variables(outside) == ["SLURM_CPU_BIND", "WORLD_SIZE"]


def test_missing_data_is_wrong_and_packaged_data_is_ok(
    site: Site, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    packaged = make_run("deit_s12")
    missing = make_run("deit_s12", f"data.root={tmp_path / 'none'}", profile="imagenet")
    (fine, bad) = inputs.data(replace(site, runs=[packaged, missing]))
    assert (fine.level, bad.level) == (Level.ok, Level.wrong)
    assert str(tmp_path / "none") in bad.text


@pytest.mark.parametrize(
    ("change", "on_slurm", "level"),
    [
        ({"notify": "no-such-program"}, False, Level.wrong),
        ({"notify": "true"}, False, Level.ok),
        ({"setup": ["if true"]}, True, Level.wrong),
        ({"setup": ["if true"]}, False, Level.ok),
        ({"container": ContainerConfig(image="/none.sif")}, True, Level.wrong),
    ],
)
def test_what_a_launch_refuses_of_a_profile_is_wrong(
    site: Site, change: dict[str, Any], on_slurm: bool, level: Level
) -> None:
    there = replace(site, cluster=replace(CLUSTER, **change), on_slurm=on_slurm)
    (found,) = examine(there, "profile", inputs.profile)
    assert found.level is level


def test_a_run_that_a_launch_cannot_place_is_wrong(
    site: Site, make_run: Callable[..., Run]
) -> None:
    uneven = make_run("deit_s12", "cluster.nodes=3", "cluster.gpus_per_node=7")
    there = replace(site, runs=[uneven, make_run("deit_s12")])
    (found,) = placements(there, SlurmBackend())
    assert found.level is Level.wrong
    assert "does not divide over 21 processes" in found.text


def test_a_check_that_fails_is_a_finding(site: Site, say: dict[str, str | LaunchError]) -> None:
    say["scontrol show config"] = LaunchError("Unable to contact slurm controller")
    found = list(login_findings(site))
    wrong = [finding for finding in found if finding.level is Level.wrong]
    assert "Unable to contact" in wrong[0].text
    assert any(finding.check == "file locks" for finding in found)


def test_without_slurm_nothing_is_asked_of_it(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(commands, "ask", lambda *_: sys.exit("asked"))
    checks = {finding.check for finding in login_findings(replace(site, on_slurm=False))}
    assert "partition" not in checks


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a file system")
def test_a_full_disk_is_wrong(tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    examined = [sys.executable, "-m", "antioversmooth", "doctor", "deit_s12", "profile=mini"]
    examined += [f"cluster.results={results}", "--backend=local", "--no-job", "--json"]
    mount = f"mount -t tmpfs -o size=1m tmpfs {results} && exec {shlex.join(examined)}"
    project = Path(__file__).parents[2]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", mount], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    found = {one["check"]: one for one in json.loads(done.stdout)["findings"]}
    assert found["free space"]["level"] == "wrong"
    assert "make room" in found["free space"]["text"]

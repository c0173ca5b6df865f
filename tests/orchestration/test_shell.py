"""The rendered script of a job under bash, with stand-ins for srun and scontrol: nothing in
`cluster.setup`, or in the environment of the job, switches off what follows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from antioversmooth.config import ClusterConfig, ContainerConfig, ContainerRuntime
from antioversmooth.errors import LaunchError
from antioversmooth.orchestration.preflight import check_images, check_setup
from antioversmooth.orchestration.slurm.epilogue import read_stage
from antioversmooth.orchestration.slurm.script import BatchJob, render

KILLED = 137
PROGRAMS = ("srun", "scontrol", "env", "python", "grep", "date", "head")


@dataclass
class Job:
    """What happened in a job."""

    ranks: dict[str, str]
    """Environment of srun; empty where it was not started."""
    options: list[str]
    """Options of srun, and its program."""
    end: list[str]
    """Arguments of the program at the end: exit code, start."""
    stage: str


def program(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["#!/bin/bash -p", *lines, ""]))
    path.chmod(0o755)


def run_job(
    folder: Path,
    *setup: str,
    environment: Mapping[str, str] | None = None,
    container: ContainerConfig | None = None,
    scontrol: str = "echo node7; echo node8",
) -> Job:
    """Runs a job whose srun ends as after a kill -9."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    (folder / "code").mkdir()
    program(
        programs / "srun",
        f"/usr/bin/env -0 > {folder}/ranks",
        f'printf "%s\\n" "$@" > {folder}/options',
        f"exit {KILLED}",
    )
    program(programs / "scontrol", scontrol)
    end = f"import sys; open({str(folder / 'end')!r}, 'w').write(' '.join(sys.argv[1:]))"
    job = BatchJob(
        name="job",
        folder=folder,
        cluster=ClusterConfig(
            name="site", nodes=2, tasks_per_node=3, setup=[*setup], container=container
        ),
        code=folder / "code",
        program=["-m", "probe", "two words"],
        wait_s=60,
        after=["-S", "-c", end],
    )
    (folder / "job.sh").write_text(render(job))
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    inherited = {"PATH": path, "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "node[7-8]"}
    subprocess.run(
        ["/bin/bash", "job.sh"],
        cwd=folder,
        env={**inherited, **(environment or {})},
        capture_output=True,
        timeout=60,
    )
    written = {
        name: (folder / name).read_text() if (folder / name).exists() else ""
        for name in ("ranks", "options", "end", "7_stage.txt")
    }
    variables = [pair.partition("=") for pair in written["ranks"].split("\0") if pair]
    return Job(
        {name: value for name, _, value in variables},
        written["options"].splitlines(),
        written["end"].split(),
        written["7_stage.txt"].strip(),
    )


@pytest.mark.parametrize(
    "line",
    [
        "set -e", "set -euo pipefail", "set -Eeuo pipefail; shopt -s inherit_errexit", "set -f",
        "set -C", "set -x", "set -a", "set -o posix", "set -m", "set -- a b c",
        "trap 'exit 3' ERR", "trap 'exit 0' EXIT", "trap 'echo bye' EXIT", "trap 'exit 3' TERM",
        "trap true DEBUG", "set -eE; trap 'echo oops; exit 3' ERR",
        "shopt -s expand_aliases; alias srun=false env=false python=false",
        "srun() { exit 3; }; python() { exit 3; }; code() { exit 3; }; env() { exit 3; }",
        "export -f srun 2> /dev/null; cd() { exit 3; }; scontrol() { exit 3; }",
        "cd /", "IFS=/", "PATH=/nowhere", "export PATH=", "umask 777", "return", "return 3",
        "exec > /dev/null 2>&1", "exec < /dev/null", "readonly PYTHONPATH=/mine",
        "unset SLURM_JOB_ID", "code=0 started=0 setup=x stage=x",
        "export PYTHONHOME=/nowhere PYTHONSAFEPATH=",
        "export MASTER_ADDR=localhost MASTER_PORT=1 RANK=5 WORLD_SIZE=1 LOCAL_RANK=5",
        "export SLURM_RESTART_COUNT=9 SLURM_JOB_ID=8",
        "export BASH_ENV=/nowhere SHELLOPTS", "false", "ls /nowhere", "grep x /dev/null",
        "cat << END", "export X='a b'; echo \"it's\"",
    ],
)  # fmt: skip
def test_no_line_of_setup_switches_off_what_follows(tmp_path: Path, line: str) -> None:
    job = run_job(tmp_path, "export BEFORE='yes, it is'", line)
    assert job.ranks["BEFORE"] == "yes, it is"
    assert job.ranks["PYTHONPATH"].split(":")[0] == str(tmp_path / "code")
    assert (job.ranks["PYTHONSAFEPATH"], job.ranks["MASTER_ADDR"]) == ("1", "node7")
    assert (job.ranks["SLURM_JOB_ID"], job.ranks["SLURM_RESTART_COUNT"]) == ("7", "0")
    assert not job.ranks.keys() & {"RANK", "WORLD_SIZE", "LOCAL_RANK", "PYTHONHOME"}
    assert job.options[-3:] == ["-m", "probe", "two words"]
    assert job.stage == f"srun {KILLED}"
    assert int(job.end[1]) > 0


@pytest.mark.parametrize(
    ("lines", "stage"),
    [
        (["set -e", "false", "true"], "setup false"),
        (["set -e", "ls /nowhere/at/all"], "setup ls /nowhere/at/all"),
        (["set -u", 'echo "$nothing"'], 'setup echo "$nothing"'),
        (["set -e", "f() { false; }", "f a b"], "setup f a b"),
        (["set -e", "if true; then", "  false", "fi"], "setup false"),
        (["set -o pipefail; set -e", "false | true"], "setup true"),
        (["exit 0"], "setup exit 0"),
        (["exit 2"], "setup exit 2"),
        (["grep -q x /dev/null || exit 3"], "setup exit 3"),
        (["exec true"], "setup"),
        (["set -n"], "setup"),
        (["trap 'echo bye' EXIT; set -e", "false"], "setup"),
        (["kill -9 $BASHPID"], "setup"),
    ],
)
def test_a_line_of_setup_that_ends_its_shell_is_named_and_the_end_runs(
    tmp_path: Path, lines: list[str], stage: str
) -> None:
    job = run_job(tmp_path, *lines)
    assert not job.ranks
    assert job.stage == stage
    assert int(job.end[1]) > 0


def test_what_setup_exports_reaches_the_ranks(tmp_path: Path) -> None:
    lines = ["export NCCL_SOCKET_IFNAME=ib0", "set -a; OTHER=1; set +a", "PYTHONPATH=/libraries"]
    job = run_job(tmp_path, *lines, environment={"PYTHONPATH": "/mine", "KEPT": "1"})
    assert job.ranks.items() >= {"NCCL_SOCKET_IFNAME": "ib0", "OTHER": "1", "KEPT": "1"}.items()
    assert job.ranks["PYTHONPATH"] == f"{tmp_path / 'code'}:/libraries"


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_EXPORT_ENV", "SRUN_EXPORT_ENV", "SRUN_CPUS_PER_TASK", "SLURM_CPU_BIND",
        "SLURM_CPU_BIND_LIST", "SLURM_MEM_BIND", "SLURM_KILL_BAD_EXIT", "SLURM_WAIT",
        "SLURM_NO_KILL", "SLURM_OPEN_MODE", "SLURM_EXCLUSIVE", "SLURM_STEP_GRES",
        "SLURM_STDOUTMODE", "SLURM_REMOTE_CWD", "SLURM_LABELIO", "SLURM_TIMELIMIT",
        "SLURM_CLUSTERS", "PMI_RANK",
        "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "RANK", "GROUP_RANK", "PYTHONHOME", "PYTHONSTARTUP",
        "PYTHONINSPECT", "PYTHONOPTIMIZE",
    ],
)  # fmt: skip
def test_options_that_a_site_sets_in_the_job_do_not_reach_srun(tmp_path: Path, name: str) -> None:
    job = run_job(tmp_path, environment={name: "1"})
    assert name not in job.ranks
    assert job.end[0] == str(KILLED)


def test_facts_of_the_job_reach_srun_and_its_options_say_the_rest(tmp_path: Path) -> None:
    facts = {"SLURM_NTASKS": "1", "SLURM_MEM_PER_NODE": "100", "SLURM_HINT": "nomultithread"}
    job = run_job(tmp_path, environment=facts)
    assert job.ranks.items() >= facts.items()
    assert {
        "--export=ALL", "--nodes=2", "--ntasks=6", "--cpus-per-task=1", "--kill-on-bad-exit=1",
        "--wait=60", "--open-mode=append",
    } <= {*job.options}  # fmt: skip


def test_exported_functions_do_not_stand_for_programs(tmp_path: Path) -> None:
    functions = {f"BASH_FUNC_{name}%%": "() { exit 3; }" for name in PROGRAMS}
    job = run_job(tmp_path, environment=functions)
    assert job.ranks["MASTER_ADDR"] == "node7"
    assert job.end[0] == str(KILLED)


@pytest.mark.parametrize(
    ("hosts", "nodes", "first"),
    [
        ("echo '*** Welcome ***'; echo; echo node7; echo node8", "node[7-8]", "node7"),
        ("echo NOTICE; echo nodes; echo node-a.site; echo b1", "node-a.site,b1", "node-a.site"),
        ("echo Welcome >&2; echo gpu03; exit 1", "gpu03", "gpu03"),
    ],
)
def test_the_ranks_meet_at_a_host_of_the_job_between_notices_of_the_site(
    tmp_path: Path, hosts: str, nodes: str, first: str
) -> None:
    job = run_job(tmp_path, environment={"SLURM_JOB_NODELIST": nodes}, scontrol=hosts)
    assert job.ranks["MASTER_ADDR"] == first


@pytest.mark.parametrize("answer", ["exit 0", "echo Not now; exit 1", "echo node 7 is one"])
def test_a_job_whose_hosts_are_not_known_ends_before_srun(tmp_path: Path, answer: str) -> None:
    job = run_job(tmp_path, scontrol=answer)
    assert not job.ranks
    assert job.end[0] == "1"
    code, why = read_stage(tmp_path, "7", 1)
    said = {"exit 0": "nothing", "echo Not now; exit 1": "Not now"}.get(answer, "node 7 is one")
    assert code == 1
    assert why.endswith(f"srun did not start; it says: {said}")


@pytest.mark.parametrize(
    "line", ["set -euo pipefail", "trap 'exit 3' ERR", "trap 'exit 3' EXIT", "srun() { exit 3; }"]
)
def test_a_file_that_bash_reads_first_switches_nothing_off(tmp_path: Path, line: str) -> None:
    (tmp_path / "site.sh").write_text(f"{line}\nmodule() {{ export MODULE=$2; }}\n")
    environment = {"BASH_ENV": str(tmp_path / "site.sh")}
    job = run_job(tmp_path, "module load cuda", environment=environment)
    assert (job.ranks["MODULE"], job.end[0]) == ("cuda", str(KILLED))


@pytest.mark.parametrize(
    "lines", [["echo 'a"], ["if true; then"], ["fi"], ["a &&"], ["f() {"], [")"], ["true", "((("]]
)
def test_lines_that_bash_cannot_read_are_refused_before_anything_is_queued(
    lines: list[str],
) -> None:
    with pytest.raises(LaunchError, match=r"cluster\.setup: bash cannot read"):
        check_setup([lines])


def test_lines_that_belong_together_are_read_together() -> None:
    check_setup([["if true; then", "  module load cuda", "fi"], []])


def container(runtime: str = "apptainer") -> ContainerConfig:
    return ContainerConfig(
        image="docker://site/torch",
        runtime=ContainerRuntime(runtime),
        mounts=["/scratch:/data:ro"],
        python=sys.executable,
    )


@pytest.mark.parametrize("runtime", ["apptainer", "singularity"])
@pytest.mark.parametrize("has_clients", [True, False])
def test_tasks_run_in_the_container_and_the_end_where_slurm_answers(
    tmp_path: Path, runtime: str, has_clients: bool
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    program(
        programs / runtime,
        f'echo "$@" >> {tmp_path}/containers',
        'until [ "$1" = docker://site/torch ]; do shift; done; shift; exec "$@"',
    )
    program(programs / "squeue", "exit 0" if has_clients else "exit 1")
    program(programs / "sbatch")
    job = run_job(tmp_path, container=container(runtime), environment={"PYTHONPATH": "/of/host"})
    code = f"PYTHONPATH={tmp_path / 'code'}"
    words = [runtime, "exec", "--bind", str(tmp_path), "--bind", "/scratch:/data:ro"]
    start = [*words, "docker://site/torch", "env", code, "PYTHONSAFEPATH=1", "PYTHONNOUSERSITE=1"]
    rank = [sys.executable, "-u", "-m", "probe", "two words"]
    assert job.options[-len(start + rank) :] == [*start, *rank]
    assert job.end[0] == str(KILLED)
    calls = (tmp_path / "containers").read_text().splitlines()
    assert ["sh -c" in call for call in calls] == ([True, False] if has_clients else [True])


def test_pyxis_is_an_option_of_srun_and_the_end_runs_on_the_node(tmp_path: Path) -> None:
    job = run_job(tmp_path, container=container("pyxis"))
    assert {
        "--container-image=docker://site/torch",
        f"--container-mounts={tmp_path}:{tmp_path},/scratch:/data:ro",
    } <= {*job.options}
    assert job.options[-9:-4] == [
        "env",
        f"PYTHONPATH={tmp_path / 'code'}",
        "PYTHONSAFEPATH=1",
        "PYTHONNOUSERSITE=1",
        sys.executable,
    ]
    assert job.end[0] == str(KILLED)


def test_an_image_that_is_not_there_is_named_before_anything_is_queued(tmp_path: Path) -> None:
    image = tmp_path / "torch.sif"
    used = ContainerConfig(image=str(image), runtime=ContainerRuntime.apptainer)
    with pytest.raises(LaunchError, match=rf"cluster\.container\.image: there is no {image}"):
        check_images([used])
    image.touch()
    check_images([used, container()])

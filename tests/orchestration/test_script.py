from __future__ import annotations

import dataclasses
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antioversmooth import runs
from antioversmooth.config import (
    ClusterConfig,
    ContainerConfig,
    ContainerRuntime,
    GpuRequest,
    ProcessStarter,
)
from antioversmooth.errors import LaunchError, SpecError
from antioversmooth.orchestration.slurm.script import BatchJob, job_name, render, sbatch_script
from antioversmooth.runs import Run

MakeRun = Callable[..., Run]
SNAPSHOT = Path("/snapshots/abc")
GOLDEN = Path(__file__).parent / "golden"
CLUSTERS = Path(__file__).parents[2] / "experiments" / "cluster"


def directives(script: str) -> list[str]:
    return [line for line in script.splitlines() if line.startswith("#SBATCH")]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("srun", ["cluster.nodes=2", "cluster.gpus_per_node=4"]),
        (
            "torchrun",
            ["cluster.starter=torchrun", "cluster.nodes=2", "cluster.gres=gpu:a100",
            "cluster.partition=gpu",
             "cluster.account=vision", "cluster.qos=long", "cluster.constraint='a100&ib'",
             "cluster.mem_gb=480",
             "cluster.exclude=['node[03-05]',node9]", "cluster.mail_user=me@example.org",
             "cluster.requeue=false",
             "cluster.setup=['module load cuda']"],
        ),
    ],
)  # fmt: skip
def test_the_script_is_the_golden_one(
    make_run: MakeRun, tmp_path: Path, name: str, overrides: list[str]
) -> None:
    run = make_run("cait_s24_featscale", *overrides, profile="imagenet")
    run.experiment.cluster.sbatch.update({"reservation": "maintenance", "exclusive": True})
    script = (
        sbatch_script(run, SNAPSHOT)
        .replace(str(run.dir), "RUN_DIR")
        .replace(sys.executable, "PYTHON")
    )
    assert script.replace(job_name(run), "JOB_NAME") == (GOLDEN / f"{name}.sh").read_text()


def test_rendering_needs_no_slurm(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert "srun" in sbatch_script(make_run(), SNAPSHOT)


def test_the_script_is_valid_shell(make_run: MakeRun, tmp_path: Path) -> None:
    path = tmp_path / "job.sh"
    path.write_text(sbatch_script(make_run(), SNAPSHOT))
    assert subprocess.run(["bash", "-n", path]).returncode == 0


def test_a_job_name_is_one_for_a_directory_and_another_for_another(
    make_run: MakeRun, tmp_path: Path
) -> None:
    run = make_run()
    elsewhere = runs.Run(run.experiment, run.seed, run.id, tmp_path / "elsewhere", None)
    assert job_name(run) == job_name(runs.Run.load(run.dir))
    assert job_name(run) != job_name(elsewhere)
    assert job_name(run) != job_name(make_run(seed=1))


EVIL = [
    "a\n#SBATCH --uid=0",
    "a; touch PWNED",
    "$(touch PWNED)",
    "`touch PWNED`",
    "--uid=0",
    "a' b",
    'a" b',
    "a #b",
]


@pytest.mark.parametrize("value", EVIL)
@pytest.mark.parametrize("key", ["partition", "account", "qos", "gres", "mail_user"])
def test_words_of_a_profile_that_are_more_than_words_are_refused(
    make_run: MakeRun, key: str, value: str
) -> None:
    with pytest.raises(SpecError, match=f"cluster.{key}"):
        ClusterConfig(name="site", **{key: value})


@pytest.mark.parametrize("value", EVIL)
@pytest.mark.parametrize("key", ["exclude", "mail_type"])
def test_so_are_those_of_its_lists(key: str, value: str) -> None:
    with pytest.raises(SpecError, match=rf"cluster.{key}\[1\]"):
        ClusterConfig(name="site", **{key: ["fine", value]})


def keys(script: str) -> list[str]:
    return [line.partition("=")[0] for line in directives(script)]


def runs_nothing_else(script: str, folder: Path) -> bool:
    """Whether the script, with stand-ins for what it starts, does nothing that the corpus tries to
    have done."""
    (folder / "bin").mkdir(exist_ok=True)
    for client in ("srun", "scontrol"):
        (folder / "bin" / client).write_text("#!/bin/sh\n")
        (folder / "bin" / client).chmod(0o755)
    (folder / "job.sh").write_text(script.replace(sys.executable, "true"))
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_JOB_ID": "1"}
    subprocess.run(["bash", "job.sh"], cwd=folder, env=environment, capture_output=True)
    return not list(folder.rglob("PWNED"))


@pytest.mark.parametrize("value", EVIL)
def test_a_constraint_stays_one_directive(make_run: MakeRun, value: str) -> None:
    run = make_run("deit_s12", "cluster.constraint=a100")
    try:
        cluster = dataclasses.replace(run.experiment.cluster, constraint=value)
    except SpecError:
        assert "\n" in value
        return
    changed = dataclasses.replace(
        run, experiment=dataclasses.replace(run.experiment, cluster=cluster)
    )
    assert keys(sbatch_script(changed, SNAPSHOT)) == keys(sbatch_script(run, SNAPSHOT))


@pytest.mark.parametrize("name", EVIL)
def test_the_folder_of_a_run_is_no_option_and_no_command_and_a_name_is_a_name(
    make_run: MakeRun, tmp_path: Path, name: str
) -> None:
    run = make_run()
    with pytest.raises(SpecError, match="name"):
        dataclasses.replace(run.experiment, name=name)
    evil = runs.Run(run.experiment, 0, run.id, tmp_path / "runs" / name / "seed0", None)
    try:
        script = sbatch_script(evil, SNAPSHOT)
    except LaunchError:
        assert set(name) & set("\n'\"")
        return
    assert keys(script) == keys(sbatch_script(run, SNAPSHOT))
    assert runs_nothing_else(script, tmp_path)


@pytest.mark.parametrize("value", EVIL)
def test_a_comment_stays_one_directive_and_runs_nothing(
    make_run: MakeRun, tmp_path: Path, value: str
) -> None:
    run = make_run()
    plain = directives(sbatch_script(run, SNAPSHOT))
    try:
        cluster = dataclasses.replace(run.experiment.cluster, sbatch={"comment": value})
    except SpecError:
        assert "\n" in value
        return
    changed = dataclasses.replace(
        run, experiment=dataclasses.replace(run.experiment, cluster=cluster)
    )
    script = sbatch_script(changed, SNAPSHOT)
    added = [line for line in directives(script) if line not in plain]
    assert len(added) == 1
    assert added[0].startswith("#SBATCH --comment=")


@pytest.mark.parametrize(
    "option",
    [
        "output",
        "outpu",
        "wrap",
        "array",
        "dependency",
        "job-name",
        "job-n",
        "uid",
        "clusters",
        "-p",
        "Partition",
        "x=y --uid",
    ],
)
def test_options_that_are_not_a_profile_s_to_set_are_refused(option: str) -> None:
    with pytest.raises(SpecError, match=r"cluster\.sbatch"):
        ClusterConfig(name="site", sbatch={option: "x"})


def test_an_option_of_the_site_can_be_dropped(make_run: MakeRun) -> None:
    kept = make_run("deit_s12", "cluster=example_site", profile="imagenet")
    dropped = make_run(
        "deit_s12", "cluster=example_site", "cluster.sbatch.reservation=null", profile="imagenet"
    )
    assert "#SBATCH --reservation=cvpr" in directives(sbatch_script(kept, SNAPSHOT))
    assert "reservation" not in sbatch_script(dropped, SNAPSHOT)


@pytest.mark.parametrize("line", ["#SBATCH --uid=0", "true\n#SBATCH --uid=0", "  # a comment"])
def test_a_setup_line_cannot_be_a_directive(line: str) -> None:
    with pytest.raises(SpecError, match=r"cluster\.setup"):
        ClusterConfig(name="site", setup=[line])


@pytest.mark.parametrize("folder", ["res%j", "it's", 'a "b"', "back\\slash", "two\nlines"])
def test_folders_that_slurm_would_read_otherwise_are_refused(
    make_run: MakeRun, tmp_path: Path, folder: str
) -> None:
    run = make_run()
    with pytest.raises(LaunchError, match="SLURM cannot use the path"):
        sbatch_script(runs.Run(run.experiment, 0, run.id, tmp_path / folder, None), SNAPSHOT)


def test_a_folder_that_a_shell_would_expand_is_quoted(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    odd = tmp_path / "my results; $(touch PWNED) `x` #1"
    script = sbatch_script(runs.Run(run.experiment, 0, run.id, odd, None), SNAPSHOT)
    assert runs_nothing_else(script, tmp_path)
    assert f"#SBATCH --output='{odd}/slurm/%j_0_log.out'" in script


PROFILES = sorted(path.relative_to(CLUSTERS).with_suffix("") for path in CLUSTERS.rglob("*.yaml"))


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_every_shipped_profile_makes_a_script(make_run: MakeRun, profile: Path) -> None:
    assert "srun" in sbatch_script(
        make_run("deit_s12", f"cluster={profile}", profile="imagenet"), SNAPSHOT
    )


REQUESTS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "per_node": ({}, {"cpus-per-task=1", "gpus-per-node=4", "ntasks-per-node=4"}),
    "type": (
        {"gpu_type": "a100"},
        {"cpus-per-task=1", "gpus-per-node=a100:4", "ntasks-per-node=4"},
    ),
    "per_task": (
        {"gpu_request": GpuRequest.per_task, "gpu_type": "a100"},
        {"cpus-per-task=1", "gpus-per-task=a100:1", "ntasks-per-node=4"},
    ),
    "per_task of an agent": (
        {"gpu_request": GpuRequest.per_task, "starter": ProcessStarter.torchrun},
        {"cpus-per-task=4", "gpus-per-task=4", "ntasks-per-node=1"},
    ),
    "tasks_per_gpu": (
        {"gpu_request": GpuRequest.tasks_per_gpu},
        {"cpus-per-task=1", "gpus-per-node=4", "ntasks-per-gpu=1"},
    ),
    "with_node": (
        {"gpu_request": GpuRequest.with_node},
        {"cpus-per-task=1", "ntasks-per-node=4"},
    ),
    "cpus_per_gpu": (
        {"cpus_per_gpu": 9},
        {"cpus-per-gpu=9", "gpus-per-node=4", "ntasks-per-node=4"},
    ),
    "gres": ({"gres": "gpu"}, {"cpus-per-task=1", "gres=gpu:4", "ntasks-per-node=4"}),
    "gres with a number": (
        {"gres": "gpu:a100:4"},
        {"cpus-per-task=1", "gres=gpu:a100:4", "ntasks-per-node=4"},
    ),
    "several gres": (
        {"gres": "nvme:1,gpu:a100"},
        {"cpus-per-task=1", "gres=nvme:1,gpu:a100:4", "ntasks-per-node=4"},
    ),
    "gres of the site's own name": (
        {"gres": "v100"},
        {"cpus-per-task=1", "gres=v100:4", "ntasks-per-node=4"},
    ),
    "gres of no GPUs": (
        {"gres": "nvme:2"},
        {"cpus-per-task=1", "gpus-per-node=4", "gres=nvme:2", "ntasks-per-node=4"},
    ),
    "no GPUs": (
        {"gres": "gpu:a100,nvme:1", "gpus_per_node": 0, "tasks_per_node": 2},
        {"cpus-per-task=1", "gres=nvme:1", "ntasks-per-node=2"},
    ),
    "all memory of whole nodes": (
        {"mem_all": True, "exclusive": True},
        {"cpus-per-task=1", "exclusive", "gpus-per-node=4", "mem=0", "ntasks-per-node=4"},
    ),
    "partitions": (
        {"partition": "gpu,gpu-long"},
        {"cpus-per-task=1", "gpus-per-node=4", "ntasks-per-node=4", "partition=gpu,gpu-long"},
    ),
}


def script_of(**fields: Any) -> str:
    cluster = ClusterConfig(name="site", **{"gpus_per_node": 4, **fields})
    return render(BatchJob("job", Path("/out"), cluster, SNAPSHOT, ["-m", "probe"], 60))


@pytest.mark.parametrize("name", REQUESTS)
def test_a_profile_says_resources_in_the_words_of_its_site(name: str) -> None:
    fields, expected = REQUESTS[name]
    of_all = {"error", "job-name", "nodes", "open-mode", "output", "requeue", "signal", "time"}
    found = {shlex.split(line)[-1].removeprefix("--") for line in directives(script_of(**fields))}
    assert {one for one in found if one.partition("=")[0] not in of_all} == expected


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"gres": "gpu:a100:2"}, r"cluster\.gres: .*gpu:a100, without the number.*gpus_per_node: 4"),
    ({"gres": "gpu:8"}, r"cluster\.gres: .*gpu, without the number"),
    ({"gres": "gpu:a100:4", "gpus_per_node": 0}, r"cluster\.gres: .*gpus_per_node: 0"),
    ({"gres": "gpu:a100", "gpu_type": "a100"}, r"cluster\.gpu_type"),
    ({"gres": "gpu", "gpu_request": GpuRequest.per_task}, r"cluster\.gpu_request"),
    (
        {"gpu_request": GpuRequest.tasks_per_gpu, "starter": ProcessStarter.torchrun},
        r"cluster\.gpu_request",
    ),
    ({"gpu_request": GpuRequest.with_node, "gpu_type": "a100"}, r"cluster\.gpu_type"),
    ({"gpu_request": GpuRequest.with_node, "cpus_per_gpu": 2}, r"cluster\.cpus_per_gpu"),
    ({"gpu_type": "4"}, r"cluster\.gpu_type"),
    ({"gpu_type": "a100:4"}, r"cluster\.gpu_type"),
    ({"cpus_per_gpu": 4, "cpus_per_task": 8}, r"cluster\.cpus_per_gpu: .*cpus_per_task"),
    ({"cpus_per_gpu": 4, "gpus_per_node": 0}, r"cluster\.cpus_per_gpu: .*gpus_per_node"),
    ({"mem_all": True, "mem_gb": 4}, r"cluster\.mem_all: .*mem_gb"),
    ({"mem_all": True, "sbatch": {"mem-per-cpu": "4G"}}, r"cluster\.sbatch\.mem-per-cpu"),
    ({"mem_gb": 4, "sbatch": {"mem-per-gpu": "4G"}}, r"cluster\.sbatch\.mem-per-gpu: .*mem_gb"),
    ({"sbatch": {"cpus-per-gpu": 4}}, r"cluster\.sbatch\.cpus-per-gpu"),
    ({"sbatch": {"ntasks-per-gpu": 1}}, r"cluster\.sbatch\.ntasks-per-gpu"),
    ({"srun": {"export": "NONE"}}, r"cluster\.srun\.export"),
    ({"srun": {"kill-on-bad": 0}}, r"cluster\.srun\.kill-on-bad"),
    ({"srun": {"--mpi": "none"}}, r"cluster\.srun"),
    ({"srun": {"n": 1}}, r"cluster\.srun\.n"),
    ({"srun": {"ntasks": 1}}, r"cluster\.srun\.ntasks"),
    ({"srun": {"pty": True}}, r"cluster\.srun\.pty"),
    ({"srun": {"mpi": False}}, r"cluster\.srun\.mpi"),
    ({"srun": {"mpi": "a\nb"}}, r"cluster\.srun\.mpi"),
    ({"wrapper": ["numactl", ""]}, r"cluster\.wrapper\[1\]"),
    ({"wrapper": ["a\nb"]}, r"cluster\.wrapper\[0\]"),
]


@pytest.mark.parametrize(("fields", "match"), REFUSED, ids=str)
def test_requests_that_contradict_each_other_are_refused(
    fields: dict[str, Any], match: str
) -> None:
    with pytest.raises(SpecError, match=match):
        ClusterConfig(name="site", **{"gpus_per_node": 4, **fields})


def test_options_of_srun_and_a_wrapper_are_words_of_its_command() -> None:
    options = {"mpi": "none", "cpu-bind": "map_cpu:1,2", "label": True, "network": None}
    script = script_of(srun=options, wrapper=["nsys", "profile", "--output=$HOME/my trace"])
    assert "--mpi=none --cpu-bind=map_cpu:1,2 --label " in script
    assert "network" not in script
    program = shlex.join([sys.executable, "-u", "-m", "probe"])
    assert f"nsys profile '--output=$HOME/my trace' {program}\n" in script


def test_an_option_of_srun_is_an_override_as_one_of_sbatch_is(make_run: MakeRun) -> None:
    run = make_run("deit_s12", "cluster.srun.mpi=pmix", "cluster.partition='gpu,long'")
    assert "--mpi=pmix" in sbatch_script(run, SNAPSHOT)
    assert "#SBATCH --partition=gpu,long" in sbatch_script(run, SNAPSHOT)


def test_a_container_shows_the_files_of_its_run(make_run: MakeRun, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    run = make_run("cait_s24_featscale", f"data.root={tmp_path}/images", profile="imagenet")
    used = ContainerConfig(image="./torch.sif", runtime=ContainerRuntime.apptainer)
    run.experiment.cluster.container = used
    run.experiment.recipe.teacher = f"file:{weights}/teacher.pth"
    upstream = dataclasses.replace(run, dir=tmp_path / "elsewhere" / "seed0")
    script = sbatch_script(dataclasses.replace(run, upstream=upstream), SNAPSHOT)
    shown = {Path(path) for path in re.findall(r"--bind (\S+)", script)}
    files = (tmp_path / "images", weights / "teacher.pth")
    for path in (SNAPSHOT, run.dir, upstream.dir, *files):
        assert shown & {path, *path.parents}, path
    assert f"{Path.cwd()}/torch.sif env PYTHONPATH={SNAPSHOT} " in script
    assert "--nv" in script


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"image": "--writable"}, r"cluster\.container\.image"),
        ({"python": "-m"}, r"cluster\.container\.python"),
        ({"mounts": ["scratch"]}, r"cluster\.container\.mounts\[0\]"),
        ({"mounts": ["/a,/b"]}, r"cluster\.container\.mounts\[0\]"),
        ({"options": ["--cleanenv"]}, r"cluster\.container\.options\[0\]: .*rank"),
        ({"options": ["--rocm"], "runtime": ContainerRuntime.pyxis}, r"options: .*cluster\.srun"),
    ],
)
def test_containers_in_which_no_rank_could_start_are_refused(
    fields: dict[str, Any], match: str
) -> None:
    with pytest.raises(SpecError, match=match):
        ContainerConfig(**{"image": "a.sif", "runtime": ContainerRuntime.apptainer, **fields})


def test_a_container_can_be_chosen_on_the_command_line(make_run: MakeRun) -> None:
    run = make_run(
        "deit_s12", "cluster.container.image=/images/torch.sif", "cluster.container.runtime=pyxis"
    )
    assert "--container-image=/images/torch.sif" in sbatch_script(run, SNAPSHOT)
    assert run.id == make_run("deit_s12").id


@pytest.mark.parametrize("given", ["image=a.sif", "runtime=pyxis"])
def test_a_container_without_image_or_runtime_is_a_message(make_run: MakeRun, given: str) -> None:
    other = "runtime" if given.startswith("image") else "image"
    with pytest.raises(SpecError, match=rf"cluster\.container\.{other}: has no value"):
        make_run("deit_s12", f"cluster.container.{given}")


@pytest.mark.parametrize(
    ("override", "rendered"),
    [
        ("cluster.partition=gpu,gpu-long", "#SBATCH --partition=gpu,gpu-long"),
        ("cluster.sbatch.licenses=a:1,b:2", "#SBATCH --licenses=a:1,b:2"),
        ("cluster.srun.cpu-bind=map_cpu:1,2", " --cpu-bind=map_cpu:1,2 "),
        ("cluster.exclude=node1,node2", "#SBATCH --exclude=node1,node2"),
        ("cluster.wrapper=numactl,-l", "  numactl -l "),
    ],
)
def test_commas_of_slurm_s_words_need_no_quotes(
    make_run: MakeRun, override: str, rendered: str
) -> None:
    script = sbatch_script(make_run("deit_s12", override), SNAPSHOT)
    assert rendered in script.replace("'", "")


def test_a_folder_that_no_container_can_mount_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run("deit_s12", f"data.root='{tmp_path}/a,b'", profile="imagenet")
    used = ContainerConfig(image="torch.sif", runtime=ContainerRuntime.singularity)
    run.experiment.cluster.container = used
    with pytest.raises(LaunchError, match=r"a container cannot mount .*a,b"):
        sbatch_script(run, SNAPSHOT)

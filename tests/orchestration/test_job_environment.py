"""The environment of SLURM's clients and of the jobs that they submit."""

from __future__ import annotations

import pytest

from antioversmooth.orchestration.slurm.environment import plain_environment


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_EXPORT_ENV", "SLURM_CPUS_PER_TASK", "SLURM_NTASKS", "SLURM_MEM_PER_CPU",
        "SLURM_MEM_PER_NODE", "SLURM_CPU_BIND", "SLURM_HINT", "SLURM_EXCLUSIVE", "SLURM_UMASK",
        "SLURM_KILL_BAD_EXIT", "SLURM_WAIT", "SLURM_OPEN_MODE", "SLURM_JOB_ID", "SLURM_TIME_FORMAT",
        "SLURM_SPANK_X", "_SLURM_SPANK_OPTION_pyxis_container_image", "SLURMD_NODENAME",
        "SRUN_CPUS_PER_TASK", "SRUN_EXPORT_ENV", "SBATCH_EXPORT", "SBATCH_PARTITION",
        "SALLOC_PARTITION", "SQUEUE_FORMAT", "SACCT_FORMAT", "SINFO_FORMAT", "SCANCEL_STATE",
        "SUBMITIT_EXECUTOR", "PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "TORCHELASTIC_RUN_ID",
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "GROUP_RANK", "CUDA_VISIBLE_DEVICES", "SHELLOPTS",
    ],
)  # fmt: skip
def test_options_and_facts_of_another_job_are_left_out(name: str) -> None:
    assert not plain_environment({name: "1"})


@pytest.mark.parametrize(
    "name",
    [
        "SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_SACK_SOCKET", "PATH", "HOME",
        "IMAGENET", "PYTHONPATH", "NCCL_SOCKET_IFNAME", "RANKING", "BASH_ENV", "MUNGE_SOCKET",
    ],
)  # fmt: skip
def test_the_way_to_the_cluster_and_variables_of_others_stay(name: str) -> None:
    assert plain_environment({name: "1"}) == {name: "1"}

"""Variables that SLURM's clients and jobs do not take over from the shell that launches.

The clients read options from the environment, and a job inherits it: a filter would hide jobs that
are there, and the options, ranks and GPUs of a job that the launch runs in would become those of
the new one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

_CLUSTER = frozenset(
    {
        "SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_SACK_SOCKET", "SLURM_SACK_KEY",
        "SLURM_SACK_JWKS",
    }
)  # fmt: skip
"""Variables by which the clients find their cluster, and say who asks."""
MPI = ("PMI", "OMPI_")
"""Beginnings of variables by which MPI finds the other processes."""
_FOREIGN = (
    "SLURM_", "SLURMD_", "_SLURM_", "SRUN_", "SBATCH_", "SALLOC_", "SQUEUE_", "SACCT_", "SINFO_",
    "SCANCEL_", "SCONTROL_", "SUBMITIT_", "TORCHELASTIC_", *MPI,
)  # fmt: skip
"""Beginnings of variables that are options of SLURM's clients, or facts of another job."""
RANK = (
    "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
    "ROLE_RANK", "ROLE_WORLD_SIZE", "NODE_RANK",
)  # fmt: skip
"""Variables by which torch finds the rank of a process."""
_DEVICES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
_SHELL = ("SHELLOPTS", "BASHOPTS")
"""Options of an exporting shell, which bash takes over: `set -e` is one."""
_OPTIONS = (
    "SBATCH_", "SRUN_", "SALLOC_", "SQUEUE_", "SACCT_", "SINFO_", "SCANCEL_", "SCONTROL_",
)  # fmt: skip
"""Beginnings of variables of `_FOREIGN` that a person sets, and no job."""
_FACTS = ("SLURM_", "SUBMITIT_")
"""Beginnings of variables of `_FOREIGN` that a person sets, or a job around the shell."""

SRUN = (
    "SLURM_BCAST", "SLURM_BCAST_EXCLUDE", "SLURM_CLUSTERS", "SLURM_COMPRESS", "SLURM_DEBUG",
    "SLURM_EPILOG", "SLURM_EXACT", "SLURM_EXCLUSIVE", "SLURM_EXIT_ERROR", "SLURM_EXIT_IMMEDIATE",
    "SLURM_EXPORT_ENV", "SLURM_IMMEDIATE", "SLURM_KILL_BAD_EXIT", "SLURM_LABELIO", "SLURM_NO_KILL",
    "SLURM_OPEN_MODE", "SLURM_OVERLAP", "SLURM_PROLOG", "SLURM_REMOTE_CWD", "SLURM_SIGNAL",
    "SLURM_STDERRMODE", "SLURM_STDINMODE", "SLURM_STDOUTMODE", "SLURM_STEP_GRES",
    "SLURM_TASK_EPILOG", "SLURM_TASK_PROLOG", "SLURM_TEST_EXEC", "SLURM_THREADS",
    "SLURM_TIMELIMIT", "SLURM_UNBUFFEREDIO", "SLURM_WAIT", "SLURM_WORKING_DIR",
)  # fmt: skip
"""Options of srun that are no facts of a job: a site's login or prolog may set them in it."""
SRUN_PREFIXES = ("SRUN_", "SLURM_CPU_BIND", "SLURM_MEM_BIND")
"""Beginnings of further such options."""
PYTHON = (
    "PYTHONHOME", "PYTHONSTARTUP", "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONEXECUTABLE",
    "PYTHONPLATLIBDIR", "PYTHONCASEOK", "PYTHONPYCACHEPREFIX",
)  # fmt: skip
"""Variables of a user's or a module's Python by which another Python runs otherwise, or not."""


def ignored_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names of variables that somebody may have set on purpose and that jobs do not get.

    Inside a job not those that it sets itself.
    """
    in_job = "SLURM_JOB_ID" in environment
    on_purpose = _OPTIONS if in_job else (*_OPTIONS, *_FACTS)
    ranks = () if in_job else RANK
    dropped = environment.keys() - plain_environment(environment).keys()
    return sorted(name for name in dropped if name in ranks or name.startswith(on_purpose))


def plain_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of SLURM's clients and of the jobs that they submit."""
    foreign = {*RANK, *_DEVICES, *_SHELL}
    return {
        name: value
        for name, value in environment.items()
        if name in _CLUSTER or not (name in foreign or name.startswith(_FOREIGN))
    }

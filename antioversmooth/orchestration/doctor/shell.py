"""Variables of this shell that would change jobs, or what is known of them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration.doctor.site import Site, found_on_login
from antioversmooth.orchestration.slurm.environment import ignored_variables

REACHES_JOBS = {
    "PYTHONPATH": "it adds modules to those of the environment",
    "PYTHONHOME": "it replaces Python's own library",
    "LD_PRELOAD": "it puts a library in front of all others",
    "CUDA_VISIBLE_DEVICES": "SLURM sets it for each job; a value here hides GPUs of local runs",
    "CUDA_LAUNCH_BLOCKING": "it makes GPUs wait for the CPU after each operation",
    "TORCH_DISTRIBUTED_DEBUG": "it makes each collective slower",
    "NCCL_DEBUG": "it fills the logs",
}
"""Variables that reach the processes of a run, and what they do."""


def variables(_: Site) -> Iterator[Finding]:
    """Variables of SLURM, Python and torch in this shell that matter."""
    names = sorted(os.environ)
    if "SLURM_JOB_ID" in os.environ:
        text = f"this shell is inside job {os.environ['SLURM_JOB_ID']}"
        advice = "nothing to do: new jobs take over none of its options"
        yield found_on_login("shell", Level.warning, text, advice)
    if ignored := ignored_variables():
        text = f"{', '.join(ignored)}: not used, the profile says what jobs ask for"
        advice = "nothing to do; fields of `cluster` replace them"
        yield found_on_login("shell", Level.warning, text, advice)
    for name, effect in REACHES_JOBS.items():
        if os.environ.get(name):
            text = f"{name} is set: {effect}"
            yield found_on_login("shell", Level.warning, text, f"unset {name} if that is not meant")
    for name in [n for n in names if n.startswith(("NCCL_SOCKET", "GLOO_SOCKET", "NCCL_IB"))]:
        text = f"{name}={os.environ[name]} reaches all ranks"
        yield found_on_login("shell", Level.ok, text)

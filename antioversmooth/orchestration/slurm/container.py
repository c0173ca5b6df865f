"""Commands in the container of a profile.

Pyxis starts a container by options of srun, so there is one in a step only. Apptainer is a command
in front of another one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from antioversmooth.config.container import ContainerConfig, ContainerRuntime
from antioversmooth.errors import LaunchError


def srun_options(container: ContainerConfig | None, paths: Iterable[Path]) -> list[str]:
    """Options by which srun starts its tasks in a container.

    Args:
        paths: Files and folders of the job.
    """
    if container is None or container.runtime is not ContainerRuntime.pyxis:
        return []
    mounts = [f"{one}:{one}" for one in _outermost(paths)]
    further = [mount if ":" in mount else f"{mount}:{mount}" for mount in container.mounts]
    return [
        f"--container-image={container.image}",
        f"--container-mounts={','.join([*mounts, *further])}",
    ]


def in_container(
    container: ContainerConfig, command: Sequence[str], code: str, paths: Iterable[Path], gpus: int
) -> list[str]:
    """The words of a command as it runs in the container.

    Args:
        code: The folder of the package; the image's own variables cannot replace it, and packages
            of the user's home, made for another Python, stay out.
        paths: Files and folders of the job.
        gpus: GPUs of a node.
    """
    variables = [f"PYTHONPATH={code}", "PYTHONSAFEPATH=1", "PYTHONNOUSERSITE=1"]
    inside = ["env", *variables, *command]
    if container.runtime is ContainerRuntime.pyxis:
        return inside
    has_devices = {"--nv", "--nvccli", "--rocm"} & {*container.options}
    devices = ["--nv"] if gpus and not has_devices else []
    mounts = [*map(str, _outermost(paths)), *container.mounts]
    binds = [word for mount in mounts for word in ("--bind", mount)]
    runtime = container.runtime.value
    return [runtime, "exec", *devices, *binds, *container.options, container.image, *inside]


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """The paths without those that lie in others."""
    found = {path.absolute() for path in paths}
    for path in found:
        if {":", ","} & {*str(path)}:
            message = f"a container cannot mount {path}: move it to a path without : and ,"
            raise LaunchError(message)
    return sorted(path for path in found if not found & {*path.parents})

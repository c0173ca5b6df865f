"""Tools that a user may run instead, each installed into a virtual environment of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INSTALL_LIMIT_S = 300.0


@dataclass(frozen=True)
class Tool:
    """A program of a package index."""

    name: str
    packages: tuple[str, ...]
    """With the version that is measured; pip's resolver adds those that they need."""
    borrows: bool = False
    """Whether the packages that they need are those of the project: PyTorch alone takes 5 GB."""


TOOLS = (
    Tool("submitit", ("submitit==1.5.4",)),
    Tool("hydra", ("hydra-core==1.3.8",)),
    Tool("dora", ("dora-search==0.1.13", "treetable==0.2.6", "retrying==1.4.2"), borrows=True),
    Tool("snakemake", ("snakemake==9.27.1",)),
    Tool("dvc", ("dvc==3.67.1",)),
)


def install(folder: Path, tools: Sequence[Tool] = TOOLS) -> dict[str, str]:
    """Makes the environments that are not complete yet, `folder/<tool>/`.

    Returns:
        Of each tool that cannot be installed, the reason.
    """
    reasons = {}
    for tool in tools:
        try:
            _install(folder / tool.name, tool)
        except (OSError, subprocess.SubprocessError) as err:
            said = err.stderr if isinstance(err, subprocess.CalledProcessError) else str(err)
            lines = said.strip().splitlines() or [type(err).__name__]
            reasons[tool.name] = f"cannot be installed: {lines[-1]}"
    return reasons


def _install(place: Path, tool: Tool) -> None:
    """Does nothing where these versions are there already."""
    complete, wanted = place / "complete", "\n".join(tool.packages)
    if complete.exists() and complete.read_text() == wanted:
        return
    python = place / "bin" / "python"
    _uv("venv", "--clear", "--python", sys.executable, str(place))
    _uv(
        "pip",
        "install",
        "--python",
        str(python),
        *(["--no-deps"] if tool.borrows else []),
        *tool.packages,
    )
    if tool.borrows:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = place / "lib" / version / "site-packages"
        (packages / "project.pth").write_text(sysconfig.get_path("purelib"))
    complete.write_text(wanted)


def _uv(*words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "uv", words[0], "--quiet", *words[1:]],
        check=True,
        capture_output=True,
        text=True,
        timeout=INSTALL_LIMIT_S,
    )

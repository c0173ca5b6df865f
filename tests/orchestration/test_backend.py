from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from antioversmooth.errors import LaunchError
from antioversmooth.orchestration import backend
from antioversmooth.orchestration.backend import Choice
from antioversmooth.orchestration.local.inline import InlineBackend
from antioversmooth.orchestration.local.pool import LocalBackend
from antioversmooth.orchestration.slurm.backend import SlurmBackend


def choose(name: str) -> Choice:
    return backend.choose(name, slurm=SlurmBackend(), local=LocalBackend(), inline=InlineBackend())


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts an `sbatch` of these shell lines on PATH, and nothing else."""

    def install(lines: str) -> None:
        tool = tmp_path / "sbatch"
        tool.write_text(f"#!/bin/sh\n{lines}\n")
        tool.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    return install


def test_slurm_where_sbatch_answers(sbatch: Callable[[str], None]) -> None:
    sbatch("echo slurm-wlm 22.05.8")
    choice = choose("auto")
    assert (choice.backend.name, choice.reason) == ("slurm", "sbatch answers: slurm-wlm 22.05.8")


@pytest.mark.usefixtures("sbatch")
def test_this_machine_where_there_is_no_sbatch() -> None:
    choice = choose("auto")
    assert (choice.backend.name, choice.reason) == ("local", "there is no sbatch on PATH")


def test_this_machine_where_slurm_is_installed_for_no_cluster(
    sbatch: Callable[[str], None],
) -> None:
    sbatch("echo 'sbatch: fatal: Could not establish a configuration source' >&2; exit 1")
    choice = choose("auto")
    assert choice.backend.name == "local"
    assert "belongs to no cluster" in choice.reason


def test_an_sbatch_that_fails_otherwise_is_no_reason_to_train_here(
    sbatch: Callable[[str], None],
) -> None:
    """The machine may be a login node."""
    sbatch("echo 'sbatch: error: Munge encode failed' >&2; exit 1")
    with pytest.raises(
        LaunchError, match=r"Munge encode failed; use --backend slurm .* or --backend local"
    ):
        choose("auto")


@pytest.mark.parametrize("asked", ["slurm", "local", "inline"])
def test_what_is_asked_for_is_not_questioned(asked: str, sbatch: Callable[[str], None]) -> None:
    sbatch("exit 1")
    assert choose(asked).backend.name == asked

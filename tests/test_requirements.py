"""requirements.lock and the set-up that installs it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent


def test_every_package_of_the_lock_has_one_version_and_checksums_of_its_files() -> None:
    text = (PROJECT / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    assert len(lines) > 100
    form = r"[a-z0-9.-]+==[\w.+]+( ;[^@]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*"
    assert not [line for line in lines if not re.fullmatch(form, line)]
    # of torch's wheels one for each Python and machine
    (torch,) = [line for line in lines if line.startswith("torch==")]
    assert torch.count("--hash") > 5
    # where a package comes from is the user's choice
    assert "://" not in text


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment, which takes longer to make than to copy."""
    made = tmp_path_factory.mktemp("environment") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", str(made)], check=True)
    return made


@pytest.fixture
def project(environment: Path, tmp_path: Path) -> Path:
    """A folder that can be set up, without a lock, packages and a project."""
    shutil.copytree(environment, tmp_path / ".venv", symlinks=True)
    shutil.copytree(PROJECT / "scripts", tmp_path / "scripts")
    return tmp_path


def make_wheel(folder: Path, name: str, version: str) -> str:
    """Writes an empty wheel; returns its line of a lock."""
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    wheel.parent.mkdir(exist_ok=True)
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    checksum = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return f"{name}=={version} --hash=sha256:{checksum}\n"


def set_up(project: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs set-up in a folder with a lock and no project; packages come from `wheels/` alone."""
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_CONFIG_FILE": os.devnull}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(project / "wheels"), **variables}
    done = subprocess.run(
        ["sh", "scripts/setup.sh"], cwd=project, env=environment, capture_output=True, text=True
    )
    # there is no project in this folder
    assert done.returncode == 2
    return done


def installed(project: Path) -> set[str]:
    """The modules of `make_wheel` that are installed, of those that tests ask for."""
    asked = ("tiny", "torch", "torchvision", "triton", "nvidia_ml_py")
    return {name for name in asked if list((project / ".venv").rglob(f"site-packages/{name}.py"))}


@pytest.mark.parametrize("altered", [False, True])
def test_set_up_refuses_a_package_that_is_not_the_one_of_the_lock(
    altered: bool, project: Path
) -> None:
    line = make_wheel(project / "wheels", "tiny", "1.0")
    line = f"tiny==1.0 --hash=sha256:{'0' * 64}\n" if altered else line
    (project / "requirements.lock").write_text(line)
    done = set_up(project)
    assert installed(project) == (set() if altered else {"tiny"})
    assert ("a package differs from the one of requirements.lock" in done.stderr) is altered


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyTorch has no other build")
@pytest.mark.parametrize("offered", [True, False])
def test_set_up_without_cuda_takes_the_cpu_build_and_leaves_out_what_only_cuda_needs(
    offered: bool, project: Path
) -> None:
    names = ("tiny", "torch", "torchvision", "triton", "nvidia_ml_py")
    lines = [make_wheel(project / "wheels", name, "1.0") for name in names]
    (project / "requirements.lock").write_text("".join(lines).replace("_", "-"))
    for name in ("torch", "torchvision") if offered else ():
        make_wheel(project / "wheels", name, "1.0+cpu")
    done = set_up(project, CPU="1")
    if offered:
        assert installed(project) == {"tiny", "torch", "torchvision", "nvidia_ml_py"}
        assert list((project / ".venv").rglob("torch-1.0+cpu.dist-info"))
    else:
        assert not installed(project)
        assert "no index offers this version of PyTorch's CPU build" in done.stderr


def test_set_up_behind_a_proxy_that_refuses_says_so(project: Path) -> None:
    (project / "requirements.lock").write_text(f"tiny==1.0 --hash=sha256:{'0' * 64}\n")
    variables = {"PIP_NO_INDEX": "0", "https_proxy": "http://127.0.0.1:9"}
    done = set_up(project, PIP_INDEX_URL="https://localhost/simple", **variables)
    assert "cannot reach the package index" in done.stderr
    assert "the proxy that https_proxy names" in done.stderr


def test_a_python_that_cannot_be_tested_is_named_and_no_success(project: Path) -> None:
    environment = {**os.environ, "PYTHONS": "/nowhere/python3.12"}
    done = subprocess.run(
        ["sh", "scripts/test_pythons.sh"],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stdout.endswith("/nowhere/python3.12: set-up failed\n")
    assert "PYTHON=/nowhere/python3.12 is not a Python 3.11, 3.12 or 3.13" in done.stderr

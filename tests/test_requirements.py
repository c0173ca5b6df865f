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


@pytest.mark.parametrize("altered", [False, True])
def test_set_up_refuses_a_package_that_is_not_the_one_of_the_lock(
    altered: bool, tmp_path: Path
) -> None:
    wheel = tmp_path / "wheels/tiny-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as file:
        about = "tiny-1.0.dist-info"
        file.writestr("tiny.py", "")
        file.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")
    checksum = "0" * 64 if altered else hashlib.sha256(wheel.read_bytes()).hexdigest()
    (tmp_path / "requirements.lock").write_text(f"tiny==1.0 --hash=sha256:{checksum}\n")
    shutil.copytree(PROJECT / "scripts", tmp_path / "scripts")
    environment = {**os.environ, "PYTHON": sys.executable, "PIP_CONFIG_FILE": os.devnull}
    environment |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    done = subprocess.run(
        ["sh", "scripts/setup.sh"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    installed = list((tmp_path / ".venv").rglob("site-packages/tiny.py"))
    if altered:
        assert not installed
        assert "a package differs from the one of requirements.lock" in done.stderr
    else:
        # there is no project in this folder
        assert installed
        assert "differs" not in done.stderr

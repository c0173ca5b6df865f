"""The built package in an environment that has what the package asks for, and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = Path(__file__).parent.parent
SITE = Path(sysconfig.get_path("purelib"))
GIT = ("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")


def build(folder: Path) -> Path:
    """The wheel of the source archive of this project, at a commit of its own."""
    copy = folder / "checkout"
    names = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"],
        cwd=PROJECT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    for name in names:
        if (
            name
            and not name.startswith(("tests/", "results/", "docs/"))
            and (PROJECT / name).exists()
        ):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(PROJECT / name, copy / name)
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "all"]):
        subprocess.run([*GIT, *command], cwd=copy, check=True)
    command = [sys.executable, "-m", "uv", "build", "-q", "--offline", "--no-build-isolation"]
    subprocess.run([*command, "--out-dir", str(folder / "dist"), str(copy)], check=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel."""

    folder: Path

    @property
    def site(self) -> Path:
        """Its site-packages."""
        return self.folder / SITE.relative_to(sys.prefix)

    def run(self, cwd: Path, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Runs a program of the environment in a folder without root's rights, and holds its exit
        code."""
        command = [*_without_root(), str(self.folder / "bin" / words[0]), *words[1:]]
        done = subprocess.run(
            command, cwd=cwd, env=self._variables(), capture_output=True, text=True
        )
        assert code in (None, done.returncode), done.stdout + done.stderr
        return done

    def _variables(self) -> dict[str, str]:
        left_out = ("PYTHONPATH", "VIRTUAL_ENV", "ANTIOVERSMOOTH_CACHE")
        found = {name: value for name, value in os.environ.items() if name not in left_out}
        path = f"{self.folder / 'bin'}:{found['PATH']}"
        home = self.folder.with_name(f"{self.folder.name} home")
        home.mkdir(exist_ok=True)
        return {**found, "PATH": path, "HOME": str(home), "OMP_NUM_THREADS": "1"}


@cache
def _without_root() -> list[str]:
    """The beginning of a command that the user nobody runs where the tests run as root; empty where
    they do not, or where the kernel has no user namespaces."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return []
    # an owner of files like root, with an id and the rights of nobody
    words = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--"]
    return words if subprocess.run([*words, "true"], capture_output=True).returncode == 0 else []


def install(wheel: Path, folder: Path, extras: Sequence[str] = ()) -> Environment:
    """An environment with the wheel, and links to what it requires of the packages of this Python;
    nobody can write to it.

    Raises:
        PackageNotFoundError: This Python lacks a package that the wheel requires.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    made = Environment(folder)
    command = [sys.executable, "-m", "uv", "pip", "install", "-q", "--offline", "--no-deps"]
    python = str(folder / "bin" / "python")
    wanted = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
    subprocess.run([*command, "--python", python, wanted], check=True)
    (about,) = made.site.glob("antioversmooth-*.dist-info")
    for package in _required(metadata.Distribution.at(about), extras):
        for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (made.site / name).exists():
                (made.site / name).symlink_to(SITE / name)
    for place, _, names in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in names)):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & ~0o222)
    return made


def _required(package: metadata.Distribution, extras: Sequence[str]) -> list[metadata.Distribution]:
    """The packages that one requires with extras, and that those require."""
    found: dict[str, metadata.Distribution] = {}
    seen: set[tuple[str, str]] = set()
    todo = [(package, extra) for extra in ("", *extras)]
    while todo:
        asking, extra = todo.pop()
        for text in asking.requires or ():
            one = Requirement(text)
            if one.marker and not one.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(one.name)
            # an extra that stands for others of its own package
            needed = package if name == package.name else metadata.distribution(name)
            if needed is not package:
                assert one.specifier.contains(needed.version, prereleases=True), text
                found[name] = needed
            for key in {(name, wanted) for wanted in ("", *one.extras)} - seen:
                seen.add(key)
                todo.append((needed, key[1]))
    return list(found.values())

"""The results folder as this machine sees it, and where Python and the project lie."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from antioversmooth.errors import LaunchError
from antioversmooth.finding import Finding, Level
from antioversmooth.orchestration import preflight
from antioversmooth.orchestration.doctor.site import Site, found_on_login
from antioversmooth.orchestration.snapshot import PROJECT

FILES_OF_A_RUN = 200
"""About the files and folders of a run, its logs and checkpoints included, or of a snapshot."""
NODE_LOCAL = ("/tmp", "/var/tmp", "/dev/shm", "/run")
"""Folders that each machine has for itself on most sites."""
IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}


def results_folder(site: Site) -> Iterator[Finding]:
    """Whether the results folder can be written to, and keeps what runs rely on."""
    preflight.make_results_folder(site.results)
    kind = file_system(site.results)
    text, advice = f"{site.results} ({kind})", ""
    if site.on_slurm and (reason := _own_of_machine(site.results, kind)):
        text = f"{text}: {reason}"
        advice = "choose a folder that all nodes see with cluster.results=/path"
    level = Level.warning if advice else Level.ok
    yield found_on_login("results folder", level, text, advice)
    yield _space(site)
    with tempfile.TemporaryDirectory(dir=site.results, prefix=".doctor-") as folder:
        yield _locks(Path(folder))
        yield _rename(Path(folder))


def file_system(path: Path) -> str:
    """Type of the file system that a path lies on, in the kernel's word; empty if unknown."""
    best = ("", "")
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        # the kernel writes blanks as \040
        mounted = before.split()[4].encode().decode("unicode_escape")
        is_longer = len(mounted) >= len(best[0])
        if is_longer and path.resolve().is_relative_to(mounted) and after:
            best = (mounted, after.split()[0])
    return best[1]


def _own_of_machine(path: Path, kind: str) -> str:
    """Why other machines hardly see a path; empty if they may."""
    if kind in IN_MEMORY:
        return "it lies in the memory of this machine"
    inside = next((one for one in NODE_LOCAL if path.resolve().is_relative_to(one)), "")
    return f"{inside} is mostly of one machine" if inside else ""


def _space(site: Site) -> Finding:
    there = os.statvfs(site.results)
    free_gb = there.f_bavail * there.f_frsize / 2**30
    needed = FILES_OF_A_RUN * (len(site.runs) + 1)
    text = f"{free_gb:,.1f} GiB and {there.f_favail:,} files free"
    try:
        preflight.check_space(site.runs, site.results)
    except LaunchError as err:
        return found_on_login("free space", Level.wrong, str(err))
    # file systems without a table of files say 0 of 0
    if there.f_files and there.f_favail < needed:
        text = f"{text}; {len(site.runs)} runs need about {needed:,} files"
        advice = "remove files there, or choose another folder with cluster.results=/path"
        return found_on_login("free space", Level.wrong, text, advice)
    return found_on_login("free space", Level.ok, text)


_TRY_LOCK = (
    "import fcntl, sys\n"
    "try: fcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    "except BlockingIOError: sys.exit(3)"
)
"""A process that exits with 3 where another one holds the lock of a file."""


def _locks(folder: Path) -> Finding:
    advice = (
        "choose another folder with cluster.results=/path; a Lustre needs the mount option flock"
    )
    path = folder / "lock"
    path.touch()
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            text = f"its file system gives no locks ({err.strerror})"
            return found_on_login("file locks", Level.wrong, text, advice)
        command = [sys.executable, "-S", "-E", "-c", _TRY_LOCK, str(path)]
        other = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if other.returncode == 3:
        return found_on_login("file locks", Level.ok, "a lock keeps a second process out")
    text = "a second process got a lock that this one holds: a run could be started twice"
    return found_on_login("file locks", Level.wrong, text, advice)


def _rename(folder: Path) -> Finding:
    old, new = folder / "old", folder / "new"
    old.write_text("old")
    new.write_text("new")
    new.replace(old)
    if old.read_text() == "new" and not new.exists():
        return found_on_login("rename", Level.ok, "a file replaces another one by its name")
    text = "a renamed file did not replace another one: checkpoints could be torn"
    advice = "choose another folder with cluster.results=/path"
    return found_on_login("rename", Level.wrong, text, advice)


def python(site: Site) -> Iterator[Finding]:
    """Whether nodes see the Python environment and the project."""
    for path in dict.fromkeys((Path(sys.prefix), PROJECT)):
        kind = file_system(path)
        text = f"Python {sys.version.split()[0]} in {path} ({kind})"
        text = text if path == Path(sys.prefix) else f"code in {path} ({kind})"
        if site.on_slurm and (reason := _own_of_machine(path, kind)):
            advice = "set up the project on a file system that all nodes see (home or scratch)"
            yield found_on_login("Python", Level.warning, f"{text}: {reason}", advice)
        else:
            yield found_on_login("Python", Level.ok, text)
    if shutil.which("git") is None:
        advice = "runs work; snapshots do not record the commit"
        yield found_on_login("git", Level.warning, "git is not on PATH", advice)

"""The installation of this package: a checkout or a wheel, its commit, its specs and its extras.

setup.py loads this module, too: it needs the standard library alone.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
BUILT = "_built.json"
"""The file in a built package that says what code it was built from."""
TEMPLATE = PACKAGE / "_template"
"""The files of a new project; in a built package with `experiments/` of the checkout."""
EXTRAS = {"mlflow": "tracking", "mlxtend": "mini", "sklearn": "mini", "datasets": "huggingface"}
"""The extra that brings a package; `train` brings all others."""


@dataclass(frozen=True)
class Built:
    """The code that a package was built from."""

    commit: str | None
    """None where the build knew none."""
    dirty: bool
    """Whether the code differed from that commit."""
    code: str
    """Id of the modules that jobs can import; see `runs.code`."""


def built(package: Path = PACKAGE) -> Built | None:
    """The record in a built package; None in a checkout."""
    try:
        return Built(**json.loads((package / BUILT).read_text()))
    except FileNotFoundError:
        return None


def code_id(project: Path) -> str:
    """Id of the modules that jobs can import, of the package in a folder; see `runs.code`."""
    # the package `runs` around it needs what a bare installation and a build lack
    found = importlib.util.spec_from_file_location("code_of_jobs", PACKAGE / "runs/code.py")
    assert found is not None
    assert found.loader is not None
    code = importlib.util.module_from_spec(found)
    found.loader.exec_module(code)
    id: str = code.code_id(code.checksums(project, code.source_files(project)))
    return id


def is_checkout() -> bool:
    """Whether the package lies in a checkout, which sets itself up."""
    return (PACKAGE.parent / "scripts" / "setup.sh").is_file()


def own_project() -> Path:
    """The folder whose `experiments/` come with the package."""
    return PACKAGE.parent if is_checkout() else TEMPLATE


def remedy(module: str = "") -> str:
    """The command that installs a module which is missing, as part of a sentence."""
    if is_checkout():
        return "run `make setup`, then `. .venv/bin/activate`"
    extra = EXTRAS.get(module.partition(".")[0], "train")
    return f'run `pip install "antioversmooth[{extra}]{_address()}"`'


def _address() -> str:
    """The end of a requirement of pip that says where this package was installed from: a file, a
    folder or a commit; empty for one that an index has."""
    from importlib import metadata

    try:
        recorded = metadata.distribution("antioversmooth").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return ""
    if recorded is None:
        return ""
    found = json.loads(recorded)
    if repository := found.get("vcs_info"):
        return f" @ {repository['vcs']}+{found['url']}@{repository['commit_id']}"
    return f" @ {found['url']}"


def versions() -> str:
    """Versions of the package, with its commit where it is known, of Python, torch and timm."""
    # takes as long as all that `--help` loads
    from importlib import metadata

    def version(package: str) -> str:
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return "not installed"

    from antioversmooth import __version__

    return "\n".join(
        [
            f"antioversmooth {__version__} ({_origin()})",
            f"Python {sys.version.split()[0]}",
            *(f"{package} {version(package)}" for package in ("torch", "timm")),
        ]
    )


def _origin() -> str:
    record, project = built(), PACKAGE.parent
    if record:
        commit, dirty = record.commit, record.dirty or record.code != code_id(project)
    elif files_in_git(project):
        commit = git(project, "rev-parse", "HEAD")
        dirty = bool(git(project, "status", "--porcelain", "--", "antioversmooth"))
    else:
        commit, dirty = None, False
    changed = ", with uncommitted changes" if dirty else ""
    return f"commit {commit}{changed}" if commit else "commit unknown"


def files_in_git(project: Path) -> set[Path] | None:
    """The tracked files of the package, and new ones that are not ignored.

    None where git does not track the project: where the package was built and installed, also in a
    folder that a repository tracks, and where a repository around the project, such as that of the
    folder that a virtual environment lies in, ignores it.
    """
    if (project / "antioversmooth" / BUILT).exists():
        return None
    listed = git(project, "ls-files", "-z", "-co", "--exclude-standard", "--", "antioversmooth")
    known = {Path(name) for name in (listed or "").split("\0") if name}
    return known if Path("antioversmooth/__init__.py") in known else None


def git(project: Path, *arguments: str) -> str | None:
    """Output of a git command; None where there is no git, no repository or no commit."""
    command = ["git", *arguments]
    try:
        answer = subprocess.run(command, cwd=project, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    # files have any encoding
    return answer.stdout.decode(errors="replace").strip()

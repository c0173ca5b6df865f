"""Adds to the package what is not in its folder: the specs, and the code that it was built from."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

PROJECT = Path(__file__).resolve().parent
# a build has nothing of the project on its path, and none of its dependencies
sys.path.insert(0, str(PROJECT))

from antioversmooth.installation import (  # noqa: E402
    BUILT,
    TEMPLATE,
    Built,
    built,
    code_id,
    files_in_git,
    git,
)


def record() -> Built:
    """The code of this folder; the commit is that of the archive, or of git."""
    id = code_id(PROJECT)
    if archived := built(PROJECT / "antioversmooth"):
        return Built(archived.commit, archived.dirty or id != archived.code, id)
    if files_in_git(PROJECT) is None:
        return Built(None, False, id)
    changed = git(PROJECT, "status", "--porcelain", "--", "antioversmooth", "experiments")
    return Built(git(PROJECT, "rev-parse", "HEAD"), bool(changed), id)


def write_record(package: Path) -> None:
    """Writes the record into a package; the file may be a link to one elsewhere."""
    (package / BUILT).unlink(missing_ok=True)
    (package / BUILT).write_text(json.dumps(asdict(record())))


class BuildWithSpecs(build_py):
    """Builds the package with its specs and its record; an editable one has both in its folder."""

    def run(self) -> None:
        """Builds the package anew: of an earlier build nothing stays."""
        if self.editable_mode:
            super().run()
            return
        package = Path(self.build_lib, "antioversmooth")
        shutil.rmtree(package, ignore_errors=True)
        super().run()
        # a profile that a site keeps out of git stays out of the wheel, too
        private = shutil.ignore_patterns("local-*", ".*")
        shutil.copytree(
            PROJECT / "experiments", package / TEMPLATE.name / "experiments", ignore=private
        )
        write_record(package)


class SourceWithRecord(sdist):
    """Makes the source archive with its record, since there is no git where it is unpacked."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Copies the files of the archive, and adds the record."""
        super().make_release_tree(base_dir, files)
        write_record(Path(base_dir, "antioversmooth"))


setup(cmdclass={"build_py": BuildWithSpecs, "sdist": SourceWithRecord})

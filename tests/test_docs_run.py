"""Commands of the pages in blocks marked `sh run` work as they stand, in a project of their own.

The blocks of a page run one after the other. What a page needs first, and a reader has already,
is in a comment that begins with `run`. The recipes of that project's mini profile have one epoch.

Blocks marked `python run` of a page are one program, executed in this process in an empty folder;
what it needs first is in a comment that begins with `python run`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
RUNNABLE = re.compile(r"^```sh run\n(.*?)^```$|^<!-- run\n(.*?)^-->$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(
    r"^```python run\n(.*?)^```$|^<!-- python run\n(.*?)^-->$", re.MULTILINE | re.DOTALL
)


def blocks(form: re.Pattern[str]) -> dict[str, str]:
    """The blocks of a form, joined, by page."""
    return {
        str(page.relative_to(PROJECT)): "".join(map("".join, found))
        for page in [PROJECT / "README.md", *sorted(PROJECT.glob("docs/**/*.md"))]
        if "_build" not in page.parts and (found := form.findall(page.read_text()))
    }


PAGES = blocks(RUNNABLE)
PROGRAMS = blocks(PYTHON)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what git tracks, without runs, whose mini profile trains for one epoch."""
    listed = ["git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others"]
    names = subprocess.check_output([*listed, "--exclude-standard"], text=True).split("\0")
    copy = tmp_path / "a project"
    for name in filter(None, names):
        if (PROJECT / name).is_file() and not name.startswith("tests/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, copy / name)
    for recipe in (copy / "experiments" / "recipe" / "mini").glob("*.yaml"):
        recipe.write_text(re.sub(r"(?m)^epochs: \d+", "epochs: 1", recipe.read_text()))
        recipe.write_text(
            re.sub(r"(?m)^warmup_epochs: \d+", "warmup_epochs: 0", recipe.read_text())
        )
    return copy


@pytest.mark.parametrize("page", PAGES)
def test_the_runnable_commands_of_a_page_succeed(page: str, project: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key != "IMAGENET"}
    ended = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", PAGES[page]],
        cwd=project,
        env=environment | {"PATH": path, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-3000:]


@pytest.mark.parametrize("page", PROGRAMS)
def test_the_runnable_python_of_a_page_succeeds(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(PROGRAMS[page], {})


def test_pages_have_runnable_commands() -> None:
    assert {"docs/rows.md", "docs/results.md"} <= set(PAGES)
    assert {"docs/models.md", "docs/methods/gfsa.md"} <= set(PROGRAMS)

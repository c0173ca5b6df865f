"""Commands and Python examples of the pages work as they stand, in a project of their own.

Of a page, the blocks marked `sh run` run one after the other, in a copy of this project with small
models, made images and few epochs. Before them, blocks marked `yaml run PATH` are written to their
files. Then the blocks marked `python run` are executed in this process, as one program. What a page
needs first, and a reader has already, is in a comment that begins with `run` or `python run`.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from random import Random

import pytest
from PIL import Image

PROJECT = Path(__file__).parents[1]
PAGES = {
    str(page.relative_to(PROJECT)): page.read_text()
    for page in [PROJECT / "README.md", *sorted(PROJECT.glob("docs/**/*.md"))]
    if "_build" not in page.parts
}
BLOCK = "^```{0}\n(.*?)^```$|^<!-- {1}\n(.*?)^-->$"


def blocks(page: str, fence: str, comment: str) -> str:
    """The blocks of a page that are marked in one of two ways, joined."""
    form = re.compile(BLOCK.format(fence, comment), re.MULTILINE | re.DOTALL)
    return "".join(map("".join, form.findall(PAGES[page])))


COMMANDS = {page: found for page in PAGES if (found := blocks(page, "sh run", "run"))}
PROGRAMS = {page: found for page in PAGES if (found := blocks(page, "python run", "python run"))}
FILES = re.compile(r"^```yaml run (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home folder with what a reader has: photographs of birds, and an empty project's needs."""
    home, draw = tmp_path / "home", Random(0)
    for folder, images in {"birds/train": 8, "birds/val": 4, "photographs": 5}.items():
        for number in range(2 * images):
            path = home / folder / ("robin", "wren")[number % 2] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.frombytes("RGB", (40, 48), draw.randbytes(40 * 48 * 3)).save(path)
    digits = home / "digits"
    digits.mkdir()
    for split, images in {"train": 320, "t10k": 100}.items():
        pixels = struct.pack(">4i", 0x803, images, 28, 28) + draw.randbytes(images * 28 * 28)
        labels = struct.pack(">2i", 0x801, images) + bytes(index % 10 for index in range(images))
        (digits / f"{split}-images-idx3-ubyte").write_bytes(pixels)
        (digits / f"{split}-labels-idx1-ubyte").write_bytes(labels)
    return home


@pytest.fixture
def project(tmp_path: Path, home: Path) -> Path:
    """A copy of what git tracks, without runs. Its mini profile trains models of two blocks for one
    epoch on made digits. `make` finds this Python."""
    listed = ["git", "-C", str(PROJECT), "ls-files", "-z", "--cached", "--others"]
    names = subprocess.check_output([*listed, "--exclude-standard"], text=True).split("\0")
    copy = tmp_path / "a project"
    for name in filter(None, names):
        if (PROJECT / name).is_file() and not name.startswith("tests/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, copy / name)
    experiments = copy / "experiments"
    for model in experiments.glob("model/mini/*.yaml"):
        depth = "4\nstage_depths: [1, 1, 1, 1]" if "swin" in model.name else "2"
        model.write_text(f"{model.read_text()}depth: {depth}\n")
    replace_values(experiments.glob("recipe/mini/*.yaml"), epochs=1, warmup_epochs=0)
    digits = {"source": "idx", "num_train": 320, "num_val": 100}
    mini = experiments / "data" / "mini.yaml"
    replace_values([mini], **digits, fingerprint=f'""\nroot: "{home / "digits"}"')
    venv = copy / ".venv"
    venv.mkdir()
    for path in Path(sys.prefix).iterdir():
        (venv / path.name).symlink_to(path)
    (venv / ".installed").unlink(missing_ok=True)
    (venv / ".installed").touch()
    return copy


def replace_values(specs: Iterable[Path], **values: object) -> None:
    """Replaces the values of keys in the specs that have them."""
    for spec in specs:
        text = spec.read_text()
        for key, value in values.items():
            text = re.sub(rf"(?m)^{key}: .*", f"{key}: {value}", text)
        spec.write_text(text)


@pytest.mark.parametrize("page", sorted(COMMANDS | PROGRAMS))
def test_the_runnable_blocks_of_a_page_succeed(
    page: str, project: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in FILES.findall(PAGES[page]):
        (project / name).write_text(text)
    monkeypatch.chdir(project)
    monkeypatch.delenv("IMAGENET", raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", "")
    # a tracking server that is down, since the mirror has its own tests
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    bash = ["bash", "-euxo", "pipefail", "-c", COMMANDS.get(page, "")]
    ended = subprocess.run(bash, capture_output=True, text=True, timeout=900)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-3000:]
    exec(PROGRAMS.get(page, ""), {})


def test_pages_have_runnable_commands() -> None:
    assert {"docs/rows.md", "docs/results.md"} <= set(COMMANDS)
    assert {"docs/models.md", "docs/methods/gfsa.md"} <= set(PROGRAMS)

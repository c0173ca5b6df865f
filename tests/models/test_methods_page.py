"""The page on adding a method: its example works, and its tables are complete."""

from __future__ import annotations

import copy
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from comparison import assert_equal_numbers, gradients
from torch import Tensor, nn

from antioversmooth.methods import METHODS
from antioversmooth.models import add_method, remove_method
from antioversmooth.models.places import PLACERS
from benchmarks.textbook import share_random_scales, textbook

PROJECT = Path(__file__).parents[2]
PAGE = (PROJECT / "docs" / "methods.md").read_text()


@pytest.fixture
def _example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Imports the module that the page shows, and enters its method."""
    (_, module, *_) = PAGE.split("```python\n")
    (tmp_path / "valueskip.py").write_text(module.partition("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    method = importlib.import_module("valueskip").ValueSkip
    monkeypatch.setitem(METHODS, method.name, method)
    yield
    del sys.modules["valueskip"]


@pytest.mark.usefixtures("_example")
@pytest.mark.parametrize("kind", ["vit", "beit", "cait", "swin"])
def test_the_example_equals_its_textbook_form(
    build: Callable[..., nn.Module], images: Tensor, kind: str
) -> None:
    stock = build(kind).double()
    explicit = textbook(stock, valueskip={"factor": 2.0}).double()
    ours = add_method(copy.deepcopy(stock), "valueskip", factor=2.0)
    torch.testing.assert_close(ours(images.double()), stock(images.double()))
    share_random_scales(ours, explicit)
    found = [gradients(model, images.double()) for model in (ours, explicit)]
    assert_equal_numbers(*found, 1e-12)


@pytest.mark.usefixtures("_example")
def test_the_example_has_its_option_and_is_removed_at_zero(
    build: Callable[..., nn.Module],
) -> None:
    model = build("vit")
    with pytest.raises(ValueError, match="valueskip: factor=0 is not possible: above 0"):
        add_method(model, "valueskip", factor=0)
    before = [type(module) for module in model.modules()]
    remove_method(add_method(model, "valueskip"))
    assert [type(module) for module in model.modules()] == before


ROW_OF_THE_EXAMPLE = """
from pathlib import Path
from antioversmooth import spec

for profile in ("imagenet", "mini"):
    path = Path("experiments/deit_s12_valueskip.yaml")
    row = spec.load_experiment(path, [f"profile={profile}"])
    print(row.model.method, row.model.method_options)
"""


def test_the_files_of_the_example_are_a_row(tmp_path: Path) -> None:
    """In a copy of package and experiments: methods are found when the package is imported."""
    for folder in ("antioversmooth", "experiments"):
        shutil.copytree(PROJECT / folder, tmp_path / folder)
    _, module, *_ = PAGE.split("```python\n")
    _, method, row = PAGE.split("```yaml\n")
    for path, text in (
        ("antioversmooth/methods/valueskip.py", module),
        ("experiments/method/valueskip.yaml", method),
        ("experiments/deit_s12_valueskip.yaml", row),
    ):
        (tmp_path / path).write_text(text.partition("```")[0])
    command = [sys.executable, "-c", ROW_OF_THE_EXAMPLE]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.stdout.splitlines() == ["valueskip {'factor': 1.0}"] * 2, ended.stderr


def test_every_kind_of_method_is_on_the_page() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| `")]
    for kind in PLACERS:
        assert any(row.startswith(f"| `{kind.__name__}`") for row in rows), kind


def test_every_method_is_in_the_table_of_kinds() -> None:
    cells = [line.split("|")[-2].lower() for line in PAGE.splitlines() if line.startswith("| `")]
    assert [m.title for m in METHODS.values() if not any(m.title.lower() in c for c in cells)] == []


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_the_files_that_the_page_names(name: str) -> None:
    """AttnScale and FeatScale have the pages of the paper, its tables and models."""
    paths = ["antioversmooth/methods/<name>.py", "experiments/method/<name>.yaml"]
    if name not in ("attnscale", "featscale"):
        paths.append("docs/methods/<name>.md")
    for path in paths:
        assert f"`{path}`" in PAGE
        assert (PROJECT / path.replace("<name>", name)).is_file()

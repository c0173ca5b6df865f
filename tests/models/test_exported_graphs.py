"""Graphs of models with a method: `torch.export` and ONNX, each beside the eager model.

Logits of the exported program and of ONNX Runtime may differ from the eager ones by 1e-5 of the
largest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from backbones import randomised
from onnxruntime import InferenceSession
from timm.models.cait import Cait
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.export import ExportedProgram

from antioversmooth.models import add_method
from benchmarks.textbook import share_random_scales

TOLERANCE = 1e-5
"""Largest difference, as a part of the largest logit."""
TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 8, "num_classes": 3}
ONE_BLOCK = {**TINY, "depth": 1, "num_heads": 2}
BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "vit": lambda: VisionTransformer(**ONE_BLOCK),
    "cait": lambda: Cait(**ONE_BLOCK, depth_token_only=1, init_values=0.5),
    # the second block shifts its windows, and masks pairs
    "swin": lambda: SwinTransformer(**TINY, depths=(2,), num_heads=(2,), window_size=2),
}
FAMILY = pytest.mark.parametrize("kind", BACKBONES)
METHOD = pytest.mark.parametrize("method", ["attnscale", "featscale"])
PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
(LINES,) = re.findall(r"^```python\n(import onnxruntime.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def scaled(kind: str, method: str) -> nn.Module:
    """A small model with a method whose scales are not zero."""
    torch.manual_seed(0)
    model = add_method(randomised(BACKBONES[kind]()), method).eval()
    share_random_scales(model)
    return model


def run_page(model: nn.Module, images: Tensor) -> tuple[ExportedProgram, InferenceSession]:
    """Executes the lines of docs/models.md, in the working directory."""
    names: dict[str, Any] = {"model": model, "images": images}
    exec(LINES, names)
    return names["program"], names["session"]


def assert_close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= TOLERANCE * expected.abs().max()


def logits(session: InferenceSession, images: Tensor) -> Tensor:
    (name,) = (one.name for one in session.get_inputs())
    return torch.as_tensor(session.run(None, {name: images.numpy()})[0])


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@FAMILY
@METHOD
@torch.no_grad()
def test_the_lines_of_the_page_make_graphs_of_any_batch(kind: str, method: str) -> None:
    model, images = scaled(kind, method), torch.randn(5, 3, 16, 16)
    program, session = run_page(model, images[:2])
    for count in (1, 2, 5):
        expected = model(images[:count])
        assert_close(program.module()(images[:count]), expected)
        assert_close(logits(session, images[:count]), expected)


@FAMILY
@METHOD
@torch.no_grad()
def test_a_graph_of_one_batch_computes_the_eager_logits(kind: str, method: str) -> None:
    model, images = scaled(kind, method), torch.randn(2, 3, 16, 16)
    program = torch.export.export(model, (images,))
    torch.onnx.export(program, dynamo=True, verbose=False).save("fixed.onnx")
    assert_close(program.module()(images), model(images))
    assert_close(logits(InferenceSession("fixed.onnx"), images), model(images))


@FAMILY
@METHOD
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_a_trace_of_one_batch_computes_the_eager_logits(kind: str, method: str) -> None:
    """torch.jit.trace reads every property of every layer."""
    model, images = scaled(kind, method), torch.randn(2, 3, 16, 16)
    traced: Any = torch.jit.trace(model, images)
    assert_close(traced(images), model(images))

"""Scaled models beside timm's own and beside the scalings written out: time, memory and the two
exact measures."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antioversmooth.models.placement import add_method
from benchmarks.textbook import share_random_scales, textbook
from benchmarks.timing import Clock, Times, interleaved, peak_bytes
from benchmarks.traffic import step_traffic

PLAIN = "plain"
SCALINGS = ("attnscale", "featscale")
"""The paper's methods, each beside its explicit form in every family."""
EXACT_IMAGES = 8
"""Images of the step whose bytes are counted, as where test_traffic.py holds DeiT's goals.

The fewer images, the more weigh weights that are folded once a step; half as many are timed, which
is minutes already.
"""


@dataclass(frozen=True)
class Case:
    """A backbone to compare variants of."""

    name: str
    tag: str
    """timm's name of the model."""
    images_shape: tuple[int, int, int, int]
    """[B, channels, height, width] of a batch."""
    sizes: dict[str, Any]
    """Arguments that differ from those of timm's model."""


CASES = (
    Case("DeiT-S", "deit_small_patch16_224", (4, 3, 224, 224), {}),
    Case("CaiT-S24", "cait_s24_224", (4, 3, 224, 224), {}),
    Case("Swin-S", "swin_small_patch4_window7_224", (4, 3, 224, 224), {"drop_path_rate": 0.0}),
)
_SMALL = {"img_size": 32, "num_classes": 5}
QUICK_CASES = (
    Case("DeiT-S", "deit_small_patch16_224", (2, 3, 32, 32), {**_SMALL, "depth": 1}),
    Case("CaiT-S24", "cait_s24_224", (2, 3, 32, 32), {**_SMALL, "depth": 1}),
    Case(
        "Swin-S",
        "swin_small_patch4_window7_224",
        (2, 3, 32, 32),
        {**_SMALL, "depths": (1, 1), "num_heads": (3, 6), "window_size": 4, "drop_path_rate": 0.0},
    ),
)
"""The same, small enough for a test."""


def variants_of(case: Case) -> dict[str, nn.Module]:
    """timm's model, and both scalings in our form and in the explicit one, with non-zero scales and
    equal weights."""
    plain = timm.create_model(case.tag, **case.sizes)
    # the released code adds FeatScale's terms twice in DeiT only
    doubled = case.name.startswith("DeiT")
    variants = {PLAIN: plain}
    for name in SCALINGS:
        ours = add_method(copy.deepcopy(plain), name)
        explicit = textbook(plain, **{name: True}, doubled=doubled)
        share_random_scales(ours, explicit)
        variants |= {name: ours, f"{name}, explicit": explicit}
    return variants


def compare(case: Case, device: torch.device, clock: Clock, *, rounds: int) -> dict[str, Any]:
    """All that is measured of a backbone's variants; times as seconds of each round."""
    variants = {name: model.to(device).train() for name, model in variants_of(case).items()}
    images = torch.randn(case.images_shape, device=device)
    labels = torch.zeros(len(images), dtype=torch.long, device=device)
    counted = (EXACT_IMAGES, *case.images_shape[1:])
    traffic = {name: step_traffic(model, counted) for name, model in variants.items()}
    steps = {name: TrainingStep(model, images, labels) for name, model in variants.items()}
    passes = {name: step.backward for name, step in steps.items()}
    return {
        "images": len(images),
        "exact_images": EXACT_IMAGES,
        "saved_bytes": {name: found.saved for name, found in traffic.items()},
        "moved_bytes": {name: found.moved for name, found in traffic.items()},
        "peak_bytes": {name: peak_bytes(call, device) for name, call in passes.items()},
        "forward_s": interleaved(
            {n: partial(_infer, m, images) for n, m in variants.items()}, clock, rounds=rounds
        ),
        "step_s": interleaved(steps, clock, rounds=rounds),
    }


class TrainingStep:
    """Forward, backward and AdamW."""

    def __init__(self, model: nn.Module, images: Tensor, labels: Tensor) -> None:
        self.model, self.images, self.labels = model, images, labels
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

    def __call__(self) -> None:
        """One step."""
        self.backward()
        self.optimizer.step()

    def backward(self) -> None:
        """Fresh gradients of the loss."""
        self.optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(self.model(self.images), self.labels).backward()


def compare_attention(
    case: Case, device: torch.device, clock: Clock, *, rounds: int
) -> dict[str, Times]:
    """Seconds of a ViT's first attention layer alone, in each of its variants: there nothing
    dilutes what is added."""
    layers = {
        name: _attention_layer(model.to(device).eval()) for name, model in variants_of(case).items()
    }
    tokens = torch.randn(8, 1 + (case.images_shape[-1] // 16) ** 2, 384, device=device)
    return {
        "forward_s": interleaved(
            {n: partial(_infer, m, tokens) for n, m in layers.items()}, clock, rounds=rounds
        ),
        "backward_s": interleaved(
            {n: partial(_forward_backward, m, tokens) for n, m in layers.items()},
            clock,
            rounds=rounds,
        ),
    }


def _attention_layer(model: Any) -> nn.Module:
    """With FeatScale's explicit form in its hook, and ours in its projection."""
    layer: nn.Module = model.blocks[0].attn
    return layer


def _infer(model: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
    with torch.no_grad():
        model(inputs)


def _forward_backward(model: nn.Module, inputs: Tensor) -> None:
    model.zero_grad(set_to_none=True)
    model(inputs).sum().backward()

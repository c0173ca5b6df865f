"""Two models side by side: their logits and every gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.textbook import named


def gradients(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Logits, and the gradient of every parameter of a sum-of-squares loss; dropout and drop path
    seeded."""
    torch.manual_seed(7)
    model.zero_grad()
    outputs = model(images)
    # a distilled model in training returns two outputs
    logits = torch.cat(outputs, -1) if isinstance(outputs, tuple) else outputs
    logits.square().sum().backward()
    found = {name: p.grad for name, p in named(model).items() if p.grad is not None}
    return {"logits": logits.detach(), **found}


def assert_equal_numbers(
    ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float
) -> None:
    """Every tensor within `tolerance` of the largest entry of its reference, or of 1 where that is
    smaller."""
    assert ours.keys() == theirs.keys()
    for name, reference in theirs.items():
        error = (ours[name] - reference).abs().max() / reference.abs().max().clamp(min=1)
        assert error <= tolerance, f"{name}: {error:.2e}"

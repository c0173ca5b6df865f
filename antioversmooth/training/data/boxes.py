"""Rectangles of the images of a batch, drawn on the host and painted on the device at once."""

from __future__ import annotations

import torch
from torch import Tensor


def inside(low: Tensor, high: Tensor, side: int) -> Tensor:
    """Whether each pixel lies in its image's rectangle; [B, 1, S, S].

    Args:
        low: First row and first column, [B, 2]; on the device.
        high: The ones behind the last, [B, 2]; an empty rectangle where they are equal.
        side: S.
    """
    lines = torch.arange(side, device=low.device)
    within = (lines >= low[:, :, None]) & (lines < high[:, :, None])
    rows, columns = within.unbind(1)
    return (rows[:, :, None] & columns[:, None, :])[:, None]

"""Randomness without state: each draw is a function of the run's seed and its position in the run.

No generator is carried from one step to the next. So a resumed run needs no random state, and the
number of processes, workers, nodes or micro-batches cannot change a draw.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np
import torch


def seed_for(run_seed: int, purpose: str, *coordinates: int) -> int:
    """A 63-bit seed for one draw.

    Args:
        purpose: order, view, erase, mix, dropout or weights, so that two draws at one position
            differ.
        coordinates: Position in the run: epoch, step, number of a view, of a layer, of a group, ...
    """
    position = ":".join(map(str, (run_seed, purpose, *coordinates)))
    digest = hashlib.blake2b(position.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def seed_everything(seed: int) -> None:
    """Seeds all generators of timm and torch: Python's, NumPy's, torch's of CPU and current GPU."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # Not torch.manual_seed: for unused devices it records the seed with a stack trace, 2 ms a call.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)

"""Randomness without state: each draw is a function of the run's seed and its position in the run.

No generator is carried from one step to the next. So a resumed run needs no random state, and the
number of processes, workers, nodes or micro-batches cannot change a draw. A change of what is drawn
is a new version in `runs.draws`.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_GOLDEN = 0x9E3779B97F4A7C15
"""Step of SplitMix64's counter: 2^64 divided by the golden ratio."""


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


def uniform(
    run_seed: int, purpose: str, positions: npt.ArrayLike, columns: int
) -> npt.NDArray[np.float64]:
    """Numbers from [0, 1) for many positions at once; [number of positions, columns].

    A row is a function of its own position alone, whatever others are drawn with it: the stream of
    SplitMix64 (Steele et al., 2014, https://doi.org/10.1145/2660193.2660195) that starts at the
    position's own number.

    Args:
        purpose: As of `seed_for`.
        positions: Integers, [number of positions].
    """
    counts = np.arange(1, columns + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    key = np.uint64(seed_for(run_seed, purpose))
    starts = _mixed(key + np.asarray(positions, np.uint64) * np.uint64(_GOLDEN))
    numbers = _mixed(starts[:, None] + counts)
    # the 53 bits of a double
    return (numbers >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's output function."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))


def rows_by_group(
    first: int,
    rows: torch.Tensor,
    group: int,
    fill: Callable[[int, torch.Tensor], object],
) -> None:
    """Fills rows so that each depends on its position alone: groups of rows are drawn whole.

    Args:
        first: Position of the first row.
        rows: [number of rows, ...], contiguous.
        group: Rows that share a draw; the groups follow one another from position 0.
        fill: Fills the [group, ...] rows of a group, given its number.
    """
    numbers = range(first // group, -(-(first + len(rows)) // group))
    whole = len(rows) == len(numbers) * group
    drawn = rows if whole else rows.new_empty(len(numbers) * group, *rows.shape[1:])
    for number, part in zip(numbers, drawn.split(group), strict=True):
        fill(number, part)
    if not whole:
        start = first - numbers[0] * group
        rows.copy_(drawn[start : start + len(rows)])


@cache
def generator_on(device: torch.device) -> torch.Generator:
    """A generator for draws on a device, which each of them seeds anew."""
    return torch.Generator(device)


def seed_everything(seed: int) -> None:
    """Seeds all generators of timm and torch: Python's, NumPy's, torch's of CPU and current GPU."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    # Not torch.manual_seed: for unused devices it records the seed with a stack trace, 2 ms a call.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(seed)


State = tuple[Any, Any, torch.Tensor]
"""Of Python's generator, NumPy's, and torch's of the CPU."""


def generator_states() -> State:
    """The states of the generators on the CPU."""
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def restore_generators(state: State) -> None:
    """Has the generators on the CPU go on from a state."""
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])

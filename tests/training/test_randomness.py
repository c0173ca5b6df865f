from __future__ import annotations

import numpy as np
import torch

from antioversmooth.training.randomness import rows_by_group, uniform


def test_a_position_has_its_numbers_whatever_is_drawn_with_it() -> None:
    together = uniform(3, "erase", range(100, 108), 5)
    for row, position in enumerate(range(100, 108)):
        assert np.array_equal(uniform(3, "erase", [position], 5)[0], together[row])
        assert np.array_equal(uniform(3, "erase", [position], 3)[0], together[row, :3])


def test_numbers_are_those_of_splitmix64() -> None:
    """The generator written out, one number after another, with its published constants."""
    ones = 2**64 - 1

    def mixed(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & ones
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & ones
        return z ^ (z >> 31)

    # the first three outputs of the reference implementation with seed 1234567
    state, found = 1234567, []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & ones
        found.append(mixed(state))
    assert found == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    for position in (0, 7, 2**40):
        key = uniform.__globals__["seed_for"](5, "drop path")
        state = mixed((key + position * 0x9E3779B97F4A7C15) & ones)
        expected = []
        for _ in range(4):
            state = (state + 0x9E3779B97F4A7C15) & ones
            expected.append((mixed(state) >> 11) / 2**53)
        assert uniform(5, "drop path", [position], 4)[0].tolist() == expected


def test_numbers_are_uniform_and_rows_and_columns_have_nothing_in_common() -> None:
    """10,000 positions in a row, as views are numbered."""
    numbers = uniform(0, "drop path", range(10_000), 16)
    counts = [np.histogram(column, bins=10, range=(0, 1))[0] for column in numbers.T]
    # 1,000 a bin, five standard deviations
    assert np.abs(np.array(counts) - 1000).max() < 150
    for one in (numbers.T, np.concatenate([numbers[:-1].T, numbers[1:].T])):
        correlation = np.corrcoef(one) - np.eye(len(one))
        assert np.abs(correlation).max() < 0.05
    other = uniform(0, "erase", range(10_000), 16)
    assert abs(np.corrcoef(numbers.ravel(), other.ravel())[0, 1]) < 0.02


def test_rows_depend_on_their_position_alone() -> None:
    def fill(number: int, part: torch.Tensor) -> None:
        part.copy_(10 * number + torch.arange(len(part))[:, None])

    whole = torch.empty(12, 2)
    rows_by_group(0, whole, 4, fill)
    assert whole[:, 0].tolist() == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    for first, count in ((0, 4), (4, 8), (3, 6), (9, 1)):
        part = torch.empty(count, 2)
        rows_by_group(first, part, 4, fill)
        assert torch.equal(part, whole[first : first + count])

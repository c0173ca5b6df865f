"""Variants are interleaved, and compared within a round."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from benchmarks.timing import interleaved, relative, spread, time_process


def test_each_round_calls_every_variant_once_and_begins_one_further_on():
    called: list[str] = []

    def clock(call: Callable[[], object]) -> float:
        call()
        return 1.0

    variants = {name: lambda name=name: called.append(name) for name in "abc"}
    times = interleaved(variants, clock, rounds=3)
    # the first round is untimed
    assert "".join(called) == "abc" + "abc" + "bca" + "cab"
    assert times == {name: [1.0] * 3 for name in "abc"}


def test_ratios_are_taken_within_a_round():
    """A machine that becomes ten times slower changes no ratio."""
    found = relative({"plain": [1.0, 10.0, 1.0], "ours": [2.0, 20.0, 2.0]}, "plain")
    assert (found["ours"].low, found["ours"].median, found["ours"].high) == (2, 2, 2)


def test_a_spread_is_the_middle_half():
    found = spread([5.0, 1.0, 2.0, 4.0, 3.0])
    assert (found.low, found.median, found.high) == (2, 3, 4)
    assert spread([7.0]).median == pytest.approx(7)


def test_a_process_that_ends_otherwise_than_expected_is_an_error():
    fails = [sys.executable, "-c", "raise SystemExit('out of order')"]
    with pytest.raises(RuntimeError, match="ended with 1: out of order"):
        time_process(fails)
    cpu, wall = time_process(fails, exit_code=1)
    assert cpu > 0
    assert wall > 0

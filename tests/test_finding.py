"""Findings survive the way through a file, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest

from antioversmooth.errors import ResultError
from antioversmooth.finding import Finding, Level, Place

FINDING = Finding(
    "free space",
    Level.wrong,
    "3 MB free in \u00fcber/results\nand a second line",
    "free some space",
    {"free_bytes": 3e6, "host": "node1"},
    Place.nodes,
)


def test_a_finding_is_one_line_and_comes_back_equal() -> None:
    line = FINDING.to_line()
    assert "\n" not in line
    assert Finding.from_line(line) == FINDING


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{",
        "[]",
        "null",
        FINDING.to_line()[:-5],
        json.dumps({**json.loads(FINDING.to_line()), "level": "fatal"}),
        json.dumps({**json.loads(FINDING.to_line()), "place": "moon"}),
        json.dumps({**json.loads(FINDING.to_line()), "values": [1]}),
    ],
)
def test_a_torn_or_foreign_line_is_a_result_error(line: str) -> None:
    with pytest.raises(ResultError):
        Finding.from_line(line)


def test_numbers_that_are_not_finite_become_words() -> None:
    line = Finding("speed", Level.ok, "fast", values={"images_per_s": float("nan")}).to_line()
    assert Finding.from_line(line).values == {"images_per_s": "NaN"}

"""A method keeps its colour."""

from __future__ import annotations

import pytest

from antioversmooth.analysis.drawing import appearance, palette_indices


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["DeiT-S", "DeiT-S + AttnScale", "DeiT-S + FeatScale"], [0, 1, 2]),
        (["DeiT-S + FeatScale", "DeiT-S"], [2, 0]),
        (["DeiT-S + AttnScale"], [1]),
        (
            ["DeiT-S + FeatScale, 1 + 2s", "DeiT-S + FeatScale, 1 + s", "DeiT-S", "Swin-S"],
            [2, 3, 0, 4],
        ),
        ([], []),
    ],
)
def test_a_method_has_the_same_colour_in_every_figure(
    labels: list[str], expected: list[int]
) -> None:
    assert palette_indices(labels) == expected


def test_more_lines_than_colours_all_look_different() -> None:
    looks = [appearance(index) for index in range(30)]
    assert len(set(looks)) == len(looks)
    assert looks[0] == ("#0072B2", "o")

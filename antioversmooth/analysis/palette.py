"""Which of a palette's colours a row has: the same for a method in every figure, whichever rows are
there."""

from __future__ import annotations

from collections.abc import Sequence

from antioversmooth.methods import METHODS

BASELINE = 0
PLACES = {method.title: place for place, method in enumerate(METHODS.values(), start=1)}
"""Place in a palette of the method whose title is in the label of a row."""


def places(labels: Sequence[str]) -> list[int]:
    """A place in the palette for each label, no place twice.

    The first row of a kind has the place that is kept for its kind; further ones have those behind.
    """
    taken: list[int] = []
    beyond = 1 + max(PLACES.values())
    for label in labels:
        kept = next((place for method, place in PLACES.items() if method in label), BASELINE)
        place = kept if kept not in taken else max(beyond, 1 + max(taken))
        taken.append(place)
    return taken

"""The sentences of methods that count blocks or tokens."""

from __future__ import annotations

from typing import Any

import pytest

from antioversmooth.methods.family import Family
from antioversmooth.methods.registry import method_named


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "classattention",
            {},
            "Class attention: 1 block of it, in place of the last block of self-attention, without"
            " LayerScale",
        ),
        (
            "classattention",
            {"blocks": 2, "replaces": 3, "layer_scale": 0.1},
            "Class attention: 2 blocks of it, in place of the last 3 blocks of self-attention, with"
            " LayerScale",
        ),
        (
            "classattention",
            {"replaces": 0},
            "Class attention: 1 block of it, behind all blocks of self-attention, without"
            " LayerScale",
        ),
        ("lateinsertion", {"at": 1}, "Late insertion: the class token enters behind 1 block"),
        ("lateinsertion", {"at": 8}, "Late insertion: the class token enters behind 8 blocks"),
        (
            "lateinsertion",
            {"at": -1},
            "Late insertion: the class token enters in front of the last block",
        ),
        (
            "lateinsertion",
            {"at": -2},
            "Late insertion: the class token enters in front of the last 2 blocks",
        ),
        ("registers", {"count": 1}, "1 register token is in the similarity of all tokens"),
        ("registers", {"count": 4}, "4 register tokens are in the similarity of all tokens"),
    ],
)
def test_one_block_and_several_are_counted_in_grammar(
    name: str, options: dict[str, Any], said: str
) -> None:
    sentences = list(method_named(name, **options).sentences(next(iter(Family))))
    assert any(sentence.startswith(said) for sentence in sentences), sentences

"""Names that a message suggests for one that is mistyped."""

from __future__ import annotations

import pytest

from antioversmooth.errors import did_you_mean, similar


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("AdamW", ["adamw"]),
        ("NADAM", ["nadam"]),
        ("ADAMX", ["adam", "radam"]),
        ("lamb", ["Lamb"]),
        ("zzz", []),
    ],
)
def test_names_are_compared_without_case(word: str, meant: list[str]) -> None:
    assert similar(word, ["adam", "radam", "nadam", "adamw", "Lamb"]) == meant


def test_a_name_in_another_case_is_the_only_suggestion() -> None:
    assert did_you_mean("DEIT_S12", ["deit_s12", "deit_s24"]) == "did you mean `deit_s12`?"

from __future__ import annotations

from typing import Any

import pytest

from antioversmooth.errors import UserError
from benchmarks.trials import markdown, with_table


def test_a_row_has_the_means_of_its_seeds_and_their_differences_from_the_same_seeds() -> None:
    def seed(shift: float, **scales: float) -> dict[str, Any]:
        return {
            "training loss": 0.5 + shift,
            "similarity of tokens": 0.7 - shift,
            "similarity of attention maps": 0.9,
            "top-1 (%)": 94.0,
            "mean size of scales": scales,
        }

    plain = {"0": seed(0), "2": seed(0.02)}
    scaled = {"2": seed(0.03, s=0.25, t=0.5), "3": seed(0.05, s=0.75, t=0.5)}
    rows = {
        "plain": {"group": "bare", "label": "plain", "baseline": None, "seeds": plain},
        "scaled": {"group": "bare", "label": "scaled", "baseline": "plain", "seeds": scaled},
    }
    assert markdown(rows).splitlines()[2:] == [
        "| bare | plain | 0, 2 | 0.510 | 0.690 | 0.900 | 94.0 |  |",
        "|  | scaled | 2, 3 | 0.540 (+0.010) | 0.660 (−0.010) | 0.900 (+0.000) | 94.0 (+0.0) |"
        " s 0.50, t 0.50 |",
    ]


def test_the_table_replaces_the_one_in_the_page_and_nothing_else() -> None:
    page = "before\n<!-- trials:begin -->\n| old |\n<!-- trials:end -->\nbehind\n"
    assert with_table(page, "trials", "| new |\n") == page.replace("old", "new")
    with pytest.raises(UserError, match="needs <!-- others:begin -->"):
        with_table(page, "others", "| new |\n")

from __future__ import annotations

from typing import Any

import pytest

from antioversmooth.errors import UserError
from benchmarks.trials import markdown, with_table


def test_a_row_has_mean_and_spread_of_its_seeds_and_the_first_of_a_group_names_it() -> None:
    def seed(shift: float, **scales: float) -> dict[str, Any]:
        return {
            "training loss": 0.5 + shift,
            "similarity of tokens": 0.7 + shift,
            "similarity of attention maps": 0.9,
            "mean size of scales": scales,
            "top-1 (%)": 94.0,
        }

    rows = [
        {"group": "bare", "label": "plain", "seeds": {"0": seed(0), "2": seed(0.02)}},
        {"group": "bare", "label": "scaled", "seeds": {"0": seed(0, s=0.25, t=0.5)}},
    ]
    assert markdown(rows).splitlines()[2:] == [
        "| bare | plain | 0, 2 | 0.510 ± 0.014 | 0.710 ± 0.014 | 0.900 ± 0.000 | 94.0 ± 0.0 |  |",
        "|  | scaled | 0 | 0.500 | 0.700 | 0.900 | 94.0 | s 0.25, t 0.50 |",
    ]


def test_the_table_replaces_the_one_in_the_page_and_nothing_else() -> None:
    page = "before\n<!-- trials:begin -->\n| old |\n<!-- trials:end -->\nbehind\n"
    assert with_table(page, "trials", "| new |\n") == page.replace("old", "new")
    with pytest.raises(UserError, match="needs <!-- others:begin -->"):
        with_table(page, "others", "| new |\n")

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from antioversmooth.cli.exit_codes import USER_ERROR
from antioversmooth.errors import UserError
from benchmarks.effects import (
    DIGITS,
    LOSS,
    SCALES,
    main,
    markdown,
    require_all_measured,
    with_table,
)


def test_a_row_has_the_means_of_its_seeds_and_their_differences_from_the_same_seeds() -> None:
    def seed(shift: float, **scales: float) -> dict[str, Any]:
        return {
            "training loss": 0.5 + shift,
            "similarity of tokens": 0.7 - shift,
            "energy, HC / DC": 0.5,
            "similarity of maps": 0.9,
            "similarity of maps, all layers": 0.8,
            "top-1 (%)": 94.0,
            "mean size of scales": scales,
        }

    plain = {"0": seed(0), "2": seed(0.02), "3": seed(0)}
    scaled = {"2": seed(0.03, s=0.25, t=0.5), "3": seed(0.05, s=0.75, t=0.5)}
    rows = {
        "plain": {"group": "bare", "label": "plain", "baseline": None, "seeds": plain},
        "scaled": {"group": "bare", "label": "scaled", "baseline": "plain", "seeds": scaled},
    }
    # the differences .01 and .05: mean .03, standard error .02, Student's quantile 12.706
    plain_cells = "| bare | plain | 0, 2, 3 | 0.507 | 0.693 | 0.50 | 0.900 | 0.800 | 94.0 |  |"
    assert markdown(rows).splitlines()[2:] == [
        plain_cells,
        "|  | scaled | 2, 3 | 0.540; +0.030 [−0.224, +0.284] | 0.660; −0.030 [−0.284, +0.224] |"
        " 0.50; +0.00 | 0.900; +0.000 | 0.800; +0.000 | 94.0; +0.0 | s 0.50, t 0.50 |",
    ]


def test_a_difference_whose_interval_leaves_out_zero_is_bold() -> None:
    def rows_of(values: list[float]) -> dict[str, Any]:
        numbers = dict.fromkeys(DIGITS, 1.0)
        seeds = {str(i): {**numbers, LOSS: 1 + v, SCALES: {}} for i, v in enumerate(values)}
        return {"group": "", "label": "", "baseline": "plain", "seeds": seeds}

    plain, scaled = rows_of([0.0, 0.0]), rows_of([0.100, 0.101])
    assert "**+0.101 [+0.094, +0.107]**" in markdown({"plain": plain, "scaled": scaled})


def test_the_table_replaces_the_one_in_the_page_and_nothing_else() -> None:
    page = "before\n<!-- trials:begin -->\n| old |\n<!-- trials:end -->\nbehind\n"
    assert with_table(page, "trials", "| new |\n") == page.replace("old", "new")
    with pytest.raises(UserError, match="needs <!-- others:begin -->"):
        with_table(page, "others", "| new |\n")


def test_measured_runs_are_never_replaced_by_fewer(tmp_path: Path) -> None:
    two: dict[str, Any] = {"plain": {"seeds": {"0": {}, "1": {}}}}
    one: dict[str, Any] = {"plain": {"seeds": {"0": {}}}}
    require_all_measured(one, two, tmp_path)
    with pytest.raises(UserError, match="not done here: plain seed 1; train"):
        require_all_measured(two, one, tmp_path)
    with pytest.raises(UserError, match="no run of this table is done"):
        require_all_measured({}, {}, tmp_path)


def test_without_runs_neither_the_page_nor_the_numbers_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- smoke:begin -->\n| 1 |\n<!-- smoke:end -->\n")
    words = ["smoke", "profile=mini", f"cluster.results={tmp_path}/results"]
    assert main([*words, "--page", str(page)]) == USER_ERROR
    assert "no run of this table is done" in capsys.readouterr().err
    assert "| 1 |" in page.read_text()
    assert not list(tmp_path.rglob("*.effects.json"))

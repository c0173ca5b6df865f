"""Tables of text on streams and on terminals."""

from __future__ import annotations

import io
import re

import pytest

from antioversmooth.text_table import TextColumn, show_columns

COLUMNS = [
    TextColumn("run", ["deit_s12_attnscale seed 0"], True, 1, no_wrap=True),
    TextColumn("id", ["1f05bc94"], True, 3, no_wrap=True),
    TextColumn("batch", ["1 x 64 x 1 = 64"], True, 2, no_wrap=True),
]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_stream_gets_every_column() -> None:
    out = io.StringIO()
    show_columns(COLUMNS, out, "what it says")
    assert out.getvalue().split() == [
        *("run", "id", "batch"),
        *("deit_s12_attnscale", "seed", "0", "1f05bc94", "1", "x", "64", "x", "1", "=", "64"),
        *("what", "it", "says"),
    ]


@pytest.mark.parametrize(("width", "missing"), [(100, []), (50, ["id"]), (30, ["id", "batch"])])
def test_a_narrow_terminal_gets_whole_columns_and_the_names_of_the_others(
    width: int, missing: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    out = Terminal()
    show_columns(COLUMNS, out, "what it says")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()
    text = " ".join(" ".join(lines).split())
    for column in COLUMNS:
        assert (column.cells[0] in text) == (column.header not in missing)
    wider = f"A wider terminal has room for: {', '.join(missing)}."
    assert (wider in text) == bool(missing)
    assert all(len(line) <= width for line in lines)

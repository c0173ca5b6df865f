"""Text from elsewhere commands no terminal, is no markup and no formula."""

from __future__ import annotations

import contextlib
import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antioversmooth.text import csv_cell, one_line, open_console, visible, visible_output, wrapped

HOSTILE = (
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\x9b31m",
    "\x08\x08\x08",
    "\u202edrowssap",
    "\u2066x\u2069",
    "a\u2028b",
    "\x00",
    "\ud800",
    "\U000e0041",
)


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_characters_that_command_hide_or_cannot_be_written_are_shown_as_codes(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    assert shown.encode()
    assert json.loads(f'"{shown}"') == text


@pytest.mark.parametrize("text", ["", "a\tb\nc", "± − × é 中文", "👩‍🚀", "[/x] \\n {}"])
def test_plain_text_stays(text: str) -> None:
    assert visible(text) == text


@given(st.text())
def test_visible_text_is_visible_already_and_json_keeps_its_value(text: str) -> None:
    assert visible(visible(text)) == visible(text)
    for spelled in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        assert json.loads(visible(spelled)) == text


def test_a_carriage_return_overwrites_nothing() -> None:
    assert visible("all is well\rERROR\r\nend") == "all is well\nERROR\nend"
    assert one_line("a\r\n\t b\x85c") == "a b c"


@pytest.mark.parametrize(
    "text",
    ["=HYPERLINK(1)", "+1+cmd|", "-2+3", "@SUM(1)", "  =1", "\t=1", "\r=1", "＝1", "\xa0=1"],
    ids=ascii,
)
def test_a_formula_is_text_in_a_cell(text: str) -> None:
    assert csv_cell(text) == "'" + " ".join(text.split())


def test_the_cell_after_a_semicolon_is_no_formula_either() -> None:
    assert csv_cell("a; =1") == "a; '=1"


@pytest.mark.parametrize("value", [-0.3, 7, None, True, "-0.3", "+1e-5", "DeiT-S + AttnScale", ""])
def test_numbers_and_plain_texts_stay_in_a_cell(value: object) -> None:
    assert csv_cell(value) == value


def test_prints_are_visible_and_the_streams_come_back() -> None:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        with visible_output():
            print("log \x1b[2J", flush=True)
            print("no", "such \x07", sep="\x9b", file=sys.stderr)
            assert not sys.stdout.isatty()
        assert sys.stdout is out
    assert out.getvalue() == "log \\u001b[2J\n"
    assert err.getvalue() == "no\\u009bsuch \\u0007\n"


@pytest.mark.parametrize(
    "text",
    ["[/pytorch/pair.cc:537] closed", "[link=file:///etc/passwd]x[/link]", ":smile:", "[red]x"],
)
def test_a_console_reads_no_markup_in_any_text_of_a_table(text: str) -> None:
    from rich.table import Table

    out = io.StringIO()
    console = open_console(out, width=200)
    table = Table(f"head {text}", title=f"title {text}", caption=f"caption {text} \x1b]8;;x")
    table.add_row(f"cell {text}")
    console.print(table)
    console.print(f"line {text}")
    for part in ("head", "title", "caption", "cell", "line"):
        assert f"{part} {text}" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_a_sentence_breaks_between_words_and_a_long_word_stays_whole() -> None:
    path = "/scratch/" + "a" * 30
    text = f"the run of {path} has ended, and `launch.py --follow deit_s12` goes on"
    lines = wrapped(text, 24).split("\n")
    assert [word for line in lines for word in line.split(" ")] == text.split(" ")
    assert path in lines
    assert "`launch.py --follow deit_s12`" in lines
    assert all(
        len(line) <= 24 or len(line) == len(line.strip("`")) + 2 or line == path for line in lines
    )


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ("/a b: not there", ["/a b: not", "there"]),
        ("--split goes with a folder", ["--split", "goes with", "a folder"]),
        ("'x' is no number", ["'x' is no", "number"]),
        ("- an item goes on", ["- an item", "  goes on"]),
        ("  = a note goes on", ["  = a note", "    goes", "    on"]),
    ],
)
def test_a_sentence_that_begins_with_a_sign_breaks_too(line: str, rows: list[str]) -> None:
    assert wrapped(line, 10).split("\n") == rows


@pytest.mark.parametrize(
    "line",
    [
        "    srun a b c d e f g",
        "| a | b | c | d | e |",
        "#SBATCH -N 2 -n 3 -c 4",
        "--- --- --- ---",
    ],
)
def test_scripts_tables_and_paths_are_not_wrapped(line: str) -> None:
    assert wrapped(line, 10) == line

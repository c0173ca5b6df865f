"""The JSON of a table that somebody sent: typed, then rendered beside itself."""

from __future__ import annotations

import copy
import csv
import io
import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from antioversmooth.cli.main import main
from antioversmooth.config import Table, TableRow
from antioversmooth.errors import SpecError
from antioversmooth.reporting.rendering import latex, markdown, page
from antioversmooth.reporting.table import document, tables
from antioversmooth.reporting.table.document import Document
from antioversmooth.shapes import misfits

COMMITTED = Path(__file__).parents[2] / "results" / "mini" / "table2.json"
NAMES = [
    "../../outside", "a/../b", "/tmp/outside", "", ".", "..", ".hidden", "a\x00b", "x" * 300,
    "a\u2215b", "a\nb", "-o", "table2 ", None, 7,
]  # fmt: skip
HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "\\input{/etc/passwd} \\write18{id} % $x_",
    "<!-- table2:begin mini 12 -->| a | b |\n\n# x <!-- table2:end -->",
    "{{7*7}} {% include 'x' %} ${oc.env:HOME}",
    "[link](javascript:alert(1)) `x` | ~x~ &lt;",
    "=HYPERLINK(1)\t\r\n@SUM(1)",
    "\x1b]0;owned\x07 \x9b31m \u202edrowssap\u2066 \x00 \ud800",
]


@cache
def committed() -> Document:
    return document.load_document(COMMITTED)


def sent(folder: Path, made: Document, name: str = "table2.json") -> Path:
    """A file with a document, as somebody may send it."""
    (folder / name).write_text(json.dumps(made))
    return folder / name


def changed(path: str, value: Any) -> Document:
    """The committed table with another value at a path: rows.0.epochs."""
    made: Any = copy.deepcopy(committed())
    *above, last = [int(part) if part.isdigit() else part for part in path.split("|")]
    part = made
    for key in above:
        part = part[key]
    part[last] = value
    return made


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_name_that_is_no_name_of_a_table_is_refused(
    name: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = tmp_path / "sent" / "deep"
    inner.mkdir(parents=True)
    path = sent(inner, changed("name", name))
    assert main(["render", str(path)]) == 2
    assert "name is " in capsys.readouterr().err
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == [path]


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(name, str)], ids=ascii)
def test_a_config_has_no_such_name_either(name: str) -> None:
    with pytest.raises(SpecError, match="name"):
        Table(name, "title", rows=[TableRow("label", "row")])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("rows|0|epochs", '"><img src=x>'),
        ("rows|0|parameters", "1"),
        ("rows|0|gmacs", True),
        ("rows|0|device_hours", float("nan")),
        ("rows|0|images_per_s", float("inf")),
        ("rows|0|parameters", 10**400),
        ("rows|0|device", ["x"]),
        ("rows|0|state", None),
        ("rows|0|top1|mean", "94.4"),
        ("rows|0|top1|mean", 150),
        ("rows|0|top1|mean", -3.0),
        ("rows|0|top1|std", -0.1),
        ("rows|0|images_per_s", -5),
        ("rows|0|device_hours", -1.0),
        ("rows|0|seeds|0|curve|top1|0", 100.5),
        ("rows|0|seeds|0|result|metrics|val/top1", 150),
        ("rows|0|seeds|0|result|metrics|val/top5", -1),
        ("rows|0|seeds|0|result|similarity|tokens|0", 42),
        ("rows|0|top1", [94.4]),
        ("rows|0|paper|footnote", "<b>"),
        ("rows|0|seeds|0|seed", "0"),
        ("rows|0|seeds|0|curve|top1|0", "67.6"),
        ("rows|0|seeds|0|result|metrics|val/loss", "0.3"),
        ("rows|0|seeds|0|result|similarity|tokens|0", None),
        ("rows|0", "row"),
        ("data|num_val", "1000"),
        ("profile", "mini --><script>"),
        ("figures", ["../../../etc/passwd"]),
        ("comparable", "no"),
        ("caption", "text"),
        ("seeds", [[0]]),
    ],
    ids=str,
)
def test_a_value_of_another_type_is_refused_by_its_place(
    path: str, value: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = sent(tmp_path, changed(path, value))
    assert main(["render", str(file)]) == 2
    keys = path.split("|")
    named = keys[0] + "".join(f"[{k}]" if k.isdigit() else f".{k}" for k in keys[1:])
    message = capsys.readouterr().err
    assert named in message or "cannot be read" in message
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("number", [3, 0, "2", True, None])
def test_an_unknown_format_is_refused(
    number: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", str(sent(tmp_path, changed("format", number)))]) == 2
    assert f"has format {number!r}, this code reads 1 to 2" in capsys.readouterr().err


def test_a_table_is_rendered_beside_its_json_whatever_other_table_its_name_is_of(
    tmp_path: Path,
) -> None:
    own = tmp_path / "table2.md"
    own.write_text("### ours\n")
    assert main(["render", str(sent(tmp_path, committed(), "theirs.json"))]) == 0
    assert own.read_text() == "### ours\n"
    assert (tmp_path / "theirs.md").read_text() == markdown.render(committed())


def test_a_file_that_is_no_rendering_is_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# Project\n")
    assert main(["render", str(sent(tmp_path, committed(), "README.json"))]) == 2
    assert "README.md is not a rendering" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "README.json"}
    assert readme.read_text() == "# Project\n"


def with_text(text: str) -> Document:
    """The committed table with this text wherever it has a text of people or machines."""
    made = copy.deepcopy(committed())
    made |= {"title": text, "caption": [text], "notes": [text], "sources": [text]}
    made["data"]["name"] = text
    for row in made["rows"]:
        row |= {"group": text, "label": text, "state": text, "device": text}
        row["spec"] = {"title": text} if row["spec"] else None
        for seed in row["seeds"]:
            seed |= {"id": text, "state": text, "problem": text, "older": [text]}
            seed["result"]["device"] = text
            seed["provenance"] = {key: [text] for key in seed["provenance"]}
    return made


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_no_text_breaks_or_gets_into_a_rendering(
    text: str, tmp_path: Path, outline: Callable[[str], Any]
) -> None:
    made = with_text(text)
    assert main(["render", str(sent(tmp_path, made))]) == 0
    files = {path.suffix: path.read_text() for path in tmp_path.iterdir()}
    for content in files.values():
        assert not set(content) & set("\x1b\x07\x9b\u202e\u2066\x00")
    assert json.loads(files[".json"]) == made

    html, before = outline(files[".html"]), outline(page.render(committed()))
    assert html.tags.count("script") == before.tags.count("script") == 1
    assert not {"img", "b"} & set(html.tags)
    assert "script-src 'sha256-" in files[".html"]

    # one table, all rows of the same number of cells
    rows = [line for line in files[".md"].splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + len(made["rows"])
    assert len({len(row.replace("\\|", "").split("|")) for row in rows}) == 1
    readme = tmp_path / "README.md"
    readme.write_text("<!-- table2:begin -->\n<!-- table2:end -->\nthe end\n")
    assert markdown.update_readme(readme, made)
    assert not markdown.update_readme(readme, made)
    assert markdown.readme_table(readme.read_text(), made) == markdown.render_for_readme(made)
    in_readme = [line for line in readme.read_text().splitlines() if line.startswith("| ")]
    assert len(in_readme) == len(rows)

    assert "\\input" not in files[".tex"]
    assert "\\write" not in files[".tex"]
    assert latex.render(made).count("\\label{tab:table2}") == 1

    lines = list(csv.reader(io.StringIO(files[".csv"])))
    formulas = [
        cell for line in lines for cell in line if cell.lstrip()[:1] in ("=", "+", "-", "@")
    ]
    assert all(re.fullmatch(r"-\d+(\.\d+)?", cell) for cell in formulas)
    assert [len(line) for line in lines] == [len(lines[0])] * (1 + len(made["rows"]))


@pytest.mark.parametrize(
    ("value", "shape", "problem"),
    [
        (1, int, ""),
        (1, float, ""),
        (True, int, "is True, and must be a whole number"),
        (1.0, int, "is 1.0, and must be a whole number"),
        (None, (float, None), ""),
        (2, range(1, 3), ""),
        (0, range(1, 3), "is 0, and must be a whole number from 1 to 2"),
        (True, range(1, 3), "is True, and must be a whole number from 1 to 2"),
        ("x", (float, None), "is 'x', and must be a number or null"),
        ([1, "x"], [float], "[1] is 'x', and must be a number"),
        ({"a": 1, "b": 2}, {"a": int}, ""),
        ({"b": 2}, {"a": int}, "a is missing"),
        ({"b": 2}, {"a?": int, "*": str}, "b is 2, and must be a text"),
        ({"a": "x"}, ({"a": int}, None), "a is 'x', and must be a whole number"),
        (3, ({"a": int}, None), "is 3, and must be a mapping or null"),
        ("x" * 100, int, "..., and must be a whole number"),
    ],
    ids=str,
)
def test_shapes(value: object, shape: object, problem: str) -> None:
    found = list(misfits(value, shape))
    assert problem in found[0] if problem else not found


def test_every_column_of_the_committed_table_has_the_shape_that_it_declares() -> None:
    assert not list(misfits(committed(), document.shape()))
    assert tables.load_committed(COMMITTED) == committed()

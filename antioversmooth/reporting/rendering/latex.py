"""A table as LaTeX, for \\usepackage{booktabs} and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from antioversmooth.reporting.rendering import cells
from antioversmooth.reporting.table.document import Document

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "²": r"$^2$",
    "–": "--",
    "—": "---",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    # brackets would be taken for an option after a line break, as in `\\[2ex]`
    "[": "{[}",
    "]": "{]}",
}
_SPECIAL = re.compile("[" + re.escape("".join(_ESCAPES)) + "]")

OMITTED = {"best epoch", "images/s", "device", "epochs", "device-hours"}
"""Columns that a printed page has no room for; the other formats have them."""


def _omitted(document: Document) -> set[str]:
    """And the state, where it is the same for all rows: done, with the seeds that the caption
    names."""
    alike = document["complete"] and all(row["seeds"] for row in document["rows"])
    return OMITTED | {cells.STATE} if alike else OMITTED


def render(document: Document) -> str:
    """A `table` environment with caption, rows by group, sources and notes."""
    columns, rows = _printed(*cells.table(document), _omitted(document))
    bodies = ["\n".join(_body(body)) for body in _by_group(cells.grouped(rows))]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            (
                rf"\caption{{{escape(document['title'])}."
                rf" {' '.join(map(escape, document['caption']))}}}"
            ),
            rf"\label{{tab:{document['name']}}}",
            r"\par\medskip",
            (
                rf"\begin{{tabular}}{{{''.join('l' if column.value is None else 'r' for column in columns[1:])}}}"
            ),
            r"\toprule",
            _line([column.header for column in columns[1:]]),
            r"\midrule",
            "\n\\midrule\n".join(bodies),
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\medskip\raggedright",
            *(rf"{escape(remark)}\par" for remark in cells.remarks(document)),
            r"\end{table}",
            "",
        ]
    )


def _printed(
    columns: list[cells.Column], rows: list[list[str]], omitted: set[str]
) -> tuple[list[cells.Column], list[list[str]]]:
    kept = [index for index, column in enumerate(columns) if column.header not in omitted]
    return [columns[index] for index in kept], [[row[index] for index in kept] for row in rows]


def _by_group(rows: list[list[str]]) -> list[list[list[str]]]:
    """Rows that belong together: a group starts where its name is printed."""
    numbers: list[int] = []
    for row in rows:
        numbers.append((numbers[-1] if numbers else 0) + bool(row[0]))
    return [
        [row for _, row in members]
        for _, members in groupby(zip(numbers, rows, strict=True), lambda item: item[0])
    ]


def _body(rows: list[list[str]]) -> Iterator[str]:
    """The rows of a group below its name: a column of names would not leave the numbers enough of
    the page."""
    name, width = rows[0][0], len(rows[0]) - 1
    if name != cells.EMPTY:
        yield rf"\multicolumn{{{width}}}{{l}}{{\itshape {escape(name)}}} \\"
    yield from (_line(row[1:]) for row in rows)


def _line(texts: list[str]) -> str:
    return " & ".join(map(escape, texts)) + r" \\"


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], " ".join(text.split()))

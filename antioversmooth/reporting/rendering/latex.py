"""A table as LaTeX, which needs \\usepackage{booktabs} and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from antioversmooth.reporting.rendering import cells
from antioversmooth.reporting.table.columns import Column
from antioversmooth.reporting.table.document import Document
from antioversmooth.text import one_line

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
    # After a line break, brackets would be read as its option: `\\[2ex]`.
    "[": "{[}",
    "]": "{]}",
}
_SPECIAL = re.compile("[" + re.escape("".join(_ESCAPES)) + "]")

_UNUSUAL = re.compile("[^ -~¡-ſ‘’“”…†‡•€™‰←→‐‑]|[«»ÐÞðþĄąĐđĘęĦħĮįĸĿŀŉŊŋŦŧŲųſ]")
"""Characters that stop pdfLaTeX, as its fonts lack them."""


def render(document: Document) -> str:
    """A `table` environment with caption, rows by group, sources and notes."""
    # a group has no column, which would take room from the numbers: its name is a line of its own
    columns = [column for column in cells.printed_columns(document) if column.key != "group"]
    alignment = "".join("l" if column.sort is None else "r" for column in columns)
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{escape(document['title'])}. {escape(' '.join(document['caption']))}}}",
            rf"\label{{tab:{document['name']}}}",
            r"\par\medskip",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            _line(cells.headings(document, columns)),
            r"\midrule",
            "\n\\midrule\n".join(_groups(document, columns)),
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\medskip\raggedright",
            *(rf"{escape(remark)}\par" for remark in cells.remarks(document)),
            r"\end{table}",
            "",
        ]
    )


def _groups(document: Document, columns: list[Column]) -> Iterator[str]:
    """The lines of each group of rows, with its name above them."""
    for name, rows in groupby(document["rows"], lambda row: row["group"]):
        heading = rf"\multicolumn{{{len(columns)}}}{{l}}{{\itshape {escape(name)}}} \\"
        lines = [_line(cells.texts(document, columns, row)) for row in rows]
        yield "\n".join([heading, *lines] if name else lines)


def _line(texts: list[str]) -> str:
    return " & ".join(map(escape, texts)) + r" \\"


def escape(text: str) -> str:
    """Text that LaTeX prints as it is; pdfLaTeX prints the number of a character it cannot."""
    escaped = _SPECIAL.sub(lambda match: _ESCAPES[match[0]], one_line(text))
    return _UNUSUAL.sub(_by_number, escaped)


def _by_number(match: re.Match[str]) -> str:
    """The character, or its number where the engine has no Unicode fonts."""
    character = match[0]
    return rf"\ifx\Umathchar\undefined[U+{ord(character):04X}]\else {character}\fi{{}}"

"""A table as one HTML file that needs nothing else: sortable, with curves, each row unfolding where it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from importlib import resources
from typing import Any

from antioversmooth.reporting import cells, gallery
from antioversmooth.reporting.cells import Column, Row
from antioversmooth.reporting.chart import Line, Series, line_chart
from antioversmooth.reporting.document import Document

Seed = dict[str, Any]


def render(document: Document) -> str:
    """The whole page. Nothing in it is fetched, and its policy forbids that anything is."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    parts = [
        "<!doctype html>",
        '<html lang="en">',
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(document['title'])}</title>",
        f"<style>\n{_asset('page.css')}</style>",
        f"<h1>{escape(document['title'])}</h1>",
        *_caption(document),
        *_table(document),
        *_figures(document),
        *_gallery(document),
        "<footer>",
        *(f"<p>{escape(remark)}</p>" for remark in cells.remarks(document)),
        "</footer>",
        f"<script>\n{_asset('page.js')}</script>",
        "</html>",
    ]
    return "\n".join(parts) + "\n"


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text()


def _caption(document: Document) -> Iterator[str]:
    for index, sentence in enumerate(document["caption"]):
        style = ' class="incomplete"' if index == 0 and not document["complete"] else ""
        yield f"<p{style}>{escape(sentence)}</p>"


# -- table -------------------------------------------------------------------------------------------------------------


def _table(document: Document) -> Iterator[str]:
    columns = cells.columns(document)
    yield '<div class="wide"><table class="results">'
    yield "<thead><tr>" + "".join(map(_header, columns)) + "</tr></thead>"
    for row in document["rows"]:
        yield "<tbody><tr>" + "".join(_cell(column, row) for column in columns) + "</tr>"
        if row["seeds"]:
            yield f'<tr class="more"><td colspan="{len(columns)}">{_details(row)}</td></tr>'
        yield "</tbody>"
    yield "</table></div>"


def _header(column: Column) -> str:
    style = "" if column.value is None else ' class="number"'
    return f'<th scope="col"{style}><button type="button">{escape(column.header)}</button></th>'


def _cell(column: Column, row: Row) -> str:
    text = escape(column.text(row) or cells.EMPTY)
    if column.value is None:
        return f"<td>{text}</td>"
    value = column.value(row)
    return f'<td class="number" data-value="{"" if value is None else value}">{text}</td>'


def _details(row: Row) -> str:
    seeds = row["seeds"]
    summary = " · ".join(f"seed {seed['seed']}: {_brief(seed)}" for seed in seeds)
    facts = [(name, [fact(seed) for seed in seeds]) for name, fact in FACTS.items()]
    lines = [
        f"<details><summary>{escape(summary)}</summary>",
        '<table class="facts">',
        *(
            f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(text)}</td>" for text in texts) + "</tr>"
            for name, texts in facts
            if any(texts)
        ),
        "</table></details>",
    ]
    return "\n".join(lines)


def _brief(seed: Seed) -> str:
    result = seed["result"]
    return f"{result['metrics']['val/top1']:g} %" if result else str(seed["state"])


def _of_result(*path: str) -> Callable[[Seed], str]:
    return lambda seed: _text(_dig(seed["result"], path))


def _of_provenance(key: str) -> Callable[[Seed], str]:
    return lambda seed: _text(_dig(seed["provenance"], (key,)))


def _dig(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    """A fact for people; empty where there is none."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else "" if value is None else str(value)


FACTS: dict[str, Callable[[Seed], str]] = {
    "run": lambda seed: f"seed {seed['seed']}, {seed['id']}",
    "state": lambda seed: ", ".join(filter(None, [seed["state"], seed["problem"]])),
    "last epoch": _of_result("metrics"),
    "best epoch": _of_result("best"),
    "start": _of_result("start"),
    "attempts": lambda seed: str(seed["attempts"] or ""),
    "attempts ended": _of_provenance("ends"),
    "imported from": _of_provenance("imported"),
    "back end": _of_provenance("backend"),
    "hosts": _of_provenance("hosts"),
    "jobs": _of_provenance("job_ids"),
    "device": _of_result("device"),
    "processes": _of_result("world_size"),
    "training seconds": _of_result("seconds"),
    "commit": _of_provenance("commits"),
    "uncommitted changes": _of_provenance("uncommitted_changes"),
    "code snapshot": _of_provenance("snapshots"),
    "Python": _of_provenance("python"),
    "packages": _of_provenance("packages"),
    "data": _of_result("data"),
    "checkpoint": _of_result("checkpoint"),
    "older runs, not counted": lambda seed: _text(seed["older"]),
}
"""What a row unfolds: name, and the text for one seed."""


# -- figures -----------------------------------------------------------------------------------------------------------


def _figures(document: Document) -> Iterator[str]:
    yield from _section(
        document, "Accuracy after each epoch", _accuracy, x_label="epoch", y_label="top-1 accuracy in percent"
    )
    yield from _section(
        document,
        "Similarity of tokens in each layer",
        _similarity,
        x_label="layer",
        y_label="mean cosine between the tokens after a block",
    )


def _gallery(document: Document) -> Iterator[str]:
    if document.get("figures"):
        yield f'<p>More pictures, with their numbers: <a href="figures/{gallery.PAGE}">the page of figures</a>.</p>'


def _section(
    document: Document, heading: str, lines: Callable[[Row], list[Line]], *, x_label: str, y_label: str
) -> Iterator[str]:
    """A heading and one figure for each group of rows that has lines."""
    groups: dict[str, list[Series]] = {}
    for row in document["rows"]:
        if drawn := lines(row):
            groups.setdefault(row["group"], []).append(Series(row["label"], drawn))
    if groups:
        yield f'<h2>{escape(heading)}</h2>\n<p>One line for each seed: {escape(y_label)}.</p>\n<div class="figures">'
        for group, series in groups.items():
            chart = line_chart(series, x_label=x_label, y_label=y_label)
            yield f"<figure><figcaption>{escape(group)}</figcaption>\n{chart}\n</figure>"
        yield "</div>"


def _accuracy(row: Row) -> list[Line]:
    curves = [seed["curve"] for seed in row["seeds"]]
    return [Line(curve["epoch"], curve["top1"]) for curve in curves if curve["epoch"]]


def _similarity(row: Row) -> list[Line]:
    found = [_dig(seed["result"], ("similarity", "tokens")) for seed in row["seeds"]]
    return [Line(range(1, len(values) + 1), values) for values in found if values]

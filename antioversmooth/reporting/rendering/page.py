"""A table as one HTML file that needs nothing else: sortable, with curves, each row unfolding where
it comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from importlib import resources

from antioversmooth.reporting.rendering import cells, gallery, provenance
from antioversmooth.reporting.rendering.cells import Column, Row
from antioversmooth.reporting.rendering.chart import Line, Series, line_chart
from antioversmooth.reporting.table.document import Document


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
        "<main>",
        f"<h1>{escape(document['title'])}</h1>",
        *_caption(document),
        *_table(document),
        *_figures(document),
        *_gallery(document),
        "<footer>",
        *(f"<p>{escape(remark)}</p>" for remark in cells.remarks(document)),
        "</footer>",
        "</main>",
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


# -- table -----------------------------------------------------------------------------------------


def _table(document: Document) -> Iterator[str]:
    columns = cells.columns(document)
    yield (
        '<p class="tools"><button type="button" id="unfold" aria-expanded="false">Unfold all'
        " provenance</button></p>"
    )
    yield (
        '<div class="wide" tabindex="0" role="region" aria-label="results"><table class="results">'
    )
    yield (
        f'<caption class="unseen">{escape(document["title"])}. A click on a heading sorts by'
        " it.</caption>"
    )
    yield "<thead><tr>" + "".join(map(_header, columns)) + "</tr></thead>"
    for row in document["rows"]:
        yield (
            f'<tbody class="{_kind(row)}"><tr>'
            + "".join(_cell(column, row) for column in columns)
            + "</tr>"
        )
        if row["seeds"]:
            yield (
                f'<tr class="more"><td colspan="{len(columns)}">{provenance.details(row)}</td></tr>'
            )
        yield "</tbody>"
    yield "</table></div>"


def _kind(row: Row) -> str:
    """Whether a row's numbers are whole, from literature, or still to be waited for."""
    return (
        "quoted"
        if row["state"] == "quoted"
        else "done"
        if row["state"].startswith("done")
        else "open"
    )


def _header(column: Column) -> str:
    style = "" if column.value is None else ' class="number"'
    # each whole: "top-1" has a hyphen
    words = " ".join(f"<span>{escape(word)}</span>" for word in column.header.split())
    return f'<th scope="col"{style}><button type="button">{words}</button></th>'


def _cell(column: Column, row: Row) -> str:
    text = escape(column.text(row) or cells.EMPTY)
    # a narrow screen has room for one of the two
    if column.header == cells.MODEL:
        return f'<th scope="row"><small>{escape(row["group"])}</small>{text}</th>'
    if column.header == cells.STATE:
        return f'<td><span class="state">{text}</span></td>'
    if column.value is None:
        return f"<td>{text}</td>"
    value = column.value(row)
    return f'<td class="number" data-value="{"" if value is None else value}">{text}</td>'


# -- figures ---------------------------------------------------------------------------------------


def _figures(document: Document) -> Iterator[str]:
    yield from _section(
        document,
        "Accuracy after each epoch",
        _accuracy,
        x_label="epoch",
        y_label="top-1 accuracy in percent",
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
        yield (
            f'<p>More pictures, with their numbers: <a href="figures/{gallery.PAGE}">the page of'
            " figures</a>.</p>"
        )


def _section(
    document: Document,
    heading: str,
    lines: Callable[[Row], list[Line]],
    *,
    x_label: str,
    y_label: str,
) -> Iterator[str]:
    """A heading and one figure for each group of rows that has lines."""
    groups: dict[str, list[Series]] = {}
    for row in document["rows"]:
        if drawn := lines(row):
            groups.setdefault(row["group"], []).append(Series(row["label"], drawn))
    if groups:
        yield (
            f"<h2>{escape(heading)}</h2>\n<p>One line for each seed: {escape(y_label)}.</p>\n<div"
            ' class="figures">'
        )
        for group, series in groups.items():
            chart = line_chart(series, x_label=x_label, y_label=y_label)
            yield f"<figure><figcaption>{escape(group)}</figcaption>\n{chart}\n</figure>"
        yield "</div>"


def _accuracy(row: Row) -> list[Line]:
    curves = [seed["curve"] for seed in row["seeds"]]
    return [Line(curve["epoch"], curve["top1"]) for curve in curves if curve["epoch"]]


def _similarity(row: Row) -> list[Line]:
    found = [provenance.dig(seed["result"], ("similarity", "tokens")) for seed in row["seeds"]]
    return [Line(range(1, len(values) + 1), values) for values in found if values]

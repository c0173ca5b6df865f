"""Builds the site from these pages and README.md (`make docs`); a dead link fails the build."""

import json
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

from antioversmooth import config, runs
from antioversmooth.config.types import element_type, is_config, type_hints, unwrap_optional
from antioversmooth.spec import fields

project = "antioversmooth"
author = "The antioversmooth authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# also check links to #headings
myst_heading_anchors = 3
autodoc_member_order = "bysource"
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = "Anti-oversmoothing, reproduced"
html_show_copyright = False
html_show_sourcelink = False

README = Path(__file__).parents[1] / "README.md"


def complete(app, docname: str, source: list[str]) -> None:
    """Adds README.md to the front page, and the fields of config/ to the page on specs."""
    if docname == "index":
        source[0] = readme() + source[0]
        app.env.note_dependency(str(README))
    if docname == "spec":
        source[0] += "\n".join(reference())
        for source_of_fields in Path(config.__file__).parent.glob("*.py"):
            app.env.note_dependency(str(source_of_fields))


def readme() -> str:
    """README.md with links relative to docs/ instead of the repository's root."""
    return README.read_text().replace("](docs/", "](").replace("](results/", "](../results/") + "\n"


def reference() -> Iterator[str]:
    """Yields a table per dataclass: key, type, default, meaning."""
    for section, schema in {"row": config.Experiment, **fields.sections()}.items():
        yield from table("A row" if schema is config.Experiment else f"`{section}:`", schema)
    for title, schema in (("A table", config.Table), ("A figure", config.Figure)):
        yield from table(title, schema)
    for schema in (
        config.ContainerConfig,
        config.TableRow,
        config.PaperValue,
        config.FigureRow,
        config.Panel,
        config.ReferenceCurve,
    ):
        yield from table(schema.__name__, schema)


def table(title: str, schema: type) -> Iterator[str]:
    defaults, docs, required = fields.defaults(schema), fields.docs(schema), fields.required(schema)
    yield from ("", f"## {title}", "", (schema.__doc__ or "").split("\n\n")[0], "")
    yield from ("| key | type | default | meaning |", "|---|---|---|---|")
    for name, hint in type_hints(schema).items():
        default = "" if name in required else f"`{json.dumps(runs.to_json(defaults[name]))}`"
        if is_config(unwrap_optional(hint)[0]):
            default = ""
        yield f"| `{name}` | {kind(hint)} | {default} | {docs[name].replace('|', chr(92) + '|')} |"


WORDS = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    dict: "mapping",
    object: "any",
}


def kind(hint: object) -> str:
    """The name of a type in YAML's terms."""
    inner, optional = unwrap_optional(hint)
    if element := element_type(inner):
        return f"list of {kind(element)}"
    if is_config(inner):
        return inner.__name__
    if isinstance(inner, type) and issubclass(inner, Enum):
        word = ", ".join(choice.name for choice in inner)
    else:
        word = WORDS.get(typing.get_origin(inner) or inner, "any")
    return f"{word}, or null" if optional and word != "any" else word


def setup(app) -> None:
    app.connect("source-read", complete)

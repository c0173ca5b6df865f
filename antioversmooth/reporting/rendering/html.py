"""The jinja2 templates of HTML pages, with every value escaped."""

from __future__ import annotations

import html
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = "templates"


def render(template: str, **values: Any) -> str:
    """A template of this folder, filled with values.

    Raises:
        LookupError: A value is missing.
    """
    from jinja2 import UndefinedError

    try:
        return _environment().get_template(template).render(values)
    except UndefinedError as err:
        raise LookupError(str(err)) from err


@cache
def _environment() -> Environment:
    # imported with the first page, since most commands render none
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    def escaped(value: Any) -> Markup:
        """The value as text of a page, or of an attribute in quotes.

        jinja2's own escape would do the same, with other names for the two quotes than the
        committed pages have.
        """
        return value if isinstance(value, Markup) else Markup(html.escape(str(value)))

    def asset(name: str) -> Markup:
        """A style sheet or a script of the templates, to be put into a page as it is."""
        return Markup(resources.files(__package__).joinpath(TEMPLATES, name).read_text())

    environment = Environment(
        loader=PackageLoader(__package__, TEMPLATES),
        autoescape=True,
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals["asset"] = asset
    return environment

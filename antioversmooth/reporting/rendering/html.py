"""The jinja2 templates of HTML pages, with every value escaped."""

from __future__ import annotations

import base64
import hashlib
import html
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from antioversmooth.text import visible

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


def beside(name: str) -> str:
    """The address of a file in the folder of the page, whatever its name: never another scheme."""
    return f"./{quote(name)}"


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
        return value if isinstance(value, Markup) else Markup(html.escape(visible(str(value))))

    def asset(name: str) -> Markup:
        """A style sheet or a script of the templates, to be put into a page as it is."""
        return Markup(resources.files(__package__).joinpath(TEMPLATES, name).read_text())

    def allowed(name: str) -> Markup:
        """The source of a content security policy that lets this script run, and no other.

        The browser hashes all between the tags: a line feed, then the script.
        """
        digest = hashlib.sha256(f"\n{asset(name)}".encode()).digest()
        return Markup(f"'sha256-{base64.b64encode(digest).decode()}'")

    environment = Environment(
        loader=PackageLoader(__package__, TEMPLATES),
        autoescape=True,
        finalize=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals |= {"asset": asset, "allowed": allowed, "beside": beside}
    return environment

"""Text from journals, logs, specs and other programs, made harmless where it is shown.

Nothing in such text is a command of the terminal, or markup of rich. The escapes of HTML, LaTeX
and Markdown begin with `visible` too; each is in the module of its format.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_INVISIBLE = re.compile(
    # control characters of ASCII and of Latin-1, but not tab and line feed
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    # soft hyphen, Arabic letter mark, Mongolian vowel separator
    "\xad\u061c\u180e"
    # zero width, direction, line and paragraph separators, invisible operators; joiners of
    # letters and emojis (U+200C, U+200D) stay
    "\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    # tags; halves of characters, which no encoding can write
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: str) -> str:
    """The text with every character that is a command, invisible or unwritable as its code.

    A carriage return is a line break. The codes are those of JSON (\\u001b for ESC), so JSON stays
    the same value.
    """
    if text.isascii() and text.isprintable():
        return text
    return _INVISIBLE.sub(_code, text.replace("\r\n", "\n").replace("\r", "\n"))


def _code(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def one_line(text: str) -> str:
    """The visible text with single spaces instead of line breaks and other blanks."""
    return visible(" ".join(text.split()))


_KILLED = re.compile(r"(: line \d+:) +\d+ (\w+(?: \w+)*)  .*")
"""The line of bash about a command that a signal ended: its process, and all of its text."""
LOG_WIDTH = 300
"""Characters of a line of a log that are quoted."""


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is not 1."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"


def log_lines(text: str, count: int) -> list[str]:
    """The last lines of a log that say something, cut, without one that repeats the one before."""
    lines = (_KILLED.sub(r"\1 \2", line) for line in text.splitlines() if line.strip())
    return [
        line if len(line) <= LOG_WIDTH else f"{line[:LOG_WIDTH]}..." for line, _ in groupby(lines)
    ][-count:]


_FORMULA = re.compile(r"(^|;)(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
"""The beginning of a formula in a cell; a semicolon begins another cell in some countries."""


def csv_cell(value: Any) -> Any:
    """The value of a cell of a CSV file: in a text no spreadsheet finds a formula.

    Numbers, and texts that are numbers, stay as they are.
    """
    if not isinstance(value, str):
        return value
    text = one_line(value)
    try:
        float(text)
    except ValueError:
        return _FORMULA.sub(r"\1\2'", text)
    return text


_SENTENCE = re.compile(r"^( += |- )?([-+~./'\"`($]*\w.*)", re.MULTILINE)
"""A line that begins with a word, an option or a path, also behind the sign of a note or an item:
no row of a table, no script, no JSON."""


def wrapped(text: str, width: int) -> str:
    """The text with sentences broken between words at a width; a longer word stays whole.

    Rows of tables, scripts and JSON stay as they are, and so does what stands in backquotes. A note
    (`  = text`) and an item (`- text`) go on below their text.
    """

    def wrap(line: re.Match[str]) -> str:
        if len(line[0]) <= width:
            return line[0]
        sign, rows = line[1] or "", [""]
        for word in re.findall(r"(?:`[^`]*`|\S)+", line[2]):
            joined = f"{rows[-1]} {word}" if rows[-1] else word
            rows[-1:] = [joined] if len(sign + joined) <= width else [rows[-1], word]
        return sign + f"\n{' ' * len(sign)}".join(filter(None, rows))

    return _SENTENCE.sub(wrap, text)


class VisibleStream:
    """A text stream that writes only visible text; everything else is that of the stream.

    On a terminal, sentences break between words.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        """Writes the visible text; returns the number of characters of the text."""
        shown = visible(text)
        if self.stream.isatty():
            shown = wrapped(shown, shutil.get_terminal_size().columns)
        self.stream.write(shown)
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Writes each of the lines."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def visible_output() -> Iterator[None]:
    """Makes stdout and stderr write only visible text while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, VisibleStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def open_console(stream: TextIO, **options: Any) -> Console:
    """A console of rich that reads no text as markup, and writes only visible text.

    rich's own commands go to the stream itself. Texts must reach it as `str`: it cannot see into a
    `rich.text.Text`.

    Args:
        options: Further options of `rich.console.Console`.
    """
    # imported here: it takes a tenth of a second
    from rich.console import Console

    class VisibleConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(visible(text), **options)

    inner = stream.stream if isinstance(stream, VisibleStream) else stream
    return VisibleConsole(file=inner, markup=False, emoji=False, highlight=False, **options)

"""Command lines of all programs: a parser whose complaints are one line with a way out, and what
arguments may be.

Needs argparse alone, so that a help text comes at once.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """An argument parser that says a mistake in one line, rather than below all of its usage."""

    def read(self, words: Sequence[str] | None) -> argparse.Namespace:
        """Options and other words in any order; ends the program with 2 where they make no
        sense."""
        given, unknown = self.parse_known_intermixed_args(words)
        if unknown:
            self.error(
                self._unknown(next((word for word in unknown if word.startswith("-")), unknown[0]))
            )
        return given

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
        self.exit(2, f"{self.prog}: {message} (--help tells more)\n")

    def _unknown(self, word: str) -> str:
        option, _, value = word.partition("=")
        if re.match(r"--?(profile$|\w+\.\w)", option):
            return (
                f"there is no option {option}; an override has no dashes:"
                f" {option.lstrip('-')}={value or 'VALUE'}"
            )
        # only for people who mistyped
        import difflib

        close = difflib.get_close_matches(option, self._option_string_actions, n=1)
        return f"there is no option {option}" + (f"; did you mean {close[0]}?" if close else "")


def divide(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Specs, and the overrides among them."""
    overrides = [word for word in words if "=" in word or word.startswith("~")]
    return [word for word in words if word not in overrides], overrides


def seeds(text: str) -> list[int]:
    """0,1,2 as numbers: what `--seeds` takes."""
    parts = text.split(",")
    numbers = [int(part) for part in parts if part.strip().isdecimal()]
    if len(set(numbers)) < len(parts):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of seeds: different whole numbers, as in 0,1,2"
        )
    return numbers


def seconds(text: str) -> float:
    """A stretch of time that is none of nothing."""
    if not re.fullmatch(r"\d+(\.\d+)?", text) or not float(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no number of seconds above 0, without a unit"
        )
    return float(text)


def port(text: str) -> int:
    """A TCP port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: 0 to 65535")
    return int(text)


def folder(text: str) -> Path:
    """A folder to write to, which is there or can be made."""
    path = Path(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a file, and a folder belongs here")
    return path

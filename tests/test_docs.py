"""Commands, options, make targets and paths in README.md, CONTRIBUTING.md and docs/ exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from antioversmooth.cli import parsers

PROJECT = Path(__file__).parents[1]
DOCS = [page for page in sorted(PROJECT.glob("docs/**/*.md")) if "_build" not in page.parts]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *DOCS]
COMMANDS = re.compile(r"(?:(?:\S*python|torchrun) -m )?antioversmooth (?P<words>.*)")
LAUNCHES = re.compile(r"(?:\S*python )?launch\.py (?P<words>.*)")
OWN_FOLDERS = (
    "antioversmooth",
    "benchmarks",
    "docs",
    "examples",
    "experiments",
    "scripts",
    "tests",
)
ROOMS = (
    "analysis",
    "config",
    "datasets",
    "models",
    "orchestration",
    "reporting",
    "runs",
    "training",
)


def code(text: str) -> Iterator[str]:
    """Commands of `sh` blocks and indented blocks without their comments, and inline code."""
    fence = ""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            fence = "" if fence else line
        elif fence.startswith("```sh") or line.startswith("    "):
            yield re.split(r"\s+# ", line.strip())[0]
        else:
            yield from (span.replace("\\|", "|") for span in re.findall(r"`([^`\n]+)`", line))


def names_of_options(words: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_in_the_documentation_exist(page: Path) -> None:
    for line in code(page.read_text()):
        if match := LAUNCHES.fullmatch(line):
            parser = parsers.launch_parser()
            words = match["words"]
        elif match := COMMANDS.fullmatch(line):
            command, _, words = match["words"].partition(" ")
            if command in ("...", "--version"):
                continue
            assert command in parsers.COMMANDS, line
            parser = parsers.command_parser(command)
        else:
            continue
        assert names_of_options(words) <= set(parser._option_string_actions), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_specs_in_code_blocks_of_the_documentation_exist(page: Path) -> None:
    for line in code(page.read_text()):
        if LAUNCHES.fullmatch(line) or COMMANDS.fullmatch(line):
            for word in shlex.split(line.replace("`", "")):
                if word.startswith("experiments/") and "<" not in word:
                    assert (PROJECT / word).is_file(), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_in_the_documentation_exist(page: Path) -> None:
    targets = re.findall(r"^([a-z%-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    patterns = [re.compile(target.replace("%", r".+")) for target in targets]
    for line in code(page.read_text()):
        if match := re.match(r"(?:\w+=\S+ )?make ([a-z][\w-]*)", line):
            assert any(pattern.fullmatch(match[1]) for pattern in patterns), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_the_project_in_the_documentation_exist(page: Path) -> None:
    for span in code(page.read_text()):
        folder, slash, rest = span.partition("/")
        if not slash or re.search(r"[\s<>{}…]", span) or "_build" in span:
            continue
        if folder in OWN_FOLDERS:
            assert list(PROJECT.glob(span.rstrip("/"))), span
        # a module as the pages name it, from its room on
        elif folder in ROOMS and rest.endswith(".py"):
            assert (PROJECT / "antioversmooth" / span).is_file(), span

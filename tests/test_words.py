"""Docstrings and names are plain technical English."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
SOURCES = sorted(
    [
        PROJECT / "launch.py",
        *(PROJECT / "antioversmooth").rglob("*.py"),
        *(PROJECT / "benchmarks").rglob("*.py"),
    ]
)
DIALECT = {"told", "became", "whence", "aside", "meanwhile", "stands", "taken", "kept"}
"""Parts of names that no engineer of this field would search for."""
PRONOUN = re.compile(r"(what(ever)?|of wh\w+|who(m|se|ever)?)\b", re.IGNORECASE)
"""A first line with a verb, or with the noun that is returned, says more."""

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and first line of every docstring: modules, classes, functions, and the strings below
    fields and constants."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef)):
            strings = node.body
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            strings = node.body[:1]
        else:
            continue
        for statement in strings:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                yield statement.lineno, str(statement.value.value).strip().partition("\n")[0]


def names(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every function, class, method and argument."""
    for node in ast.walk(tree):
        if isinstance(node, DEFINITIONS):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def parts(name: str) -> set[str]:
    """Words of a name in snake_case or CamelCase."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_docstrings_begin_with_a_verb_or_a_noun(path: Path) -> None:
    found = [(line, text) for line, text in docstrings(ast.parse(path.read_text()))]
    assert not [(line, text) for line, text in found if PRONOUN.match(text)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PROJECT)))
def test_names_are_those_of_the_field(path: Path) -> None:
    found = names(ast.parse(path.read_text()))
    assert not [(line, name) for line, name in found if parts(name) & DIALECT]


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every string that is no docstring."""
    lone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in lone:
            yield node.lineno, node.value


def test_no_message_leads_to_pages_that_an_installed_package_lacks() -> None:
    for path in (PROJECT / "antioversmooth").rglob("*.py"):
        found = texts(ast.parse(path.read_text()))
        assert not [(path, line) for line, text in found if "docs/" in text]

"""The journeys of docs/architecture.md are true to the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PAGE = (PROJECT / "docs" / "architecture.md").read_text()
JOURNEYS = PAGE.partition("## Six journeys")[2].partition("\n## ")[0]
STEPS = re.findall(r"^\d+\. `([\w.]+)`", JOURNEYS, re.MULTILINE)


def definitions(tree: ast.Module) -> set[str]:
    """Functions of a module, and methods as `Class.method`."""
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    methods = {
        f"{node.name}.{inner.name}"
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for inner in node.body
        if isinstance(inner, ast.FunctionDef)
    }
    return functions | methods


def test_there_are_six_journeys_of_at_most_eight_steps() -> None:
    lengths = [int(n) for n in re.findall(r"^(\d+)\. ", JOURNEYS, re.MULTILINE)]
    assert lengths.count(1) == 6
    assert max(lengths) <= 8
    assert len(STEPS) == len(lengths)


@pytest.mark.parametrize("step", STEPS)
def test_each_step_of_a_journey_is_a_function_of_the_package(step: str) -> None:
    parts = step.split(".")
    modules = [
        (path, ".".join(parts[i:]))
        for i in range(1, len(parts))
        if (path := PROJECT.joinpath("antioversmooth", *parts[:i]).with_suffix(".py")).is_file()
    ]
    ((path, name),) = modules
    assert name in definitions(ast.parse(path.read_text()))

"""YAML text to values that know where they stand. Plain YAML only: no tags, no anchors, no key twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from antioversmooth.spec.problems import Place, Problem

_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")}


@dataclass(frozen=True)
class Node:
    """A value and where it stands."""

    value: Any
    """A scalar, a list of nodes, or a dict from key to node."""
    place: Place
    key_place: Place
    """Of the key that the value belongs to; of the value itself where it has none."""
    text: str = ""
    """A scalar as it is written; empty where it is quoted, and so is what it says."""

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value


@dataclass
class Source:
    """A YAML file, read."""

    path: Path
    top: Place
    """Its first character."""
    root: Node | None = None
    """None where it is empty or no YAML."""
    package: str | None = None
    """What a `# @package` line at its head says."""
    problems: list[Problem] = field(default_factory=list)


def read(path: Path) -> Source:
    """Reads a file; what is wrong with it as YAML is among the problems of the result."""
    try:
        text = path.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as err:
        source = Source(path, Place(shown(path), 1, 1, ""))
        source.problems.append(Problem(source.top, "", f"cannot be read: {err}"))
        return source
    return _Parser(path, text).source


def shown(path: Path) -> str:
    """A path as a person would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@cache
def _loader() -> type:
    """libyaml's loader, where there is one, with OmegaConf's idea of what is a number: what hydra will read."""
    base: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return type("SpecLoader", (base,), {"yaml_implicit_resolvers": get_yaml_loader().yaml_implicit_resolvers})


class _Parser:
    """Makes the source of one file."""

    def __init__(self, path: Path, text: str) -> None:
        self.shown, self.lines = shown(path), text.splitlines() or [""]
        self.source = Source(path, self.place(0, 0), package=_package(text))
        self.constructor = yaml.constructor.SafeConstructor()
        self.seen: set[int] = set()
        try:
            tree = self.compose(text)
            self.source.root = self.node(tree, None) if tree is not None else None
        except yaml.YAMLError as err:
            self.source.problems.append(self.no_yaml(err))
        except RecursionError:
            self.problem(self.source.top, "is nested too deeply to be a spec")

    def compose(self, text: str) -> yaml.Node | None:
        loader = _loader()(text)
        try:
            tree: yaml.Node | None = loader.get_single_node()
            return tree
        finally:
            loader.dispose()

    def place(self, line: int, column: int, length: int = 1) -> Place:
        """Lines and columns from 0, as YAML's marks count them."""
        text = self.lines[line] if line < len(self.lines) else ""
        return Place(self.shown, line + 1, column + 1, text, max(1, length))

    def of(self, node: yaml.Node) -> Place:
        start, end = node.start_mark, node.end_mark
        return self.place(start.line, start.column, end.column - start.column if start.line == end.line else 1)

    def problem(self, place: Place, message: str) -> None:
        self.source.problems.append(Problem(place, "", message))

    def node(self, node: yaml.Node, key: Place | None) -> Node:
        place = self.of(node)
        if id(node) in self.seen:
            self.problem(key or place, "anchors and aliases are not followed: say it twice, or use `defaults`")
            return Node(None, place, key or place)
        self.seen.add(id(node))
        if node.tag not in _PLAIN:
            self.problem(place, f"{node.tag!r} is not allowed: a spec is plain YAML, without tags")
            return Node(None, place, key or place)
        if isinstance(node, yaml.MappingNode):
            return Node(dict(self.items(node)), place, key or place)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.node(item, None) for item in node.value], place, key or place)
        assert isinstance(node, yaml.ScalarNode)
        return Node(self.scalar(node, place), place, key or place, "" if node.style else node.value)

    def items(self, mapping: yaml.MappingNode) -> Iterator[tuple[str, Node]]:
        first: dict[str, Place] = {}
        for key, value in mapping.value:
            place = self.of(key)
            if not isinstance(key, yaml.ScalarNode):
                self.problem(place, "a list or a mapping cannot be a key")
            elif key.value in first:
                self.problem(place, f"`{key.value}` stands here twice; first in line {first[key.value].line}")
            else:
                first[key.value] = place
                yield key.value, self.node(value, place)

    def scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        try:
            return self.constructor.construct_object(node)
        except ValueError as err:  # an integer of thousands of digits, !!int of a word
            self.problem(place, f"cannot be read: {err}")
            return None

    def no_yaml(self, err: yaml.YAMLError) -> Problem:
        for number, line in enumerate(self.lines):
            if tab := re.match(r" *\t", line):
                return Problem(self.place(number, tab.end() - 1), "", "a tab; YAML is indented with spaces")
            if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(line):
                message = f"the character {unprintable.group()!r} cannot stand in YAML"
                return Problem(self.place(number, unprintable.start()), "", message)
        mark = getattr(err, "problem_mark", None) or getattr(err, "context_mark", None)
        place = self.place(mark.line, mark.column) if mark else self.source.top
        said = [part for part in (getattr(err, "problem", None), getattr(err, "context", None)) if part]
        return Problem(place, "", f"this is not YAML: {', '.join(said) or err}")


def _package(text: str) -> str | None:
    """hydra's `# @package NAME` among the comments at the head."""
    head = re.match(r"(?:\s*#.*\n?)*", text)
    found = re.search(r"#\s*@package\s+(\S+)", head.group() if head else "")
    return found.group(1) if found else None

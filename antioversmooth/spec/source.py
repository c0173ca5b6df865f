"""YAML files as nodes with their places. Plain YAML only: no tags, no anchors, no key twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from antioversmooth.spec.problems import Place, Problem

_PLAIN = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "map", "seq")
}


UNREADABLE = object()
"""The value of a node that has a problem of its own."""


@dataclass(frozen=True)
class Node:
    """A value and its place."""

    value: Any
    """A scalar, a list of nodes, a dict from key to node, or UNREADABLE."""
    place: Place
    key_place: Place
    """Place of the key of the value; of the value itself where it has no key."""
    text: str = ""
    """A scalar as it is written; empty where it is quoted."""

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def descendants(self) -> Iterator[Node]:
        """The nodes below this one."""
        below = self.value.values() if isinstance(self.value, dict) else self.value
        for node in below if isinstance(self.value, (dict, list)) else ():
            yield node
            yield from node.descendants()


@dataclass
class Source:
    """A YAML file, read."""

    path: Path
    top: Place
    """Its first character."""
    root: Node | None = None
    """None where it is empty or no YAML."""
    package: str | None = None
    """The package that a `# @package` line at its head names."""
    problems: list[Problem] = field(default_factory=list)


def read_source(path: Path) -> Source:
    """Reads a file; mistakes in its YAML are problems of the result."""
    try:
        data = path.read_bytes()
        return _Parser(path, data.decode()).source
    except UnicodeDecodeError as err:
        before = data[: err.start].decode().split("\n")
        line = data.decode(errors="replace").split("\n")[len(before) - 1]
        place = Place(shown(path), len(before), len(before[-1]) + 1, line)
        return Source(path, place, problems=[Problem(place, "", f"not UTF-8: {err.reason}")])
    except OSError as err:
        place = Place(shown(path), 1, 1, "")
        return Source(path, place, problems=[Problem(place, "", f"cannot be read: {err.strerror}")])


def exists(path: Path) -> bool:
    """Whether a file exists; false for a name that no file system takes."""
    try:
        return path.is_file()
    except OSError:
        return False


def shown(path: Path) -> str:
    """A path as a person would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


@cache
def _loaders() -> list[type[yaml.SafeLoader]]:
    """PyYAML's loaders with OmegaConf's rules for numbers, as hydra has it.

    The first one in C, where PyYAML has that; the messages of the last one are the clearer ones.
    """
    resolvers = {"yaml_implicit_resolvers": get_yaml_loader().yaml_implicit_resolvers}
    known = [getattr(yaml, "CSafeLoader", None), yaml.SafeLoader]
    return [type("SpecLoader", (loader,), resolvers) for loader in known if loader]


def _compose(loader: yaml.SafeLoader) -> yaml.Node | None:
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


class _Parser:
    """Makes the source of one file."""

    def __init__(self, path: Path, text: str) -> None:
        self.shown, self.lines = shown(path), re.split("\r\n|[\n\r\x85\u2028\u2029]", text)
        self.source = Source(path, self.place(0, 0))
        self.source.package = self.package()
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
        *fast, clear = _loaders()
        with suppress(yaml.YAMLError):
            for loader in fast:
                return _compose(loader(text))
        return _compose(clear(text))

    def package(self) -> str | None:
        """The name in hydra's `# @package NAME`, above all other lines of the file."""
        found = None
        for number, line in enumerate(self.lines):
            words = line.strip().lstrip("#").split()
            if not line.strip():
                continue
            if not re.match(r"\s*#\s*@", line):
                break
            if len(words) != 2:
                message = "of comments that begin with @, `# @package NAME` is one"
                self.problem(self.place(number, 0, len(line)), message)
            elif words[0] == "@package":
                found = words[1]
        return found

    def place(self, line: int, column: int, length: int = 1) -> Place:
        """Lines and columns from 0, as YAML's marks count them."""
        text = self.lines[line] if line < len(self.lines) else ""
        return Place(self.shown, line + 1, column + 1, text, max(1, length))

    def of(self, node: yaml.Node) -> Place:
        start, end = node.start_mark, node.end_mark
        length = end.column - start.column if start.line == end.line else 1
        return self.place(start.line, start.column, length)

    def problem(self, place: Place, message: str) -> None:
        self.source.problems.append(Problem(place, "", message))

    def node(self, node: yaml.Node, key: Place | None) -> Node:
        place = self.of(node)
        if id(node) in self.seen:
            message = "anchors and aliases are not followed: say it twice, or use `defaults`"
            self.problem(key or place, message)
            return Node(UNREADABLE, place, key or place)
        self.seen.add(id(node))
        if node.tag not in _PLAIN:
            self.problem(place, f"{node.tag!r} is not allowed: a spec is plain YAML, without tags")
            return Node(UNREADABLE, place, key or place)
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
                line = first[key.value].line
                self.problem(place, f"`{key.value}` appears twice; first in line {line}")
            else:
                first[key.value] = place
                yield key.value, self.node(value, place)

    def scalar(self, node: yaml.ScalarNode, place: Place) -> Any:
        try:
            return self.constructor.construct_object(node)
        except ValueError:  # !!int of a word, or of thousands of digits
            self.problem(place, f"cannot be read as {node.tag.rpartition(':')[2]}")
            return UNREADABLE

    def no_yaml(self, err: yaml.YAMLError) -> Problem:
        for number, line in enumerate(self.lines):
            if tab := re.match(r" *\t", line):
                place = self.place(number, tab.end() - 1)
                return Problem(place, "", "a tab; YAML is indented with spaces")
            if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(line):
                message = f"the character {unprintable.group()!r} is not allowed in YAML"
                return Problem(self.place(number, unprintable.start()), "", message)
        if not isinstance(err, yaml.MarkedYAMLError):
            return Problem(self.source.top, "", f"this is not YAML: {' '.join(str(err).split())}")
        mark, start = err.problem_mark or err.context_mark, err.context_mark
        at_end = mark and not "".join(self.lines[mark.line :]).strip()
        if start and (at_end or err.context == "while scanning a simple key"):
            # the parser ran on to the end of the file or of the next line: point at the opening
            mark = start
        place = self.place(mark.line, mark.column) if mark else self.source.top
        said = [part for part in (err.context, err.problem) if part]
        return Problem(place, "", f"this is not YAML: {', '.join(said)}")

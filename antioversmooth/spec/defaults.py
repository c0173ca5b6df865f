"""The files of a row: a walk along its `defaults` lists, in hydra's order, with places.

An entry is one of

    schema                        every key with its type and default; the first of a row
    _self_                        the keys of the file itself
    group: option                 experiments/<group>/<option>.yaml; ${profile} in it: the option
                                  of that group
    override group: option        another option for a default of the files before
    /path/to/file@_here_          the keys of that file, in the place of this one's

A spec needs no more of hydra's language; other entries are refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from antioversmooth.errors import did_you_mean
from antioversmooth.spec import fields
from antioversmooth.spec.commandline import CommandLine
from antioversmooth.spec.problems import Problem
from antioversmooth.spec.source import Node, Source, exists, shown

_FORMS = "`schema`, `_self_`, `group: option`, `override group: option` or `/path/to/file@_here_`"


@dataclass(frozen=True)
class Layer:
    """The keys of one file, without its `defaults`."""

    path: Path
    package: tuple[str, ...]
    """The keys of the experiment that they go under."""


@dataclass(frozen=True)
class Entry:
    """One line of a `defaults` list."""

    node: Node
    """The option, or the path."""
    group: str = ""
    option: str = ""
    package: str | None = None
    """The text behind the @."""
    overrides: bool = False


@dataclass
class Walk:
    """The files of a row; values of later ones replace those of earlier ones."""

    layers: list[Layer] = field(default_factory=list)
    choices: dict[str, Node] = field(default_factory=dict)
    """The option of each group, and where it was chosen."""
    problems: list[Problem] = field(default_factory=list)


def walk(row: Path, line: CommandLine, read: Callable[[Path], Source]) -> Walk:
    """Follows the defaults of a row, with the options that the command line chooses."""
    walker = _Walker(row, line, read)
    walker.visit(row, (), "", ())
    walker.finish()
    return walker.found


class _Walker:
    def __init__(self, row: Path, line: CommandLine, read: Callable[[Path], Source]) -> None:
        self.row, self.line, self.read, self.folder = row, line, read, row.parent
        self.found = Walk(choices=dict(line.choices))
        self.groups: set[str] = set()
        self.broken: set[str] = set()
        """Groups whose option does not exist; entries that interpolate them are skipped."""
        self.knows_groups = True
        """False where a file does not say which defaults it has."""
        self.has_schema = False

    def refuse(self, node: Node, message: str, key: str = "") -> None:
        self.found.problems.append(Problem(node.place, key, message))

    def visit(
        self, path: Path, package: tuple[str, ...], base: str, chain: tuple[Path, ...]
    ) -> None:
        """Adds the layers of a file and of those that its defaults name.

        Args:
            package: Keys under which its keys go.
            base: Folder, inside the experiments folder, that its entries are relative to.
            chain: Files that led here.
        """
        source = self.read(path)
        self.found.problems += source.problems
        if source.root is None or not isinstance(source.root.value, dict):
            self.knows_groups = False
            if not source.problems:
                message = "a spec is a mapping: `key: value` on each line"
                self.found.problems.append(Problem(source.top, "", message))
            return
        entries = self.entries(source.root.value.get("defaults"))
        for entry in entries:
            if entry.group and "${" not in entry.option:
                option = replace(entry.node, value=entry.option)
                self.found.choices.setdefault(_joined(base, entry.group), option)
        for entry in entries:
            if entry.option == "_self_":
                self.found.layers.append(Layer(path, package))
            elif entry.option == "schema" and not entry.group:
                self.has_schema = True
                if self.found.layers:
                    message = "`schema` comes before all keys: it sets them to their defaults"
                    self.refuse(entry.node, message, "defaults")
            elif not entry.overrides:
                self.follow(entry, package, base, (*chain, path))
        if not entries:
            self.found.layers.append(Layer(path, package))

    def entries(self, defaults: Node | None) -> list[Entry]:
        if defaults is None:
            return []
        if not isinstance(defaults.value, list):
            self.knows_groups = False
            self.refuse(defaults, f"a list belongs here; its entries are {_FORMS}", "defaults")
            return []
        entries = [entry for node in defaults.value if (entry := self.entry(node)) is not None]
        own = sum(entry.option == "_self_" for entry in entries)
        if own != 1:
            message = (
                "`_self_` appears twice"
                if own
                else "`_self_` is missing: the place of this file's own keys"
            )
            self.refuse(replace(defaults, place=defaults.key_place), message, "defaults")
        return entries

    def entry(self, node: Node) -> Entry | None:
        group, option = "", node
        if isinstance(node.value, dict) and len(node.value) == 1:
            ((group, option),) = node.value.items()
        head = re.fullmatch(r"(override )?(/?[\w/]*)(?:@([\w.]+))?", group)
        if head is None or not isinstance(option.value, str):
            self.knows_groups = False
            self.refuse(replace(node, place=option.key_place), f"a default is {_FORMS}", "defaults")
            return None
        path, _, package = option.value.partition("@")
        return Entry(option, head[2], path, head[3] or package or None, overrides=bool(head[1]))

    def follow(
        self, entry: Entry, package: tuple[str, ...], base: str, chain: tuple[Path, ...]
    ) -> None:
        """Visits the file that an entry names."""
        sections = fields.sections()
        group = _joined(base, entry.group) if entry.group else ""
        chosen = self.chosen(group, entry) if group else entry.node
        if chosen is None or not isinstance(chosen.value, str):
            return
        relative = f"{group}/{chosen.value}" if group else _joined(base, entry.option)
        path = self.folder / f"{relative}.yaml"
        home = group or relative.rpartition("/")[0]
        if ".." in relative.split("/") or not exists(path):
            self.broken.add(group)
            self.refuse(chosen, self.not_found(relative), group)
        elif path in chain:
            self.refuse(chosen, f"{relative}.yaml would be part of itself", "defaults")
        elif (goes := self.package(entry, path, home, package)) and goes[0] not in sections:
            hint = self.head_of_others(path) or did_you_mean(goes[0], sections)
            message = f"its keys would go to `{'.'.join(goes)}`, which a row does not have; {hint}"
            self.refuse(chosen, message, "defaults")
        else:
            self.visit(path, goes, home, chain)

    def chosen(self, group: str, entry: Entry) -> Node | None:
        """The option of a group, with interpolations filled in; None where that cannot be."""
        self.groups.add(group)
        chosen = self.found.choices.get(group) or replace(entry.node, value=entry.option)
        if not isinstance(chosen.value, str):
            self.broken.add(group)
            self.refuse(chosen, "the name of an option belongs here", group)
            return None
        for name in re.findall(r"\$\{(.*?)\}", chosen.value):
            other = self.found.choices.get(name)
            if name in self.broken:
                return None
            if other is None:
                hint = did_you_mean(name, self.groups)
                self.refuse(chosen, f"`${{{name}}}` names no group; {hint}", group)
                return None
            chosen = replace(chosen, value=chosen.value.replace(f"${{{name}}}", str(other.value)))
        return self.found.choices.setdefault(group, chosen)

    def package(
        self, entry: Entry, path: Path, home: str, parent: tuple[str, ...]
    ) -> tuple[str, ...]:
        """Keys that a file goes under: by its entry, by its head, or by its folder."""
        said = entry.package or self.read(path).package
        if said == "_here_":
            return parent
        if said == "_global_":
            return ()
        return tuple(said.split(".")) if said else tuple(part for part in home.split("/") if part)

    def head_of_others(self, path: Path) -> str:
        """The line that a file lacks and all others of its folder begin with; empty: no such."""
        if self.read(path).package:
            return ""
        others = {self.read(one).package for one in path.parent.glob("*.yaml") if one != path}
        package = others.pop() if len(others) == 1 else None
        return f"begin {shown(path)} with the line `# @package {package}`" if package else ""

    def not_found(self, relative: str) -> str:
        group, _, _ = relative.partition("/")
        groups = sorted(path.name for path in self.folder.iterdir() if path.is_dir())
        if ".." in relative.split("/"):
            return f"{relative} leads out of {self.folder.name}/"
        if "/" in relative and group not in groups:
            return f"there is no group `{group}`; {did_you_mean(group, groups)}"
        home, _, name = relative.rpartition("/")
        top = self.folder / home
        known = sorted(str(path.relative_to(top).with_suffix("")) for path in top.rglob("*.yaml"))
        hint = did_you_mean(name, known)
        return f"there is no {self.folder.name}/{relative}.yaml; {hint}"

    def finish(self) -> None:
        for group, node in self.line.choices.items():
            if group not in self.groups and self.knows_groups:
                hint = did_you_mean(group, sorted(self.groups))
                message = f"no default of {self.row.stem} is called that; {hint}"
                self.refuse(replace(node, place=node.key_place), message, group)
        if not self.has_schema and not self.found.problems:
            message = "`schema` is missing: the first default, which gives every key its type"
            self.found.problems.append(Problem(self.read(self.row).top, "defaults", message))


def _joined(base: str, path: str) -> str:
    if path.startswith("/"):
        return path.lstrip("/")
    return f"{base}/{path}" if base else path

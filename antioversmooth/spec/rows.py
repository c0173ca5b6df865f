"""One row: its files and overrides, composed and checked; every problem with its place."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from antioversmooth.config import MISSING, Experiment
from antioversmooth.errors import did_you_mean
from antioversmooth.runs import ORIGINS
from antioversmooth.spec import check, commandline, defaults, fields, idle, source
from antioversmooth.spec.build import to_config
from antioversmooth.spec.problems import Place, Problem
from antioversmooth.spec.source import Node


class Rows:
    """Reads the rows of one request: each file and the command line only once."""

    def __init__(self, folder: Path, overrides: Sequence[str]) -> None:
        self.folder, self.overrides = folder, overrides
        self.line = commandline.read_overrides(overrides, folder)
        self.read = cache(source.read_source)
        self.checked = cache(self._checked)

    def changed(self, overrides: Sequence[str], source: str) -> Rows:
        """The same rows after changes, where the command line does not say otherwise.

        Args:
            overrides: The changes.
            source: Where they are written, for messages.
        """
        given = {commandline.key_of(override) for override in self.overrides}
        changes = [text for text in overrides if commandline.key_of(text) not in given]
        other = copy(self)
        other.line = self.line.after(commandline.read_overrides(changes, self.folder, source))
        return other

    def load(self, path: Path) -> Row:
        """A row: its experiment, or all that is wrong with it."""
        return Row(self, path)

    def _checked(self, layer: defaults.Layer) -> check.Reading:
        """The keys of one file of a row."""
        node = self.read(layer.path).root
        assert node is not None
        keys = {key: value for key, value in node.value.items() if key != "defaults"}
        node = replace(node, value=keys)
        for key in reversed(layer.package):
            node = Node({key: node}, node.place, node.place)
        return check.check(node, Experiment, partial=True)


class Row:
    """A row: the keys of its files in the order of its defaults, then those of the command line."""

    def __init__(self, rows: Rows, path: Path) -> None:
        self.rows, self.path = rows, path
        self.top = rows.read(path).top
        self.walk = defaults.walk(path, rows.line, rows.read)
        self.reading = check.Reading(problems=[*rows.line.problems, *self.walk.problems])
        self.earlier: dict[str, Any] = {}
        """The value that each key had before the row's own file, or an override, gave it one."""
        for layer in self.walk.layers:
            self.add(rows.checked(layer), is_own=layer.path == path)
        for setting in rows.line.settings:
            self.add(check.check(setting, Experiment, partial=True), is_own=True)
        if not self.walk.problems:
            self.refuse_missing()
        self.refuse_mismatches()
        self.reading.content["name"] = path.stem
        self.experiment = to_config(Experiment, self.reading, self.top)
        """None where the row has problems."""
        self.idle: list[str] = []
        """Settings of its own file and of the overrides that have no effect."""
        if self.experiment:
            self.idle = [*idle.settings(self.experiment, self.reading, self.earlier, self.top)]

    def add(self, keys: check.Reading, *, is_own: bool) -> None:
        if is_own:
            content = self.reading.content
            self.earlier |= {key: idle.value_at(content, key) for key in keys.places}
        self.reading.add(keys)

    @property
    def problems(self) -> list[Problem]:
        """The mistakes that were found."""
        return self.reading.problems

    def refuse(
        self, key: str, message: str, *, place: Place | None = None, notes: tuple[str, ...] = ()
    ) -> None:
        self.problems.append(
            Problem(place or self.reading.places.get(key, self.top), key, message, notes)
        )

    def refuse_missing(self) -> None:
        refused = {problem.key for problem in self.problems} | self.reading.unfit
        for section, schema in fields.sections().items():
            if section not in self.reading.content and section in fields.required(Experiment):
                if section not in refused:
                    self.refuse(section, f"has no value; add `- {section}: ...` to the defaults")
                continue
            said = self.reading.content.get(section, {})
            for holder, key in fields.missing(schema, said, section):
                if key not in refused:
                    chosen = self.walk.choices.get(section)
                    place = chosen.place if chosen else self.reading.places.get(section)
                    notes = fields.notes(holder, key.rpartition(".")[2])
                    self.refuse(key, "has no value, and needs one", place=place, notes=notes)

    def refuse_mismatches(self) -> None:
        """Refuses what contradicts the profile or the files of the defaults."""
        chosen = self.walk.choices.get("profile")
        said = self.reading.content.get("profile", MISSING)
        if chosen is not None and said not in (chosen.value, MISSING):
            message = (
                f"{said!r} is not the profile of the defaults, `{chosen.value}`, whose results"
                " folder is used"
            )
            self.refuse("profile", message)
        for field in ORIGINS:
            kind, _, name = str(self.reading.content.get("recipe", {}).get(field)).partition(":")
            if kind == "run" and not source.exists(self.rows.folder / f"{name}.yaml"):
                known = [path.stem for path in sorted(self.rows.folder.glob("*.yaml"))]
                hint = did_you_mean(name, known)
                self.refuse(f"recipe.{field}", f"there is no row `{name}`; {hint}")

"""One row: its files read, checked and composed; every problem of all of them, with its place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from antioversmooth.config import Experiment
from antioversmooth.errors import SpecError
from antioversmooth.runs import ORIGINS
from antioversmooth.spec import check, commandline, defaults, fields, source
from antioversmooth.spec.compose import compose
from antioversmooth.spec.problems import Place, Problem, did_you_mean
from antioversmooth.spec.rules import broken_rules
from antioversmooth.spec.scalars import complaint
from antioversmooth.spec.source import Node


class Rows:
    """Reads the rows of one request: each file and the command line only once."""

    def __init__(self, folder: Path, overrides: Sequence[str]) -> None:
        self.folder = folder
        self.overrides = list(overrides)
        self.line = commandline.read(overrides, folder)
        self.read = cache(source.read)
        self.checked = cache(self._checked)

    def load(self, path: Path, *, made: bool = True) -> tuple[Experiment | None, list[Problem]]:
        """The experiment of a row, or what is wrong with it.

        Args:
            made: False where another row has a problem already, and only those of this one are
                wanted.
        """
        row = Row(self, path)
        if not made:
            row.explain()
            return None, row.problems
        if not row.problems:
            try:
                return compose(path, [commandline.for_hydra(text) for text in self.overrides]), []
            except SpecError as err:
                refused = err
        row.explain()
        return None, row.problems or [Problem(row.top, "", refused.message)]

    def _checked(self, layer: defaults.Layer) -> check.Reading:
        """The keys of one file of a row."""
        node = self.read(layer.path).root
        assert node is not None
        node = replace(
            node, value={key: value for key, value in node.value.items() if key != "defaults"}
        )
        for key in reversed(layer.package):
            node = Node({key: node}, node.place, node.place)
        return check.check(node, Experiment, partial=True)


class Row:
    """A row as its files and the command line say it, merged in the order of its defaults."""

    def __init__(self, rows: Rows, path: Path) -> None:
        self.rows, self.path = rows, path
        self.top = rows.read(path).top
        self.walk = defaults.walk(path, rows.line, rows.read)
        self.reading = check.Reading(problems=[*rows.line.problems, *self.walk.problems])
        for layer in self.walk.layers:
            self.reading.add(rows.checked(layer))
        for setting in rows.line.settings:
            self.reading.add(check.check(setting, Experiment, partial=True))
        if not self.walk.problems:
            self.refuse_missing()
        self.refuse_mismatches()

    @property
    def problems(self) -> list[Problem]:
        """What is wrong so far."""
        return self.reading.problems

    def refuse(
        self, key: str, message: str, *, place: Place | None = None, notes: tuple[str, ...] = ()
    ) -> None:
        self.problems.append(
            Problem(place or self.reading.places.get(key, self.top), key, message, notes)
        )

    def explain(self) -> None:
        """Adds what shows only where all values are known; a row that hydra composes has nothing of
        it."""
        self.resolve()
        self.problems.extend(broken_rules(Experiment, self.reading, self.top))

    def refuse_missing(self) -> None:
        refused = {problem.key for problem in self.problems} | self.reading.unfit
        for section, schema in fields.sections().items():
            if section not in self.reading.content and section in fields.required(Experiment):
                if section not in refused:
                    self.refuse(section, f"has no value; add `- {section}: ...` to the defaults")
                continue
            said = self.reading.content.get(section, {})
            for name in fields.required(schema):
                key = f"{section}.{name}"
                if name not in said and key not in refused:
                    chosen = self.walk.choices.get(section)
                    place = chosen.place if chosen else self.reading.places.get(section)
                    self.refuse(
                        key,
                        "has no value, and needs one",
                        place=place,
                        notes=fields.explain(schema, name),
                    )

    def resolve(self) -> None:
        """Replaces each `${...}` by what it stands for, and holds that against its type."""
        for section, schema in {"": Experiment, **fields.sections()}.items():
            content = self.reading.content.get(section, {}) if section else self.reading.content
            for name in [
                name for name, value in content.items() if isinstance(value, str) and "${" in value
            ]:
                key = f"{section}.{name}" if section else name
                if wrong := self.resolve_one(content, key, name, schema):
                    del content[name]
                    self.refuse(key, wrong)

    def resolve_one(self, content: dict[str, Any], key: str, name: str, schema: type) -> str | None:
        """Puts the value of an interpolation in its place; says what is wrong with it."""
        said = content[name]
        try:
            value = OmegaConf.select(
                OmegaConf.create(self.reading.content), key, throw_on_missing=True
            )
        except OmegaConfBaseException as err:
            reason = re.sub(
                r"^\w+ raised while resolving interpolation: ", "", str(err).splitlines()[0]
            )
            variable = re.search(r"\$\{([A-Z][A-Z0-9_]*)\}", said)
            way_out = f"; the environment variable is ${{oc.env:{variable[1]}}}" if variable else ""
            return f"`{said}` cannot be resolved: {reason}{way_out}"
        content[name] = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        kind, optional = fields.unwrap(fields.hints(schema)[name])
        if (
            (value is None and optional)
            or not isinstance(kind, type)
            or not complaint(value, str(value), kind, name)
        ):
            return None
        # not shown: it may come from the environment
        return f"`{said}` stands for a value that does not fit"

    def refuse_mismatches(self) -> None:
        """What the files say about each other and must be true."""
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
                self.refuse(
                    f"recipe.{field}", f"there is no row `{name}`; {did_you_mean(name, known)}"
                )

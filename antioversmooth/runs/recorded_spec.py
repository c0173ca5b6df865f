"""`spec.yaml` of a run: its resolved experiment, written once and read as what nobody vouches for.

The seeds of a row have the same section `experiment`, which is nearly all of the file. It is read
once for equal texts, so that ten thousand runs cost little more than ten thousand small files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from antioversmooth.config import Experiment, as_recorded, make
from antioversmooth.errors import ResultError, SpecError
from antioversmooth.runs.identity import identity_fields

_HEADER = """\
# The resolved experiment of this run. Its science is hashed into `id`: an edited copy is refused.
"""
_AS_WRITTEN = re.compile(
    re.escape(_HEADER)
    + r"id: (?P<id>(?=[0-9]*[a-f])[0-9a-f]{64})\n"
    + r"seed: (?P<seed>0|[1-9][0-9]{0,18})\n"
    + r"upstream: (?:null|(?P<upstream>/[\w./-]+))\n"
    + r"(?:teacher: (?P<teacher>/[\w./-]+)\n)?"
    + r"(?:files:\n(?P<files>(?:  [a-z_]+: sha256:[0-9a-f]{64}\n)+))?"
    + r"(?P<section>experiment:\n(?:  .+\n)+)",
    re.ASCII,
)
"""The usual form of a file that a run wrote: values that are no other in YAML, then the section.

Any other form is read, too, and as a whole.
"""
_SECTIONS = 256
"""Different sections that stay in memory; the seeds of a row are read one after another."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""The fast ones, where PyYAML was built with them."""
_DEEPEST = 20
"""Levels of nesting that are read; a run writes fewer."""


class RecordedSpec(NamedTuple):
    """Content of a `spec.yaml`."""

    content: dict[str, Any]
    """Its values: id, seed, files, directories of other runs."""
    experiment: Experiment
    science: Mapping[str, Any]
    """The experiment's `identity_fields`."""


def spec_text(content: Mapping[str, Any]) -> str:
    """The text of a `spec.yaml` with these values, of which `experiment` is the last."""
    return _HEADER + str(yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False))


def read_spec(path: Path) -> RecordedSpec:
    """Reads a `spec.yaml`. People send each other run directories: nothing in it is trusted.

    Raises:
        ResultError: It is missing, or not what a run writes.
    """
    try:
        text = path.read_text()
        written = _AS_WRITTEN.fullmatch(text) if text.isascii() else None
        content = _values(written) if written else _parse(text)
    except FileNotFoundError as err:
        raise ResultError(f"{path.parent} is not a run directory: it has no spec.yaml") from err
    except (yaml.YAMLError, ValueError, RecursionError, OSError) as err:
        raise ResultError(f"{path} cannot be read: {err}") from err
    # what a run writes is resolved; ${oc.env:...} would read this machine's secrets
    if "${" in text:
        raise ResultError(f"{path} cannot be read: it holds an interpolation, which no run writes")
    content = {"files": {}, **content} if isinstance(content, dict) else {}
    if wrong := [key for key, kinds in _TYPES.items() if not isinstance(content.get(key), kinds)]:
        raise ResultError(f"{path} cannot be read: it has no valid {', '.join(wrong)}")
    try:
        if written:
            return RecordedSpec(content, *_experiment_of(written["section"]))
        return RecordedSpec(content, *_experiment(content["experiment"]))
    except SpecError as err:
        raise ResultError(f"{path} cannot be read: {err}") from err


_TYPES = {
    "id": str,
    "seed": int,
    "upstream": str | None,
    "teacher": str | None,
    "experiment": dict,
    "files": dict,
}
"""Types of the values of `spec.yaml`."""


def _values(written: re.Match[str]) -> Any:
    """The values of a file in the usual form; a section that was read before is not read again."""
    try:
        section = _section(written["section"])
    except (yaml.YAMLError, ValueError, RecursionError):
        # the mistake has its place in the whole text
        return _parse(written.string)
    files = [line.strip().split(": ") for line in (written["files"] or "").splitlines()]
    teacher = {"teacher": written["teacher"]} if written["teacher"] else {}
    return {
        "id": written["id"],
        "seed": int(written["seed"]),
        "upstream": written["upstream"],
        **teacher,
        **({"files": dict(files)} if files else {}),
        **section,
    }


@lru_cache(_SECTIONS)
def _section(text: str) -> Any:
    return _parse(text)


@lru_cache(_SECTIONS)
def _experiment_of(text: str) -> tuple[Experiment, dict[str, Any]]:
    """The experiment of a section, and what identifies it."""
    return _experiment(_section(text)["experiment"])


def _experiment(content: dict[str, Any]) -> tuple[Experiment, dict[str, Any]]:
    experiment = make(Experiment, as_recorded(Experiment, content))
    return experiment, identity_fields(experiment)


def _parse(text: str) -> Any:
    """Parses YAML that nobody vouches for.

    Raises:
        yaml.YAMLError: It is not YAML; it has aliases, a few lines of which can mean more values
            than any memory holds; or it is nested deeper than the loader's stack allows.
    """
    depth = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError("it holds an alias, which no run writes")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise yaml.YAMLError("it is nested more deeply than a run writes it")
    return yaml.load(text, _Loader)

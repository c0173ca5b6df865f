"""The identity of a run: a hash over everything that decides what it computes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antioversmooth import weight_files
from antioversmooth.config import MISSING, Experiment
from antioversmooth.errors import CheckpointError, SpecError

if TYPE_CHECKING:
    from antioversmooth.runs.directory import Run


_PLAIN = {str, int, bool, type(None)}


def to_json(value: Any) -> Any:
    """Config as JSON types: dataclasses become dicts, enums their value."""
    # most are, and a table of a thousand runs asks a hundred thousand times
    if type(value) in _PLAIN:
        return value
    if type(value) is float:
        # -0.0 is 0.0
        return value or 0.0
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(k): to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(v) for v in value]
    return value


def identity_fields(
    config: Any, experiment: Any = None, *, names_of_today: bool = False
) -> dict[str, Any]:
    """The fields of a config that decide what is computed, as JSON types.

    A field without an effect beside the values of others has one value, whatever the spec says.

    Args:
        experiment: The experiment that the config is a part of; None: it is one itself.
        names_of_today: Whether a renamed field has its new name; a hash needs the first one.
    """
    whole = config if experiment is None else experiment
    result = {}
    for field in dataclasses.fields(config):
        identified = field.metadata.get("identified")
        value = identified(config) if identified else getattr(config, field.name)
        part = field.metadata.get("identity", True)
        default = field.metadata.get("identity_default", MISSING)
        if part is False or (default is not MISSING and to_json(value) == default):
            continue
        if not has_effect(field, config, whole):
            if default is not MISSING:
                continue
            value = without_effect(field)
        key = field.name if names_of_today else field.metadata.get("formerly", field.name)
        if dataclasses.is_dataclass(value):
            result[key] = identity_fields(value, whole, names_of_today=names_of_today)
        else:
            result[key] = to_json(value)
    return result


def computed_fields(experiment: Experiment) -> dict[str, Any]:
    """`identity_fields` with the options of the method in one spelling: equal for experiments that
    compute the same. An identity keeps the spelling, which finished runs have."""
    found = identity_fields(experiment)
    found["model"]["method_options"] = experiment.model.canonical_options
    return found


def has_effect(field: dataclasses.Field[Any], config: Any, experiment: Any) -> bool:
    """Whether an identifying field of a config acts beside the values of others."""
    metadata = field.metadata
    return _holds(metadata.get("identity", True), config) and _holds(
        metadata.get("acts_in", True), experiment
    )


def _holds(condition: bool | Callable[[Any], bool], config: Any) -> bool:
    return condition(config) if callable(condition) else condition


def without_effect(field: dataclasses.Field[Any]) -> Any:
    """The value of a field in an identity where it has no effect."""
    if "without_effect" in field.metadata:
        return field.metadata["without_effect"]
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


ORIGINS = {"init_from": "upstream", "teacher": "teacher"}
"""Fields of a recipe that name weights from elsewhere; the fields of a run that hold the run behind
`run:<name>`."""


def identity(science: Mapping[str, Any], seed: int, weights: Mapping[str, str]) -> str:
    """sha256 in hex over all that a run computes: model, data, recipe, seed, initial weights.

    Nodes, paths, labels and the git hash stay out: the same science is the same run everywhere.

    Args:
        science: `identity_fields` of an experiment.
        weights: Ids of the weights of `recipe.init_from` and `recipe.teacher`; see `weight_ids`.
    """
    computed = {**science, "seed": seed, "recipe": {**science["recipe"], **weights}}
    canonical = json.dumps(computed, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def origin(experiment: Experiment, field: str) -> tuple[str, str]:
    """Kind and name of the weights that a field of the recipe names; empty where there are none."""
    kind, _, name = (getattr(experiment.recipe, field) or "").partition(":")
    return kind, name


def weight_ids(
    experiment: Experiment, before: Mapping[str, Run], recorded: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Ids of the weights of each origin: a run's id, the checksum of a file, or timm's tag.

    Args:
        before: The runs behind `run:<name>`, by their role.
        recorded: Checksums of files that need not be read, by field.
    """
    found = {}
    for field, role in ORIGINS.items():
        kind, name = origin(experiment, field)
        where = f"{experiment.name}: recipe.{field}"
        if kind == "run":
            if role not in before:
                raise SpecError("the run that it names is not known", where=where)
            found[field] = f"run:{before[role].id}"
        elif kind == "file":
            known = recorded or {}
            found[field] = str(known[field]) if field in known else checksum(experiment, field)
        elif kind:
            found[field] = f"{kind}:{name}"
    return found


def checksum(experiment: Experiment, field: str) -> str:
    """Id of the file that a field of the recipe names.

    Raises:
        CheckpointError: There is no such file, or a shard of an index is missing.
    """
    path = Path(origin(experiment, field)[1])
    if not path.is_file():
        raise CheckpointError(f"{experiment.name}: recipe.{field}: there is no file {path}")
    return f"{FILE}{weight_files.checksum(path)}"


def file_checksums(weights: Mapping[str, str]) -> dict[str, str]:
    """Checksums of file-based weights; they identify a run even when the files are gone."""
    return {field: weight for field, weight in weights.items() if weight.startswith(FILE)}


FILE = "sha256:"
"""Prefix of the checksum of a file in an identity."""


def flatten(fields: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested fields under dotted keys; lists as JSON."""
    flat: dict[str, str] = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat

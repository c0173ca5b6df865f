"""From a reading to a config: resolves interpolations, then checks the rules of config/."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from omegaconf.resolvers.oc import env

from antioversmooth import runs
from antioversmooth.config.rules import Config, broken_rules
from antioversmooth.config.types import build, convert, element_type, is_config, type_hints
from antioversmooth.errors import SpecError
from antioversmooth.redact import is_secret_name, redact
from antioversmooth.spec import fields
from antioversmooth.spec.check import Reading
from antioversmooth.spec.problems import Place, Problem

C = TypeVar("C", bound=Config)


def to_config(schema: type[C], reading: Reading, top: Place) -> C | None:
    """The config that a reading describes; None where it has problems, which are then complete.

    Args:
        top: The place of a key that nobody set.
    """
    _resolve_all(schema, reading, top)
    _redact_prose(schema, reading.content)
    unknown = {problem.key for problem in reading.problems if problem.key} | reading.unfit
    config = build(schema, reading.content)
    errors = broken_rules(config, unknown=unknown)
    reading.problems += [_problem(schema, error, reading, top) for error in errors]
    return None if reading.problems else config


def _resolve_all(schema: type, reading: Reading, top: Place) -> None:
    """Replaces each `${...}` by its value; one that has no fitting value is left out."""
    interpolated = [*_interpolated(schema, reading.content, "")]
    if not interpolated:
        return
    composed = OmegaConf.create(_with_defaults(schema, reading.content))
    for holder, key, hint in interpolated:
        name = key.rpartition(".")[2]
        written = holder.pop(name)
        with _variables_read() as variables:
            message, value = _resolved(composed, key, hint, str(written), variables)
        if not message and variables:
            is_path = fields.field_of(schema, key).metadata.get("path", False)
            message = _not_recordable(convert(hint, value), variables, is_path)
        if message:
            problem = Problem(reading.places.get(key, top), key, f"`{written}` {message}")
            reading.problems.append(problem)
        else:
            holder[name] = value


def _resolved(
    composed: Any, key: str, hint: Any, written: str, variables: Sequence[str]
) -> tuple[str, Any]:
    """The error of an interpolation, or an empty one and the value.

    Args:
        variables: Those of the environment that have been read when it is resolved.
    """
    try:
        value = _value_at(composed, key)
        convert(hint, value)
    except OmegaConfBaseException as err:
        # neither here nor below is a value shown that came from the environment
        if variables:
            return f"cannot be resolved with the values of {', '.join(variables)}", None
        return f"cannot be resolved: {_reason(err, written)}", None
    except SpecError:
        return "resolves to a value that does not fit", None
    return "", value


def _not_recordable(value: Any, variables: Sequence[str], is_path: bool) -> str:
    """Why a value from the environment must not be recorded; empty for numbers and choices."""
    if not _has_text(value):
        return ""
    secret = next(filter(is_secret_name, variables), None)
    if is_path and secret is None:
        return ""
    name = secret or variables[0]
    if is_path:
        return f"is a path, and the name of {name} is that of a secret: it would be recorded"
    return (
        "takes text from the environment, and run directories and tables, which are shared, would"
        " show it; only numbers, choices and paths may come from there. Write the text itself; a"
        f" line of cluster.setup may hold ${name}, which the shell of the job fills in"
    )


def _has_text(value: Any) -> bool:
    """Whether a converted value is, or holds, text that is no choice of a fixed list."""
    if isinstance(value, Config):
        return any(map(_has_text, vars(value).values()))
    if isinstance(value, dict):
        return any(map(_has_text, value.values()))
    if isinstance(value, list):
        return any(map(_has_text, value))
    return isinstance(value, str)


@contextmanager
def _variables_read() -> Iterator[list[str]]:
    """Names of the environment variables that interpolations read, directly or through others."""
    names: list[str] = []

    def read(key: str, *default: Any) -> str | None:
        value = env(key, *default)
        names.append(key)
        return value

    OmegaConf.register_new_resolver("oc.env", read, replace=True)
    try:
        yield names
    finally:
        OmegaConf.register_new_resolver("oc.env", env, replace=True)


def _redact_prose(schema: type, content: dict[str, Any]) -> None:
    """Removes secrets from titles, labels and captions, which files of every kind repeat."""
    for field in dataclasses.fields(schema):
        value, hint = content.get(field.name), type_hints(schema)[field.name]
        kind = element_type(hint) or hint
        if field.metadata.get("prose") and isinstance(value, str):
            content[field.name] = redact(value)
        for part in value if isinstance(value, list) else [value]:
            if is_config(kind) and isinstance(part, dict):
                _redact_prose(kind, part)


def _interpolated(
    schema: type, content: dict[str, Any], key: str
) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """Holder, dotted key and type of each value with a `${...}` in it."""
    for name, hint in type_hints(schema).items():
        dotted, value = f"{key}.{name}" if key else name, content.get(name)
        if is_config(hint) and isinstance(value, dict):
            yield from _interpolated(hint, value, dotted)
        elif _has_interpolation(value):
            yield content, dotted, hint


def _has_interpolation(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_interpolation, value.values()))
    if isinstance(value, list):
        return any(map(_has_interpolation, value))
    return isinstance(value, str) and "${" in value


def _with_defaults(schema: type, content: dict[str, Any]) -> dict[str, Any]:
    """The content, and the defaults of the keys that it leaves out."""
    filled = {**runs.to_json(fields.defaults(schema)), **content}
    for name, hint in type_hints(schema).items():
        if is_config(hint):
            filled[name] = _with_defaults(hint, content.get(name, {}))
    return filled


def _value_at(composed: Any, key: str) -> Any:
    for name in key.split("."):
        composed = composed[name]
    return (
        OmegaConf.to_container(composed, resolve=True)
        if OmegaConf.is_config(composed)
        else composed
    )


def _reason(error: OmegaConfBaseException, written: str) -> str:
    """The first line of OmegaConf's message, and how an environment variable is written."""
    reason = re.sub(r"^\w+ raised while resolving interpolation: ", "", str(error).splitlines()[0])
    variable = re.search(r"\$\{([A-Z][A-Z0-9_]*)\}", written)
    return reason + (f"; the environment variable is ${{oc.env:{variable[1]}}}" if variable else "")


def _problem(schema: type, error: SpecError, reading: Reading, top: Place) -> Problem:
    """Points at the key to blame, else at another that takes part; notes explain the rest."""
    key, *others = error.keys
    places = {other: reading.places[other] for other in others if other in reading.places}
    place, notes = reading.places.get(key), []
    if place is None:
        section = reading.places.get(key.rpartition(".")[0], top)
        place = next(iter(places.values()), section)
        notes = [f"{key} is not set, and has its default"]
    notes += [
        f"{other} is set here: {there.named()}" for other, there in places.items() if there != place
    ]
    if not others:
        name = key.rpartition(".")[2].partition("[")[0]
        notes += fields.notes(fields.schema_of(schema, key), name)
    return Problem(place, key, error.message, tuple(notes))

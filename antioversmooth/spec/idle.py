"""Settings that a spec gives, and that do nothing beside the values of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

from antioversmooth.config import MISSING, Experiment, ModelConfig
from antioversmooth.methods import METHODS
from antioversmooth.methods.options import default_of, differing
from antioversmooth.runs import to_json
from antioversmooth.runs.identity import computed_fields, has_effect, without_effect
from antioversmooth.spec import fields, naming
from antioversmooth.spec.build import to_config
from antioversmooth.spec.check import Reading
from antioversmooth.spec.problems import Place


def settings(
    experiment: Experiment, reading: Reading, earlier: Mapping[str, Any], top: Place
) -> Iterator[str]:
    """The settings, as overrides, without which the experiment computes the same.

    A default is left out: nobody expects that it changes something.

    Args:
        reading: What the experiment was made of.
        earlier: The settings in question: the value that each dotted key would have without its
            own, or MISSING.
        top: As for `to_config`.
    """
    content, same = reading.content, computed_fields(experiment)
    for key, value in _idle_values(experiment):
        if key in earlier:
            # a value may be what makes itself and others idle, as mixup=0 beside cutmix=0
            fewer = _changed(content, key, earlier[key])
            without = to_config(Experiment, Reading(fewer), top)
            if without and computed_fields(without) == same:
                content = fewer
                yield f"{key}={naming.value_text(to_json(value))}"


def value_at(content: Mapping[str, Any], key: str) -> Any:
    """The value of a dotted key, or MISSING."""
    found: Any = content
    for name in key.split("."):
        found = found.get(name, MISSING) if isinstance(found, Mapping) else MISSING
    return found


def _changed(content: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with another value of a dotted key; without the key where it is MISSING."""
    changed = deepcopy(dict(content))
    *path, name = key.split(".")
    holder = changed
    for part in path:
        holder = holder[part]
    if value is MISSING:
        del holder[name]
    else:
        holder[name] = value
    return changed


def _idle_values(experiment: Experiment) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values without an effect that are not their defaults."""
    for section in fields.sections():
        config = getattr(experiment, section)
        for field in dataclasses.fields(config):
            key, value = f"{section}.{field.name}", getattr(config, field.name)
            if not fields.identifies(key) or has_effect(field, config, experiment):
                continue
            if value not in (default_of(field), without_effect(field)):
                yield key, value
    yield from _idle_options(experiment.model)


def _idle_options(model: ModelConfig) -> Iterator[tuple[str, Any]]:
    method = model.sound_method
    for name, value in differing(METHODS.get(model.method), model.method_options).items():
        if method and name in method.idle_options:
            yield f"model.method_options.{name}", value

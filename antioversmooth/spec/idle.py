"""Settings that a spec gives, and that do nothing beside the values of others."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from typing import Any

from antioversmooth.config import Experiment, ModelConfig
from antioversmooth.methods import METHODS
from antioversmooth.methods.options import default_of, differing
from antioversmooth.runs import to_json
from antioversmooth.runs.identity import has_effect, without_effect
from antioversmooth.spec import fields, naming


def settings(experiment: Experiment, keys: Collection[str]) -> Iterator[str]:
    """Those of the dotted keys, as overrides, that have no effect on what is computed.

    A default is left out: nobody expects that it changes something.
    """
    for key, value in _idle_values(experiment):
        if key in keys:
            yield f"{key}={naming.value_text(to_json(value))}"


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

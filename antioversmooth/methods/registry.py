"""All methods by name, and the choice among them."""

from __future__ import annotations

from typing import Any

from antioversmooth.config import ModelConfig
from antioversmooth.methods.attnscale import AttnScale
from antioversmooth.methods.base import Method
from antioversmooth.methods.featscale import FeatScale

METHODS: dict[str, type[Method]] = {method.name: method for method in (AttnScale, FeatScale)}
"""A new method joins here."""


def method_of(config: ModelConfig) -> Method | None:
    """The method that `model.scaling` names, with its options from the spec; None for none."""
    method = METHODS.get(config.scaling.value)
    return None if method is None else method.from_fields(vars(config))


def methods_named(**keywords: Any) -> list[Method]:
    """The methods among the keywords whose value is true, with the options among the keywords.

    Raises:
        TypeError: A keyword is neither a method nor an option of one.
        ValueError: An option has no such value.
    """
    options = {key: value for key, value in keywords.items() if key not in METHODS}
    known = {name: set(method.option_fields().values()) for name, method in METHODS.items()}
    unknown = options.keys() - set().union(*known.values())
    if unknown:
        raise TypeError(
            f"{', '.join(sorted(unknown))}: no such method or option; methods are"
            f" {', '.join(METHODS)}, options {', '.join(sorted(set().union(*known.values())))}"
        )
    return [
        method(**{key: options[key] for key in known[name] & options.keys()})
        for name, method in METHODS.items()
        if keywords.get(name)
    ]


def parameter_names() -> set[str]:
    """Last part of the name of every method's parameters in a state dict."""
    return {parameter.name for method in METHODS.values() for parameter in method.parameters}

"""All methods by name, and the choice among them."""

from __future__ import annotations

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Protocol

from antioversmooth.errors import did_you_mean, question, similar
from antioversmooth.methods.base import Method
from antioversmooth.methods.family import Family


def _discovered() -> dict[str, type[Method]]:
    """The methods that the modules of this package define: its classes with a name.

    Raises:
        TypeError: Two have one name.
    """
    found: dict[str, type[Method]] = {}
    for module in iter_modules([str(Path(__file__).parent)]):
        if f"{_PACKAGE}.{module.name}" == __name__:
            continue
        for value in vars(import_module(f"{_PACKAGE}.{module.name}")).values():
            is_method = isinstance(value, type) and issubclass(value, Method)
            if not is_method or "name" not in vars(value):
                continue
            if found.setdefault(value.name, value) is not value:
                raise TypeError(f"two methods are called {value.name}")
    return found


_PACKAGE = __name__.rpartition(".")[0]
METHODS: dict[str, type[Method]] = _discovered()
"""Every module of the package that defines a method is found; no list names them."""


class _Chosen(Protocol):
    """The part of `ModelConfig` that chooses a method."""

    family: Family
    method: str
    method_options: dict[str, Any]


def method_of(config: _Chosen) -> Method | None:
    """The method that `model.method` names, with its options from the spec; None for none.

    Fields that choose no form of it in the family have no effect.
    """
    method = METHODS.get(config.method)
    if method is None:
        return None
    acting = {key: getattr(config, key) for key in method.forms.get(config.family, {})}
    return method.from_fields(acting, config.method_options)


def method_named(name: str, /, **options: Any) -> Method:
    """The method of a name, with its options.

    Raises:
        ValueError: There is no such method, or an option has no such value.
        TypeError: The method has no such option.
    """
    if name not in METHODS:
        hint = question(similar(name, METHODS))
        there_are = f"the methods are {', '.join(METHODS)}"
        raise ValueError(f"{name!r} is no method; {f'{hint} ' if hint else ''}{there_are}")
    known = [field.name for field in fields(METHODS[name])]
    for option in options.keys() - set(known):
        hint = did_you_mean(option, known) if known else "it has none"
        raise TypeError(f"{name} has no option {option}; {hint}")
    return METHODS[name](**options)


def parameter_names() -> set[str]:
    """Last part of the name of every method's parameters in a state dict."""
    return {parameter.name for method in METHODS.values() for parameter in method.parameters}

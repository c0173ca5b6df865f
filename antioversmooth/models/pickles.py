"""Files of torch.save, read without building anything but tensors and plain containers.

Training code of others saves more than tensors: its config, parsed arguments, numbers of NumPy,
paths. An object of a class that torch does not know becomes an empty stand-in. No class or function
that a file names is imported or called.
"""

from __future__ import annotations

import pickle
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch


class StandIn(list):  # type: ignore[type-arg]
    """Stands for an object of a class that a file names; it ignores all that the file does to it.

    It is a list, since torch appends to nothing else.
    """

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass

    # hashed and compared by identity, for it may be a key of a dict
    __hash__ = object.__hash__  # type: ignore[assignment]
    __eq__ = object.__eq__


class _Mapping(StandIn):
    """Stands for an object of a class of dicts: what it holds may be weights."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()


def load(source: Path) -> Any:
    """The content of a file of torch.save, on the CPU.

    Raises:
        BadZipFile: A tensor is damaged.
        Exception: Of any kind, for bytes that are no such file.
    """
    with source.open("rb") as file:
        classes = _scan(file)
        _check_sums(file)
    stand_ins: list[Any] = [
        (type(name, (_Mapping if is_mapping else StandIn,), {"__module__": ""}), name)
        for name, is_mapping in classes.items()
    ]
    with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():
        # torch warns about pickles that are no weights
        warnings.simplefilter("ignore")
        return torch.load(source, map_location="cpu", weights_only=True)


def _check_sums(file: IO[bytes]) -> None:
    """Raises BadZipFile where a part has another sum than is recorded: torch.load does not look."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if name := archive.testzip():
                raise zipfile.BadZipFile(name)


def is_whole(source: Path) -> bool:
    """Whether a file is one of torch.save up to the end of its pickle, whatever that holds."""
    try:
        with source.open("rb") as file:
            _scan(file)
    except Exception:
        # Python's reader, too, raises any kind of error
        return False
    return True


def _scan(file: IO[bytes]) -> dict[str, bool]:
    """Dotted names of the classes and functions in a file; whether the file sets items of each."""
    classes: dict[str, bool] = {}
    with _pickle_in(file) as (stream, before):
        for _ in range(before + 1):
            _Scanner(stream, classes).load()
    return classes


@contextmanager
def _pickle_in(file: IO[bytes]) -> Iterator[tuple[IO[bytes], int]]:
    """A stream with the pickle of the content, and the number of pickles before it."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        # the old format begins with its magic number, its version and sizes of types
        yield file, 3
        return
    with zipfile.ZipFile(file) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        with archive.open(name) as stream:
            yield stream, 0


class _Scanner(pickle._Unpickler):
    """Unpickles into recorders alone, of whatever the pickle names.

    It is Python's own unpickler, not that in C: a damaged file can make that one ask for all memory
    of a machine, for a memo of 2^32 entries.

    Args:
        classes: Filled with the dotted names; whether items are set of an instance of each.
    """

    def __init__(self, stream: IO[bytes], classes: dict[str, bool]) -> None:
        super().__init__(stream)
        self.classes = classes

    def find_class(self, module: str, name: str) -> type[StandIn]:
        # Python 2's names of modules, which protocol 2 writes
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        dotted = f"{module}.{name}"
        self.classes.setdefault(dotted, False)

        def record(_: object, *__: object) -> None:
            self.classes[dotted] = True

        return type(dotted, (StandIn,), {"__setitem__": record, "__module__": ""})

    def persistent_load(self, _: Any) -> type[StandIn]:
        # a storage, or in old files the class of a module
        return StandIn

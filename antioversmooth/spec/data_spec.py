"""The text of a data spec: what was found in a data set, and how it was found."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from antioversmooth.config import DataConfig, DataSource
from antioversmooth.errors import SpecError
from antioversmooth.spec.source import shown
from antioversmooth.text import one_line

WIDTH = 100
CLASSES = 50
"""Classes that the head of a spec names."""


def data_spec_path(folder: Path, name: str) -> Path:
    """Path of the data spec of a name that is free.

    Args:
        folder: The experiments folder.

    Raises:
        SpecError: The name cannot be one, or is taken.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise SpecError("a data spec's name is made of small letters, digits and _", where=name)
    path = folder / "data" / f"{name}.yaml"
    if path.exists():
        raise SpecError(
            "there is a data spec of that name already; it is left as it is. Remove it to look"
            " again, or choose another name with --name",
            where=shown(path),
        )
    return path


def spec_name(folder: str) -> str:
    """A name for the spec of a folder: `My Birds-2` becomes `my_birds_2`."""
    return re.sub(r"[^a-z0-9]+", "_", folder.lower()).strip("_") or "mydata"


def data_spec(
    config: DataConfig, *, counts: dict[str, int], sizes: str, warnings: Sequence[str]
) -> str:
    """The text of the spec.

    Args:
        counts: Training images of each class, by its name.
        sizes: Sizes of the images, in words.
        warnings: Sentences about what is odd.
    """
    classes = [f"{name} ({count:,})" for name, count in list(counts.items())[:CLASSES]]
    more = f" and {len(counts) - CLASSES:,} more" if len(counts) > CLASSES else ""
    of_names = config.source is DataSource.image_folder
    refused = (
        "images of other names, and cannot tell other content under the same names"
        if of_names
        else "images of other names or sizes"
    )
    head = [
        "Written by `antioversmooth data`: counts, mean and standard deviation are measured. The"
        f" fingerprint refuses {refused}; remove it where they may change.",
        f"Classes, with their training images: {', '.join(classes)}{more}",
        f"Sizes: {sizes}",
        *(f"Warning: {warning}" for warning in warnings),
    ]
    return "".join(line + "\n" for line in [*_comments(head), *_settings(config)])


def _comments(sentences: Sequence[str]) -> Iterator[str]:
    for sentence in sentences:
        yield from textwrap.wrap(
            one_line(sentence),
            WIDTH,
            initial_indent="# ",
            subsequent_indent="# ",
            break_long_words=False,
            break_on_hyphens=False,
        )


def _settings(config: DataConfig) -> Iterator[str]:
    """Lines of YAML; a text in JSON's quotes is YAML."""
    yield f"name: {json.dumps(config.name)}"
    yield f"source: {config.source.value}"
    yield f"root: {json.dumps(config.root)}"
    for key in ("train", "val", "label"):
        if (value := getattr(config, key)) is not None:
            yield f"{key}: {json.dumps(value)}"
    for key in ("num_classes", "num_train", "num_val"):
        yield f"{key}: {getattr(config, key)}"
    for key in ("mean", "std"):
        yield f"{key}: [{', '.join(f'{value:.4f}' for value in getattr(config, key))}]"
    yield f"fingerprint: {config.fingerprint}"
    if config.max_corrupt:
        yield f"max_corrupt: {config.max_corrupt}"
    if config.classes:
        yield from ["classes:", *(f"  - {json.dumps(name)}" for name in config.classes)]

"""Names of what a sweep makes: for folders and files, and for people."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

LONGEST_VALUE = 40
"""Characters of a value in a name; a longer one ends in a checksum."""
LONGEST_NAME = 90
"""Less than a name may have: evaluations add to it."""


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last part of each dotted key; the whole key where several end alike."""
    last = {key: key.rpartition(".")[2].replace("/", ".") for key in keys}
    return {
        key: key.replace("/", ".") if list(last.values()).count(name) > 1 else name
        for key, name in last.items()
    }


def value_text(value: Any) -> str:
    """A value of a field, as JSON types, for people."""
    return value if isinstance(value, str) else json.dumps(value)


def slugs(texts: Sequence[str]) -> dict[str, str]:
    """A part of a file name for each text; different texts have different ones."""
    plain = {text: re.sub(r"[^A-Za-z0-9.-]+", "_", text).strip("_.") for text in texts}
    uses = Counter(plain.values())
    return {
        text: slug if slug and uses[slug] == 1 and len(slug) <= LONGEST_VALUE
        # of letters and digits that are in it, and all of it
        else f"{slug[: LONGEST_VALUE - 9]}_{checksum(text)}".strip("_")
        for text, slug in plain.items()
    }  # fmt: skip


def join(parts: Sequence[str]) -> str:
    """A name of parts; a long one is cut, and ends in a checksum of all of it."""
    name = "-".join(parts)
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 9]}-{checksum(name)}"


def checksum(text: str) -> str:
    """Eight letters that stand for a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]

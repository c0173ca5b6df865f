"""Redaction of secrets in recorded and shared text: command lines, error messages, bundles."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

HIDDEN = "(hidden)"
"""Replacement of a secret; valid inside YAML, where *** would be an alias."""

_NAME = r"token|secret|passw(?:or)?d|credential|api_?key|access_?key|private_?key"
_IN_A_URI = re.compile(r"(?<=://)[^\s/@'\"]+(?=@)")
_NAMED = re.compile(
    rf"((?:{_NAME})['\"]?\s*[=:]\s*['\"]?)(?!(?:true|false|null)\b)[^\s'\"&;,()}}\]]+",
    re.IGNORECASE,
)
_BEARER = re.compile(r"(\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}", re.IGNORECASE)
_SECRET_VARIABLE = re.compile(_NAME, re.IGNORECASE)
MIN_LENGTH = 6
"""Shortest value of a variable that is searched for: shorter ones occur in texts by chance."""


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with its secrets replaced by (hidden).

    Secrets are user names and passwords in URIs, values of fields named as a token, a key or a
    password, and values of environment variables with such names.

    Args:
        environment: Default: the environment of this process.
    """
    values = os.environ if environment is None else environment
    for name, value in values.items():
        if len(value) >= MIN_LENGTH and _SECRET_VARIABLE.search(name):
            text = text.replace(value, HIDDEN)
    text = _IN_A_URI.sub(HIDDEN, text)
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    return _BEARER.sub(rf"\1{HIDDEN}", text)

"""Redaction of secrets in recorded and shared text: command lines, messages, diffs, bundles.

It recognises a secret by its name (token, password, OPENAI_KEY), by its place (a URI, an option, a
header) or by its form (ghp_..., a private key). It cannot recognise a secret that has none of
these, such as a password that is piped into a command.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

HIDDEN = "(hidden)"
"""Replacement of a secret; valid inside YAML, where *** would be an alias."""
MIN_LENGTH = 6
"""Shortest value of a variable that is searched for: shorter ones occur in texts by chance."""

_STRONG = re.compile(r"passw(or)?d|passphrase|secret|(api|access|private|account|shared)key")
"""Words that make any name the name of a secret, wherever they stand in it."""
_LAST = re.compile(r"token|credential|credentials|jwt|pass|pwd|pw|auth|sig|signature|pat|otp")
"""Words that do so at the end of a name."""
_ALONE = re.compile(r"token|credentials?|jwt")
"""Those of them that do so without a further word, as in `token: ...`."""
_KEYS = re.compile(
    r"api|access|private|secret|account|shared|storage|service|signing|encryption|ssh|deploy"
    r"|master|license|auth|client|session|subscription|webhook|openai|anthropic|wandb|hf|aws"
    r"|azure|gcp|google|stripe|github|gitlab|comet|neptune|kaggle|mlflow"
)
"""Words before `key` that make it a secret; in a name of capitals any word does."""
_MODEL_TOKENS = re.compile(
    r"class|cls|dist|distillation|mask|masked|patch|reg|register|image|text|eos|bos|pad|sep"
    r"|unk|special|mean|num|max|min|per|each|learned|query"
)
"""Words before `token` that make it a part of a model."""
_ABOUT = re.compile(r"file|path|dir|stdin|length|policy|type|count|name|timeout|prompt")
"""Last words of names that say something about a secret."""

_NUMBER = re.compile(r"[-+]?\d*\.?\d+(e[-+]?\d+)?[%,.]?", re.IGNORECASE)
_NO_SECRET = re.compile(
    r"(true|false|null|none|yes|no|on|off)\b|\$\{?[A-Z_][A-Z0-9_]*\}?(?=[\s'\"]|$)", re.IGNORECASE
)
"""Values of switches, and names of variables, which a shell fills in."""

_VALUE = re.compile(
    r"""
    (?P<open>\\?["']) (?P<quoted>(?:(?!(?P=open))(?:\\.|.))*) (?P=open)   # "a b", \"a b\"
    | [|>][-+]?[ \t]*\n[ \t]+ (?P<block>\S.*(?:\n[ \t]+\S.*)*)            # a block of YAML
    | (?P<bare>(?:\\.|[^\s'"&;,()}\]<]|(?<=[^\s'"&;,()}\]<]),(?=[^\s'"]))+)
    """,
    re.VERBOSE,
)
_FIELD = re.compile(
    r"""(?<![\w.]) (?P<whole>['"](?=[\w.+~-]+=))? (?P<name>(?:(?:api|access|private|secret)\ )?
    [A-Za-z_][\w.-]*+) (?P<end>\\?['"]?\]?) (?P<sign>[ \t]*(?::=|=>|=(?!=)|:(?!//))[ \t]*)""",
    re.VERBOSE | re.IGNORECASE,
)
"""A name and its sign of equality: TOKEN=, "token": , 'data.token=a b' as a shell quotes it."""
_ARGUMENT = re.compile(
    r"""(?<![\w-]) (?:--?|setenv\s+|set\ -g?x\s+) (?P<name>[A-Za-z][\w-]*+) (?P<end>)
    (?P<sign>(?:\s+|['"],\s*)(?=['"]?[^-\s]))""",
    re.VERBOSE,
)
"""A name and a blank: --token S, '--token', 'S' in a list, and as some shells set variables."""
_ELEMENT = re.compile(r"<(?P<name>[A-Za-z][\w.-]*)>(?P<value>[^<>]+)(?=</)")

_GAP = r"""(?:\s+|['"],\s*)['"]?"""
_REST = r"[^\n|;&]{0,200}?"
_PLACES = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # user names and passwords in URIs; a password may hold @ and /, and a port is none
        r"(?<=://)()[^\s/:@.'\"]{1,99}:(?!\d+(?:/|$))[^\s'\"]{0,299}(?=@)",
        r"(?<=://)()[^\s/'\"]{1,299}(?=@)",
        r"(\b(?:proxy-)?authorization['\"]?\s*[:=]\s*['\"]?(?:\w[\w-]*\s+)?)[^\s'\"][^'\"\n]*",
        r"(\b(?:set-)?cookie:\s*)[^'\"\n]+",
        r"(\b(?:bearer|basic)\s+)(?=[^\s]*[\d=])[\w.~+/=-]{8,}",
        rf"(\bwandb{_GAP}login(?:{_GAP}--?[\w=:/.-]+)*{_GAP})[\w-]{{12,}}",
        rf"(\b(?:curl|wget|https?|xh)(?=[\s'\"]){_REST}(?:-u|-U|-a|--user|--proxy-user|--auth)"
        rf"(?:=|{_GAP})['\"]?[^\s:'\"/]{{1,99}}:)"
        r"(?!\d+(?:\s|$))[^\s'\"]+",
        rf"(\b(?:sshpass|(?:docker|podman|helm|az|oc)\s+(?:registry\s+)?login)\b{_REST}{_GAP}-p"
        r"(?:\s*|['\"],\s*)['\"]?)[^\s'\"]+",
        rf"(\b(?:mysql|mariadb)\w*\s{_REST}(?<=\s)-p)[^\s'\"]+",
        rf"(\bredis-cli\b{_REST}\s-a\s+)[^\s'\"]+",
        r"(-pass(?:in|out)?\s+pass:)[^\s'\"]+",
        r"(\blogin\s+\S+\s+password\s+)\S+",
        r"([?&]key=)[^\s'\"&#]+",
        r"(hooks\.slack\.com/services/|/api/webhooks/)[\w/-]+",
        # forms of keys
        r"(-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----)[\s\S]*?(?=-----END|\Z)",
        r"()\b(?:gh[opsur]_|github_pat_|gl(?:pat|rt)-|hf_|npm_|pypi-|dckr_pat_|dop_v1_|shpat_"
        r"|xox[abeprs]-|xapp-|[sr]k_(?:live|test)_|lin_api_|hvs\.|dapi|tskey-)[\w.-]{16,}",
        r"()\bsk-(?=[\w-]*\d)[\w-]{20,}",
        r"()\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b",
        r"()\b(?:AIza|ya29\.|SG\.)[\w.-]{20,}",
        r"()\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",
    )
]
"""Places and forms of secrets; the first group stays."""


def redact(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text with its secrets replaced by (hidden).

    Args:
        environment: Values of its variables that are named as secrets are hidden, too. Default: the
            environment of this process.
    """
    values = os.environ if environment is None else environment
    for name, value in values.items():
        if len(value) >= MIN_LENGTH and is_secret_name(name) and not _is_plain(name, value):
            text = text.replace(value, HIDDEN).replace(quote(value, safe=""), HIDDEN)
    for place in _PLACES:
        text = place.sub(rf"\1{HIDDEN}", text)
    text = _ELEMENT.sub(_hide_element, text)
    return _hide_values(_hide_values(text, _FIELD), _ARGUMENT)


def redact_all(value: Any) -> Any:
    """As `redact`, of all texts in lists and dicts."""
    if isinstance(value, dict):
        return {key: redact_all(item) for key, item in value.items()}
    if isinstance(value, list):
        return [redact_all(item) for item in value]
    return redact(value) if isinstance(value, str) else value


@lru_cache(4096)
def is_secret_name(name: str, *, alone: bool = True) -> bool:
    """Whether a variable, a field or an option with this name holds a secret.

    Args:
        alone: Whether words such as `pass` and `auth` name a secret by themselves.
    """
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    if not words or _ABOUT.fullmatch(words[-1]):
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if _STRONG.search("".join(words)):
        return True
    if last == "key" or last == "keys":
        return bool(_KEYS.fullmatch(before)) or (bool(before) and name.isupper())
    if last == "token":
        return not _MODEL_TOKENS.fullmatch(before)
    return bool(_LAST.fullmatch(last)) and bool(alone or before or _ALONE.fullmatch(last))


def _is_plain(name: str, value: str) -> bool:
    """Whether a value is no secret although its name is one: a switch, a number, a path."""
    if _NO_SECRET.match(value):
        return True
    if _STRONG.search(re.sub(r"[\W_]", "", name.lower())):
        return False
    return bool(_NUMBER.fullmatch(value)) or value.startswith(("/", "~", "./"))


def _hide_values(text: str, names: re.Pattern[str]) -> str:
    """Hides the value after each name of a secret."""
    return "".join(_pieces(text, names))


def _pieces(text: str, names: re.Pattern[str]) -> Iterator[str]:
    done = 0
    for match in names.finditer(text):
        # `pass: 0.3 s` is a sentence, `pass=x` and `"pass": x` are not
        is_assigned = match["sign"].strip() != ":" or bool(match["end"])
        if match.start() < done or not is_secret_name(match["name"], alone=is_assigned):
            continue
        start, stop = _value_span(text, match)
        secret = text[start:stop]
        is_word = not is_assigned and len(secret) < MIN_LENGTH and secret.isalpha()
        if secret and not is_word and not _is_plain(match["name"], secret):
            yield text[done:start] + HIDDEN
            done = stop
    yield text[done:]


def _value_span(text: str, name: re.Match[str]) -> tuple[int, int]:
    """Start and end of the value after a name, without quotes."""
    start, quote_around = name.end(), name.groupdict().get("whole")
    if quote_around and (stop := text.find(quote_around, start)) >= 0:
        return start, stop
    value = _VALUE.match(text, start)
    return value.span(value.lastgroup or 0) if value else (start, start)


def _hide_element(match: re.Match[str]) -> str:
    is_secret = is_secret_name(match["name"]) and not _is_plain(match["name"], match["value"])
    return f"<{match['name']}>{HIDDEN}" if is_secret else match[0]

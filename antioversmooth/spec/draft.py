"""A new row from an old one: the same choices, another name, and no expected number."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml

from antioversmooth import files
from antioversmooth.config.rules import absolute
from antioversmooth.errors import SpecError, did_you_mean
from antioversmooth.spec.fitting import Setting, fit, starting_weights
from antioversmooth.spec.pages import kind
from antioversmooth.spec.public_weights import require_published
from antioversmooth.spec.request import load, load_experiment
from antioversmooth.spec.source import shown
from antioversmooth.text import one_line

WIDTH = 100
_CONTINUED = r"(?:#(?! [A-Z]\w*: ).*\n)*"
"""The further lines of an entry in a row's first comment, up to the next entry, as `# Cost: `."""


@dataclass(frozen=True)
class OwnData:
    """The data set of a new row, and the weights that it is fine-tuned from."""

    name: str
    """Of its spec in `experiments/data/`."""
    weights: str | None = None
    """`timm:<tag>` or `file:<path>`; None: those that timm publishes."""
    from_scratch: bool = False


def draft(name: str, origin: Path, data: OwnData | None = None) -> Path:
    """Writes a row beside the one that it starts from; returns its path.

    Args:
        data: Its data set, where that is another; the training then fits its size.

    Raises:
        SpecError: The name cannot be one, is taken, or `origin` is no row that loads; the row
            cannot be trained on the data.
        CheckpointError: timm publishes no weights of the name that `data` has.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
        raise SpecError(
            "a row's name is made of small letters, digits and _, as in deit_s12_attnscale",
            where=name,
        )
    if kind(origin) == "table":
        raise SpecError("a new row starts from a row, and this is a table", where=shown(origin))
    load([origin])
    text = _renamed(origin.read_text(), origin.stem, name)
    if data:
        text = _on_data(text, origin, name, data)
    path = origin.with_name(f"{name}.yaml")
    try:
        with files.naming(path), path.open("x") as file:
            file.write(text)
    except FileExistsError:
        raise SpecError(
            "there is a row of that name already; it is left as it is", where=shown(path)
        ) from None
    try:
        load([path])
    except SpecError:
        path.unlink()
        raise
    return path


def _renamed(text: str, old: str, new: str) -> str:
    """The text with another name, and without the number that the old row expects."""
    text = text.replace(f"experiments/{old}.yaml", f"experiments/{new}.yaml")
    text = re.sub(rf"\A# .*\n{_CONTINUED}", f"# {new}: {old}, changed\n", text)
    expected = f"# Expected: no number is known; see {old} for the row it started from\n"
    text = re.sub(rf"^# Expected: .*\n{_CONTINUED}", expected, text, flags=re.M)
    return re.sub(r"^title: .*", f'title: "{new}"', text, flags=re.M)


# -- on another data set ---------------------------------------------------------------------------


def _on_data(text: str, origin: Path, name: str, data: OwnData) -> str:
    """The text of a row with another data set, and the values that fit it."""
    known = sorted(path.stem for path in (origin.parent / "data").glob("*.yaml"))
    if data.name not in known:
        hint = "`antioversmooth data DIR` writes one for a folder of images"
        message = f"there is no data spec of that name; {did_you_mean(data.name, known)}; {hint}"
        raise SpecError(message, where=f"--data {data.name}")
    row = load_experiment(origin)
    # batches of two fit into any data set; all rates become smaller with them
    batches = ["recipe.global_batch=2", "recipe.mix_group=2", "recipe.scale_all_lr=true"]
    small = [f"data={data.name}", *batches]
    other = load_experiment(origin, small).data
    weights = None if data.from_scratch else _named(data.weights) or starting_weights(row)
    found = fit(row, other, weights)
    own = set(re.findall(r"^  (\w+):", _section(text, "recipe"), flags=re.M))
    recipe = [one for one in found.recipe if one.key != "method_lr_factor" or one.key not in own]
    text, count = re.subn(r"^  - data: .*", f"  - data: {data.name}", text, flags=re.M)
    if not count:
        raise SpecError("its defaults name no data; start from another row", where=shown(origin))
    cost = "# Cost: the same command with --dry-run says it\n"
    text = re.sub(rf"^# Cost: .*\n{_CONTINUED}", cost, text, flags=re.M)
    # the row's own program: launch.py, or that of an installed package
    head = rf"# Run: \1 experiments/{name}.yaml --seeds 0,1,2\n"
    text = re.sub(r"^# Run: (.*?) experiments/.*\n(?:#   .*\n)*", head, text, flags=re.M)
    section = _section(text, "data")
    changed = [one for one in found.data if section or getattr(other, one.key) != one.value]
    text = text.replace(section, "") if section else text
    text = _with_section(text, "recipe", recipe)
    return _with_section(text, "data", changed)


def _named(weights: str | None) -> str | None:
    """The weights that a person named, as every folder understands them.

    Raises:
        CheckpointError: timm publishes none of that name.
    """
    kind, _, name = (weights or "").partition(":")
    if kind == "timm":
        require_published(name)
    return f"file:{absolute(name)}" if kind == "file" else weights


def _section(text: str, key: str) -> str:
    """The lines of a section of a row; empty where it has none."""
    found = re.search(rf"^{key}:\n(?:(?:  .*|\s*)\n)*", text, flags=re.M)
    return found.group() if found else ""


def _with_section(text: str, key: str, settings: Sequence[Setting]) -> str:
    """The text with settings in a section, which replace those of the same key."""
    if not settings:
        return text
    old = _section(text, key)
    rest = old.removeprefix(f"{key}:\n")
    for one in settings:
        rest = re.sub(rf"(?:^  #.*\n)*^  {one.key}:.*\n", "", rest, flags=re.M)
    new = f"{key}:\n" + "".join(line + "\n" for line in _lines(settings)) + rest
    return text.replace(old, new) if old else text.rstrip("\n") + "\n" + new


def _lines(settings: Sequence[Setting]) -> Iterator[str]:
    """Lines of YAML, each reason above the values that it is for."""
    reason = ""
    for one in settings:
        if one.reason != reason:
            yield from textwrap.wrap(
                one_line(one.reason), WIDTH, initial_indent="  # ", subsequent_indent="  # "
            )
        reason = one.reason
        yield f"  {one.key}: {_yaml(one.value)}"


def _yaml(value: Any) -> str:
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, float) and 0 < abs(value) < 1e-2:
        digits, _, exponent = f"{value:.3e}".partition("e")
        return f"{float(digits)}e{int(exponent)}"
    if isinstance(value, str):
        return yaml.safe_dump(value, width=math.inf, allow_unicode=True).split("\n")[0]
    return "null" if value is None else str(value)

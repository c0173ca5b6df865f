"""Mutations of files: what disks, editors, transfers and people make of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

NASTY: list[Any] = [
    None, True, False, 0, -1, 1, 2, 0.5, -0.0, 1e308, -1e308, 10**30, 10**400,
    float("nan"), float("inf"), "", "x", "0", "nan", "1e999", [], {}, [[]], {"a": None},
    "../../x", "/etc/passwd",
    "\x1b]0;t\x07", "\ud800", "\x00", "[/x]", "=1+1", "\u202e", "y" * 5000,
]  # fmt: skip
"""Values for any place in JSON."""


def truncated(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def cut(data: bytes, random: Random) -> bytes:
    """The data without a stretch in it."""
    start = random.randrange(len(data) + 1)
    return data[:start] + data[start + random.randrange(64) :]


def flipped(data: bytes, random: Random) -> bytes:
    """The data with some bits flipped."""
    changed = bytearray(data)
    for _ in range(random.choice([1, 1, 1, 8])):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def spliced(data: bytes, random: Random) -> bytes:
    """The data with a stretch of itself at another place."""
    start, at = (random.randrange(len(data) + 1) for _ in range(2))
    return data[:at] + data[start : start + random.randrange(200)] + data[at:]


def zeroed(data: bytes, random: Random) -> bytes:
    """The data with a block of zeros, as some file systems leave after a power loss."""
    start = random.randrange(len(data) + 1)
    length = random.choice([16, 512, len(data)])
    return data[:start] + b"\x00" * len(data[start : start + length]) + data[start + length :]


def line_changed(data: bytes, random: Random) -> bytes:
    """The data with one line gone, doubled or moved."""
    lines = data.split(b"\n")
    line = lines.pop(random.randrange(len(lines)))
    for _ in range(random.randrange(3)):
        lines.insert(random.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def number_changed(data: bytes, random: Random) -> bytes:
    """The data with one run of digits replaced."""
    starts = [i for i in range(len(data)) if data[i : i + 1].isdigit()]
    if not starts:
        return data
    at = random.choice(starts)
    new = random.choice(
        [b"9" * 30, b"-1", b"0", b"1e999", b"NaN", b"", b"null", b"0x10", b"9" * 5000]
    )
    return data[:at] + new + data[at + 1 :]


def encoded(data: bytes, random: Random) -> bytes:
    """The text in another encoding, or with other line ends."""
    text = data.decode(errors="replace")
    return random.choice(
        [
            text.encode("utf-16"),
            b"\xef\xbb\xbf" + data,
            text.replace("\n", "\r\n").encode(),
            data.replace(b"e", b"\xe9", 3),
            data.replace(b"\n", b"\r"),
        ]
    )


OTHER = [
    b"", b"\n", b"null", b"[]", b"{}", b"0", b'"x"', b"[" * 100_000, b'{"a":' * 5000, b"{}\n" * 3,
    b"\x00" * 100, b"\xff" * 10, b"{", b"- a\n- &a [*a]",
]  # fmt: skip


def replaced(data: bytes, random: Random) -> bytes:
    """Other content altogether."""
    return random.choice(OTHER)


def value_changed(data: bytes, random: Random) -> bytes:
    """One line of JSON, or all of it, with another value, or one key more or less."""
    text = data.decode(errors="replace")
    whole = text.lstrip().startswith("{\n")
    lines = [text] if whole else text.split("\n")
    at = random.randrange(len(lines))
    try:
        value = json.loads(lines[at])
    except (ValueError, RecursionError):
        return flipped(data, random)
    _change(value, random)
    lines[at] = json.dumps(value, indent=2 if whole else None)
    return "\n".join(lines).encode(errors="surrogatepass")


def _change(value: Any, random: Random) -> None:
    """Changes one value somewhere in nested lists and mappings."""
    while isinstance(value, (dict, list)) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = random.choice(list(keys))
        if not (isinstance(value[key], (dict, list)) and value[key]) or random.random() < 0.2:
            if random.random() < 0.2:
                del value[key]  # type: ignore[arg-type]
            else:
                value[key] = random.choice(NASTY)  # type: ignore[index]
            return
        value = value[key]


CONTENT: list[Callable[[bytes, Random], bytes]] = [
    truncated, cut, flipped, spliced, zeroed, line_changed, number_changed, encoded, replaced,
    value_changed, value_changed, value_changed,
]  # fmt: skip
"""Mutations of the content of a file; that of JSON is the most frequent."""


def missing(path: Path, random: Random) -> None:
    path.unlink()


def a_folder(path: Path, random: Random) -> None:
    """A folder in the place of the file."""
    path.unlink()
    path.mkdir()
    if random.random() < 0.5:
        (path / "x").write_text("x")


def a_link(path: Path, random: Random) -> None:
    """A link in the place of the file: to nothing, to itself, to another file or a folder."""
    others = [other.name for other in path.parent.iterdir() if other != path]
    target = random.choice(["nothing", path.name, ".", "/dev/null", *others])
    path.unlink()
    path.symlink_to(target)


PLACES: list[Callable[[Path, Random], None]] = [missing, a_folder, a_link]
"""Mutations of what is at the path of a file."""


def mutate(path: Path, random: Random) -> str:
    """Mutates a file; returns the name of the mutation."""
    if random.random() < 0.1:
        place = random.choice(PLACES)
        place(path, random)
        return f"{place.__name__} at {path.name}"
    content = random.choice(CONTENT)
    path.write_bytes(content(path.read_bytes(), random))
    return f"{path.name} {content.__name__}"


def restore(folder: Path, original: Path) -> None:
    """Makes a folder equal another one again."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    shutil.copytree(original, folder, dirs_exist_ok=True)

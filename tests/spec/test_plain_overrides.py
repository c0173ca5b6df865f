"""Short ways to read overrides and YAML read them as hydra and PyYAML's Python loader do."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from antioversmooth.spec import source
from antioversmooth.spec.commandline import (
    _PLAIN,
    PlainOverride,
    _parsed,
    _parsed_by_hydra,
    read_overrides,
)

WORDS = ["true", "tRUE", "null", "nULL", "nan", "inf", "iNF", "nullx", "choice", "e5", "x_"]


@given(st.from_regex(_PLAIN, fullmatch=True))
@example("recipe.epochs=300")
@example("model/x/y=deit_s12")
def test_plain_overrides_are_read_as_hydra_reads_them(text: str) -> None:
    ours, by_hydra = _parsed(text), _parsed_by_hydra(text)
    assert isinstance(ours, PlainOverride)
    assert by_hydra is not None
    for override in (ours, by_hydra):
        assert not override.is_add() | override.is_delete() | override.is_force_add()
        assert not override.is_sweep_override()
    assert ours.key_or_group == by_hydra.key_or_group
    assert ours.package is by_hydra.package is None
    assert (type(ours.value()), ours.value()) == (type(by_hydra.value()), by_hydra.value())


@pytest.mark.parametrize("word", [*WORDS, "0", "007", "1_000", "12345678901", "-1", "5e-4"])
def test_words_with_a_meaning_keep_it(word: str) -> None:
    ours, by_hydra = _parsed(f"a.b={word}"), _parsed_by_hydra(f"a.b={word}")
    assert ours is not None
    assert by_hydra is not None
    # nan is equal to nothing
    assert repr(ours.value()) == repr(by_hydra.value())


def test_rows_without_other_overrides_need_no_grammar(
    experiments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("antioversmooth.spec.commandline._parsed_by_hydra", None)
    line = read_overrides(["profile=mini", "recipe.epochs=3"], experiments)
    assert line.choices["profile"].value == "mini"
    assert not line.problems


ODD = [
    "a:\nb: 1\n",
    "é: ü\n日本: [1,\n 2]\n",
    "a: |\n  x\n  y\nb: >\n  z\n",
    'a: "q\\u00e9" # c\nb:   \nc: ~\n',
    "a: x y\n  z\nb: 1",
    "\ufeffa: 😀 b\nc: {}\n",
    "a: &x 1\nb: *x\n",
    "a: !!int 1\n",
    "a: 1\na: 2\n",
    "a: *nothing\n",
    "a: [1, 2\nb: 3\n",
    "a:\n\t- 1\n",
    "a: 'x\n",
    "a: \x07\n",
    "a: b: c\n",
    "[" * 1500,
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_odd_files_have_the_same_places_and_problems_with_either_loader(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _compare(text, tmp_path / "odd.yaml", monkeypatch)


def test_shipped_specs_are_read_alike_by_either_loader(
    experiments: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in sorted(experiments.rglob("*.yaml"))[::4]:
        with monkeypatch.context() as patch:
            _compare(path.read_text(), tmp_path / "copy.yaml", patch)


def _compare(text: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(text)
    loaders = source._loaders()
    assert len(loaders) == 1 + yaml.__with_libyaml__
    fast = source.read_source(path)
    monkeypatch.setattr(source, "_loaders", lambda: loaders[-1:])
    assert fast == source.read_source(path)

"""Steps whose blocks are compiled."""

from __future__ import annotations

from pathlib import Path

import pytest

from antioversmooth.config import Compiler
from benchmarks import compiled, host
from benchmarks.host import ROWS


def test_a_row_is_compiled_once_and_without_a_break(
    experiments: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "ROWS", ROWS[-1:])
    found = compiled.compiled_steps(
        experiments.parent, rounds=1, overrides=("model.depth=3",), compiler=Compiler.aot_eager
    )
    assert list(found) == [ROWS[-1], f"{ROWS[-1]}{host.DDP}"]
    for row in found.values():
        assert row.pop("first_s") > 0
        # the first block has no drop path
        assert row == {"backend": "aot_eager", "graphs": 2, "again": 0, "breaks": 0}


def test_without_a_compiler_breaks_are_counted_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert compiled.usable_compiler() is Compiler.aot_eager

"""Whatever stands in a spec or on the command line: it is loaded, or it is a SpecError."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antioversmooth import spec
from antioversmooth.errors import SpecError

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SEEDS = {
    path: (EXPERIMENTS / path).read_text()
    for path in ("deit_s12.yaml", "recipe/imagenet/swin.yaml")
}
TABLE = (EXPERIMENTS / "tables" / "smoke.yaml").read_text()
NASTY = [
    "\t", "\n", "\r", "\x00", "\x85", "\u2028", "\ufeff", "é", "😀", ":", ": ", "- ", "? ", "#",
    "&a", "*a",
    "<<: *a", "!!int x", "!!python/name:os.system", "%YAML 1.1", "---", "...", "|", ">", "[", "]",
    "{", "}", "'",
    '"', "\\", "${", "}", "${recipe.epochs}", "${oc.env:HOME}", "${.epochs}", "???", "null", "~",
    "yes", ".nan",
    ".inf", "1e999", "0o7", "012", "24:00:00", "24h", "_self_", "schema", "@_here_", "@_global_",
    "# @package x",
    "defaults:", "hydra:", "../", "/", "override ", "name: x", "9" * 5000, "[" * 300,
]  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, text: str) -> str:
    """The text with stretches cut out, repeated or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 40)))
        middle = draw(
            st.one_of(st.sampled_from(NASTY), st.just(2 * text[start:end]), st.text(max_size=5))
        )
        text = text[:start] + middle + text[end:]
    return text


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped specs that the examples write into."""
    return Path(shutil.copytree(EXPERIMENTS, tmp_path_factory.mktemp("fuzzed") / "experiments"))


def load_or_refuse(path: Path, overrides: list[str]) -> None:
    with suppress(SpecError):
        spec.load([path], overrides)


@settings(max_examples=60)
@given(mutated(SEEDS["deit_s12.yaml"]))
def test_a_mutated_row(place: Path, text: str) -> None:
    (place / "fuzzed.yaml").write_bytes(text.encode(errors="surrogatepass"))
    load_or_refuse(place / "fuzzed.yaml", [])


@settings(max_examples=50)
@given(mutated(SEEDS["recipe/imagenet/swin.yaml"]))
def test_a_mutated_group(place: Path, text: str) -> None:
    (place / "recipe" / "imagenet" / "fuzzed.yaml").write_bytes(text.encode(errors="surrogatepass"))
    load_or_refuse(place / "deit_s12.yaml", ["recipe=imagenet/fuzzed"])


@settings(max_examples=50)
@given(mutated(TABLE))
def test_a_mutated_table(place: Path, text: str) -> None:
    (place / "tables" / "fuzzed.yaml").write_bytes(text.encode(errors="surrogatepass"))
    load_or_refuse(place / "tables" / "fuzzed.yaml", [])


@settings(max_examples=50)
@given(st.binary(max_size=60))
def test_bytes(place: Path, data: bytes) -> None:
    (place / "fuzzed.yaml").write_bytes(data)
    load_or_refuse(place / "fuzzed.yaml", [])


@settings(max_examples=50)
@given(mutated("recipe.betas=[0.9,0.99]"), mutated("profile=mini"))
def test_mutated_overrides(place: Path, one: str, other: str) -> None:
    load_or_refuse(place / "deit_s12.yaml", [one, other])

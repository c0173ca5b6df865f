"""Fixtures shared by several rooms."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import browser, chromium  # noqa: F401 (fixtures)
from hypothesis import settings

from antioversmooth import runs, spec

# No deadline: time is never asserted on a shared machine. No database: tests leave nothing behind.
# The same examples in every run: others by `make test ARGS="--hypothesis-profile explore"`.
settings.register_profile(
    "project", deadline=None, database=None, max_examples=50, derandomize=True
)
settings.register_profile(
    "explore", deadline=None, database=None, max_examples=500, derandomize=False
)
settings.register_profile(
    "fuzz", deadline=None, database=None, max_examples=2500, derandomize=False
)
settings.load_profile("project")

# A background job of a shell ignores Ctrl-C, and so would all processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches listings of data sets in the folder of the test, not in the home folder."""
    monkeypatch.setenv("ANTIOVERSMOOTH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def experiments() -> Path:
    """The folder of the shipped specs."""
    return EXPERIMENTS


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., runs.Run]:
    """Makes a prepared run of a shipped spec under `tmp_path`: `make_run("deit_s12",
    "recipe.epochs=1", seed=0)`."""

    def make(
        name: str = "deit_s12", *overrides: str, seed: int = 0, profile: str = "mini"
    ) -> runs.Run:
        request = spec.load([EXPERIMENTS / f"{name}.yaml"], [f"profile={profile}", *overrides])
        run = request.plan([seed], tmp_path / "results")[-1]
        run.prepare()
        return run

    return make

"""Which weights timm finds under a name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm

import antioversmooth.models  # noqa: F401  adds the released names to timm
from antioversmooth import spec
from antioversmooth.errors import CheckpointError
from antioversmooth.runs.identity import origin
from antioversmooth.spec.public_weights import RELEASED, TAGS, require_published


def test_timm_finds_all_weights_that_are_known_without_it() -> None:
    assert all(timm.is_model_pretrained(tag) for tag in {*TAGS.values(), *RELEASED})


def test_rows_that_evaluate_published_weights_are_launched_without_timm(experiments: Path) -> None:
    rows = [spec.load_experiment(path) for path in experiments.glob("eval_released_*.yaml")]
    tags = {tag for kind, tag in (origin(row, "init_from") for row in rows) if kind == "timm"}
    assert tags >= RELEASED
    program = (
        "import sys; from antioversmooth.spec.public_weights import require_published;"
        "[require_published(tag) for tag in sys.argv[1:]]; sys.exit('timm' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program, *sorted(tags)], check=False).returncode == 0
    )


def test_a_name_without_weights_is_refused() -> None:
    with pytest.raises(CheckpointError, match="timm has no weights of that name"):
        require_published("deit_smal_patch16_224")

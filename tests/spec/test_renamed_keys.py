"""The key of a method under its former name, `model.scaling`."""

from __future__ import annotations

from pathlib import Path

import pytest

from antioversmooth import spec
from antioversmooth.errors import SpecError
from antioversmooth.runs import Run
from antioversmooth.runs.recorded_spec import read_spec

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def test_the_former_key_is_refused_with_the_new_one() -> None:
    with pytest.raises(SpecError, match=r"model\.scaling: there is no such key; .*`method`"):
        spec.load([EXPERIMENTS / "deit_s12.yaml"], ["model.scaling=attnscale"])


def test_a_spec_that_a_run_recorded_under_the_former_key_is_the_same_run(tmp_path: Path) -> None:
    (run,) = spec.load([EXPERIMENTS / "deit_s12_attnscale.yaml"]).plan([0], tmp_path)
    run.prepare()
    path = run.dir / "spec.yaml"
    now = path.read_text()
    then = now.replace(
        "    method: attnscale\n    method_options: {}\n", "    scaling: attnscale\n"
    )
    assert then != now
    path.write_text(then)
    assert read_spec(path).experiment == run.experiment
    assert Run.load(run.dir).id == run.id

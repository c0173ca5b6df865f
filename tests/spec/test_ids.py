"""The ids of all shipped rows: a run that was trained once is found again by every later version
of the code."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from antioversmooth import spec

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
IDS = json.loads((Path(__file__).parent / "golden" / "ids.json").read_text())


@pytest.mark.parametrize("profile", IDS)
def test_every_shipped_row_keeps_its_id(profile: str, tmp_path: Path) -> None:
    request = spec.load(sorted(EXPERIMENTS.glob("*.yaml")), [f"profile={profile}"])
    ids = {}
    # planned one by one: rows that differ at full size may be the same run when shrunk
    for experiment in request.experiments:
        alone = dataclasses.replace(request, experiments=[experiment])
        ids[experiment.name] = alone.plan([0], tmp_path)[-1].id
    assert ids == IDS[profile]

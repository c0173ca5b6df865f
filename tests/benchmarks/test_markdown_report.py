"""Tables, goals and the chart are made from the JSON of a measurement alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.compiled import COMPILED
from benchmarks.goals import goals
from benchmarks.host import DDP, STOCK
from benchmarks.markdown_report import markdown
from benchmarks.mlflow_sync import FIRST
from benchmarks.models import PLAIN, SCALINGS
from benchmarks.pipeline import OURS, TIMM
from benchmarks.ratio_chart import draw

NAMES = (PLAIN, *(f"{scaling}{form}" for scaling in SCALINGS for form in ("", ", explicit")))


@pytest.fixture
def measured() -> dict[str, Any]:
    """Everything equal to plain, our input twice as fast as timm's, from a cache 6 times."""
    times, sizes = {name: [1.0, 2.0, 3.0] for name in NAMES}, dict.fromkeys(NAMES, 2**20)
    case = {"images": 1, "exact_images": 8, "forward_s": times, "step_s": times}
    case |= dict.fromkeys(("peak_bytes", "saved_bytes", "moved_bytes"), sizes)
    rounds = {"torchvision": [2.0], TIMM: [2.0], **{name: [1.0] for name in OURS}}
    rounds |= {name: [2 / 6] for name, variant in OURS.items() if variant.cached}
    return {
        "machine": {"processor": "abacus"},
        "models": dict.fromkeys(("DeiT-S", "CaiT-S24", "Swin-S"), case),
        "attention": {"forward_s": times, "backward_s": times},
        "pipeline": {
            "images": 4,
            "mean_bytes": 1024,
            "round_s": rounds,
            "augmentations": 9,
            "whole": 9,
            "black": 1,
            "grey_levels": {"ours, fast": {"mean": 1.25, "percentile_99": 7}},
        },
        "host": {
            "": {STOCK: [1.0, 1.0], "deit_s24": [1.1, 1.1]},
            DDP: {STOCK: [1.0, 1.0], "deit_s24": [1.3, 1.3]},
        },
        "compiled": {
            "deit_s24": {
                "backend": "inductor",
                "first_s": 20.0,
                "graphs": 2,
                "again": 1,
                "breaks": 0,
                "step_s": {STOCK: [1.0, 1.0], COMPILED: [0.9, 0.9]},
            },
            "deit_s24_featscale": {
                "backend": "aot_eager",
                "first_s": 70.0,
                "graphs": 2,
                "again": 0,
                "breaks": 0,
            },
        },
        "start": {"import torch": [2.0]},
        "checkpoint": {"training waits": [0.1]},
        "mirror": {FIRST: [30.0]},
        "table": {"table of 1,008 runs x 300 epochs": [1.5]},
        "listing": {"listing 26,000 images, image folder: first time": [0.3]},
    }


def test_goals_that_ask_for_less_than_plain_are_missed_by_what_equals_it(measured: dict[str, Any]):
    missed = {goal.name.partition(",")[0] for goal in goals(measured) if not goal.reached}
    assert missed == {"CaiT-S24", "host", "deit_s24", "deit_s24_featscale", "input"}


def test_a_compiled_step_has_goals_for_its_host_time_and_for_its_compilation(
    measured: dict[str, Any],
) -> None:
    found = {goal.name: goal.reached for goal in goals(measured) if COMPILED in goal.name}
    assert found == {
        "host, deit_s24, compiled": True,
        "deit_s24, compiled: seconds of the first step": True,
        "deit_s24, compiled: graph breaks": True,
        "deit_s24, compiled: graphs of later steps": False,
        "deit_s24_featscale, compiled: seconds of the first step": False,
        "deit_s24_featscale, compiled: graph breaks": True,
        "deit_s24_featscale, compiled: graphs of later steps": True,
    }
    text = markdown(measured)
    assert "| deit_s24 | inductor | 20 s | 2 | 1 | 0 | 900.0 ms | 0.900 |" in text
    assert "| deit_s24_featscale | aot_eager | 70 s | 2 | 0 | 0 | - | - |" in text


def test_the_report_names_the_machine_and_says_which_goals_are_missed(measured: dict[str, Any]):
    text = markdown(json.loads(json.dumps(measured)))
    assert "processor abacus" in text
    assert text.count("**missed**") == 11
    assert "| ours | 4 | 2.000 |  |" in text
    assert "| ours, fast | 4 | 2.000 | 1.2 (7) |" in text
    assert "| input, ours, fast: views per core | 2.000 | ≥ 3.00 | **missed** |" in text
    assert "| input, ours, decoded cache: views per core | 6.000 | ≥ 6.00 | reached |" in text
    assert "| deit_s24, DDP | 1300.0 ms | 1.300 |" in text
    assert "| listing 26,000 images, image folder: first time | 0.300 |" in text
    assert "exact, for a step of 8 images" in text
    assert "peak memory and times are of 1." in text


def test_a_measure_that_the_system_lacks_is_a_dash(measured: dict[str, Any]):
    for case in measured["models"].values():
        case["peak_bytes"] = dict.fromkeys(NAMES)
    assert "| - |" in markdown(measured)


def test_the_chart_has_a_name_for_every_variant(measured: dict[str, Any], tmp_path: Path):
    drawn = draw(measured, tmp_path).read_text()
    assert all(name in drawn for name in NAMES if name != PLAIN)


def test_parts_that_were_measured_again_are_named_with_their_date_and_load(
    measured: dict[str, Any],
) -> None:
    assert "Measured again" not in markdown(measured)
    again = {"host": {"measured": "2026-11-29 10:19 UTC", "load": 0.3}}
    said = "Measured again alone: host 2026-11-29 10:19 UTC, load 0.3."
    assert said in markdown({**measured, "again": again})

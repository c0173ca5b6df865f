"""docs/flags.md: every flag of the released main.py has its line, and what it names exists."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest

from antioversmooth.config import (
    ClusterConfig,
    DataConfig,
    ModelConfig,
    RecipeConfig,
    RuntimeConfig,
)
from antioversmooth.config.rules import Config

PAGE = (Path(__file__).parents[1] / "docs" / "flags.md").read_text()
RELEASED = """
batch-size epochs model input-size drop drop-path model-ema no-model-ema model-ema-decay
model-ema-force-cpu opt opt-eps opt-betas clip-grad momentum weight-decay sched lr lr-noise
lr-noise-pct lr-noise-std warmup-lr min-lr decay-epochs warmup-epochs cooldown-epochs
patience-epochs decay-rate color-jitter aa smoothing train-interpolation repeated-aug
no-repeated-aug reprob remode recount resplit mixup cutmix cutmix-minmax mixup-prob
mixup-switch-prob mixup-mode teacher-model teacher-path distillation-type distillation-alpha
distillation-tau finetune data-path data-set inat-category output_dir auto_reload device seed resume
start_epoch eval throughput dist-eval num_workers pin-mem no-pin-mem world_size dist_url
"""
"""The names in `get_args_parser` of the released main.py."""
SECTIONS: dict[str, type[Config]] = {
    "model": ModelConfig,
    "data": DataConfig,
    "recipe": RecipeConfig,
    "runtime": RuntimeConfig,
    "cluster": ClusterConfig,
}


def test_every_flag_of_the_released_code_has_one_line() -> None:
    table = PAGE[: PAGE.index("## Swin's config")]
    firsts = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `--")]
    counted = Counter(re.findall(r"--([\w-]+)", " ".join(firsts)))
    assert counted == Counter(RELEASED.split())


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_that_the_page_names_exists(section: str) -> None:
    named = set(re.findall(rf"`{section}\.(\w+)", PAGE))
    assert named
    assert named <= {field.name for field in dataclasses.fields(SECTIONS[section])}

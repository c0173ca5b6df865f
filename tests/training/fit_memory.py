"""Traces small models on fake GPUs, and writes antioversmooth/runs/memory_table.py.

    python tests/training/fit_memory.py

Run it when a step's memory changes on purpose: test_fake_devices.py holds the table to the trace.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from fake_devices import WORLD_SIZE, trace

from antioversmooth import spec
from antioversmooth.config import Experiment, Family
from antioversmooth.methods import METHODS
from antioversmooth.runs import memory

LARGEST_ERROR = 0.05
"""Relative error in what a pass adds, above which the memory of a method stays unknown."""
PROJECT = Path(__file__).parents[2]
TABLE = PROJECT / "antioversmooth" / "runs" / "memory_table.py"
ROWS = {Family.vit: "deit_s12", Family.cait: "cait_s24_attnscale", Family.swin: "swin_s"}
ARITHMETIC = {
    "half": ("recipe.precision=float16",),
    "float32": ("recipe.precision=float32",),
    "half, again": ("recipe.precision=float16", "runtime.gradient_checkpointing=true"),
}
# depth, heads, channels of a head, image size, MLP ratio, images
SHAPES = [
    (4, 6, 64, 224, 4, 32),
    (8, 6, 64, 224, 4, 64),
    (6, 3, 64, 224, 4, 32),
    (4, 12, 64, 160, 4, 32),
    (6, 8, 32, 224, 3, 64),
    (4, 6, 64, 384, 4, 32),
    (8, 4, 48, 160, 2, 64),
    (5, 6, 64, 288, 2, 32),
    (12, 6, 64, 224, 4, 32),
]
SWIN_SHAPES = [
    (4, 3, 32, 224, 4, 32),
    (5, 3, 32, 224, 4, 64),
    (8, 4, 32, 224, 3, 32),
    (10, 3, 32, 448, 4, 32),
    (4, 2, 64, 224, 2, 32),
    (5, 6, 16, 224, 4, 32),
    (10, 4, 32, 224, 4, 64),
    (4, 3, 32, 448, 3, 32),
]
STAGES = {4: [1, 1, 1, 1], 5: [1, 1, 2, 1], 8: [2, 2, 2, 2], 10: [2, 2, 4, 2]}
HEADER = '''"""Bytes of a pass by what it holds; tests/training/fit_memory.py writes this file."""

from __future__ import annotations

# fmt: off
COEFFICIENTS: dict[tuple[str, str, str], tuple[float, ...]] = {
    # family, method, arithmetic: bytes of a parameter; of a pixel; of the first block's tokens,
    # hidden channels and attention matrices; of those of all blocks
'''
FOOTER = """}
# fmt: on
"""


def experiments(family: Family, method: str, overrides: tuple[str, ...]) -> Iterator[Experiment]:
    """Small models of a family with a method."""
    chosen = "model.method=none" if method == "none" else f"method={method}"
    for depth, heads, channels, side, ratio, images in (
        SWIN_SHAPES if family is Family.swin else SHAPES
    ):
        given = [
            f"recipe.global_batch={images * WORLD_SIZE}",
            "recipe.mix_group=32",
            f"model.depth={depth}",
            f"model.num_heads={heads}",
            f"model.embed_dim={heads * channels}",
            f"model.image_size={side}",
            f"model.mlp_ratio={ratio}",
            chosen,
            *overrides,
        ]
        if family is Family.swin:
            given.append(f"model.stage_depths={STAGES[depth]}")
        yield spec.load_experiment(PROJECT / "experiments" / f"{ROWS[family]}.yaml", given)


def fit(configs: Iterator[Experiment]) -> tuple[list[float], float]:
    """Coefficients, none negative, of least relative error in what a pass adds, and the largest
    such error."""
    features, added = [], []
    for config in configs:
        found = trace(config)
        parameters = found.gradient_bytes / 4
        sizes = [found.device_batch * size for size in memory.image_sizes(config)]
        held = memory.held_bytes(config, parameters) + found.gradient_bytes
        features.append([parameters, *sizes])
        added.append(found.peak_bytes - held)
    matrix = np.array(features) / np.array(added)[:, None]
    scale = matrix.max(axis=0)
    used = list(range(len(scale)))
    while True:
        solved, *_ = np.linalg.lstsq(matrix[:, used] / scale[used], np.ones(len(added)))
        if solved.min() >= 0:
            break
        del used[int(solved.argmin())]
    coefficients = np.zeros(len(scale))
    coefficients[used] = solved / scale[used]
    error = np.abs(matrix @ coefficients - 1).max()
    return [round(float(x), 3) for x in coefficients], float(error)


def main() -> None:
    """Writes the table."""
    lines = []
    for arithmetic, overrides in ARITHMETIC.items():
        for family in ROWS:
            methods = [name for name, one in METHODS.items() if family in one.families]
            for method in ("none", *methods):
                found, error = fit(experiments(family, method, overrides))
                print(family.value, method, arithmetic, f"within {error:.1%}", flush=True)
                if error > LARGEST_ERROR:
                    continue
                key = ", ".join(f'"{part}"' for part in (family.value, method, arithmetic))
                lines.append(f"    ({key}): ({', '.join(map(str, found))}),\n")
    TABLE.write_text(HEADER + "".join(sorted(lines)) + FOOTER)


if __name__ == "__main__":
    main()

"""Time of a training step with each method, beside the same backbone without one."""

from __future__ import annotations

from pathlib import Path

from antioversmooth import spec
from antioversmooth.methods import METHODS
from benchmarks.host import OurStep
from benchmarks.timing import Times, cpu_clock, interleaved

BACKBONE = "deit_s12"
"""A row; with a method it is `deit_s12_<method>`."""
IMAGES = 4
_SMALL = (
    f"recipe.global_batch={IMAGES}",
    f"recipe.mix_group={IMAGES // 2}",
    "recipe.scale_all_lr=true",
)
_FITTED = {"reattention": (f"model.method_options.group={IMAGES}",)}
"""Options that have to fit a batch so small."""


def step_times(root: Path, *, rounds: int, overrides: tuple[str, ...] = ()) -> Times:
    """CPU seconds of a whole training step in each round, by row.

    Args:
        root: Holds `experiments/`.
        rounds: Steps of each row, interleaved.
        overrides: Of the rows.
    """
    own = {BACKBONE: (), **{f"{BACKBONE}_{m}": _FITTED.get(m, ()) for m in METHODS}}
    rows = [
        spec.load_experiment(root / "experiments" / f"{name}.yaml", [*_SMALL, *fitted, *overrides])
        for name, fitted in own.items()
    ]
    steps = {row.row_name: OurStep(row, ranks=1) for row in rows}
    return interleaved(steps, cpu_clock, rounds=rounds)

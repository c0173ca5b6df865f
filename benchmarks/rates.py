"""Sums of the learning rates of rows, which bound how far AdamW can move a parameter.

python -m benchmarks.rates deit_s24 swin_s profile=mini
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import torch

from antioversmooth.cli.requests import load_request
from antioversmooth.config import Experiment
from antioversmooth.training.step.optimisation import Schedule


def sum_of_rates(experiment: Experiment) -> float:
    """The sum of the learning rates of all steps, without the factor of a method."""
    recipe = experiment.recipe
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=recipe.lr)
    schedule = Schedule(optimizer, recipe, experiment.steps_per_epoch)
    return sum(schedule.set(step) for step in range(experiment.total_steps))


def main(words: Sequence[str]) -> None:
    """Prints profile, steps, peak rate and sum of the rates of each row."""
    for row in load_request(words)[0].experiments:
        cells = [row.profile, row.row_name, f"{row.total_steps:,}", f"{row.recipe.lr:g}"]
        print(f"| {' | '.join(cells)} | {sum_of_rates(row):.3g} |")


if __name__ == "__main__":
    main(sys.argv[1:])

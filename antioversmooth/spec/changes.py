"""The overrides of a row, compared with what an experiment has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from antioversmooth.config import Experiment
from antioversmooth.runs import flatten, to_json
from antioversmooth.spec.check import check
from antioversmooth.spec.commandline import read_settings


def contradictions(
    overrides: Sequence[str], experiment: Experiment
) -> Iterator[tuple[str, str, str]]:
    """Key, value and the experiment's value of each override that the experiment does not have.

    Options of groups, and interpolations, are not compared.
    """
    actual = flatten(to_json(experiment))
    for setting in read_settings(overrides):
        for key, value in flatten(check(setting, Experiment, partial=True).content).items():
            if "${" not in value and actual.get(key) != value:
                yield key, value, actual.get(key, "")

"""Programs measured in turns, so that a busy machine affects all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Measurement = dict[str, float]
Measured = dict[str, list[Measurement]]
"""Measurements of each round, by program."""


def in_turns(
    programs: Mapping[str, Callable[[], Measurement]],
    rounds: int,
    failed: dict[str, str],
    *,
    limit_s: float,
) -> Measured:
    """Calls every program in every round, each round beginning one further on.

    Args:
        failed: Gets the reason of each program that fails, which is called no more and left out.
        limit_s: Seconds by the clock after which no further round is begun.
    """
    names = list(programs)
    found: Measured = {name: [] for name in names}
    start = time.monotonic()
    for number in range(rounds):
        if number and time.monotonic() - start > limit_s:
            break
        first = number % len(names)
        for name in names[first:] + names[:first]:
            if name not in failed:
                try:
                    found[name].append(programs[name]())
                except (OSError, RuntimeError) as err:
                    failed[name] = str(err)
    return {name: values for name, values in found.items() if name not in failed}

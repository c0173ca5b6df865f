from __future__ import annotations

from itertools import islice
from pathlib import Path

from benchmarks.size import LIMIT_BYTES, costs_of, rows


def test_commands_about_fabricated_runs_cost_time_and_memory(experiments: Path) -> None:
    # the later ones import torch and MLflow
    found = dict(islice(costs_of(experiments.parent, range(1), 4), 6))
    assert list(found) == ["dry run", "launch", "one look of a follow", "status", "why", "table"]
    # six of the twelve runs of the table are not done
    codes = {command: cost["exit_code"] for command, cost in found.items()}
    assert codes == dict.fromkeys(found, 0) | {"table": 3}
    assert all(10 * 2**20 < cost["peak_bytes"] < LIMIT_BYTES for cost in found.values())
    head, *body = rows({command: {"12": cost} for command, cost in found.items()})
    assert head[1:] == ["12 runs"]
    assert [line[0] for line in body] == list(found)


def test_a_command_that_was_refused_is_marked() -> None:
    cost = {"cpu_s": 3.9, "clients_s": 0.0, "peak_bytes": 47 * 2**20}
    costs = {"launch": {"12": {**cost, "exit_code": 0}, "10,008": {**cost, "exit_code": 2}}}
    assert list(rows(costs))[1] == ["launch", "3.90 s, 47 MiB", "refused: 3.90 s, 47 MiB"]

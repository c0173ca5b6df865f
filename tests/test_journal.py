from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from antioversmooth.runs import journal
from antioversmooth.runs.attempts import Attempt, in_lineage, parse_attempts, superseded_after
from antioversmooth.runs.metrics import TRAIN_LOSS


def test_records_come_back_in_order_with_a_time(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    for step in (1, 2):
        journal.append(path, {"attempt": 1, "step": step, TRAIN_LOSS: step / 2})
    first, second = journal.read(path)
    assert (first["step"], second["step"]) == (1, 2)
    assert first["time"] <= second["time"]


def test_a_record_keeps_the_time_it_brings(tmp_path: Path) -> None:
    journal.append(tmp_path / "j", {"time": 12.5, "step": 1})
    assert journal.read(tmp_path / "j")[0]["time"] == 12.5


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert journal.read(tmp_path / "none.jsonl") == []


def test_a_line_torn_by_a_killed_writer_is_left_out_and_the_next_line_survives(
    tmp_path: Path,
) -> None:
    path = tmp_path / "metrics.jsonl"
    journal.append(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": 2, "train/lo')
    assert [r["step"] for r in journal.read(path)] == [1]
    journal.append(path, {"step": 3})
    assert [r["step"] for r in journal.read(path)] == [1, 3]


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999", "-1e300", "9" * 400, "true", '"1"'])
@pytest.mark.parametrize("key", ["time", "attempt", "step", "epoch"])
def test_a_record_that_has_no_place_in_time_is_left_out(key: str, value: str) -> None:
    whole = {"time": 1.7e9, "attempt": 1, "step": 1, "epoch": 1}
    broken = json.dumps({**whole, key: None}).replace("null", value)
    assert journal.parse(f"{json.dumps(whole)}\n{broken}\n".encode()) == [whole]


def start_records(*starts: tuple[int, int]) -> list[journal.Record]:
    return [
        {"time": 0.0, "event": "start", "attempt": number, "step": step} for number, step in starts
    ]


def attempts(*starts: tuple[int, int]) -> list[Attempt]:
    return parse_attempts(start_records(*starts))


def test_steps_that_a_later_attempt_repeats_are_superseded() -> None:
    begun = attempts((1, 0), (2, 10))
    records = [{"attempt": 1, "step": s} for s in (5, 10, 15)] + [
        {"attempt": 2, "step": s} for s in (15, 20)
    ]
    found = [(r["attempt"], r["step"]) for r in in_lineage(records, begun)]
    assert found == [(1, 5), (1, 10), (2, 15), (2, 20)]


def test_an_attempt_given_up_for_dead_cannot_write_into_its_successors_steps() -> None:
    begun = attempts((1, 0), (2, 10))
    late = [{"attempt": 2, "step": 15}, {"attempt": 1, "step": 16}, {"attempt": 1, "step": 17}]
    assert in_lineage(late, begun) == late[:1]


def test_an_attempt_that_starts_further_back_supersedes_all_between() -> None:
    limit = superseded_after(attempts((1, 0), (2, 20), (3, 10)))
    assert limit == {3: float("inf"), 2: 10, 1: 10}


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_each_step_survives_at_most_once(starts: list[int]) -> None:
    """For any sequence of restarts, a reader never sees two records of one step."""
    begun = attempts(*[(number, step) for number, step in enumerate([0, *starts], 1)])
    records = [{"attempt": a.number, "step": s} for a in begun for s in range(a.step + 1, 61)]
    found = [r["step"] for r in in_lineage(records, begun)]
    assert len(found) == len(set(found))
    assert set(found) == set(range(1, 61))


def test_a_number_that_is_not_finite_is_a_word_in_a_line_of_strict_json(tmp_path: Path) -> None:
    values = {"loss": float("nan"), "norm": float("inf"), "few": [1.0, -float("inf")], "rate": 0.5}
    journal.append(tmp_path / "j", values)
    line = (tmp_path / "j").read_text()
    json.loads(line, parse_constant=pytest.fail)
    (record,) = journal.read(tmp_path / "j")
    words = {"loss": "nan", "norm": "inf", "few": [1.0, "-inf"], "rate": 0.5}
    assert {key: record[key] for key in values} == words


def test_lines_of_old_journals_with_nan_are_read(tmp_path: Path) -> None:
    (tmp_path / "j").write_text('{"time": 1, "loss": NaN}\n{"time": 2, "loss": -Infinity}\n')
    assert [record["time"] for record in journal.read(tmp_path / "j")] == [1, 2]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.lists(st.binary(max_size=100), max_size=5))
def test_any_bytes_between_records_cost_none_of_them(tmp_path: Path, noise: list[bytes]) -> None:
    path = tmp_path / "fuzzed.jsonl"
    records = [{"time": float(number), "of": "ours"} for number in range(len(noise))]
    pairs = zip(noise, records, strict=True)
    path.write_bytes(b"".join(b"%s\n%s\n" % (n, json.dumps(r).encode()) for n, r in pairs))
    found = journal.read(path)
    assert all(isinstance(record, dict) for record in found)
    assert [record for record in found if record.get("of") == "ours"] == records

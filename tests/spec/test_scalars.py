from __future__ import annotations

from typing import Any

import pytest

from antioversmooth.spec.scalars import complaint


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (3, int),
        ("3", int),
        (3, float),
        ("5e-5", float),
        (True, bool),
        ("no", bool),
        ("text", str),
        (12, str),
    ],
)
def test_a_value_of_its_type_is_fine(value: Any, kind: type) -> None:
    assert complaint(value, str(value), kind, "key") is None


@pytest.mark.parametrize(
    ("written", "name", "right"),
    [
        ("24h", "time_min", "1440"),
        ("1.5 hours", "time_min", "90"),
        ("2d", "time_min", "2880"),
        ("90s", "time_min", "1.5"),
        ("24:00:00", "time_min", "1440"),
        ("1-12:00:00", "time_min", "2160"),
        ("10 minutes", "timeout_s", "600"),
        ("5m", "timeout_s", "300"),
        ("512M", "mem_gb", "0.5"),
        ("1TB", "mem_gb", "1024"),
    ],
)
def test_a_unit_is_answered_with_the_number_to_write(written: str, name: str, right: str) -> None:
    said = complaint(written, written, float, name)
    assert said is not None
    assert said.endswith(f": write {right}")


@pytest.mark.parametrize(
    ("written", "kind", "name", "right"),
    [
        ("90s", int, "time_min", "2"),
        ("00:00:30", int, "time_min", "1"),
        ("50k", int, "num_val", "50000"),
        ("1.28M", int, "num_train", "1280000"),
        ("1,281,167", int, "num_train", "1281167"),
        ("5%", float, "weight_decay", "0.05"),
        ("79.8 %", float, "top1", "79.8"),
    ],
)
def test_a_count_and_a_percentage_are_answered_with_the_number_to_write(
    written: str, kind: type, name: str, right: str
) -> None:
    said = complaint(written, written, kind, name)
    assert said is not None
    assert said.endswith(f": write {right}")


def test_a_clock_that_yaml_reads_as_a_number_is_seen() -> None:
    """YAML 1.1 reads 24:00:00 as 86400: sixty days of minutes."""
    assert complaint(86400, "24:00:00", int, "time_min") is not None


@pytest.mark.parametrize(
    ("value", "written"), [(False, "no"), (83, "0123"), (5400, "1:30:00"), (1000.0, "1e3")]
)
def test_text_that_yaml_reads_as_something_else_is_seen(value: Any, written: str) -> None:
    said = complaint(value, written, str, "qos")
    assert said is not None
    assert f'write "{written}"' in said


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan", "-inf"])
def test_a_number_must_be_finite(value: Any) -> None:
    assert (
        complaint(value, str(value), float, "base_lr") == f"{str(value)!r} is not a finite number"
    )

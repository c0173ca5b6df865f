from __future__ import annotations

import pytest
from scipy import stats

from antioversmooth.reporting.table.differences import difference, t_quantile

OURS = {0: 91.3, 1: 92.0, 2: 90.9, 4: 92.4}
BASELINE = {0: 90.6, 1: 91.8, 2: 90.1, 4: 91.1}


@pytest.mark.parametrize("degrees", [*range(1, 31), 99, 100, 999])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.99])
def test_the_quantile_of_students_t_is_that_of_scipy(degrees: int, confidence: float) -> None:
    expected = stats.t.ppf((1 + confidence) / 2, degrees)
    assert t_quantile(degrees, confidence) == pytest.approx(expected, rel=1e-12)


def test_a_paired_difference_has_the_interval_of_scipys_paired_t_test() -> None:
    found = difference(OURS, BASELINE)
    interval = stats.ttest_rel(list(OURS.values()), list(BASELINE.values())).confidence_interval()
    assert found is not None
    assert found.mean == pytest.approx(0.75)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx(
        (interval.low, interval.high), rel=1e-10
    )
    assert found.interval.contains_zero is False
    assert (found.n, found.seeds) == (4, (0, 1, 2, 4))


def test_a_difference_is_within_the_noise_where_its_interval_contains_zero() -> None:
    found = difference({0: 1.0, 1: -0.5, 2: 0.4}, {0: 0.0, 1: 0.0, 2: 0.0})
    assert found is not None
    assert stats.ttest_1samp(found.pairs, 0).pvalue > 0.05
    assert found.interval is not None
    assert found.interval.contains_zero is True


def test_seeds_of_one_row_only_take_no_part() -> None:
    found = difference({**OURS, 7: 0.0}, {**BASELINE, 8: 100.0})
    assert found == difference(OURS, BASELINE)


def test_rows_without_a_common_seed_have_welchs_error_and_the_smaller_rows_degrees() -> None:
    ours = {seed + 10: value for seed, value in OURS.items()}
    baseline = {seed: value for seed, value in BASELINE.items() if seed < 3}
    found = difference(ours, baseline)
    welch = stats.ttest_ind(list(ours.values()), list(baseline.values()), equal_var=False)
    error = (91.65 - 90.8333333333333333) / welch.statistic
    low, high = stats.t.interval(0.95, 2, loc=91.65 - 90.8333333333333333, scale=error)
    assert found is not None
    assert (found.n, found.seeds) == (0, ())
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), rel=1e-10)
    narrower = welch.confidence_interval()
    assert low < narrower.low < narrower.high < high, "fewer degrees of freedom are cautious"


@pytest.mark.parametrize(
    ("ours", "baseline"),
    [
        ({0: 95.0}, {0: 90.0}),
        ({0: 95.0, 1: 96.0}, {0: 90.0}),
        ({0: 95.0}, {1: 90.0}),
        ({0: 95.0, 1: 95.0}, {0: 90.0, 1: 90.0}),
    ],
    ids=["one seed", "one common seed", "one seed each, not common", "equal differences"],
)
def test_nothing_is_said_of_noise_where_nothing_tells_the_spread(
    ours: dict[int, float], baseline: dict[int, float]
) -> None:
    found = difference(ours, baseline)
    assert found is not None
    assert (found.mean, found.interval) == (5.0, None)


def test_there_is_no_difference_from_what_is_not_measured() -> None:
    assert difference({}, BASELINE) is difference(OURS, {}) is None

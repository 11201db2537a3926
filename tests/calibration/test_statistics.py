"""The bounds against brute force and simulation; nothing is promised that is not so."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.statistics import CONFIDENCE, order_statistic_bound, outliers, percent, tail_estimate

COUNTS = st.integers(1, 400)
RATES = st.floats(0.0, 1.0)
POSITIVE = st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=40)


def at_most(events: int, trials: int, rate: float) -> float:
    """P(Bin(trials, rate) <= events), term by term."""
    return math.fsum(math.comb(trials, k) * rate**k * (1.0 - rate) ** (trials - k) for k in range(events + 1))


def scores_with(t: float, count: int) -> tuple[list[float], float]:
    """`count` scores, and the threshold whose Student's t against them is `t`."""
    logs = np.random.default_rng(count).normal(-2.0, 0.3, count)
    spread = logs.std(ddof=1) * math.sqrt(1 + 1 / count)
    return np.exp(logs).tolist(), float(np.exp(logs.mean() + t * spread))


@given(COUNTS, st.floats(0.5, 0.999))
def test_with_nothing_above_the_bound_is_the_closed_form(count: int, confidence: float) -> None:
    assert order_statistic_bound(count, 0, confidence) == pytest.approx(1 - (1 - confidence) ** (1 / count), abs=1e-12)


@given(st.integers(1, 150).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))), st.floats(0.5, 0.99))
def test_at_the_bound_so_few_events_are_as_unlikely_as_claimed(case: tuple[int, int], confidence: float) -> None:
    count, above = case
    bound = order_statistic_bound(count, above, confidence)
    assert above / count <= bound <= 1.0
    assert at_most(above, count, bound) == pytest.approx(1 - confidence, abs=1e-8)


@pytest.mark.parametrize(("count", "above"), [(1, 1), (5, 5), (5, 9), (0, 0)])
def test_when_all_lie_above_nothing_is_promised(count: int, above: int) -> None:
    assert order_statistic_bound(count, above) == 1.0


@given(st.integers(2, 200), st.data())
def test_the_bound_is_monotone(count: int, data: st.DataObject) -> None:
    above = data.draw(st.integers(0, count - 2))
    bound = order_statistic_bound(count, above)
    assert order_statistic_bound(count, above + 1) > bound, "more events, weaker promise"
    assert order_statistic_bound(count + 1, above) < bound, "more parts, stronger promise"
    assert order_statistic_bound(count, above, 0.99) > bound, "more confidence, weaker promise"


@pytest.mark.parametrize(("count", "above"), [(8, 0), (60, 2), (300, 5)])
def test_the_bound_holds_as_often_as_it_says_and_is_no_weaker(count: int, above: int) -> None:
    """Uniform scores stand for any continuous ones: the rate above a threshold t is then 1 - t."""
    draws = 20_000
    sets = np.sort(np.random.default_rng(count).random((draws, count)), axis=1)
    rates = 1.0 - sets[:, -1 - above]
    exceeded = float((rates > order_statistic_bound(count, above)).mean())
    assert exceeded == pytest.approx(1 - CONFIDENCE, abs=4 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / draws))


# Upper quantiles of Student's t from printed tables, by degrees of freedom.
@pytest.mark.parametrize(
    ("freedom", "t", "tail"),
    [
        (3, 2.353, 0.05),
        (3, 5.841, 0.005),
        (7, 1.895, 0.05),
        (7, 2.998, 0.01),
        (30, 1.697, 0.05),
        (30, 2.750, 0.005),
        (299, 2.592, 0.005),
        (7, 0.0, 0.5),
        (7, -1.895, 0.95),
    ],
)
def test_the_tail_is_that_of_students_t(freedom: int, t: float, tail: float) -> None:
    scores, threshold = scores_with(t, freedom + 1)
    assert tail_estimate(scores, threshold) == pytest.approx(tail, rel=2e-3)


@given(st.integers(4, 60), st.floats(-6, 6), st.floats(0.01, 3))
def test_a_higher_threshold_has_a_smaller_tail(count: int, t: float, more: float) -> None:
    scores, low = scores_with(t, count)
    _, high = scores_with(t + more, count)
    below, above = tail_estimate(scores, low), tail_estimate(scores, high)
    assert below is not None
    assert above is not None
    assert 0.0 <= above < below <= 1.0


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, 2.0, 3.0], [2.0] * 9])
def test_no_tail_is_guessed_from_too_little(scores: list[float]) -> None:
    assert tail_estimate(scores, 3.0) is None


@given(RATES)
def test_a_percentage_is_never_rounded_in_its_own_favour(rate: float) -> None:
    told = float(percent(rate).rstrip("%")) / 100
    assert told >= rate - 1e-9
    assert told <= rate + (0.01 if rate >= 0.1 else 0.001) + 1e-9


@pytest.mark.parametrize(
    ("rate", "told"),
    [(0.0, "0%"), (0.0001, "0.1%"), (0.00994, "1%"), (0.05, "5%"), (0.0501, "5.1%"), (0.3123, "32%"), (1.0, "100%")],
)
def test_percentages_read_well(rate: float, told: str) -> None:
    assert percent(rate) == told


@given(POSITIVE, st.floats(0.1, 10.0), st.floats(1.0, 6.0))
def test_outliers_do_not_depend_on_the_unit(values: list[float], unit: float, cut: float) -> None:
    logs = np.log(values)
    distance = (logs - np.median(logs)) / max(1.4826 * float(np.median(np.abs(logs - np.median(logs)))), 0.05)
    if np.abs(distance - cut).min() > 1e-6:
        assert outliers([unit * v for v in values], cut) == outliers(values, cut)


@given(POSITIVE, st.floats(1.0, 6.0))
def test_what_lies_above_an_outlier_is_one_too(values: list[float], cut: float) -> None:
    named = [v for v, out in zip(values, outliers(values, cut), strict=True) if out]
    rest = [v for v, out in zip(values, outliers(values, cut), strict=True) if not out]
    assert rest, "never all of them"
    assert all(v > max(rest) for v in named)
    assert all(v > np.median(values) for v in named), "what lies low is none"


def test_an_outlier_is_named_alone() -> None:
    assert outliers([1.0, 1.1, 0.9, 1.05, 0.95, 5.0], 4.5) == [False] * 5 + [True]
    assert outliers([1.0, 1.1, 0.9, 1.05, 0.95, 0.01], 4.5) == [False] * 6
    assert outliers([1.0] * 8, 1.0) == [False] * 8
    assert outliers([1.0] * 7 + [1.02], 4.5) == [False] * 8, "differences that mean nothing"
    assert outliers([0.0, 0.0, 0.0, 1.0], 4.5) == [False, False, False, True]

"""What the threshold is, and whether what it claims of normal parts is true."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.statistics import CONFIDENCE
from calibration.threshold import from_leave_one_out, from_one_shot
from edge.types import Match

SCORES = st.lists(st.floats(0.0, 1e3, width=32), min_size=2, max_size=40)


def matches(scores: list[float]) -> list[Match]:
    return [Match(np.full((4, 4), score, np.float32), score, 2.0 * score) for score in scores]


@given(SCORES)
def test_the_threshold_is_the_largest_leave_one_out_score(scores: list[float]) -> None:
    threshold = from_leave_one_out(matches(scores))
    assert threshold.value == max(scores)
    assert all(score <= threshold.value for score in scores), "every shot passes"
    assert threshold.scores == tuple(scores)
    assert threshold.false_reject_mean == pytest.approx(1 / (len(scores) + 1))
    assert threshold.false_reject_bound == pytest.approx(1 - (1 - CONFIDENCE) ** (1 / len(scores)))
    assert threshold.confidence == CONFIDENCE
    assert threshold.frame_scores == () and threshold.frames_rejected == 0, "no part of production was seen"


def test_the_pixel_threshold_is_within_the_maps() -> None:
    anomaly_map = np.arange(10_000, dtype=np.float32).reshape(100, 100)
    threshold = from_leave_one_out([Match(anomaly_map, score, 1.0) for score in (1.0, 2.0, 3.0)])
    above = np.mean(anomaly_map > threshold.pixel_value)
    assert 0 < above <= 0.01, "few pixels of normal shots lie above it"


def test_one_shot_claims_nothing() -> None:
    threshold = from_one_shot(matches([0.5, 0.75, 0.25]))
    assert threshold.value == 0.75
    assert threshold.false_reject_bound is None
    assert threshold.false_reject_mean is None
    assert threshold.tail_estimate is None
    assert "Nothing can be claimed" in threshold.claim
    assert not re.search(r"\d%", threshold.claim)


@given(SCORES)
def test_every_shot_is_within_the_limit_of_unlikeness(scores: list[float]) -> None:
    held_out = matches(scores)
    limit = from_leave_one_out(held_out).unlikeness_most
    assert all(m.unlikeness <= limit for m in held_out)


@pytest.mark.parametrize("count", [2, 5, 8, 19])
def test_the_claimed_rates_hold_for_exchangeable_scores(count: int) -> None:
    """Uniform scores stand for any continuous ones: the rate above a threshold t is then 1 - t."""
    draws = 20_000
    rng = np.random.default_rng(count)
    sets = rng.random((draws, count))
    thresholds = [from_leave_one_out(matches(scores.tolist())) for scores in sets[:200]]
    assert [t.value for t in thresholds] == [float(m) for m in sets[:200].max(axis=1)]
    rates = 1.0 - sets.max(axis=1)
    mean, worst = thresholds[0].false_reject_mean, thresholds[0].false_reject_bound
    assert mean is not None
    assert worst is not None
    assert rates.mean() <= mean + 4 * rates.std() / np.sqrt(draws)
    assert worst == pytest.approx(1.0 - (1.0 - CONFIDENCE) ** (1.0 / count))
    kept = float((rates <= worst).mean())
    assert kept >= CONFIDENCE - 4 * np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / draws)


@given(st.integers(2, 400))
def test_no_percentage_in_the_claim_is_rounded_in_its_own_favour(count: int) -> None:
    """Of rates claimed as upper bounds, one that is rounded down promises more than is true (0% of 200 shots)."""
    scores = [1.0] * count
    claim = from_leave_one_out(matches(scores)).claim
    (worst,) = (float(text) / 100 for text in re.findall(r"([\d.]+)%(?! confidence)", claim))
    assert f"these {count} shots" in claim
    assert f"about 1 in {count + 1}" in claim
    # Beta(1, n): the rate exceeds r with probability (1 - r) ** n.
    assert (1 - worst) ** count <= 1 - CONFIDENCE + 1e-9, claim
    assert worst <= 1 - (1 - CONFIDENCE) ** (1 / count) + 0.01, "and not rounded up by more than a percent"


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_the_claim_does_not_depend_on_the_unit_of_the_score(scale: float) -> None:
    scores = [0.25 * scale, 0.5 * scale]
    one = from_leave_one_out(matches(scores))
    assert one.value == 0.5 * scale
    assert one.claim == from_leave_one_out(matches([1.0, 2.0])).claim

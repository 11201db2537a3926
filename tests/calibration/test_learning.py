"""Whether more shots would help: measured on held-out shots, and said in words that follow from it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.calibrate import encode_shots
from calibration.learning import GOOD_ENOUGH, MOST_ADVISED, LearningCurve, _conclude, learning_curve
from deploy.demo import elpv
from edge.engines.base import Engine
from tests.calibration.cells import Remembering, cells, named, shot_set
from tests.calibration.making import silent

COUNTS = (1, 2, 3, 4, 6, 8, 12)


@pytest.fixture(scope="module")
def curve(engine: Engine, elpv_pictures: elpv.Elpv) -> LearningCurve:
    shots = shot_set(named(cells(elpv_pictures, 10))).shots
    return learning_curve(encode_shots(shots, engine, None, False, silent), engine, silent)


@given(st.floats(0.1, 10.0), st.floats(0.0, 5.0), st.integers(5, 64))
def test_the_limit_of_a_perfect_curve_is_found(limit: float, gain: float, total: int) -> None:
    counts = [k for k in COUNTS if k < total]
    found = _conclude(counts, [limit + gain / k for k in counts], total)
    assert found.limit == pytest.approx(limit, rel=1e-6)
    assert found.advised == pytest.approx(np.clip(np.ceil(gain / (GOOD_ENOUGH * limit)), 1, MOST_ADVISED), abs=1)


def test_a_flat_curve_says_that_more_would_change_little() -> None:
    found = _conclude(COUNTS, [1.0] * len(COUNTS), 16)
    assert found.advised == 1
    assert "more would change little" in found.advice


def test_a_steep_curve_says_how_many_would_help() -> None:
    found = _conclude(COUNTS, [1.0 + 4.0 / k for k in COUNTS], 16)
    assert found.advised is not None
    assert abs(found.advised - 40) <= 1
    assert f"about {found.advised} instead of 16" in found.advice


@pytest.mark.parametrize("total", [2, 3])
def test_too_few_shots_say_nothing_of_how_many(total: int) -> None:
    counts = COUNTS[: total - 1]
    found = _conclude(counts, [2.0 / k for k in counts], total)
    assert found.advised is None
    assert "too few" in found.advice


@given(st.lists(st.floats(0.01, 100.0), min_size=3, max_size=7), st.integers(14, 64))
def test_any_curve_ends_in_advice_within_reason(means: list[float], total: int) -> None:
    found = _conclude(COUNTS[: len(means)], means, total)
    assert found.limit > 0
    assert found.advised is not None
    assert 1 <= found.advised <= MOST_ADVISED
    assert str(total) in found.advice


def test_real_shots_make_a_new_part_less_strange(curve: LearningCurve) -> None:
    assert curve.counts == (1, 2, 3, 4, 6, 8)
    assert np.isfinite(curve.unlikeness).all()
    assert curve.unlikeness[-1] < 0.8 * curve.unlikeness[0]
    assert 0 < curve.limit < curve.unlikeness[-1]


def test_the_same_shots_give_the_same_curve(engine: Engine, elpv_pictures: elpv.Elpv) -> None:
    encoded = encode_shots(shot_set(named(cells(elpv_pictures, 3))).shots, Remembering(engine), None, False, silent)
    assert learning_curve(encoded, engine, silent, 4) == learning_curve(encoded, engine, silent, 4)


def test_two_shots_are_enough_for_a_point(engine: Engine, elpv_pictures: elpv.Elpv) -> None:
    encoded = encode_shots(shot_set(named(cells(elpv_pictures, 2))).shots, engine, None, False, silent)
    found = learning_curve(encoded, engine, silent)
    assert found.counts == (1,)
    assert found.advised is None

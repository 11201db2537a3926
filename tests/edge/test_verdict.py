"""From score and map to a judgement: nothing passes that was not shown to be good."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.recipe import Threshold
from edge.types import Judgement, Match, Reason, Verdict
from edge.verdict import LARGEST_REGION_COUNT, decide, regions_of, undecided
from edge.view import WHOLE, Placement, window_of
from tests.edge.fakes import UNLIKENESS_MOST, fake_threshold

SCORES = st.floats(allow_nan=True, allow_infinity=True, width=32)
FINITE = st.floats(-1e6, 1e6, width=32)
SIDES = st.integers(32, 300)
MAP_SIDE = 64
PLACES = st.integers(0, MAP_SIDE - 1)


def threshold(value: float = 1.0, pixel_value: float = 0.5) -> Threshold:
    return fake_threshold(value, pixel_value, UNLIKENESS_MOST)


def whole(height: int, width: int) -> Placement:
    """A picture that was neither aligned nor cut."""
    return Placement((height, width), window_of(WHOLE, (height, width)))


def like(anomaly_map: NDArray[np.float32], score: float) -> Match:
    """Of a picture that is like the shots."""
    return Match(anomaly_map, score, UNLIKENESS_MOST)


def flat_map(value: float = 0.0, side: int = 64) -> NDArray[np.float32]:
    return np.full((side, side), value, np.float32)


def spotted_map(*spots: tuple[slice, slice], side: int = 64) -> NDArray[np.float32]:
    anomaly_map = flat_map(side=side)
    for spot in spots:
        anomaly_map[spot] = 2.0
    return anomaly_map


def spot_at(row: int, column: int) -> NDArray[np.float32]:
    return spotted_map((slice(row, row + 1), slice(column, column + 1)), side=MAP_SIDE)


@st.composite
def matches(draw: st.DrawFn) -> Match:
    side = draw(st.integers(4, 64))
    anomaly_map = flat_map(draw(FINITE), side)
    for _ in range(draw(st.integers(0, 5))):
        row, column = draw(st.integers(0, side - 1)), draw(st.integers(0, side - 1))
        anomaly_map[row, column] = draw(FINITE)
    return Match(anomaly_map, draw(SCORES), draw(SCORES))


def test_a_score_at_the_threshold_passes_and_the_next_larger_does_not() -> None:
    anomaly_map = spotted_map((slice(3, 9), slice(3, 9)))
    assert decide(like(anomaly_map, 1.0), threshold(1.0), whole(64, 64)).judgement is Judgement.OK
    above = like(anomaly_map, math.nextafter(1.0, 2.0))
    assert decide(above, threshold(1.0), whole(64, 64)).judgement is Judgement.NOT_OK


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_is_not_decidable(score: float) -> None:
    verdict = decide(like(flat_map(), score), threshold(), whole(64, 64))
    assert (verdict.judgement, verdict.reason) == (Judgement.NOT_DECIDABLE, Reason.ENGINE_FAULT)
    assert verdict.score is None and verdict.mask is None and verdict.regions == ()


@pytest.mark.parametrize("unlikeness", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("score", [0.0, 2.0])
def test_an_unlikeness_that_is_no_number_is_not_decidable(unlikeness: float, score: float) -> None:
    verdict = decide(Match(flat_map(), score, unlikeness), threshold(), whole(64, 64))
    assert (verdict.judgement, verdict.reason) == (Judgement.NOT_DECIDABLE, Reason.ENGINE_FAULT)


@pytest.mark.parametrize("score", [0.0, 2.0])
def test_a_picture_unlike_the_shots_is_not_judged_but_its_score_is_told(score: float) -> None:
    anomaly_map = spotted_map((slice(3, 9), slice(3, 9)))
    at, above = UNLIKENESS_MOST, math.nextafter(UNLIKENESS_MOST, 1.0)
    verdict = decide(Match(anomaly_map, score, above), threshold(), whole(64, 64))
    assert (verdict.judgement, verdict.reason) == (Judgement.NOT_DECIDABLE, Reason.UNFIT_IMAGE)
    assert verdict.score == score and verdict.mask is None and verdict.regions == () and verdict.detail
    assert decide(Match(anomaly_map, score, at), threshold(), whole(64, 64)).judgement is not Judgement.NOT_DECIDABLE


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("score", [0.0, 2.0])
def test_one_map_value_that_is_no_number_is_not_decidable(value: float, score: float) -> None:
    anomaly_map = flat_map()
    anomaly_map[13, 17] = value
    verdict = decide(like(anomaly_map, score), threshold(), whole(64, 64))
    assert (verdict.judgement, verdict.reason) == (Judgement.NOT_DECIDABLE, Reason.ENGINE_FAULT)


@given(match=matches(), limit=FINITE, pixel_limit=FINITE, height=SIDES, width=SIDES)
def test_only_ok_is_accepted_and_only_not_ok_has_a_mask(
    match: Match, limit: float, pixel_limit: float, height: int, width: int
) -> None:
    verdict = decide(match, threshold(limit, pixel_limit), whole(height, width))
    assert verdict.accept is (verdict.judgement is Judgement.OK)
    known = math.isfinite(match.score) and math.isfinite(match.unlikeness)
    assert verdict.accept is (known and match.score <= limit and match.unlikeness <= UNLIKENESS_MOST)
    assert (verdict.reason is None) is verdict.accept
    assert (verdict.mask is not None) is (verdict.judgement is Judgement.NOT_OK)
    assert verdict.mask is None or (verdict.mask.shape == (height, width) and verdict.mask.dtype == np.bool_)
    assert verdict.judgement is Judgement.NOT_OK or verdict.regions == ()


@given(match=matches(), limit=FINITE, pixel_limit=FINITE, height=SIDES, width=SIDES)
def test_not_ok_always_shows_where(match: Match, limit: float, pixel_limit: float, height: int, width: int) -> None:
    verdict = decide(match, threshold(limit, pixel_limit), whole(height, width))
    assume(verdict.judgement is Judgement.NOT_OK)
    assert len(verdict.regions) >= 1


@given(row=PLACES, column=PLACES, height=SIDES, width=SIDES)
@example(row=0, column=0, height=MAP_SIDE // 2, width=MAP_SIDE // 2)
@example(row=MAP_SIDE - 1, column=MAP_SIDE - 1, height=MAP_SIDE // 2, width=MAP_SIDE // 2)
def test_the_mask_shows_even_the_smallest_defect(row: int, column: int, height: int, width: int) -> None:
    verdict = decide(like(spot_at(row, column), 2.0), threshold(), whole(height, width))
    assert verdict.mask is not None
    assert bool(verdict.mask.any())


@given(row=PLACES, column=PLACES, height=SIDES, width=SIDES)
@example(row=MAP_SIDE - 1, column=MAP_SIDE - 1, height=MAP_SIDE // 2, width=MAP_SIDE // 2)
def test_even_the_smallest_region_lies_within_the_picture(row: int, column: int, height: int, width: int) -> None:
    (region,) = decide(like(spot_at(row, column), 2.0), threshold(), whole(height, width)).regions
    assert 0 <= region.x < region.x + region.width <= width
    assert 0 <= region.y < region.y + region.height <= height
    assert abs(region.x + region.width / 2 - (column + 0.5) * width / MAP_SIDE) <= 1
    assert abs(region.y + region.height / 2 - (row + 0.5) * height / MAP_SIDE) <= 1


@given(match=matches(), pixel_limit=FINITE, height=SIDES, width=SIDES)
def test_regions_lie_within_the_picture(match: Match, pixel_limit: float, height: int, width: int) -> None:
    regions = regions_of(match.anomaly_map >= pixel_limit, match.anomaly_map, whole(height, width))
    for region in regions:
        assert 0 <= region.x < region.x + region.width <= width
        assert 0 <= region.y < region.y + region.height <= height
        assert region.area_px >= 1 and pixel_limit <= region.peak <= match.anomaly_map.max()


@given(match=matches(), pixel_limit=FINITE, height=SIDES, width=SIDES)
def test_every_pixel_of_the_mask_lies_in_a_region(match: Match, pixel_limit: float, height: int, width: int) -> None:
    verdict = decide(like(match.anomaly_map, 2.0), threshold(1.0, pixel_limit), whole(height, width))
    assert verdict.mask is not None
    left = verdict.mask.copy()
    for r in verdict.regions:
        left[max(0, r.y - 1) : r.y + r.height + 1, max(0, r.x - 1) : r.x + r.width + 1] = False
    assert not left.any()


def test_regions_and_mask_are_in_picture_pixels() -> None:
    anomaly_map = spotted_map((slice(16, 24), slice(32, 48)))
    verdict = decide(like(anomaly_map, 2.0), threshold(), whole(128, 320))
    (region,) = verdict.regions
    assert (region.x, region.y, region.width, region.height) == (160, 32, 80, 16)
    assert region.area_px == 80 * 16 and region.peak == 2.0
    assert verdict.mask is not None
    expected = np.zeros((128, 320), np.bool_)
    expected[32:48, 160:240] = True
    assert np.array_equal(verdict.mask, expected)


def test_separate_defects_are_separate_regions_largest_first() -> None:
    anomaly_map = spotted_map((slice(0, 4), slice(0, 4)), (slice(20, 40), slice(20, 40)), (slice(50, 58), slice(5, 13)))
    anomaly_map[25, 25] = 9.0
    regions = regions_of(anomaly_map > 0.5, anomaly_map, whole(64, 64))
    assert [region.area_px for region in regions] == [400, 64, 16]
    assert [region.peak for region in regions] == [9.0, 2.0, 2.0]


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    anomaly_map = spotted_map((slice(0, 4), slice(0, 4)), (slice(4, 8), slice(4, 8)))
    assert len(regions_of(anomaly_map > 0.5, anomaly_map, whole(64, 64))) == 1


def test_the_list_of_regions_is_bounded_and_keeps_the_largest() -> None:
    spots = [
        (slice(4 * row, 4 * row + 1), slice(4 * column, 4 * column + 1)) for row in range(16) for column in range(16)
    ]
    anomaly_map = spotted_map(*spots, (slice(0, 3), slice(0, 3)))
    regions = regions_of(anomaly_map > 0.5, anomaly_map, whole(64, 64))
    assert len(regions) == LARGEST_REGION_COUNT and regions[0].area_px == 9


@pytest.mark.parametrize("reason", list(Reason))
def test_undecided_is_never_accepted(reason: Reason) -> None:
    verdict = undecided(reason, "why", 1.0)
    assert verdict == Verdict(Judgement.NOT_DECIDABLE, reason, None, 1.0, detail="why")
    assert not verdict.accept

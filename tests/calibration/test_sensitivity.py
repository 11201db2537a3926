"""Simulated defects and what is said of finding them."""

from __future__ import annotations

import math
import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration import sensitivity as room
from calibration.calibrate import Calibration, calibrate, encode_shots
from calibration.defects import Defect, draw
from calibration.roi import Roi
from calibration.sensitivity import LARGEST_SHARE, SMALLEST_SHARE, Curve, _fit, _place, probability, sensitivity
from calibration.shots import Shot
from deploy.demo import elpv
from edge.engines.base import Engine
from edge.types import Picture
from edge.view import Box
from tests.calibration.cells import Remembering, cells, named, shot_set
from tests.calibration.making import silent, texture

KINDS = st.sampled_from(list(Defect))


@pytest.fixture(scope="module")
def shots(elpv_pictures: elpv.Elpv) -> tuple[Shot, ...]:
    return shot_set(named(cells(elpv_pictures, 6))).shots


@pytest.fixture(scope="module")
def remembering(engine: Engine) -> Remembering:
    return Remembering(engine)


@pytest.fixture(scope="module")
def calibration(shots: tuple[Shot, ...], remembering: Remembering) -> Calibration:
    return calibrate(encode_shots(shots, remembering, None, False, silent), remembering, silent)


def differs(before: Picture, after: Picture) -> np.ndarray:
    return np.asarray(np.abs(before.astype(int) - after.astype(int)).max(axis=2))


@settings(max_examples=60)
@given(KINDS, st.floats(3, 60), st.floats(0.1, 0.8), st.integers(0, 119), st.integers(0, 99), st.integers(0, 99))
def test_a_defect_is_drawn_at_its_place_and_size(
    kind: Defect, size: float, contrast: float, x: int, y: int, seed: int
) -> None:
    picture = texture(1, 100, 120)
    before = picture.copy()
    drawn = draw(picture, kind, size, contrast, (x, y), np.random.default_rng(seed))
    np.testing.assert_array_equal(picture, before)
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    rows, columns = np.nonzero(differs(before, drawn))
    if rows.size:
        reach = max(7, size * 1.5) + 2
        assert rows.max() - rows.min() <= reach
        assert columns.max() - columns.min() <= reach
        assert abs(np.clip((rows.max() + rows.min()) / 2, 0, 100) - y) <= reach
        assert abs(np.clip((columns.max() + columns.min()) / 2, 0, 120) - x) <= reach


@given(KINDS, st.integers(0, 50))
def test_more_contrast_changes_more(kind: Defect, seed: int) -> None:
    picture = np.clip(texture(2, 120, 120).astype(int) // 2 + 50, 0, 255).astype(np.uint8)
    faint, strong = (
        differs(picture, draw(picture, kind, 30, contrast, (60, 60), np.random.default_rng(seed))).sum()
        for contrast in (0.1, 0.5)
    )
    assert strong > faint


@given(KINDS, st.integers(0, 50))
def test_the_same_seed_draws_the_same_defect(kind: Defect, seed: int) -> None:
    picture = texture(3, 90, 90)
    first, again = (draw(picture, kind, 20, 0.4, (40, 50), np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", list(Defect))
def test_the_smallest_pictures_and_largest_defects_are_drawn(kind: Defect) -> None:
    for height, width in ((32, 32), (32, 400), (400, 32)):
        picture = texture(4, height, width)
        for seed in range(8):
            drawn = draw(
                picture, kind, LARGEST_SHARE * max(height, width), 0.8, (0, height - 1), np.random.default_rng(seed)
            )
            assert drawn.shape == picture.shape


def rows_of(a: float, b: float, c: float, count: int, seed: int = 0) -> list[tuple[float, float, bool]]:
    random = np.random.default_rng(seed)
    sizes = np.exp(random.uniform(math.log(SMALLEST_SHARE), math.log(LARGEST_SHARE), count))
    contrasts = np.exp(random.uniform(math.log(0.05), math.log(0.8), count))
    chances = 1 / (1 + np.exp(-(a + b * np.log(sizes) + c * np.log(contrasts))))
    return list(zip(sizes.tolist(), contrasts.tolist(), (random.random(count) < chances).tolist(), strict=True))


def test_a_known_curve_is_found_again() -> None:
    curve = _fit(Defect.SPOT, rows_of(13.0, 3.0, 2.0, 4000), 300)
    assert (curve.a, curve.b, curve.c) == pytest.approx((13.0, 3.0, 2.0), rel=0.15)
    told = curve.size_px["0.2"]
    assert told is not None
    assert probability(curve, told / 300, 0.2) == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize("found", [True, False])
def test_all_or_nothing_found_is_still_a_curve(found: bool) -> None:
    curve = _fit(Defect.DENT, [(s, c, found) for s, c, _ in rows_of(0, 1, 1, 60)], 300)
    assert np.isfinite([curve.a, curve.b, curve.c]).all()
    if not found:
        assert set(curve.size_px.values()) == {None}
        assert "does not find a dent" in curve.text


@given(st.integers(0, 200), st.integers(5, 60))
def test_no_drawn_set_breaks_the_fit(seed: int, count: int) -> None:
    curve = _fit(Defect.STAIN, rows_of(8.0, 3.0, 2.0, count, seed), 300)
    assert np.isfinite([curve.a, curve.b, curve.c]).all()
    for size in curve.size_px.values():
        assert size is None or SMALLEST_SHARE * 300 - 1e-9 <= size <= LARGEST_SHARE * 300 + 1e-9


@pytest.fixture(scope="module")
def curves(shots: tuple[Shot, ...], calibration: Calibration, remembering: Remembering) -> dict[Defect, Curve]:
    return {c.kind: c for c in _quick(24, shots, calibration, remembering).curves}


def _quick(
    trials: int, shots: tuple[Shot, ...], calibration: Calibration, engine: Engine, seed: int = 0
) -> room.Sensitivity:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "TRIALS_PER_KIND", trials)
        return sensitivity(shots, calibration, engine, silent, seed)


def test_every_kind_has_a_curve_and_a_sentence(curves: dict[Defect, Curve]) -> None:
    assert set(curves) == set(Defect)
    for kind, curve in curves.items():
        assert curve.trials == 24
        assert kind.value in curve.text
        told = [size for size in curve.size_px.values() if size is not None]
        assert [f"{size:.0f} px" in curve.text for size in told] == [True] * len(told)
        assert bool(told) != curve.text.startswith("does not find")
        assert re.search(r"\d+%", curve.text)


def test_larger_and_stronger_defects_are_found_more_often(curves: dict[Defect, Curve]) -> None:
    for kind in (Defect.SPOT, Defect.DENT, Defect.STAIN):
        curve = curves[kind]
        assert probability(curve, 0.2, 0.4) > probability(curve, 0.02, 0.4)
        assert probability(curve, 0.1, 0.8) > probability(curve, 0.1, 0.05)


def test_the_same_seed_gives_the_same_curves(
    shots: tuple[Shot, ...], calibration: Calibration, remembering: Remembering
) -> None:
    first, again = (_quick(3, shots, calibration, remembering, 5) for _ in range(2))
    assert first == again
    assert _quick(3, shots, calibration, remembering, 6) != first


def test_a_gross_spot_is_found_and_a_hint_is_not(
    shots: tuple[Shot, ...], calibration: Calibration, remembering: Remembering
) -> None:
    banks = room._banks(calibration)
    found: dict[float, int] = {}
    for contrast in (0.02, 0.8):
        found[contrast] = sum(
            room._rejected(
                draw(s.picture, Defect.SPOT, 50, contrast, (150, 150), np.random.default_rng(i)),
                banks[i],
                calibration,
                remembering,
            )
            for i, s in enumerate(shots)
        )
    assert found[0.8] == len(shots)
    assert found[0.02] <= 1


def test_defects_are_drawn_inside_the_region_of_interest(shots: tuple[Shot, ...], remembering: Remembering) -> None:
    mask = np.zeros((300, 300), np.uint8)
    cv2.rectangle(mask, (30, 120), (150, 260), 1, -1)
    roi = Roi(mask.astype(np.bool_), Box(0.08, 0.38, 0.53, 0.89))
    limited = calibrate(encode_shots(shots[:2], remembering, roi, False, silent), remembering, silent)
    random = np.random.default_rng(0)
    places = np.array([_place(shots[0].picture, limited, random) for _ in range(300)])
    near = cv2.dilate(mask, np.ones((21, 21), np.uint8))
    assert near[places[:, 1], places[:, 0]].all()
    assert np.ptp(places[:, 0]) > 80
    assert np.ptp(places[:, 1]) > 90


def test_sizes_are_told_in_pixels_of_the_shots(
    shots: tuple[Shot, ...], calibration: Calibration, remembering: Remembering
) -> None:
    assert _quick(2, shots, calibration, remembering).side_px == 300
    large = np.asarray(cv2.resize(shots[0].picture, (2048, 1500)), np.uint8)
    assert max(room._working(large).shape) == 1024
    assert room._working(shots[0].picture) is shots[0].picture

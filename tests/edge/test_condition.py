"""What is unlike the shots is not judged."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.condition import SIZE_TOLERANCE, Limits, learn_limits, measure, why_unfit
from edge.preprocess import View, preprocess
from edge.types import Picture

INPUT = (200, 300)
"""Of an encoder, height and width."""


def part(height: int = 200, width: int = 300, amplitude: int = 60) -> Picture:
    rows, columns = np.indices((height, width)) // 10
    grey = np.where((rows + columns) % 2 == 0, 128 - amplitude, 128 + amplitude).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def limits_of(*shots: Picture) -> Limits:
    prepared = [preprocess(shot, INPUT, View()) for shot in shots]
    return learn_limits([p.placement.size for p in prepared], [measure(p.image) for p in prepared])


def fault_of(picture: Picture, limits: Limits) -> str:
    return why_unfit(preprocess(picture, INPUT, View()), limits, None)


LIMITS = limits_of(part(), part(210, 310))


def test_contrast_is_the_deviation_of_grey_levels() -> None:
    assert measure(part(amplitude=60)).contrast == pytest.approx(60.0, abs=0.1)
    assert measure(np.full((40, 40, 3), 9, np.uint8)).contrast == 0.0


@given(height=st.integers(200, 210), width=st.integers(300, 310), amplitude=st.integers(30, 120))
def test_a_picture_like_the_shots_is_fit(height: int, width: int, amplitude: int) -> None:
    assert fault_of(part(height, width, amplitude), LIMITS) == ""


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_is_unfit(level: int) -> None:
    assert "contrast" in fault_of(np.full((200, 300, 3), level, np.uint8), LIMITS)


def test_a_nearly_blank_picture_is_unfit() -> None:
    noise = np.random.default_rng(0).integers(126, 131, (200, 300, 3), dtype=np.uint8)
    assert "contrast" in fault_of(noise, LIMITS)


@pytest.mark.parametrize(("height", "width"), [(100, 150), (400, 600), (200, 3000), (20, 300)])
def test_another_size_is_unfit_and_named(height: int, width: int) -> None:
    assert f"{width} x {height} pixels" in fault_of(part(height, width), LIMITS)


def test_another_shape_within_the_sizes_is_unfit() -> None:
    reason = fault_of(part(int(210 * SIZE_TOLERANCE), int(300 / SIZE_TOLERANCE)), LIMITS)
    assert "shape" in reason


def test_a_picture_turned_by_a_quarter_is_unfit() -> None:
    assert fault_of(np.ascontiguousarray(np.rot90(part())), LIMITS)


def test_every_shot_is_fit_for_the_limits_learned_from_it() -> None:
    shots = [part(), part(230, 330, 20), np.asarray(cv2.GaussianBlur(part(), (0, 0), 5), np.uint8)]
    limits = limits_of(*shots)
    assert [fault_of(shot, limits) for shot in shots] == ["", "", ""]

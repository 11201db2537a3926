"""The only resize: right size, right colours, nothing invented."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import PictureError
from edge.preprocess import View, preprocess
from edge.types import Picture

SIZES = st.tuples(st.integers(1, 80), st.integers(1, 80))


def scaled(picture: Picture, size: tuple[int, int]) -> Picture:
    """The whole picture at the encoder's size."""
    return preprocess(picture, size, View()).image


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    assert np.array_equal(scaled(picture, (48, 64)), picture)


def test_shrinking_averages_areas() -> None:
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[::2, ::2] = 200
    assert np.array_equal(scaled(picture, (32, 32)), np.full((32, 32, 3), 50, np.uint8))


def test_a_thin_bright_line_is_not_lost_when_shrinking() -> None:
    picture = np.zeros((320, 320, 3), np.uint8)
    picture[:, 163] = 255
    assert (scaled(picture, (64, 64)).max(axis=(1, 2)) > 40).all()


def test_growing_is_smooth() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[:, 1] = 200
    row = scaled(picture, (8, 8))[0, :, 0].astype(int)
    assert (np.diff(row) >= 0).all() and len(set(row.tolist())) > 2


def test_height_comes_before_width_and_colours_keep_their_order() -> None:
    picture = np.zeros((100, 40, 3), np.uint8)
    picture[:50] = (250, 120, 10)
    small = scaled(picture, (20, 30))
    assert small.shape == (20, 30, 3)
    assert tuple(small[0, 0]) == (250, 120, 10) and tuple(small[-1, -1]) == (0, 0, 0)


@given(before=SIZES, after=SIZES, seed=st.integers(0, 99))
def test_the_size_is_right_and_no_value_is_out_of_range(
    before: tuple[int, int], after: tuple[int, int], seed: int
) -> None:
    picture = np.random.default_rng(seed).integers(50, 201, (*before, 3), dtype=np.uint8)
    prepared = preprocess(picture, after, View())
    image = prepared.image
    assert image.shape == (*after, 3) and image.dtype == np.uint8
    assert image.min() >= picture.min() and image.max() <= picture.max()
    assert prepared.placement.size == before and prepared.pose is None


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((40, 40), np.uint8),
        np.zeros((40, 40, 1), np.uint8),
        np.zeros((40, 40, 4), np.uint8),
        np.zeros((40, 40, 3), np.uint16),
        np.zeros((40, 40, 3), np.float32),
        np.zeros((0, 40, 3), np.uint8),
    ],
    ids=["no channels", "one channel", "four channels", "16 bits", "floats", "nothing"],
)
def test_what_is_not_8_bit_rgb_is_refused(picture: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> None:
    with pytest.raises(PictureError, match="a frame is"):
        preprocess(picture, (32, 32), View())

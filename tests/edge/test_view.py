"""What is cut out of a picture goes back to the same place in it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.types import Match
from edge.verdict import regions_of
from edge.view import WHOLE, Box, Placement, Window, place_mask, window_of

SIZES = st.tuples(st.integers(1, 400), st.integers(1, 400))
SHARES = st.floats(0.0, 1.0)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    left, right = sorted((draw(SHARES), draw(SHARES)))
    top, bottom = sorted((draw(SHARES), draw(SHARES)))
    return Box(min(left, 0.99), min(top, 0.99), max(right, min(left, 0.99) + 0.01), max(bottom, min(top, 0.99) + 0.01))


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    size = draw(SIZES)
    return Placement(size, window_of(draw(boxes()), size))


@given(boxes(), SIZES)
def test_a_window_holds_its_box_and_lies_in_the_picture(box: Box, size: tuple[int, int]) -> None:
    height, width = size
    window = window_of(box, size)
    assert window.width >= 1
    assert window.height >= 1
    assert 0 <= window.x <= box.left * width
    assert 0 <= window.y <= box.top * height
    assert min(width, box.right * width) <= window.x + window.width <= width
    assert min(height, box.bottom * height) <= window.y + window.height <= height
    assert window.width < (box.right - box.left) * width + 2, "no more than a pixel beyond it"
    assert window.height < (box.bottom - box.top) * height + 2


@given(SIZES)
def test_the_whole_picture_is_a_window_too(size: tuple[int, int]) -> None:
    assert window_of(WHOLE, size) == Window(0, 0, size[1], size[0])


@given(placements(), st.tuples(st.integers(1, 64), st.integers(1, 64)))
def test_a_full_mask_covers_the_window_and_nothing_else(placement: Placement, shape: tuple[int, int]) -> None:
    placed = place_mask(np.ones(shape, np.bool_), placement)
    window = placement.window
    expected = np.zeros(placement.size, np.bool_)
    expected[window.y : window.y + window.height, window.x : window.x + window.width] = True
    assert placed.dtype == np.bool_
    np.testing.assert_array_equal(placed, expected)


@given(placements(), st.integers(1, 64), st.data())
def test_a_set_pixel_lands_where_it_was_cut_out(placement: Placement, side: int, data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, side - 1)), data.draw(st.integers(0, side - 1))
    mask = np.zeros((side, side), np.bool_)
    mask[row, column] = True
    placed = place_mask(mask, placement)
    window = placement.window
    assert placed.any(), "no set pixel is lost"
    rows, columns = np.nonzero(placed)
    down, across = window.height / side, window.width / side
    assert rows.min() >= window.y + int(row * down) - 1
    assert rows.max() <= window.y + np.ceil((row + 1) * down)
    assert columns.min() >= window.x + int(column * across) - 1
    assert columns.max() <= window.x + np.ceil((column + 1) * across)


@given(placements(), st.integers(0, 2**32 - 1))
def test_a_region_bounds_the_mask_that_it_tells_of(placement: Placement, seed: int) -> None:
    mask = np.zeros((64, 64), np.bool_)
    y, x, height, width = np.random.default_rng(seed).integers(1, 32, 4)
    mask[y : y + height, x : x + width] = True
    region = regions_of(mask, mask.astype(np.float32), placement)[0]
    rows, columns = np.nonzero(place_mask(mask, placement))
    assert rows.size, "no region without a mask"
    down, across = placement.window.height / 64, placement.window.width / 64
    assert abs(region.x - columns.min()) <= 1 + across
    assert abs(region.y - rows.min()) <= 1 + down
    assert abs(region.x + region.width - 1 - columns.max()) <= 1 + across
    assert abs(region.y + region.height - 1 - rows.max()) <= 1 + down
    assert 0 <= region.x < region.x + region.width <= placement.size[1]
    assert 0 <= region.y < region.y + region.height <= placement.size[0]


@given(
    st.floats(-30, 30),
    st.floats(-20, 20),
    st.floats(-8, 8),
    st.tuples(st.integers(70, 110), st.integers(50, 90)),
)
def test_mask_and_regions_follow_the_alignment(dx: float, dy: float, degrees: float, place: tuple[int, int]) -> None:
    """`warp` takes aligned pixels to picture pixels: so must what was found in the aligned picture."""
    size = (140, 180)
    warp = cv2.getRotationMatrix2D((90.0, 70.0), degrees, 1.0).astype(np.float32)
    warp[:, 2] += (dx, dy)
    placement = Placement(size, Window(0, 0, size[1], size[0]), warp)
    mask = np.zeros(size, np.bool_)
    mask[place[1] - 5 : place[1] + 5, place[0] - 5 : place[0] + 5] = True
    centre = warp @ np.array([place[0] - 0.5, place[1] - 0.5, 1.0])
    rows, columns = np.nonzero(place_mask(mask, placement))
    assert abs(columns.mean() - centre[0]) <= 1.0
    assert abs(rows.mean() - centre[1]) <= 1.0
    match = Match(mask.astype(np.float32), 1.0, 0.0)
    region = regions_of(mask, match.anomaly_map, placement)[0]
    assert abs(region.x + region.width / 2 - 0.5 - centre[0]) <= 1.5
    assert abs(region.y + region.height / 2 - 0.5 - centre[1]) <= 1.5


@pytest.mark.parametrize("size", [(100, 640), (640, 100), (40, 300), (300, 300), (100, 100)])
def test_no_thin_line_is_lost_in_a_long_picture(size: tuple[int, int]) -> None:
    """Such a picture shrinks one way and grows the other."""
    placement = Placement(size, window_of(WHOLE, size))
    for line in range(256):
        mask = np.zeros((256, 256), np.bool_)
        mask[line] = True
        assert place_mask(mask, placement).any(axis=0).all(), line
        assert place_mask(mask.T, placement).any(axis=1).all(), line


def test_what_lies_beyond_the_picture_is_cut_off() -> None:
    warp = np.array([[1, 0, 100], [0, 1, 0]], np.float32)
    placement = Placement((50, 120), Window(0, 0, 120, 50), warp)
    mask = np.ones((50, 120), np.bool_)
    placed = place_mask(mask, placement)
    assert not placed[:, :99].any()
    assert placed[:, 101:].all()
    region = regions_of(mask, mask.astype(np.float32), placement)[0]
    assert region.x + region.width <= 120

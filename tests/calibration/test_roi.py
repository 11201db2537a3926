"""A region of interest: read or refused, and nothing outside it counts."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.product import Options
from calibration.roi import LEAST_TOKENS, Roi, geometry_of, read_roi
from deploy.demo import elpv
from edge.engines.base import Engine
from edge.engines.package import Package
from edge.errors import PictureError, ShotsError
from edge.judge import judge_picture
from edge.recipe import Recipe
from edge.types import Judgement, Picture
from tests.calibration.cells import cells, make_recipe, named, spotted
from tests.calibration.making import save

SIZE = (300, 300)
LEFT, TOP, RIGHT, BOTTOM = 60, 90, 200, 240


def polygon(folder: Path, text: str) -> Path:
    path = folder / "roi.txt"
    path.write_text(text, encoding="utf-8")
    return path


def mask_picture(folder: Path, mask: np.ndarray) -> Path:
    return save(folder / "roi.png", (mask * 255).astype(np.uint8))


def rectangle() -> np.ndarray:
    mask = np.zeros(SIZE, np.bool_)
    mask[TOP : BOTTOM + 1, LEFT : RIGHT + 1] = True
    return mask


@pytest.fixture(scope="module")
def part(elpv_pictures: elpv.Elpv) -> Picture:
    return cells(elpv_pictures, 9)[8]


@pytest.fixture(scope="module")
def roi(tmp_path_factory: pytest.TempPathFactory) -> Roi:
    return read_roi(mask_picture(tmp_path_factory.mktemp("roi"), rectangle()), SIZE)


@pytest.fixture(scope="module")
def limited(elpv_pictures: elpv.Elpv, engine: Engine, roi: Roi, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    shots = named(cells(elpv_pictures, 6))
    return make_recipe(shots, engine, tmp_path_factory.mktemp("roi"), Options(roi=roi, sensitivity=False))[0]


def test_a_polygon_and_a_picture_of_it_are_the_same(tmp_path: Path) -> None:
    text = f"{LEFT} {TOP}\n{RIGHT}, {TOP}\n\n{RIGHT} {BOTTOM}\n{LEFT},{BOTTOM}\n"
    drawn, painted = read_roi(polygon(tmp_path, text), SIZE), read_roi(mask_picture(tmp_path, rectangle()), SIZE)
    np.testing.assert_array_equal(drawn.mask, rectangle())
    np.testing.assert_array_equal(painted.mask, rectangle())
    assert drawn.box == painted.box
    assert drawn.box.left * 300 <= LEFT < RIGHT <= drawn.box.right * 300
    assert drawn.box.top * 300 <= TOP < BOTTOM <= drawn.box.bottom * 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("0 0\n400 0\n0 200\n", "outside the picture", id="beyond the right"),
        pytest.param("0 0\n100 0\n0 301\n", "outside the picture", id="beyond the bottom"),
        pytest.param("-1 0\n100 0\n0 200\n", "outside the picture", id="negative"),
        pytest.param("0 0\nnan 0\n0 200\n", "outside the picture", id="not a number"),
        pytest.param("0 0\ninf 0\n0 200\n", "outside the picture", id="endless"),
        pytest.param("", "corners", id="empty"),
        pytest.param("0 0\n100 100\n", "2 corners", id="a line"),
        pytest.param("0 0 0\n1 1 1\n2 2 2\n", "not a polygon", id="three columns"),
        pytest.param("left top\nright bottom\n", "not a polygon", id="words"),
    ],
)
def test_what_is_no_polygon_in_the_picture_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ShotsError, match=said):
        read_roi(polygon(tmp_path, text), SIZE)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x00" * 50])
def test_bytes_that_are_no_text_are_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "roi.txt").write_bytes(data)
    with pytest.raises(ShotsError):
        read_roi(tmp_path / "roi.txt", SIZE)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShotsError, match="cannot be read"):
        read_roi(tmp_path / "none.txt", SIZE)
    with pytest.raises(PictureError, match="cannot be read"):
        read_roi(tmp_path / "none.png", SIZE)


def test_an_empty_mask_and_one_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ShotsError, match="marks nothing"):
        read_roi(mask_picture(tmp_path, np.zeros(SIZE, np.bool_)), SIZE)
    with pytest.raises(ShotsError, match="200 x 300, the shots are 300 x 300"):
        read_roi(mask_picture(tmp_path, np.ones((300, 200), np.bool_)), SIZE)


def test_a_region_of_nearly_nothing_is_refused(tmp_path: Path, package: Package) -> None:
    thin = np.zeros(SIZE, np.bool_)
    cv2.line(thin.view(np.uint8), (20, 20), (280, 280), 1, 2)
    with pytest.raises(ShotsError, match="too thin"):
        geometry_of(read_roi(mask_picture(tmp_path, thin), SIZE), package.info.encoder)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(60, 100), st.integers(60, 100))
def test_a_rectangle_fills_its_own_box(package: Package, x: int, y: int, width: int, height: int) -> None:
    mask = np.zeros(SIZE, np.bool_)
    mask[y : y + height, x : x + width] = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("calibration.roi._picture", lambda _path, _size: mask)
        found = read_roi(Path("roi.png"), SIZE)
    for tap, inside in zip(package.info.encoder.taps, geometry_of(found, package.info.encoder).inside, strict=True):
        assert inside.dtype == np.float32
        assert set(np.unique(inside)) <= {0.0, 1.0}
        grid = inside.reshape(tap.grid)
        assert grid[tap.grid[0] // 2, tap.grid[1] // 2] == 1
        assert inside.mean() > 0.5
    assert geometry_of(found, package.info.encoder).inside[0].sum() >= LEAST_TOKENS


def test_a_ring_has_a_hole(tmp_path: Path, package: Package) -> None:
    ring = np.zeros(SIZE, np.uint8)
    cv2.circle(ring, (150, 150), 140, 1, -1)
    cv2.circle(ring, (150, 150), 70, 0, -1)
    inside = geometry_of(read_roi(mask_picture(tmp_path, ring > 0), SIZE), package.info.encoder).inside
    grid = inside[0].reshape(package.info.encoder.taps[0].grid)
    assert grid[8, 8] == 0
    assert grid[0, 0] == 0
    assert grid[8, 2] == 1


@pytest.mark.parametrize("place", [(20, 30), (275, 40), (270, 280), (25, 280)])
def test_a_defect_outside_changes_nothing(
    place: tuple[int, int], part: Picture, limited: Recipe, engine: Engine
) -> None:
    (clean, match), (verdict, spoilt) = (judge_picture(p, engine, limited) for p in (part, spotted(part, place, 15)))
    assert match is not None
    assert spoilt is not None
    assert verdict == clean
    assert spoilt.score == match.score


@pytest.mark.parametrize("place", [(100, 130), (170, 200), (130, 165)])
def test_a_defect_inside_is_found_and_marked_in_its_place(
    place: tuple[int, int], part: Picture, limited: Recipe, engine: Engine
) -> None:
    verdict, _ = judge_picture(spotted(part, place, 14), engine, limited)
    assert verdict.judgement is Judgement.NOT_OK
    assert verdict.mask is not None
    assert verdict.mask.shape == SIZE
    assert verdict.mask[place[1], place[0]]
    rows, columns = np.nonzero(verdict.mask)
    assert LEFT - 12 <= columns.min() <= columns.max() <= RIGHT + 12
    assert TOP - 12 <= rows.min() <= rows.max() <= BOTTOM + 12
    worst = max(verdict.regions, key=lambda r: r.peak)
    assert worst.x <= place[0] < worst.x + worst.width
    assert worst.y <= place[1] < worst.y + worst.height


def test_the_recipe_holds_the_box_and_the_tokens(limited: Recipe, roi: Roi, package: Package) -> None:
    assert limited.info.roi == roi.box
    assert limited.view.box == roi.box
    for index, inside in enumerate(geometry_of(roi, package.info.encoder).inside):
        np.testing.assert_array_equal(limited.bank[f"inside_{index}"], inside)


def test_a_hole_in_the_region_is_not_looked_at(
    part: Picture, elpv_pictures: elpv.Elpv, engine: Engine, tmp_path: Path
) -> None:
    """The box holds the hole, the region does not: what lies there is seen by no token that counts."""
    ring = np.ones(SIZE, np.uint8)
    cv2.rectangle(ring, (75, 75), (225, 225), 0, -1)
    roi = read_roi(mask_picture(tmp_path, ring > 0), SIZE)
    options = Options(roi=roi, sensitivity=False)
    recipe = make_recipe(named(cells(elpv_pictures, 6)), engine, tmp_path / "recipes", options)[0]
    verdict, match = judge_picture(spotted(part, (150, 150), 20), engine, recipe)
    assert match is not None
    assert match.anomaly_map[128, 128] == 0.0
    assert verdict.mask is None or not verdict.mask[140:160, 140:160].any()

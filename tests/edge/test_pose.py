"""A part that lies a little elsewhere is found, put back, and judged as if it had not moved."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.pose import learn_pose
from calibration.product import Options
from edge.engines.base import Engine
from edge.errors import ShotsError
from edge.judge import judge_picture
from edge.pose import find_pose, small_grey
from edge.preprocess import View, preprocess
from edge.recipe import Recipe
from edge.types import Judgement, Picture, Reason
from tests.calibration.cells import make_recipe, named, spotted
from tests.calibration.making import silent
from tests.edge.board import HEIGHT_PX, WIDTH_PX, belt, board

REFERENCE = small_grey(board(99))
SHOT_POSES = [
    ((float(x), float(y)), float(turn)) for x, y, turn in np.random.default_rng(0).uniform(-1, 1, (10, 3)) * (3, 3, 1)
]


@pytest.fixture(scope="module")
def aligned(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    """A recipe made with `--align`."""
    shots = named([board(seed, *pose) for seed, pose in enumerate(SHOT_POSES)])
    return make_recipe(shots, engine, tmp_path_factory.mktemp("aligned"), Options(align=True, sensitivity=False))[0]


@settings(max_examples=25)
@given(dx=st.floats(-20, 20), dy=st.floats(-16, 16), degrees=st.floats(-6, 6), seed=st.integers(0, 50))
def test_shift_and_turn_are_found(dx: float, dy: float, degrees: float, seed: int) -> None:
    pose = find_pose(board(seed, (dx, dy), degrees), REFERENCE)
    assert pose.shift * WIDTH_PX == pytest.approx(np.hypot(dx, dy), abs=1.5)
    assert abs(pose.angle) == pytest.approx(abs(degrees), abs=0.7)
    assert pose.likeness > 0.7


@settings(max_examples=25)
@given(dx=st.floats(-20, 20), dy=st.floats(-16, 16), degrees=st.floats(-6, 6))
def test_the_warp_takes_aligned_places_to_where_they_lie_in_the_frame(dx: float, dy: float, degrees: float) -> None:
    pose = find_pose(board(1, (dx, dy), degrees), REFERENCE)
    true = cv2.getRotationMatrix2D((WIDTH_PX / 2, HEIGHT_PX / 2), degrees, 1.0)
    true[:, 2] += np.array((dx, dy))
    for x, y in ((80, 60), (220, 180), (110, 145)):
        np.testing.assert_allclose(pose.warp @ np.array([x, y, 1.0]), true @ np.array([x, y, 1.0]), atol=2.5)


@pytest.mark.parametrize(
    ("shift", "degrees"), [((0.0, 0.0), 0.0), ((15.0, -9.0), 0.0), ((-8.0, 6.0), 4.0), ((0.0, 0.0), -5.0)]
)
def test_the_aligned_picture_is_the_reference(shift: tuple[float, float], degrees: float) -> None:
    view, size = View(reference=REFERENCE), (HEIGHT_PX, WIDTH_PX)
    straight = cv2.GaussianBlur(board(1), (0, 0), 2.0).astype(int)
    put_back = cv2.GaussianBlur(preprocess(board(1, shift, degrees), size, view).image, (0, 0), 2.0).astype(int)
    moved = cv2.GaussianBlur(board(1, shift, degrees), (0, 0), 2.0).astype(int)
    middle = (slice(30, -30), slice(40, -40))
    error = np.abs(put_back - straight)[middle].mean()
    assert error < 8.0
    if shift != (0.0, 0.0) or degrees:
        assert error < 0.7 * np.abs(moved - straight)[middle].mean()


@pytest.mark.parametrize("size", [(480, 600), (120, 150), (300, 300)])
def test_a_picture_of_another_size_has_the_same_pose(size: tuple[int, int]) -> None:
    picture = np.asarray(cv2.resize(board(1, (12.0, 0.0)), size[::-1], interpolation=cv2.INTER_AREA), np.uint8)
    pose = find_pose(picture, REFERENCE)
    placed = pose.warp @ np.array([110 / WIDTH_PX * size[1], 145 / HEIGHT_PX * size[0], 1.0])
    np.testing.assert_allclose(placed / size[::-1], [122 / WIDTH_PX, 145 / HEIGHT_PX], atol=0.012)


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(belt(), id="empty belt"),
        pytest.param(np.full((240, 300, 3), 128, np.uint8), id="blank"),
        pytest.param(np.zeros((240, 300, 3), np.uint8), id="black"),
        pytest.param(np.random.default_rng(0).integers(0, 256, (240, 300, 3), dtype=np.uint8), id="noise"),
        pytest.param(np.ascontiguousarray(255 - board(1)), id="negative"),
    ],
)
def test_what_is_no_part_is_not_alike(picture: Picture) -> None:
    pose = find_pose(picture, REFERENCE)
    assert pose.likeness < 0.5
    assert np.isfinite(pose.warp).all()


def test_limits_hold_the_shots_and_little_more() -> None:
    pictures = [board(seed, *pose) for seed, pose in enumerate(SHOT_POSES)]
    reference, spec = learn_pose(pictures, silent)
    for picture in pictures:
        pose = find_pose(picture, reference)
        assert pose.shift <= spec.shift_most
        assert abs(pose.angle) <= spec.angle_most
        assert pose.likeness >= spec.likeness_least
    assert spec.shift_most < 0.1
    assert spec.angle_most < 6.0


def test_shots_without_a_common_shape_cannot_be_aligned() -> None:
    with pytest.raises(ShotsError, match="cannot be aligned"):
        learn_pose([board(0), board(1), belt(2)], silent)


def test_every_shot_of_an_aligned_recipe_is_accepted(aligned: Recipe, engine: Engine) -> None:
    for seed, pose in enumerate(SHOT_POSES):
        assert judge_picture(board(seed, *pose), engine, aligned)[0].judgement is Judgement.OK


@pytest.mark.parametrize(
    ("shift", "degrees"), [((9.0, 0.0), 0.0), ((-6.0, 7.0), 0.0), ((0.0, 12.0), 0.0), ((4.0, -4.0), 2.5)]
)
@pytest.mark.parametrize("seed", [20, 21])
def test_a_moved_part_is_judged_like_one_in_place(
    seed: int, shift: tuple[float, float], degrees: float, aligned: Recipe, engine: Engine
) -> None:
    still, in_place = judge_picture(board(seed), engine, aligned)
    verdict, match = judge_picture(board(seed, shift, degrees), engine, aligned)
    assert still.judgement is verdict.judgement is Judgement.OK
    assert match is not None
    assert in_place is not None
    assert match.score == pytest.approx(in_place.score, abs=0.3 * aligned.info.threshold.value)


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (board(2, (60.0, 0.0)), "shifted|not where"),
        (board(2, (0.0, 0.0), 20.0), "turned|not where"),
        (np.ascontiguousarray(np.rot90(board(2), 2)), "turned|not where"),
        (belt(2), "contrast|not where|dark"),
    ],
)
def test_a_part_far_off_is_not_decidable(picture: Picture, reason: str, aligned: Recipe, engine: Engine) -> None:
    verdict, match = judge_picture(picture, engine, aligned)
    assert verdict.judgement is Judgement.NOT_DECIDABLE
    assert verdict.reason is Reason.UNFIT_IMAGE
    assert match is None
    assert any(word in verdict.detail for word in reason.split("|")), verdict.detail


@pytest.mark.parametrize(("shift", "degrees"), [((0.0, 0.0), 0.0), ((9.0, -6.0), 0.0), ((-5.0, 3.0), 2.0)])
def test_a_defect_is_marked_where_it_lies_in_the_frame(
    shift: tuple[float, float], degrees: float, aligned: Recipe, engine: Engine
) -> None:
    warp = cv2.getRotationMatrix2D((WIDTH_PX / 2, HEIGHT_PX / 2), degrees, 1.0)
    x, y = (round(float(v)) for v in warp @ np.array([145.0, 130.0, 1.0]) + shift)
    verdict, _ = judge_picture(spotted(board(2, shift, degrees), (x, y), 14), engine, aligned)
    assert verdict.judgement is Judgement.NOT_OK
    assert verdict.mask is not None
    assert verdict.mask.shape == (HEIGHT_PX, WIDTH_PX)
    assert verdict.mask[y, x]
    region = max(verdict.regions, key=lambda r: r.peak)
    assert region.x <= x < region.x + region.width
    assert region.y <= y < region.y + region.height


def test_the_reference_is_sealed_with_the_recipe(aligned: Recipe) -> None:
    assert Path(aligned.folder / "reference.png").is_file()
    assert aligned.view.reference is not None
    assert aligned.info.pose is not None

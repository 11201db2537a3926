"""A missed defect is recognised afterwards, and what that does to normal parts is known before."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from calibration import normals
from calibration.counterexample import preview
from calibration.drafting import draft_change
from calibration.recipe_writer import write_revision
from deploy.demo import elpv
from edge.engines.base import Engine
from edge.errors import PictureError, RecipeError, ShotsError
from edge.judge import judge_picture
from edge.pictures import read_picture
from edge.recipe import Recipe, load_recipe
from edge.sealed import sha256_of
from edge.types import Judgement, Picture
from tests.calibration.cells import Remembering, cells, make_recipe, named, spotted, write_pictures
from tests.calibration.making import contents, silent, texture


@pytest.fixture(scope="module")
def remembering(engine: Engine) -> Remembering:
    return Remembering(engine)


@pytest.fixture(scope="module")
def shots(elpv_pictures: elpv.Elpv) -> list[Picture]:
    return cells(elpv_pictures, 8)


@pytest.fixture(scope="module")
def made(shots: list[Picture], remembering: Remembering, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_recipe(named(shots), remembering, tmp_path_factory.mktemp("recipes"))[0]


@pytest.fixture
def recipe(made: Recipe, tmp_path: Path, remembering: Remembering) -> Recipe:
    """A copy that may be changed."""
    shutil.copytree(made.folder.parent, tmp_path / "recipes" / "cell")
    return load_recipe(tmp_path / "recipes" / "cell", remembering.package.info)


def missed(picture: Picture, recipe: Recipe, engine: Engine, centre: tuple[int, int], grey: int) -> Picture:
    """The strongest tint of a spot of that grey that still passes."""
    spot = spotted(picture, centre, 16, grey)
    tints = [cv2.addWeighted(spot, share, picture, 1 - share, 0) for share in np.linspace(0.02, 1, 30)]
    passing = [t for t in tints if judge_picture(np.asarray(t, np.uint8), engine, recipe)[0].accept]
    assert passing
    return np.asarray(passing[-1], np.uint8)


@pytest.fixture
def defect(shots: list[Picture], recipe: Recipe, remembering: Remembering, tmp_path: Path) -> Path:
    picture = missed(shots[0], recipe, remembering, (150, 140), 20)
    return write_pictures(tmp_path, {"missed.png": picture}) / "missed.png"


def commit(path: Path, recipe: Recipe, engine: Engine) -> Recipe:
    found = preview(path, recipe, engine, silent)
    folder, _ = write_revision(recipe.folder.parent.parent, draft_change(recipe, found.info, found.bank))
    return load_recipe(folder, engine.package.info)


def test_a_preview_writes_nothing(defect: Path, recipe: Recipe, remembering: Remembering, tmp_path: Path) -> None:
    before = contents(tmp_path)
    found = preview(defect, recipe, remembering, silent)
    assert contents(tmp_path) == before
    assert found.score_before <= recipe.info.threshold.value
    assert found.score_after > found.score_before
    assert found.normals == 8


def test_the_missed_defect_is_rejected_and_normal_parts_pass_as_previewed(
    defect: Path, recipe: Recipe, remembering: Remembering, shots: list[Picture]
) -> None:
    found = preview(defect, recipe, remembering, silent)
    assert found.helps
    after = commit(defect, recipe, remembering)
    verdict, match = judge_picture(read_picture(defect), remembering, after)
    assert verdict.judgement is Judgement.NOT_OK
    assert match is not None
    assert match.score == pytest.approx(found.score_after, rel=1e-4)
    rejected = sum(not judge_picture(p, remembering, after)[0].accept for p in shots)
    assert rejected <= found.normals_rejected
    assert found.normals_rejected == 0


def test_the_revision_says_what_it_is(defect: Path, recipe: Recipe, remembering: Remembering) -> None:
    after = commit(defect, recipe, remembering)
    assert (after.info.revision, after.info.parent_revision) == (2, 1)
    assert [c.file for c in after.info.counterexamples] == ["missed.png"]
    assert after.info.counterexamples[0].tokens == len(after.bank["counter"])
    assert "missed.png" in after.info.change
    assert after.info.threshold == recipe.info.threshold
    for key, tensor in recipe.bank.items():
        if not key.startswith("counter"):
            np.testing.assert_array_equal(after.bank[key], tensor)


def test_fresh_normal_parts_score_as_before(
    defect: Path, recipe: Recipe, remembering: Remembering, elpv_pictures: elpv.Elpv
) -> None:
    after = commit(defect, recipe, remembering)
    fresh = cells(elpv_pictures, 15, seed=60)
    pairs = [(judge_picture(p, remembering, recipe)[0], judge_picture(p, remembering, after)[0]) for p in fresh]
    assert sum(b.accept and not a.accept for b, a in pairs) <= 1


def test_the_second_counterexample_keeps_the_first(
    defect: Path, recipe: Recipe, remembering: Remembering, shots: list[Picture], tmp_path: Path
) -> None:
    first = commit(defect, recipe, remembering)
    other = missed(shots[4], first, remembering, (200, 210), 20)
    path = write_pictures(tmp_path, {"second.png": other}) / "second.png"
    second = commit(path, first, remembering)
    assert [c.file for c in second.info.counterexamples] == ["missed.png", "second.png"]
    kept = len(first.bank["counter"])
    np.testing.assert_array_equal(second.bank["counter"][:kept], first.bank["counter"])
    assert (second.info.revision, second.info.parent_revision) == (3, 2)
    for picture in (read_picture(defect), other):
        assert judge_picture(picture, remembering, second)[0].judgement is Judgement.NOT_OK


def test_a_defect_that_is_rejected_already_is_refused(
    recipe: Recipe, remembering: Remembering, shots: list[Picture], tmp_path: Path
) -> None:
    path = write_pictures(tmp_path, {"gross.png": spotted(shots[1], (150, 150), 50)}) / "gross.png"
    with pytest.raises(ShotsError, match="rejected already"):
        preview(path, recipe, remembering, silent)


def test_an_unfit_picture_is_refused(recipe: Recipe, remembering: Remembering, tmp_path: Path) -> None:
    small = write_pictures(tmp_path, {"small.png": texture(1, 64, 64)}) / "small.png"
    with pytest.raises(ShotsError, match="not fit"):
        preview(small, recipe, remembering, silent)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(PictureError):
        preview(tmp_path / "broken.png", recipe, remembering, silent)


def test_a_picture_of_something_else_is_refused(recipe: Recipe, remembering: Remembering, tmp_path: Path) -> None:
    """It is NOT_DECIDABLE at the station, so it is no missed defect."""
    other = np.clip(texture(9, 300, 300).astype(int) + 30, 0, 255).astype(np.uint8)
    assert not judge_picture(other, remembering, recipe)[0].accept
    with pytest.raises(ShotsError):
        preview(write_pictures(tmp_path, {"wood.png": other}) / "wood.png", recipe, remembering, silent)


def test_a_normal_shot_is_no_counterexample(
    recipe: Recipe, remembering: Remembering, shots: list[Picture], tmp_path: Path
) -> None:
    path = write_pictures(tmp_path, {"normal.png": shots[2]}) / "normal.png"
    with pytest.raises(ShotsError, match="looks like normal parts"):
        preview(path, recipe, remembering, silent)


@pytest.mark.parametrize("how", ["flipped", "cut", "gone"])
def test_tampered_normals_are_refused(how: str, defect: Path, recipe: Recipe, remembering: Remembering) -> None:
    path = recipe.folder / "normals.safetensors"
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data) if how == "flipped" else bytes(data[:-100]))
    with pytest.raises(RecipeError, match=r"normals\.safetensors"):
        preview(defect, recipe, remembering, silent)


def test_kept_normals_come_back(recipe: Recipe, remembering: Remembering, shots: list[Picture]) -> None:
    kept = normals.restore(recipe)
    assert len(kept) == len(shots)
    for tokens in kept:
        for tap, array in zip(remembering.package.info.encoder.taps, tokens, strict=True):
            assert array.shape == (1, tap.grid[0] * tap.grid[1], tap.dim)
            assert array.dtype == np.float32


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (64, 64), (65, 64), (300, 64)])
def test_no_more_than_64_normals_are_kept(count: int, kept: int, recipe: Recipe) -> None:
    tokens = [(np.full((1, 4, 3), i, np.float32), np.full((1, 2, 5), i, np.float32)) for i in range(count)]
    data = normals.store(tokens)
    (recipe.folder / "normals.safetensors").write_bytes(data)
    info = msgspec.structs.replace(recipe.info, normals_sha256=sha256_of(data))
    found = normals.restore(Recipe(recipe.folder, info, recipe.bank, recipe.view, ""))
    numbers = [float(t[0][0, 0, 0]) for t in found]
    assert len(found) == kept
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0.0, count - 1.0)
    assert [float(t[1][0, 0, 0]) for t in found] == numbers, "the taps stay together"

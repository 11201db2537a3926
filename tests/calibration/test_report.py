"""The calibration report: one page that needs nothing else, and says what may be believed and what not."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from calibration.drafting import draft_product
from calibration.product import Options, prepare_product
from calibration.recipe_writer import write_revision
from calibration.report import cannot_claim, report_of_product
from calibration.shots import Shot, ShotSet, read_shots
from calibration.threshold import from_leave_one_out
from edge.engines.base import Engine
from edge.engines.package import Package
from edge.recipe import RecipeInfo, load_recipe
from edge.types import Match
from tests.calibration.making import Calibrate, silent, texture
from tests.calibration.page import Page

HOSTILE = "<script>alert(1)<i>&amp;\"'.png"


@pytest.fixture(scope="module")
def shot_set(shots_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ShotSet:
    """Three real shots, one of them twice."""
    folder = tmp_path_factory.mktemp("reported")
    chosen = sorted(shots_folder.iterdir())[:3]
    for path in chosen:
        shutil.copyfile(path, folder / path.name)
    shutil.copyfile(chosen[0], folder / "same again.png")
    return read_shots(folder, None, False)


@pytest.fixture(scope="module")
def folder(shot_set: ShotSet, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A revision whose report is read by all tests here."""
    found = prepare_product(shot_set, engine, Options(), silent)
    draft = draft_product("part", found, engine.package.info, None)
    return write_revision(tmp_path_factory.mktemp("recipes"), draft)[0]


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page((folder / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def info(folder: Path, package: Package) -> RecipeInfo:
    return load_recipe(folder, package.info).info


def test_the_page_needs_nothing_from_outside(page: Page) -> None:
    assert page.outside == []
    assert "svg" in page.tags


def test_the_page_shows_each_shot_with_its_heat_map(page: Page) -> None:
    assert len(page.pictures) == 2 * 3
    for source in page.pictures:
        kind, data = source.split(",", 1)
        assert kind == "data:image/jpeg;base64"
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        assert decoded.shape == (300, 300, 3)
    for first, second in zip(page.pictures[::2], page.pictures[1::2], strict=True):
        assert first != second, "a shot and its heat map differ"


def test_the_page_names_each_shot_in_the_plot_and_below(page: Page, info: RecipeInfo) -> None:
    for shot in info.shots:
        assert page.text.count(shot.file) >= 2, shot.file
        assert shot.score is not None
        assert f"{shot.score:.4g}" in page.text
        assert shot.sha256 in page.text


def test_the_page_says_what_is_claimed_and_what_cannot_be(page: Page, info: RecipeInfo) -> None:
    assert info.threshold.claim in page.text
    assert f"{info.threshold.value:.4g}" in page.text
    limits = cannot_claim(info)
    assert len(limits) >= 3
    for text in limits:
        assert text in page.text
    assert any("defect" in text for text in limits), "nothing is known of defects"
    assert any("from 3 shots" in text for text in limits), "and little from so few shots"


def test_the_page_says_what_was_left_out(page: Page) -> None:
    assert "same again.png is the same picture as" in page.text


def test_the_page_says_where_the_recipe_comes_from(page: Page, info: RecipeInfo) -> None:
    for fact in (info.package_hash, info.bank_sha256, info.software_version, info.product, "revision 1"):
        assert fact in page.text


def test_the_page_of_one_shot_warns(write_recipe: Calibrate, shots: Path, package: Package) -> None:
    for path in sorted(shots.iterdir())[1:]:
        path.unlink()
    folder = write_recipe(shots)
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert page.outside == []
    assert "Nothing can be claimed from one shot" in page.text
    assert "One shot shows no variation" in page.text
    assert "against a bank of the other shots" not in page.text
    assert len(page.pictures) == 2


def test_names_cannot_become_markup(engine: Engine, shot_set: ShotSet, info: RecipeInfo) -> None:
    hostile = Shot(Path(HOSTILE), texture(1, 64, 64), "0" * 64)
    named = ShotSet((hostile, *shot_set.shots[:1]), ((Path(HOSTILE), Path(HOSTILE)),))
    found = prepare_product(named, engine, Options(accept_mixed=True, sensitivity=False), silent)
    info = msgspec.structs.replace(
        info, product="<b>product</b>", package_name="<i>package</i>", threshold=found.calibration.threshold
    )
    page = Page(report_of_product(info, found)[0])
    assert page.outside == []
    assert not {"script", "i"} & set(page.tags)
    assert "<b>product</b>" in page.text
    assert "<i>package</i>" in page.text
    assert page.text.count(HOSTILE) >= 3


@pytest.mark.parametrize("count", [2, 8, 99, 250, 299, 400])
def test_what_cannot_be_claimed_is_said_without_contradiction(count: int, info: RecipeInfo) -> None:
    """A rate of 0% or a promise that takes fewer shots than there are would make the page a joke."""
    threshold = from_leave_one_out([Match(np.ones((4, 4), np.float32), 1.0, 1.0)] * count)
    many = msgspec.structs.replace(info, shots=info.shots[:1] * count, threshold=threshold)
    for text in cannot_claim(many):
        assert "below 0%" not in text
        assert count < 299 or "takes about 300" not in text, text

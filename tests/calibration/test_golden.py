"""A labelled folder is judged as the station would, and counted right."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calibration.golden import changed, judge_golden, read_golden
from calibration.report import report_of_recheck
from deploy.demo import elpv
from edge.engines.base import Engine
from edge.errors import ShotsError
from edge.recipe import Recipe
from edge.types import Judgement
from tests.calibration.cells import Remembering, cells, make_recipe, named, spotted, write_pictures
from tests.calibration.making import save, silent, texture
from tests.calibration.page import Page


@pytest.fixture(scope="module")
def remembering(engine: Engine) -> Remembering:
    return Remembering(engine)


@pytest.fixture(scope="module")
def recipes(
    elpv_pictures: elpv.Elpv, remembering: Remembering, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Recipe, Recipe]:
    """From four shots, and from eight."""
    folder = tmp_path_factory.mktemp("recipes")
    pictures = cells(elpv_pictures, 8)
    return make_recipe(named(pictures[:4]), remembering, folder)[0], make_recipe(named(pictures), remembering, folder)[
        0
    ]


@pytest.fixture(scope="module")
def golden(elpv_pictures: elpv.Elpv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    shots = cells(elpv_pictures, 8)
    write_pictures(folder / "good", named(shots))
    write_pictures(folder / "defect", named([spotted(p, (140, 160), 40) for p in shots[:5]]))
    return folder


def test_good_and_defective_parts_are_told_apart(golden: Path) -> None:
    found = read_golden(golden)
    assert [defective for _, defective in found] == [False] * 8 + [True] * 5
    assert all(path.parent.name == ("defect" if defective else "good") for path, defective in found)


@pytest.mark.parametrize("name", ["good", "defect"])
@pytest.mark.parametrize("how", ["missing", "empty", "no pictures"])
def test_a_set_with_one_class_is_refused(name: str, how: str, golden: Path, tmp_path: Path) -> None:
    folder = tmp_path / "golden"
    shutil.copytree(golden, folder)
    shutil.rmtree(folder / name)
    if how != "missing":
        (folder / name).mkdir()
    if how == "no pictures":
        (folder / name / "notes.txt").write_text("none yet")
    with pytest.raises(ShotsError, match=f"no {name} parts"):
        read_golden(folder)


def test_every_part_is_counted_once(golden: Path, recipes: tuple[Recipe, Recipe], remembering: Remembering) -> None:
    outcome, judged = judge_golden(read_golden(golden), recipes[1], remembering, silent)
    assert (outcome.good, outcome.defect, outcome.revision) == (8, 5, 2)
    assert outcome.false_rejects == 0, "these are the shots"
    assert outcome.escapes == 0
    assert outcome.auroc == 1.0
    assert outcome.threshold == recipes[1].info.threshold.value
    assert [j.verdict.judgement for j in judged[8:]] == [Judgement.NOT_OK] * 5


def test_what_cannot_be_judged_is_rejected(
    golden: Path, recipes: tuple[Recipe, Recipe], remembering: Remembering, tmp_path: Path
) -> None:
    folder = tmp_path / "golden"
    shutil.copytree(golden, folder)
    (folder / "good" / "broken.png").write_bytes(b"no picture")
    save(folder / "defect" / "small.png", texture(1, 64, 64))
    outcome, _ = judge_golden(read_golden(folder), recipes[1], remembering, silent)
    assert outcome.undecided == 2
    assert outcome.false_rejects == 1, "a good part that is not accepted"
    assert outcome.escapes == 0
    assert outcome.auroc == 1.0, "over those that have a score"


def test_without_any_score_there_is_no_auroc(
    recipes: tuple[Recipe, Recipe], remembering: Remembering, tmp_path: Path
) -> None:
    for name in ("good", "defect"):
        save(tmp_path / name / "small.png", texture(1, 64, 64))
    outcome, _ = judge_golden(read_golden(tmp_path), recipes[1], remembering, silent)
    assert outcome.auroc is None
    assert outcome.undecided == 2


def test_what_is_judged_differently_is_shown(
    golden: Path, recipes: tuple[Recipe, Recipe], remembering: Remembering
) -> None:
    before, old = judge_golden(read_golden(golden), recipes[0], remembering, silent)
    after, new = judge_golden(read_golden(golden), recipes[1], remembering, silent)
    differing = changed(old, new)
    expected = [n.path for o, n in zip(old, new, strict=True) if o.verdict.judgement is not n.verdict.judgement]
    assert [n.path for _, n in differing] == expected
    assert changed(new, new) == []
    page = Page(report_of_recheck(recipes[1].info, [before, after], differing))
    assert page.outside == []
    assert f"{after.escapes} of 5" in page.text
    assert len(page.pictures) == len(differing)

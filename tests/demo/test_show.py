"""The pictures that the demo ends with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.demo import elpv, show
from deploy.demo.results import Results
from edge.engines.base import Engine
from edge.recipe import Recipe
from edge.types import Judgement, Match, Picture, Verdict
from tests.calibration.making import save, texture
from tests.calibration.page import Page
from tests.conftest import lenient
from tests.demo.making import received, results


@pytest.fixture
def line(tmp_path: Path) -> Path:
    folder = tmp_path / "line"
    for seq in range(1, 41):
        save(folder / f"part-{seq}.png", texture(seq, 40, 40))
    return folder


@pytest.fixture
def quick_matches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every picture matches alike, without an engine."""

    def judge(picture: Picture, _engine: Engine, _recipe: Recipe) -> tuple[Verdict, Match]:
        match = Match(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), float(picture.mean()), 0.0)
        return Verdict(Judgement.OK, None, match.score, match.score), match

    monkeypatch.setattr(show, "judge_picture", judge)


@pytest.mark.usefixtures("quick_matches")
def test_parts_are_chosen_from_the_lowest_score_to_the_highest(line: Path, engine: Engine, recipe: Recipe) -> None:
    scores = np.random.default_rng(0).permutation(40) / 10.0
    run = results(normal=[float(s) for s in scores[:20]], defective=[float(s) for s in scores[20:]])
    parts = show.choose(run, line, engine, recipe)
    chosen = [part.verdict.score for part in parts]
    assert len(parts) == show.CARDS == len({part.verdict.seq for part in parts})
    assert chosen == sorted(chosen, key=lambda score: score or 0.0)
    assert (chosen[0], chosen[-1]) == (0.0, 3.9)
    steps = np.diff([score for score in chosen if score is not None])
    assert steps.min() > 0
    assert steps.max() <= 0.21, "evenly: not only the clear ones"
    for part in parts:
        assert part.defective is (part.verdict.seq > 20)
        expected = cv2.imread(str(line / part.verdict.part_id))
        assert expected is not None
        np.testing.assert_array_equal(part.picture, expected[..., ::-1])


@pytest.mark.usefixtures("quick_matches")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_few_parts_are_all_chosen_once(count: int, line: Path, engine: Engine, recipe: Recipe) -> None:
    run = results(normal=[0.1 * i for i in range(count)], defective=[None])
    parts = show.choose(run, line, engine, recipe)
    assert [part.verdict.seq for part in parts] == list(range(1, count + 1)), "and none that has no score"


@pytest.mark.parametrize(
    ("score", "defective", "truth"),
    [
        (0.5, False, "normal"),
        (0.5, True, "defective, escape"),
        (2.0, False, "normal, false reject"),
        (2.0, True, "defective"),
        (None, False, "normal, false reject"),
        (None, True, "defective"),
    ],
)
def test_a_wrong_judgement_is_called_by_its_name(score: float | None, defective: bool, truth: str) -> None:
    part = show.Part(received(1, score), defective, texture(1, 40, 40), Match(np.zeros((8, 8), np.float32), 0.0, 0.0))
    assert part.truth == truth
    assert part.wrong is ("," in truth)


@pytest.fixture
def real_line(elpv_pictures: elpv.Elpv, tmp_path: Path) -> tuple[Results, Path]:
    """Six real parts and their verdicts: right, wrong, and not decidable though it has a score."""
    folder = tmp_path / "real"
    folder.mkdir()
    parts = [*elpv_pictures.test_normal[:3], *elpv_pictures.test_anomalous[:3]]
    scores = [0.5, 1.5, 0.7, 0.6, 1.7, 2.5]
    for path in parts:
        (folder / path.name).write_bytes(path.read_bytes())
    verdicts = [received(i + 1, score, part=parts[i].name) for i, score in enumerate(scores)]
    verdicts[2] = received(3, 0.7, part=parts[2].name, judgement=Judgement.NOT_DECIDABLE)
    return Results(6, tuple(verdicts), (False,) * 3 + (True,) * 3), folder


def test_the_contact_sheet_is_a_picture_with_a_tile_for_each_part(
    real_line: tuple[Results, Path], engine: Engine, recipe: Recipe, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "contact-sheet.png"
    show.write_contact_sheet(path, *real_line, engine, lenient(recipe))
    sheet = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert sheet is not None
    assert sheet.dtype == np.uint8
    columns, rows = show.COLUMNS // 2, 2
    assert sheet.shape[1] >= columns * 2 * show.TILE
    assert sheet.shape[0] >= rows * (show.TILE + show.CAPTION)
    flat = sheet.reshape(-1, 3)
    for judgement in Judgement:
        colour = np.array(show.COLOURS[judgement][::-1])
        assert (flat == colour).all(axis=1).sum() > 100, f"{judgement.value} is marked in its colour"


def test_the_report_is_one_page_with_figures_plot_and_parts(
    real_line: tuple[Results, Path], engine: Engine, recipe: Recipe, tmp_path: Path
) -> None:
    path = tmp_path / "out" / "report.html"
    show.write_report(path, *real_line, engine, lenient(recipe))
    page = Page(path.read_text(encoding="utf-8"))
    assert page.outside == []
    assert "svg" in page.tags
    assert len(page.pictures) == 2 * 6
    assert len(set(page.pictures)) == 12
    for verdict in real_line[0].verdicts:
        assert verdict.part_id in page.text
    figures = real_line[0].summary()
    assert f"{figures['auroc']:.3f}" in page.text
    assert recipe.info.threshold.claim in page.text
    for phrase in ("6 solar cells", "6 verdicts", "escape", "false reject", "NOT_DECIDABLE"):
        assert phrase in page.text

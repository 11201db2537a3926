"""Production parts tighten the threshold; what is not plainly the product teaches nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from calibration.commission import LEAST_FRAMES, Observed, commission, observe
from calibration.drafting import draft_change
from calibration.recipe_writer import Draft, write_revision
from calibration.report import report_of_commissioning
from calibration.statistics import CONFIDENCE, order_statistic_bound
from calibration.threshold import from_leave_one_out, from_production
from deploy.demo import elpv
from edge.engines.base import Engine
from edge.errors import ShotsError
from edge.pictures import read_picture
from edge.recipe import Recipe, load_recipe
from edge.sealed import sha256_of
from edge.types import Match
from tests.calibration.cells import Remembering, cells, make_recipe, named, spotted, write_pictures
from tests.calibration.making import silent, texture
from tests.calibration.page import Page

FRAMES = 60
Draw = Callable[[np.random.Generator, int], np.ndarray]


def match_of(score: float) -> Match:
    return Match(np.full((2, 2), score, np.float32), float(score), 1.0)


BEFORE = from_leave_one_out([match_of(1.0), match_of(2.0)])


@pytest.fixture(scope="module")
def remembering(engine: Engine) -> Remembering:
    return Remembering(engine)


@pytest.fixture(scope="module")
def recipe(elpv_pictures: elpv.Elpv, remembering: Remembering, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_recipe(named(cells(elpv_pictures, 8)), remembering, tmp_path_factory.mktemp("recipes"))[0]


@pytest.fixture(scope="module")
def frames(elpv_pictures: elpv.Elpv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pictures = named(cells(elpv_pictures, FRAMES, seed=50), "frame-")
    return write_pictures(tmp_path_factory.mktemp("frames"), pictures)


@pytest.fixture(scope="module")
def observed(frames: Path, recipe: Recipe, remembering: Remembering) -> tuple[Observed, ...]:
    return observe(sorted(frames.iterdir()), recipe, remembering, silent)


@pytest.mark.parametrize("unfit", [0, 3])
@pytest.mark.parametrize("allow_raise", [False, True])
def test_what_lies_above_and_unfit_parts_count_as_rejected(unfit: int, allow_raise: bool) -> None:
    scores = [*np.linspace(0.9, 1.1, 40), 9.0, 11.0]
    found = from_production(BEFORE, [match_of(s) for s in scores], unfit, allow_raise)
    assert found.value <= 1.1 + 1e-9
    assert found.frames_rejected == unfit + sum(s > found.value for s in scores)
    assert found.frames_rejected >= 2 + unfit
    assert found.false_reject_bound is not None
    assert found.false_reject_bound >= order_statistic_bound(42 + unfit, 2 + unfit)
    assert f"{found.frames_rejected} of these {42 + unfit}" in found.claim
    assert found.frame_scores == tuple(scores)
    assert found.scores == BEFORE.scores
    assert found.unlikeness_most == BEFORE.unlikeness_most, "limits stay as they were"


def test_a_threshold_is_raised_only_when_that_is_asked_for() -> None:
    frames = [match_of(s) for s in np.linspace(2.5, 3.0, 50)]
    assert from_production(BEFORE, frames, 0).value == BEFORE.value
    assert from_production(BEFORE, frames, 0, allow_raise=True).value > BEFORE.value


def with_defects(share: float) -> Draw:
    def draw(random: np.random.Generator, count: int) -> np.ndarray:
        return np.exp(random.normal(0, 0.3, count)) * np.where(random.random(count) < share, 20.0, 1.0)

    return draw


def heavy(random: np.random.Generator, count: int) -> np.ndarray:
    return np.exp(0.3 * random.standard_t(3, count))


@pytest.mark.parametrize(
    ("draw", "count"),
    [
        pytest.param(with_defects(0.0), 20, id="no defects, 20"),
        pytest.param(with_defects(0.0), 300, id="no defects, 300"),
        pytest.param(with_defects(0.05), 60, id="5% defects, 60"),
        pytest.param(with_defects(0.01), 300, id="1% defects, 300"),
        pytest.param(heavy, 100, id="heavy tails"),
    ],
)
@pytest.mark.parametrize("allow_raise", [False, True])
def test_the_claim_on_production_is_true(draw: Draw, count: int, allow_raise: bool) -> None:
    """The rate of all rejects of such a production exceeds the bound no more often than the confidence allows."""
    random = np.random.default_rng(count)
    every = np.sort(draw(random, 200_000))
    trials, exceeded = 500, 0
    for _ in range(trials):
        found = from_production(BEFORE, [match_of(s) for s in draw(random, count)], 0, allow_raise)
        rate = 1 - np.searchsorted(every, found.value, side="right") / len(every)
        assert found.false_reject_bound is not None
        exceeded += int(rate > found.false_reject_bound)
    allowed = 1 - CONFIDENCE
    assert exceeded / trials <= allowed + 3 * np.sqrt(allowed * (1 - allowed) / trials)


def test_more_parts_claim_more(recipe: Recipe, observed: tuple[Observed, ...]) -> None:
    threshold = commission(recipe, observed, allow_raise=True).info.threshold
    assert recipe.info.threshold.false_reject_bound is not None
    assert threshold.false_reject_bound is not None
    assert threshold.false_reject_bound < recipe.info.threshold.false_reject_bound
    assert len(threshold.frame_scores) == sum(o.match is not None for o in observed)
    few = commission(recipe, observed[: LEAST_FRAMES + 5], allow_raise=True).info.threshold
    assert few.false_reject_bound is not None
    assert threshold.false_reject_bound < few.false_reject_bound


def test_only_the_threshold_changes(recipe: Recipe, observed: tuple[Observed, ...]) -> None:
    info = commission(recipe, observed).info
    same = msgspec.structs.replace(info, threshold=recipe.info.threshold, change=recipe.info.change)
    assert same == recipe.info


def test_a_few_defects_among_the_parts_do_not_move_the_threshold(
    recipe: Recipe, observed: tuple[Observed, ...], remembering: Remembering, tmp_path: Path
) -> None:
    fit = [o for o in observed if o.match is not None]
    pictures = [spotted(read_picture(o.path), (150, 130), 18) for o in fit[:3]]
    spoilt = write_pictures(tmp_path, named(pictures, "defect-"))
    bad = observe(sorted(spoilt.iterdir()), recipe, remembering, silent)
    assert all(o.match is not None for o in bad)
    clean = commission(recipe, observed).info.threshold
    mixed = commission(recipe, (*bad, *fit[3:])).info.threshold
    assert mixed.value <= 1.1 * clean.value
    assert mixed.frames_rejected >= 3
    for part in bad:
        assert part.match is not None
        assert part.match.score > mixed.value, "the defects are rejected"


def test_a_broken_file_counts_as_unfit(recipe: Recipe, remembering: Remembering, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    part = observe([tmp_path / "a.png"], recipe, remembering, silent)[0]
    assert part.match is None
    assert "a.png" in part.unfit


@pytest.mark.parametrize("count", [0, 1, LEAST_FRAMES - 1])
def test_too_few_parts_are_refused(count: int, recipe: Recipe, observed: tuple[Observed, ...]) -> None:
    with pytest.raises(ShotsError, match=f"{count} .*are too few"):
        commission(recipe, observed[:count])


def test_another_product_is_refused(recipe: Recipe, remembering: Remembering, tmp_path: Path) -> None:
    wood = write_pictures(tmp_path, named([texture(seed, 300, 300) for seed in range(LEAST_FRAMES)]))
    found = observe(sorted(wood.iterdir()), recipe, remembering, silent)
    with pytest.raises(ShotsError, match=r"not fit to be judged|do not look like"):
        commission(recipe, found)


def test_parts_that_are_mostly_rejected_are_refused(recipe: Recipe, observed: tuple[Observed, ...]) -> None:
    high = [replace(o, match=replace(o.match, score=o.match.score + 10)) for o in observed if o.match is not None]
    with pytest.raises(ShotsError, match="score above the threshold"):
        commission(recipe, tuple(high))


def test_the_new_revision_names_its_parent_and_keeps_the_bank(
    recipe: Recipe, observed: tuple[Observed, ...], remembering: Remembering
) -> None:
    result = commission(recipe, observed)
    draft = draft_change(recipe, result.info)
    folder, info = write_revision(
        recipe.folder.parent.parent,
        Draft(draft.info, draft.files, lambda i: report_of_commissioning(i, recipe, result.observed)),
    )
    assert (info.revision, info.parent_revision) == (2, 1)
    for name in ("bank.safetensors", "normals.safetensors"):
        assert sha256_of((folder / name).read_bytes()) == sha256_of((recipe.folder / name).read_bytes())
    loaded = load_recipe(folder, remembering.package.info)
    assert loaded.info.threshold == result.info.threshold
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert page.outside == []
    assert info.threshold.claim in page.text
    data = msgspec.json.decode((folder / "report.json").read_bytes())
    assert data["recipe"]["threshold"]["claim"] == info.threshold.claim

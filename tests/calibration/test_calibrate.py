"""Shots to bank and threshold: no shot is ever scored against itself."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.calibrate import Calibration, leave_one_out, perturbed
from calibration.shots import Shot, read_shots
from edge.bank import Geometry
from edge.engines.base import Engine
from edge.engines.package import Package, whole_geometry
from edge.preprocess import View, preprocess
from edge.recipe import load_recipe
from edge.types import Bank, Match, Picture, Tokens
from tests.calibration.making import Calibrate, calibration_of, silent, texture

SAME = 2e-3
"""Relative: sums are taken away from sums, in another order than they were added."""


class Recording:
    """An engine that remembers what it was asked to match."""

    def __init__(self, engine: Engine) -> None:
        self.package, self.description, self._engine = engine.package, engine.description, engine
        self.matched: list[tuple[Tokens, Bank]] = []

    def encode(self, images: NDArray[np.uint8]) -> Tokens:
        return self._engine.encode(images)

    def match(self, tokens: Tokens, bank: Bank) -> tuple[Match, ...]:
        self.matched.append((tokens, bank))
        return self._engine.match(tokens, bank)


def random_tokens(package: Package, rng: np.random.Generator) -> Tokens:
    """Tokens as an encoder might give them: correlated, of any length."""
    found: list[NDArray[np.float32]] = []
    for tap in package.info.encoder.taps:
        base = rng.normal(size=(4, tap.dim))
        mix = rng.normal(size=(tap.grid[0] * tap.grid[1], 4))
        found.append((mix @ base + rng.normal(size=(len(mix), tap.dim)))[np.newaxis].astype(np.float32))
    return tuple(found)


def encode(picture: Picture, engine: Engine) -> Tokens:
    """The tokens of one whole picture."""
    return engine.encode(preprocess(picture, engine.package.info.encoder.input_size, View()).image[np.newaxis])


def match(tokens: Tokens, bank: Bank, engine: Engine) -> Match:
    """The tokens of one picture against a bank."""
    return engine.match(tokens, bank)[0]


def size_of(bank: Mapping[str, NDArray[np.float32]]) -> int:
    return sum(array.size for array in bank.values())


def scores(found: Calibration) -> list[float]:
    return [m.score for m in found.matches]


@pytest.fixture(scope="module")
def geometry(package: Package) -> Geometry:
    return whole_geometry(package.info.encoder)


@pytest.fixture(scope="module")
def some_shots(shots_folder: Path) -> tuple[Shot, ...]:
    return read_shots(shots_folder, None, False).shots[:4]


@pytest.fixture(scope="module")
def found(some_shots: tuple[Shot, ...], engine: Engine) -> Calibration:
    return calibration_of(some_shots, engine)


def test_a_shot_scores_as_it_would_with_a_recipe_made_of_the_others(
    some_shots: tuple[Shot, ...], found: Calibration, engine: Engine
) -> None:
    for index, shot in enumerate(some_shots):
        others = calibration_of(some_shots[:index] + some_shots[index + 1 :], engine)
        expected = match(encode(shot.picture, engine), others.bank, engine)
        assert found.matches[index].score == pytest.approx(expected.score, rel=SAME)
        np.testing.assert_allclose(found.matches[index].anomaly_map, expected.anomaly_map, rtol=SAME, atol=SAME)


def test_a_shot_scores_worse_against_the_others_than_against_a_bank_that_holds_it(
    some_shots: tuple[Shot, ...], found: Calibration, engine: Engine
) -> None:
    inside = [match(encode(shot.picture, engine), found.bank, engine).score for shot in some_shots]
    assert np.mean(scores(found)) > np.mean(inside)


def test_what_a_shot_is_scored_against_does_not_depend_on_it(
    package: Package, geometry: Geometry, engine: Engine
) -> None:
    rng = np.random.default_rng(5)
    tokens = [random_tokens(package, rng) for _ in range(4)]
    probe = random_tokens(package, rng)
    before, after = Recording(engine), Recording(engine)
    leave_one_out(tokens, geometry, before, silent)
    leave_one_out([tokens[0], probe, *tokens[2:]], geometry, after, silent)
    (asked, bank), (asked_then, bank_then) = before.matched[1], after.matched[1]
    assert asked is tokens[1]
    assert asked_then is probe
    assert match(probe, bank, engine).score == pytest.approx(match(probe, bank_then, engine).score, rel=SAME)
    for index in (0, 2, 3):
        with_old, with_new = before.matched[index][1], after.matched[index][1]
        assert match(probe, with_new, engine).score < match(probe, with_old, engine).score, "and on each of the others"


@settings(max_examples=8)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(3, 4))
def test_leaving_one_out_is_combining_the_others(
    package: Package, geometry: Geometry, engine: Engine, seed: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    tokens = [random_tokens(package, rng) for _ in range(count)]
    out = seed % count
    _, held_out = leave_one_out(tokens, geometry, engine, silent)
    bank_of_others, _ = leave_one_out(tokens[:out] + tokens[out + 1 :], geometry, engine, silent)
    expected = match(tokens[out], bank_of_others, engine)
    assert held_out[out].score == pytest.approx(expected.score, rel=SAME)
    np.testing.assert_allclose(held_out[out].anomaly_map, expected.anomaly_map, rtol=SAME, atol=SAME)


def test_the_order_of_the_shots_does_not_matter(
    some_shots: tuple[Shot, ...], found: Calibration, engine: Engine
) -> None:
    turned = calibration_of(some_shots[::-1], engine)
    assert scores(turned)[::-1] == pytest.approx(scores(found), rel=SAME)
    assert turned.threshold.value == pytest.approx(found.threshold.value, rel=SAME)


def test_the_bank_does_not_grow_with_the_number_of_shots(package: Package, geometry: Geometry, engine: Engine) -> None:
    rng = np.random.default_rng(0)
    tokens = [random_tokens(package, rng) for _ in range(16)]
    few, _ = leave_one_out(tokens[:2], geometry, engine, silent)
    many, _ = leave_one_out(tokens, geometry, engine, silent)
    assert size_of(many) <= 1.5 * size_of(few), "eight times the shots"


def test_the_threshold_is_the_largest_leave_one_out_score(found: Calibration) -> None:
    assert found.threshold.value == max(scores(found))
    assert found.threshold.scores == tuple(scores(found))
    assert found.threshold.false_reject_mean == pytest.approx(1 / 5)
    assert found.threshold.false_reject_bound == pytest.approx(1 - 0.05 ** (1 / 4))
    assert np.isfinite(found.threshold.pixel_value)


def test_the_threshold_in_the_recipe_is_the_largest_score_in_the_recipe(
    write_recipe: Calibrate, shots: Path, package: Package
) -> None:
    info = load_recipe(write_recipe(shots), package.info).info
    written = [shot.score for shot in info.shots]
    assert None not in written
    assert info.threshold.value == max(score for score in written if score is not None)
    assert [shot.file for shot in info.shots] == sorted(p.name for p in shots.iterdir())


def test_progress_counts_up_to_the_end(some_shots: tuple[Shot, ...], engine: Engine) -> None:
    said: list[tuple[str, int, int]] = []
    calibration_of(some_shots, engine, lambda *words: said.append(words))
    for what in {words[0] for words in said}:
        steps = [words[1:] for words in said if words[0] == what]
        assert steps == [(i + 1, len(some_shots)) for i in range(len(some_shots))]
    assert len({words[0] for words in said}) == 2


def test_one_shot_gives_a_recipe_that_claims_nothing(
    write_recipe: Calibrate, shots: Path, package: Package, engine: Engine
) -> None:
    for path in sorted(shots.iterdir())[1:]:
        path.unlink()
    recipe = load_recipe(write_recipe(shots), package.info)
    threshold = recipe.info.threshold
    assert threshold.false_reject_bound is None
    assert threshold.false_reject_mean is None
    assert "Nothing can be claimed" in threshold.claim
    assert [shot.score for shot in recipe.info.shots] == [None]
    shot = read_shots(shots, None, False).shots[0]
    itself = match(encode(shot.picture, engine), recipe.bank, engine)
    assert itself.score <= threshold.value, "the shot itself passes"
    assert threshold.value == max(threshold.scores)


def test_changed_copies_are_pictures_of_the_same_size_and_differ() -> None:
    for picture in (texture(1, 64, 48), texture(2, 32, 200)):
        copies = perturbed(picture)
        assert len(copies) == len({copy.tobytes() for copy in [picture, *copies]}) - 1
        assert all(copy.shape == picture.shape and copy.dtype == np.uint8 for copy in copies)


def test_an_exact_duplicate_counts_once(
    write_recipe: Calibrate, shots: Path, package: Package, some_shots: Sequence[Shot]
) -> None:
    first = sorted(shots.iterdir())[0]
    shutil.copyfile(first, shots / "zz-copy.png")
    read = read_shots(shots, None, False)
    assert [(copy.name, kept.name) for copy, kept in read.duplicates] == [("zz-copy.png", first.name)]
    assert len(read.shots) == 3
    info = load_recipe(write_recipe(shots), package.info).info
    assert len(info.shots) == 3
    assert info.threshold.false_reject_mean == pytest.approx(1 / 4), "not 1 / 5: a copy is no evidence"
    assert info.threshold.false_reject_bound == pytest.approx(1 - 0.05 ** (1 / 3))

"""The decoder against the method written down once more in numpy."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.bank import MEDIAN_WEIGHT, SHRINKAGE, TOP_SHARE, Counterexamples, Geometry, fit_bank, moments_of
from edge.engines.base import Engine
from edge.engines.package import whole_geometry
from edge.types import Bank, Tokens

Array = NDArray[np.float64]
NEAR = {16: 3, 32: 1}
GAIN = 200.0


def tokens_like_an_encoders(engine: Engine, seed: int, batch: int = 1) -> Tokens:
    """Correlated tokens of any length."""
    random = np.random.default_rng(seed)
    found: list[NDArray[np.float32]] = []
    for tap in engine.package.info.encoder.taps:
        base = np.random.default_rng(7).normal(size=(6, tap.dim))
        mix = random.normal(size=(batch, tap.grid[0] * tap.grid[1], 6))
        found.append((mix @ base + 0.3 * random.normal(size=(*mix.shape[:2], tap.dim))).astype(np.float32))
    return tuple(found)


def bank_of(engine: Engine, geometry: Geometry, counter: Counterexamples | None = None) -> Bank:
    return fit_bank(moments_of(tokens_like_an_encoders(engine, 1000, 3), geometry), geometry, counter)


def some_region(engine: Engine, seed: int) -> Geometry:
    """At least a quarter of the tokens, the same place in each tap."""
    random = np.random.default_rng(seed)
    top, left = random.random(2) * 0.4
    inside: list[NDArray[np.float32]] = []
    for tap in engine.package.info.encoder.taps:
        field = np.zeros(tap.grid, np.float32)
        rows, columns = tap.grid
        field[
            int(top * rows) : int(top * rows) + rows // 2 + 1,
            int(left * columns) : int(left * columns) + columns // 2 + 1,
        ] = 1
        inside.append(field.reshape(-1))
    return Geometry(tuple(inside))


def unit(x: Array) -> Array:
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6))


def by_hand(
    engine: Engine, tokens: Tokens, normal: Tokens, geometry: Geometry, counter: Counterexamples | None
) -> tuple[Array, float, float]:
    """Map on the finest grid, score and unlikeness of one picture, from the normal pictures' tokens themselves."""
    taps = engine.package.info.encoder.taps
    maps: list[Array] = []
    unlikeness = 0.0
    for index, tap in enumerate(taps):
        counts = geometry.inside[index] > 0
        known = np.concatenate([unit(shot.astype(np.float64))[counts] for shot in normal[index]])
        covariance = np.cov(known.T, bias=True)
        covariance += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
        own = unit(tokens[index][0].astype(np.float64))
        off = own - known.mean(axis=0)
        foreign = np.einsum("nd,dn->n", off, np.linalg.solve(covariance, off.T)) / tap.dim
        alone = np.empty(len(own))
        for n in range(len(own)):
            others = [
                m
                for m in range(len(own))
                if counts[m]
                and max(abs(m // tap.grid[1] - n // tap.grid[1]), abs(m % tap.grid[1] - n % tap.grid[1]))
                > NEAR[tap.stride]
            ]
            alone[n] = max(2 - 2 * (own[others] @ own[n]).max(), 1e-6)
        grid = (foreign * alone).reshape(tap.grid)
        maps.append(grid if index == 0 else refined(grid, geometry.inside[index].reshape(tap.grid), taps[0].grid))
        if index == 0:
            unlikeness = float(np.sort(foreign[counts])[::-1][int(counts.sum()) // 2])
    joined = np.sqrt(np.prod(maps, axis=0))
    if counter is not None:
        alike = unit(tokens[0][0].astype(np.float64)) @ counter.tokens.T.astype(np.float64)
        joined *= 1 + GAIN * np.maximum(alike.max(axis=1) - counter.limit, 0).reshape(taps[0].grid)
    values = np.sort(joined.reshape(-1)[geometry.inside[0] > 0])[::-1]
    top = max(1, round(TOP_SHARE * len(values)))
    score = values[:top].mean() - MEDIAN_WEIGHT * values[len(values) // 2]
    return joined * geometry.inside[0].reshape(taps[0].grid), float(score), unlikeness


def refined(grid: Array, inside: NDArray[np.float32], fine: tuple[int, int]) -> Array:
    """A coarse map on the finest grid; where the region of interest reaches, only what lies in it counts."""
    size = fine[::-1]
    whole = cv2.resize(grid, size, interpolation=cv2.INTER_LINEAR)
    share = np.asarray(cv2.resize(inside.astype(np.float64), size, interpolation=cv2.INTER_LINEAR))
    within = np.asarray(cv2.resize(grid * inside, size, interpolation=cv2.INTER_LINEAR))
    return np.asarray(np.where(share > 0.01, within / np.maximum(share, 0.01), whole), dtype=np.float64)


@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("countered", [False, True])
def test_the_decoder_does_what_is_written_of_it(region: bool, countered: bool, engine: Engine) -> None:
    geometry = some_region(engine, 3) if region else whole_geometry(engine.package.info.encoder)
    tokens = tokens_like_an_encoders(engine, 5)
    tokens[0][0, 100] = tokens[0][0, 105] + 40.0 * np.arange(tokens[0].shape[2]) / tokens[0].shape[2]
    counter = None
    if countered:
        counter = Counterexamples(unit(tokens[0][0, [37, 136]].astype(np.float64)).astype(np.float32), 0.98)
    match = engine.match(tokens, bank_of(engine, geometry, counter))[0]
    grid, score, unlikeness = by_hand(engine, tokens, tokens_like_an_encoders(engine, 1000, 3), geometry, counter)
    assert match.score == pytest.approx(score, rel=1e-4)
    assert match.unlikeness == pytest.approx(unlikeness, rel=1e-4)
    size = engine.package.info.encoder.input_size
    assert match.anomaly_map.shape == size
    full = cv2.resize(grid, size[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(match.anomaly_map, full, rtol=1e-3, atol=1e-4 * full.max())


@settings(max_examples=3)
@given(seed=st.integers(0, 1000), batch=st.integers(1, 5))
def test_a_batch_is_judged_one_by_one(engine: Engine, seed: int, batch: int) -> None:
    bank = bank_of(engine, some_region(engine, seed))
    tokens = tokens_like_an_encoders(engine, seed, batch)
    together = engine.match(tokens, bank)
    assert len(together) == batch
    for index, match in enumerate(together):
        alone = engine.match(tuple(tap[index : index + 1] for tap in tokens), bank)[0]
        assert match.score == pytest.approx(alone.score, rel=1e-4)
        assert match.unlikeness == pytest.approx(alone.unlikeness, rel=1e-4)
        np.testing.assert_allclose(match.anomaly_map, alone.anomaly_map, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_lies_outside_the_region_has_no_say(seed: int, engine: Engine) -> None:
    """Neither by its own distance nor by vouching for a token inside; a coarse token next to the region reaches into it."""
    geometry = some_region(engine, seed)
    bank = bank_of(engine, geometry)
    tokens = tokens_like_an_encoders(engine, seed)
    other = tokens_like_an_encoders(engine, seed + 1)
    before = engine.match(tokens, bank)[0]
    changed: list[NDArray[np.float32]] = []
    for index, tap in enumerate(engine.package.info.encoder.taps):
        reach = np.ones((1, 1) if index == 0 else (3, 3), np.uint8)
        near = cv2.dilate(geometry.inside[index].reshape(tap.grid), reach).reshape(-1)
        new = np.where(near[None, :, None] > 0, tokens[index], other[index])
        new[0, np.flatnonzero(near == 0)[:4]] = new[0, np.flatnonzero(geometry.inside[index])[:4]]
        changed.append(new.astype(np.float32))
    after = engine.match(tuple(changed), bank)[0]
    assert after.score == pytest.approx(before.score, rel=1e-4)
    assert after.unlikeness == pytest.approx(before.unlikeness, rel=1e-4)
    inside = np.asarray(geometry.inside[0]).reshape(engine.package.info.encoder.taps[0].grid)
    shown = cv2.resize(inside, before.anomaly_map.shape[::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(after.anomaly_map, before.anomaly_map, rtol=1e-3, atol=1e-6)
    assert not before.anomaly_map[shown == 0].any(), "and nothing is marked there"


def test_a_twin_far_away_vouches_and_a_neighbour_does_not(engine: Engine) -> None:
    bank = bank_of(engine, whole_geometry(engine.package.info.encoder))
    tokens = tokens_like_an_encoders(engine, 11)
    tokens[0][0, 0] = 3.0 * np.random.default_rng(0).normal(size=tokens[0].shape[2])
    columns = engine.package.info.encoder.taps[0].grid[1]

    def at_the_corner(twin: int | None) -> float:
        changed = (tokens[0].copy(), tokens[1])
        if twin is not None:
            changed[0][0, twin] = changed[0][0, 0]
        return float(engine.match(changed, bank)[0].anomaly_map[0, 0])

    alone = at_the_corner(None)
    assert at_the_corner(3 * columns + 3) == pytest.approx(alone, rel=0.05)
    assert at_the_corner(4 * columns) < 0.1 * alone


def test_a_counterexample_raises_only_what_it_recognises(engine: Engine) -> None:
    geometry = whole_geometry(engine.package.info.encoder)
    tokens = tokens_like_an_encoders(engine, 21)
    defect = unit(tokens[0][0, [130, 131]].astype(np.float64)).astype(np.float32)
    plain = engine.match(tokens, bank_of(engine, geometry))[0]
    active = engine.match(tokens, bank_of(engine, geometry, Counterexamples(defect, 0.99)))[0]
    asleep = engine.match(tokens, bank_of(engine, geometry, Counterexamples(defect, 1.5)))[0]
    assert active.score > plain.score
    assert asleep.score == pytest.approx(plain.score, rel=1e-5)
    assert active.unlikeness == pytest.approx(plain.unlikeness, rel=1e-5)
    far = active.anomaly_map[:100]
    np.testing.assert_allclose(far, plain.anomaly_map[:100], rtol=1e-4)


def test_the_length_of_a_token_does_not_matter(engine: Engine) -> None:
    bank = bank_of(engine, whole_geometry(engine.package.info.encoder))
    tokens = tokens_like_an_encoders(engine, 31)
    longer = tuple((7.5 * tap).astype(np.float32) for tap in tokens)
    assert engine.match(longer, bank)[0].score == pytest.approx(engine.match(tokens, bank)[0].score, rel=1e-3)

"""Pixel AUROC and per-region overlap, against brute force on small pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from calibration.metrics import auroc
from tests.bench.pixel_metrics import BINS, FALSE_POSITIVE_LIMIT, PixelScores

SEEDS = st.integers(0, 2**32 - 1)


def picture(seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A map of values that fall into bins of their own, and a mask with two regions."""
    random = np.random.default_rng(seed)
    mask = np.zeros((24, 30), np.bool_)
    mask[2:8, 3:9] = True
    mask[15:18, 20:28] = True
    values = random.permutation(BINS - 1)[: mask.size].reshape(mask.shape) / (BINS - 1)
    raised = np.clip(values + mask * random.random() * 0.5, 0, 1)
    return (np.round(raised * (BINS - 1)) / (BINS - 1)).astype(np.float32), mask


def overlap_by_hand(maps: NDArray[np.float32], mask: NDArray[np.bool_], regions: list[NDArray[np.bool_]]) -> float:
    """AUPRO by going through every threshold."""
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(maps)[::-1]:
        found = maps >= threshold
        rates.append(float(found[~mask].mean()))
        overlaps.append(float(np.mean([found[r].mean() for r in regions])))
    grid = np.linspace(0, FALSE_POSITIVE_LIMIT, 20_001)
    return float(np.interp(grid, rates, overlaps).mean())


@settings(max_examples=20)
@given(SEEDS)
def test_pixel_auroc_is_that_of_all_pixels_together(seed: int) -> None:
    scores = PixelScores(top=1.0)
    normal: list[float] = []
    anomalous: list[float] = []
    for offset in range(2):
        values, mask = picture((seed + offset) % 2**32)
        scores.add(values, mask)
        normal += values[~mask].tolist()
        anomalous += values[mask].tolist()
    assert scores.auroc() == pytest.approx(auroc(normal, anomalous), abs=2e-3)


@settings(max_examples=20)
@given(SEEDS)
def test_overlap_weighs_every_region_alike(seed: int) -> None:
    values, mask = picture(seed)
    small, large = mask.copy(), mask.copy()
    small[:10], large[10:] = False, False
    scores = PixelScores(top=1.0)
    scores.add(values, mask)
    assert scores.aupro() == pytest.approx(overlap_by_hand(values, mask, [small, large]), abs=5e-3)


def test_perfect_and_useless_maps() -> None:
    mask = picture(0)[1]
    perfect, constant, inverted = PixelScores(1.0), PixelScores(1.0), PixelScores(1.0)
    perfect.add(mask.astype(np.float32), mask)
    constant.add(np.full(mask.shape, 0.5, np.float32), mask)
    inverted.add((~mask).astype(np.float32), mask)
    assert (perfect.auroc(), constant.auroc(), inverted.auroc()) == pytest.approx((1.0, 0.5, 0.0))
    assert perfect.aupro() == pytest.approx(1.0)
    assert constant.aupro() == pytest.approx(FALSE_POSITIVE_LIMIT / 2)
    assert inverted.aupro() == pytest.approx(0.0)


def test_a_map_is_scaled_to_its_mask() -> None:
    mask = np.zeros((64, 64), np.bool_)
    mask[:, 32:] = True
    scores = PixelScores(1.0)
    scores.add(np.array([[0.0, 0.0, 1.0, 1.0]] * 4, np.float32), mask)
    assert scores.auroc() == pytest.approx(1.0)
    assert len(scores.regions) == 1


def test_pictures_without_defects_count_as_normal_pixels() -> None:
    values, mask = picture(3)
    scores, more = PixelScores(1.0), PixelScores(1.0)
    for one in (scores, more):
        one.add(values, mask)
    more.add(np.zeros_like(values), np.zeros_like(mask))
    assert more.normal.sum() == scores.normal.sum() + mask.size
    assert more.auroc() > scores.auroc()
    assert len(more.regions) == len(scores.regions) == 2

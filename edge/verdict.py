"""Score, threshold and condition to a judgement. The only place that decides."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.recipe import Threshold
from edge.types import Judgement, Match, Reason, Region, Verdict
from edge.view import Placement, place_mask

UNLIKE = "the picture as a whole is unlike the shots: another product, a missing or moved part, or other light"
LARGEST_REGION_COUNT = 64
"""More regions than this are not listed one by one: the largest are."""


def fits(match: Match, threshold: Threshold) -> bool:
    """Whether the picture as a whole is like the shots."""
    return match.unlikeness <= threshold.unlikeness_most


def accepts(match: Match, threshold: Threshold) -> bool:
    """Whether a fit picture passes; False for anything that is not a finite number."""
    return fits(match, threshold) and match.score <= threshold.value


def decide(match: Match, threshold: Threshold, placement: Placement) -> Verdict:
    """Judge one match. Passes only a picture like the shots, with a finite score that is not above the threshold.

    Args:
        match: the decoder's answer.
        threshold: of the active recipe.
        placement: of the encoder's input in the picture.
    """
    score, unlikeness = float(match.score), float(match.unlikeness)
    if not (math.isfinite(score) and math.isfinite(unlikeness) and np.isfinite(match.anomaly_map).all()):
        return undecided(Reason.ENGINE_FAULT, "the score is not a finite number", threshold.value)
    if not fits(match, threshold):
        return Verdict(Judgement.NOT_DECIDABLE, Reason.UNFIT_IMAGE, score, threshold.value, detail=UNLIKE)
    if accepts(match, threshold):
        return Verdict(Judgement.OK, None, score, threshold.value)
    mask = mask_of(match, threshold)
    regions, placed = regions_of(mask, match.anomaly_map, placement), place_mask(mask, placement)
    if not placed.any():
        # A speck may fall between the pixels of a turned picture; no reject is mute.
        placed[regions[0].y, regions[0].x] = True
    return Verdict(
        Judgement.NOT_OK,
        Reason.DEFECT,
        score,
        threshold.value,
        regions=regions,
        mask=placed,
    )


def mask_of(match: Match, threshold: Threshold) -> NDArray[np.bool_]:
    """What a rejected part shows as anomalous, `bool [h, w]`: at least the peak of the map, so that no reject is mute."""
    return match.anomaly_map >= min(threshold.pixel_value, float(match.anomaly_map.max()))


def undecided(reason: Reason, detail: str, threshold: float | None = None) -> Verdict:
    """The verdict for a part that could not be judged."""
    return Verdict(Judgement.NOT_DECIDABLE, reason, None, threshold, detail=detail)


def regions_of(mask: NDArray[np.bool_], anomaly_map: NDArray[np.float32], placement: Placement) -> tuple[Region, ...]:
    """Connected regions of `bool [h, w]` over the encoder's input, largest first, in pixels of the picture."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    window = placement.window
    down, across = window.height / mask.shape[0], window.width / mask.shape[1]
    found: list[Region] = []
    for label in sorted(range(1, count), key=lambda i: -int(stats[i][4]))[:LARGEST_REGION_COUNT]:
        x, y, width, height, area = (int(v) for v in stats[label])
        part = (slice(y, y + height), slice(x, x + width))
        peak = float(anomaly_map[part][labels[part] == label].max())
        corners = np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]], dtype=np.float64)
        corners = corners * (across, down) + (window.x, window.y)
        left, top, right, bottom = _bounds(corners, placement)
        area_px = max(1, round(area * down * across))
        found.append(Region(left, top, max(1, right - left), max(1, bottom - top), area_px, peak))
    return tuple(found)


def _bounds(corners: NDArray[np.float64], placement: Placement) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of points `[4, 2]` of the aligned picture, in pixels inside the picture."""
    if placement.warp is not None:
        corners = corners @ placement.warp[:, :2].T.astype(np.float64) + placement.warp[:, 2]
    low = np.clip(np.round(corners.min(axis=0)), 0, (placement.size[1] - 1, placement.size[0] - 1))
    high = np.clip(np.round(corners.max(axis=0)), 1, (placement.size[1], placement.size[0]))
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])

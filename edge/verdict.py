"""Score, threshold and condition to a judgement. The only place that decides."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.recipe import Threshold
from edge.types import Judgement, Match, Reason, Region, Verdict

UNLIKE = "the picture as a whole is unlike the shots: another product, a missing or moved part, or other light"
LARGEST_REGION_COUNT = 64
"""More regions than this are not listed one by one: the largest are."""


def decide(match: Match, threshold: Threshold, size: tuple[int, int]) -> Verdict:
    """Judge one match. Passes only a picture like the shots, with a finite score that is not above the threshold.

    Args:
        match: the decoder's answer.
        threshold: of the active recipe.
        size: the picture's `(height, width)`.
    """
    score, unlikeness = float(match.score), float(match.unlikeness)
    if not (math.isfinite(score) and math.isfinite(unlikeness) and np.isfinite(match.anomaly_map).all()):
        return undecided(Reason.ENGINE_FAULT, "the score is not a finite number", threshold.value)
    if unlikeness > threshold.unlikeness_most:
        return Verdict(Judgement.NOT_DECIDABLE, Reason.UNFIT_IMAGE, score, threshold.value, detail=UNLIKE)
    if score <= threshold.value:
        return Verdict(Judgement.OK, None, score, threshold.value)
    mask = mask_of(match, threshold)
    return Verdict(
        Judgement.NOT_OK,
        Reason.DEFECT,
        score,
        threshold.value,
        regions=regions_of(mask, match.anomaly_map, size),
        mask=scale_mask(mask, size),
    )


def mask_of(match: Match, threshold: Threshold) -> NDArray[np.bool_]:
    """What a rejected part shows as anomalous, `bool [h, w]`: at least the peak of the map, so that no reject is mute."""
    return match.anomaly_map >= min(threshold.pixel_value, float(match.anomaly_map.max()))


def undecided(reason: Reason, detail: str, threshold: float | None = None) -> Verdict:
    """The verdict for a part that could not be judged."""
    return Verdict(Judgement.NOT_DECIDABLE, reason, None, threshold, detail=detail)


def scale_mask(mask: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Scale `bool [h, w]` to the picture's `(height, width)` by nearest neighbour; shrinking loses no set pixel."""
    if size[0] >= mask.shape[0] and size[1] >= mask.shape[1]:
        scaled = cv2.resize(mask.view(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(scaled).view(np.bool_)
    share = cv2.resize(mask.astype(np.float32), (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(share > 0)


def regions_of(mask: NDArray[np.bool_], anomaly_map: NDArray[np.float32], size: tuple[int, int]) -> tuple[Region, ...]:
    """Connected regions of `bool [h, w]`, largest first, in pixels of a picture of `size` (height, width)."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    down, across = size[0] / mask.shape[0], size[1] / mask.shape[1]
    found: list[Region] = []
    for label in sorted(range(1, count), key=lambda i: -int(stats[i][4]))[:LARGEST_REGION_COUNT]:
        x, y, width, height, area = (int(v) for v in stats[label])
        window = (slice(y, y + height), slice(x, x + width))
        peak = float(anomaly_map[window][labels[window] == label].max())
        left, top = min(round(x * across), size[1] - 1), min(round(y * down), size[0] - 1)
        right, bottom = round((x + width) * across), round((y + height) * down)
        area_px = round(area * down * across)
        found.append(Region(left, top, max(1, right - left), max(1, bottom - top), max(1, area_px), peak))
    return tuple(found)

"""Is this picture fit to be judged? An unfit picture is NOT_DECIDABLE, never a guess."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np

from edge.types import Picture

SIZE_TOLERANCE = 1.25
"""How far a frame's sides and aspect may lie outside those of the shots, as a factor."""
CONTRAST_SHARE = 0.25
"""A frame with less than this share of the flattest shot's contrast shows no part."""


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a frame must be like, learned from the shots. Sides in pixels, contrast in grey levels (0 to 127)."""

    width: tuple[float, float]
    height: tuple[float, float]
    aspect: tuple[float, float]
    contrast_least: float


def contrast_of(picture: Picture) -> float:
    """Standard deviation of the grey levels of `uint8 [H, W, 3]`."""
    _, deviation = cv2.meanStdDev(picture)
    return float(np.mean(deviation))


def learn_limits(pictures: Sequence[Picture]) -> Limits:
    """Limits from the shots, with the tolerances above.

    Args:
        pictures: at least one `uint8 [H, W, 3]`.
    """
    heights = [p.shape[0] for p in pictures]
    widths = [p.shape[1] for p in pictures]
    aspects = [w / h for w, h in zip(widths, heights, strict=True)]
    return Limits(
        width=(min(widths) / SIZE_TOLERANCE, max(widths) * SIZE_TOLERANCE),
        height=(min(heights) / SIZE_TOLERANCE, max(heights) * SIZE_TOLERANCE),
        aspect=(min(aspects) / SIZE_TOLERANCE, max(aspects) * SIZE_TOLERANCE),
        contrast_least=CONTRAST_SHARE * min(contrast_of(p) for p in pictures),
    )


def why_unfit(picture: Picture, limits: Limits) -> str:
    """One sentence that says why `uint8 [H, W, 3]` can't be judged; empty when it can."""
    height, width = picture.shape[:2]
    if not limits.width[0] <= width <= limits.width[1] or not limits.height[0] <= height <= limits.height[1]:
        return f"the picture is {width} x {height} pixels, unlike the shots"
    if not limits.aspect[0] <= width / height <= limits.aspect[1]:
        return f"the picture's shape ({width} x {height}) is unlike the shots'"
    if contrast_of(picture) < limits.contrast_least:
        return "the picture shows next to no contrast: no part, no light or a covered lens"
    return ""

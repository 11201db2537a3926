"""Is this picture fit to be judged? An unfit picture is NOT_DECIDABLE, never a guess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import msgspec

from edge.pose import Pose, PoseSpec
from edge.preprocess import Prepared
from edge.types import Picture

SIZE_TOLERANCE = 1.25
"""How far a frame's sides and aspect may lie outside those of the shots, as a factor."""
EXPOSURE_TOLERANCE = 1.6
CONTRAST_TOLERANCE = 4.0
SHARPNESS_TOLERANCE = 2.0
CLIPPED_TOLERANCE = 0.15
"""The light, contrast and sharpness of a frame may differ from those of all shots by these factors (clipped: this share).

Brightness may rise until its distance from white has shrunk by the factor: a multiple of it would pass any glare.
"""
DARKEST, BRIGHTEST, WHITE = 1, 254, 255.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a frame must be like, learned from the shots.

    Sides in pixels; brightness and contrast in grey levels of the encoder's input; sharpness is the spread of its second
    derivative over its contrast; clipped is the share of black and white pixels.
    """

    width: tuple[float, float]
    height: tuple[float, float]
    aspect: tuple[float, float]
    brightness: tuple[float, float]
    contrast_least: float
    sharpness_least: float
    clipped_most: float


@dataclass(frozen=True, slots=True)
class Features:
    """What is measured of one picture; see `Limits`."""

    brightness: float
    contrast: float
    sharpness: float
    clipped: float


def measure(image: Picture) -> Features:
    """Measure the encoder's input, `uint8 [h, w, 3]`: what is blurred or dark there is so for the encoder."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    mean, deviation = cv2.meanStdDev(grey)
    contrast = float(deviation[0][0])
    _, edges = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_32F))
    clipped = (cv2.countNonZero(cv2.inRange(grey, DARKEST, BRIGHTEST))) / grey.size
    return Features(float(mean[0][0]), contrast, float(edges[0][0]) / max(contrast, 1e-3), 1.0 - clipped)


def learn_limits(sizes: Sequence[tuple[int, int]], features: Sequence[Features]) -> Limits:
    """Limits from the shots, with the tolerances above.

    Args:
        sizes: `(height, width)` of each shot; at least one.
        features: of each shot.
    """
    heights, widths = [s[0] for s in sizes], [s[1] for s in sizes]
    aspects = [w / h for h, w in sizes]
    return Limits(
        width=(min(widths) / SIZE_TOLERANCE, max(widths) * SIZE_TOLERANCE),
        height=(min(heights) / SIZE_TOLERANCE, max(heights) * SIZE_TOLERANCE),
        aspect=(min(aspects) / SIZE_TOLERANCE, max(aspects) * SIZE_TOLERANCE),
        brightness=(
            min(f.brightness for f in features) / EXPOSURE_TOLERANCE,
            WHITE - (WHITE - max(f.brightness for f in features)) / EXPOSURE_TOLERANCE,
        ),
        contrast_least=min(f.contrast for f in features) / CONTRAST_TOLERANCE,
        sharpness_least=min(f.sharpness for f in features) / SHARPNESS_TOLERANCE,
        clipped_most=max(f.clipped for f in features) + CLIPPED_TOLERANCE,
    )


def why_unfit(prepared: Prepared, limits: Limits, pose: PoseSpec | None) -> str:
    """One sentence that says why a picture can't be judged; empty when it can."""
    height, width = prepared.placement.size
    if not limits.width[0] <= width <= limits.width[1] or not limits.height[0] <= height <= limits.height[1]:
        return f"the picture is {width} x {height} pixels, unlike the shots"
    if not limits.aspect[0] <= width / height <= limits.aspect[1]:
        return f"the picture's shape ({width} x {height}) is unlike the shots'"
    reason = why_poor(measure(prepared.image), limits)
    return reason or ("" if pose is None or prepared.pose is None else _why_moved(prepared.pose, pose))


def why_poor(found: Features, limits: Limits) -> str:
    """What light, contrast and sharpness make a picture unfit; empty when they do not."""
    if found.contrast < limits.contrast_least:
        return "the picture shows next to no contrast: no part, no light or a covered lens"
    if found.brightness < limits.brightness[0]:
        return f"the picture is too dark (grey {found.brightness:.0f}, the shots allow {limits.brightness[0]:.0f})"
    if found.brightness > limits.brightness[1]:
        return f"the picture is too bright (grey {found.brightness:.0f}, the shots allow {limits.brightness[1]:.0f})"
    if found.clipped > limits.clipped_most:
        return f"{found.clipped:.0%} of the picture is black or white, the shots allow {limits.clipped_most:.0%}"
    if found.sharpness < limits.sharpness_least:
        return f"the picture is blurred (sharpness {found.sharpness:.3f}, the shots allow {limits.sharpness_least:.3f})"
    return ""


def _why_moved(found: Pose, allowed: PoseSpec) -> str:
    if found.likeness < allowed.likeness_least:
        return f"the part is not where or what the shots show (likeness {found.likeness:.2f} after aligning)"
    if found.shift > allowed.shift_most:
        return f"the part is shifted by {found.shift:.0%} of the picture, the shots allow {allowed.shift_most:.0%}"
    if abs(found.angle) > allowed.angle_most:
        return f"the part is turned by {found.angle:.1f} degrees, the shots allow {allowed.angle_most:.1f}"
    return ""

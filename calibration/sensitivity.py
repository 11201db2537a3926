"""What would be found? Simulated defects on the shots give a probability-of-detection curve per kind of defect."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.calibrate import Calibration, Step
from calibration.defects import Defect, draw
from calibration.shots import Shot
from edge.bank import combine, fit_bank, without
from edge.condition import why_unfit
from edge.engines.base import Engine
from edge.preprocess import preprocess
from edge.types import Bank, Picture
from edge.verdict import accepts

TRIALS_PER_KIND = 50
SMALLEST_SHARE, LARGEST_SHARE = 0.01, 0.25
"""Sizes drawn, as a share of the picture's longer side."""
LEAST_CONTRAST, MOST_CONTRAST = 0.05, 0.8
TOLD_CONTRASTS = (0.1, 0.2, 0.4)
TOLD_PROBABILITY = 0.9
WORKING_SIDE = 1024
"""Larger pictures are shrunk to this before defects are drawn; sizes are told in pixels of the original."""
RIDGE = 0.05


class Curve(msgspec.Struct, frozen=True):
    """Probability of detection of one kind: `1 / (1 + exp(-(a + b log(size) + c log(contrast))))`.

    `size` is a share of the picture's longer side. `size_px` gives, by contrast, the size found with 90% probability; None
    where even the largest size drawn is not.
    """

    kind: Defect
    a: float
    b: float
    c: float
    trials: int
    found: int
    size_px: dict[str, float | None]
    text: str


class Sensitivity(msgspec.Struct, frozen=True):
    """All curves, for pictures whose longer side has `side_px` pixels."""

    side_px: int
    curves: tuple[Curve, ...]


def sensitivity(
    shots: Sequence[Shot], calibration: Calibration, engine: Engine, step: Step, seed: int = 0
) -> Sensitivity:
    """Draw defects of random size and contrast on the shots and see which are rejected.

    A shot with a defect is matched against a bank of the other shots, as a part that was never seen would be.

    Args:
        shots: two or more.
        calibration: made from them.
        engine: that it was made with.
        step: progress.
        seed: of the defects.
    """
    random = np.random.default_rng(seed)
    pictures = [_working(s.picture) for s in shots]
    banks = _banks(calibration)
    side_px = int(np.median([max(s.picture.shape[:2]) for s in shots]))
    curves: list[Curve] = []
    done = 0
    for kind in Defect:
        rows: list[tuple[float, float, bool]] = []
        for trial in range(TRIALS_PER_KIND):
            index = trial % len(shots)
            size = math.exp(random.uniform(math.log(SMALLEST_SHARE), math.log(LARGEST_SHARE)))
            contrast = math.exp(random.uniform(math.log(LEAST_CONTRAST), math.log(MOST_CONTRAST)))
            picture = pictures[index]
            side = max(picture.shape[:2])
            drawn = draw(picture, kind, size * side, contrast, _place(picture, calibration, random), random)
            rows.append((size, contrast, _rejected(drawn, banks[index], calibration, engine)))
            done += 1
            step("drawing defects", done, TRIALS_PER_KIND * len(Defect))
        curves.append(_fit(kind, rows, side_px))
    return Sensitivity(side_px, tuple(curves))


def probability(curve: Curve, size: float, contrast: float) -> float:
    """Probability that a defect is found; `size` as a share of the picture's longer side."""
    return 1 / (1 + math.exp(-(curve.a + curve.b * math.log(size) + curve.c * math.log(contrast))))


def _working(picture: Picture) -> Picture:
    scale = WORKING_SIDE / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _banks(calibration: Calibration) -> list[Bank]:
    moments, geometry = calibration.encoded.moments, calibration.encoded.geometry
    total = combine(moments)
    return [fit_bank(without(total, m), geometry) for m in moments]


def _place(picture: Picture, calibration: Calibration, random: np.random.Generator) -> tuple[int, int]:
    """A random place that counts: inside the region of interest."""
    encoded = calibration.encoded
    inside = np.flatnonzero(encoded.geometry.inside[0])
    side = math.isqrt(len(encoded.geometry.inside[0]))
    row, column = divmod(int(random.choice(inside)), side)
    box = encoded.view.box
    x = box.left + (column + random.random()) / side * (box.right - box.left)
    y = box.top + (row + random.random()) / side * (box.bottom - box.top)
    return int(x * picture.shape[1]), int(y * picture.shape[0])


def _rejected(picture: Picture, bank: Bank, calibration: Calibration, engine: Engine) -> bool:
    prepared = preprocess(picture, engine.package.info.encoder.input_size, calibration.encoded.view)
    if why_unfit(prepared, calibration.limits, calibration.encoded.pose):
        return True
    match = engine.match(engine.encode(prepared.image[np.newaxis]), bank)[0]
    return not accepts(match, calibration.threshold)


def _fit(kind: Defect, rows: Sequence[tuple[float, float, bool]], side_px: int) -> Curve:
    """Logistic regression on logarithms, by Newton's method with a small ridge."""
    design = np.array([[1.0, math.log(size), math.log(contrast)] for size, contrast, _ in rows])
    hit = np.array([float(found) for _, _, found in rows])
    weights: NDArray[np.float64] = np.zeros(3)
    penalty = RIDGE * np.diag([0.0, 1.0, 1.0])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        slope = design.T @ (hit - chance) - penalty @ weights
        curvature = design.T @ (design * (chance * (1 - chance))[:, None]) + penalty + 1e-6 * np.eye(3)
        weights = weights + np.linalg.solve(curvature, slope)
    a, b, c = (float(w) for w in weights)
    sizes = {f"{contrast:g}": _size_found(a, b, c, contrast, side_px) for contrast in TOLD_CONTRASTS}
    told = [(contrast, size) for contrast in TOLD_CONTRASTS if (size := sizes[f"{contrast:g}"]) is not None]
    if told:
        text = "; ".join(f"{size:.0f} px at {contrast:.0%} contrast" for contrast, size in told)
        text = f"finds a {kind.value} of about {text} with {TOLD_PROBABILITY:.0%} probability"
    else:
        most = f"{LARGEST_SHARE * side_px:.0f} px and {max(TOLD_CONTRASTS):.0%} contrast"
        text = f"does not find a {kind.value} with {TOLD_PROBABILITY:.0%} probability, up to {most}"
    return Curve(kind, a, b, c, len(rows), int(hit.sum()), sizes, text)


def _size_found(a: float, b: float, c: float, contrast: float, side_px: int) -> float | None:
    """The size in pixels found with 90% probability; None outside the sizes that were drawn."""
    if b <= 0:
        return None
    log_share = (math.log(TOLD_PROBABILITY / (1 - TOLD_PROBABILITY)) - a - c * math.log(contrast)) / b
    if log_share > math.log(LARGEST_SHARE):
        return None
    return math.exp(max(log_share, math.log(SMALLEST_SHARE))) * side_px

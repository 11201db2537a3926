"""A finished recipe against pictures that are plainly wrong: which of them would pass is told, not hoped."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import msgspec
import numpy as np

from calibration.calibrate import Calibration, Step
from calibration.shots import Shot
from edge.condition import why_unfit
from edge.engines.base import Engine
from edge.preprocess import preprocess
from edge.types import Picture
from edge.verdict import accepts

SHOTS_TRIED = 4
BLUR_SHARE = 0.012
"""Sigma of the blur, as a share of the picture's longer side."""


class Trial(msgspec.Struct, frozen=True):
    """One kind of wrong picture: how many were tried, and how many would pass."""

    name: str
    grave: bool
    tried: int
    passed: int


def selftest(shots: Sequence[Shot], calibration: Calibration, engine: Engine, step: Step) -> tuple[Trial, ...]:
    """Judge wrong pictures with the recipe as it would be written.

    Grave are pictures that do not show the product at all; the others are shots that were spoiled.
    """
    chosen = [
        shots[i] for i in np.unique(np.linspace(0, len(shots) - 1, min(SHOTS_TRIED, len(shots))).round().astype(int))
    ]
    trials: list[Trial] = []
    for done, (name, grave, make) in enumerate(KINDS):
        passed = sum(_passes(make(shot.picture), calibration, engine) for shot in chosen)
        trials.append(Trial(name, grave, len(chosen), passed))
        step("trying wrong pictures", done + 1, len(KINDS))
    return tuple(trials)


def _passes(picture: Picture, calibration: Calibration, engine: Engine) -> bool:
    encoded = calibration.encoded
    prepared = preprocess(picture, engine.package.info.encoder.input_size, encoded.view)
    if why_unfit(prepared, calibration.limits, encoded.pose):
        return False
    match = engine.match(engine.encode(prepared.image[np.newaxis]), calibration.bank)[0]
    return accepts(match, calibration.threshold)


def _noise(picture: Picture) -> Picture:
    return np.asarray(np.random.default_rng(0).integers(0, 256, picture.shape), dtype=np.uint8)


def _belt(picture: Picture) -> Picture:
    grain = np.random.default_rng(0).normal(float(picture.mean()), float(picture.std()), picture.shape[:2])
    return np.repeat(np.clip(grain, 0, 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def _ramp(picture: Picture) -> Picture:
    row = np.linspace(0, 255, picture.shape[1]).astype(np.uint8)
    return np.array(np.broadcast_to(row[np.newaxis, :, np.newaxis], picture.shape), dtype=np.uint8)


def _checkers(picture: Picture) -> Picture:
    side = max(1, max(picture.shape[:2]) // 16)
    rows, columns = np.indices(picture.shape[:2]) // side
    return np.repeat((((rows + columns) % 2) * 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)


def _inverted(picture: Picture) -> Picture:
    return np.asarray(255 - picture, dtype=np.uint8)


def _blurred(picture: Picture) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), BLUR_SHARE * max(picture.shape[:2])), dtype=np.uint8)


def _four_small(picture: Picture) -> Picture:
    half = cv2.resize(picture, (picture.shape[1] // 2, picture.shape[0] // 2), interpolation=cv2.INTER_AREA)
    tiled = np.tile(np.asarray(half, dtype=np.uint8), (2, 2, 1))
    return np.asarray(cv2.resize(tiled, (picture.shape[1], picture.shape[0])), dtype=np.uint8)


def _turned(picture: Picture) -> Picture:
    turned = np.ascontiguousarray(np.rot90(picture))
    return np.asarray(cv2.resize(turned, (picture.shape[1], picture.shape[0])), dtype=np.uint8)


def _shifted(picture: Picture) -> Picture:
    return np.roll(picture, picture.shape[1] // 2, axis=1)


KINDS: tuple[tuple[str, bool, Callable[[Picture], Picture]], ...] = (
    ("noise", True, _noise),
    ("an empty belt", True, _belt),
    ("a grey ramp", True, _ramp),
    ("a checkerboard", True, _checkers),
    ("the shot inverted", False, _inverted),
    ("the shot blurred", False, _blurred),
    ("four small copies of the shot", False, _four_small),
    ("the shot turned by 90 degrees", False, _turned),
    ("the shot shifted by half a picture", False, _shifted),
)

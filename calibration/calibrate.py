"""Normal shots to bank, threshold and limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.pose import learn_pose
from calibration.roi import Roi, geometry_of
from calibration.shots import Shot
from calibration.threshold import from_leave_one_out, from_one_shot
from edge.bank import Counterexamples, Geometry, ShotMoments, combine, fit_bank, moments_of, without
from edge.condition import Features, Limits, learn_limits, measure
from edge.engines.base import Engine
from edge.engines.package import whole_geometry
from edge.pose import PoseSpec
from edge.preprocess import Prepared, View, preprocess
from edge.recipe import Threshold
from edge.types import Bank, Match, Picture, Tokens
from edge.view import WHOLE

SHIFT_SHARE = 0.02
BRIGHTNESS = 0.05

Step = Callable[[str, int, int], None]
"""Told what is being done, how many steps of it are done, and of how many."""


@dataclass(frozen=True)
class Encoded:
    """The shots as the encoder sees them."""

    view: View
    geometry: Geometry
    pose: PoseSpec | None
    prepared: tuple[Prepared, ...]
    tokens: tuple[Tokens, ...]
    features: tuple[Features, ...]
    moments: tuple[ShotMoments, ...]


@dataclass(frozen=True)
class Calibration:
    """All that a recipe needs. `matches` are the shots against the others; with one shot, that shot against itself."""

    encoded: Encoded
    bank: Bank
    threshold: Threshold
    limits: Limits
    matches: tuple[Match, ...]


def encode_shots(shots: Sequence[Shot], engine: Engine, roi: Roi | None, align: bool, step: Step) -> Encoded:
    """Prepare and encode every shot.

    Raises:
        EngineError: the executor failed.
        ShotsError: the region of interest is too thin, or the shots cannot be aligned.
    """
    box = WHOLE if roi is None else roi.box
    reference, pose = learn_pose([s.picture for s in shots], step) if align else (None, None)
    view = View(box, reference)
    spec = engine.package.info.encoder
    geometry = whole_geometry(spec) if roi is None else geometry_of(roi, spec)
    prepared: list[Prepared] = []
    tokens: list[Tokens] = []
    for index, shot in enumerate(shots):
        prepared.append(preprocess(shot.picture, spec.input_size, view))
        tokens.append(engine.encode(prepared[-1].image[np.newaxis]))
        step("encoding shots", index + 1, len(shots))
    features = tuple(measure(p.image) for p in prepared)
    moments = tuple(moments_of(t, geometry) for t in tokens)
    return Encoded(view, geometry, pose, tuple(prepared), tuple(tokens), features, moments)


def calibrate(encoded: Encoded, engine: Engine, step: Step) -> Calibration:
    """Build the bank and find the threshold; no shot is ever scored against a bank that holds it.

    Raises:
        EngineError: the executor failed.
    """
    limits = limits_from(encoded, range(len(encoded.tokens)))
    if len(encoded.tokens) == 1:
        bank = fit_bank(encoded.moments[0], encoded.geometry)
        copies = [engine.match(engine.encode(c[np.newaxis]), bank)[0] for c in perturbed(encoded.prepared[0].image)]
        return Calibration(encoded, bank, from_one_shot(copies), limits, engine.match(encoded.tokens[0], bank))
    bank, held_out = leave_one_out(encoded.tokens, encoded.geometry, engine, step)
    return Calibration(encoded, bank, from_leave_one_out(held_out), limits, held_out)


def limits_from(encoded: Encoded, chosen: Sequence[int]) -> Limits:
    """Fitness limits from some of the shots, by their places."""
    return learn_limits([encoded.prepared[i].placement.size for i in chosen], [encoded.features[i] for i in chosen])


def leave_one_out(
    tokens: Sequence[Tokens],
    geometry: Geometry,
    engine: Engine,
    step: Step,
    counter: Counterexamples | None = None,
) -> tuple[Bank, tuple[Match, ...]]:
    """The bank of all shots, and each shot matched against a bank of the others.

    Args:
        tokens: of two or more shots.
        geometry: which of them count.
        engine: that made them.
        step: progress.
        counter: counter-examples that every bank holds.
    """
    moments = [moments_of(t, geometry) for t in tokens]
    total = combine(moments)
    held_out: list[Match] = []
    for index, shot_tokens in enumerate(tokens):
        bank = fit_bank(without(total, moments[index]), geometry, counter)
        held_out.append(engine.match(shot_tokens, bank)[0])
        step("scoring each shot against the others", index + 1, len(tokens))
    return fit_bank(total, geometry, counter), tuple(held_out)


def perturbed(picture: Picture) -> list[Picture]:
    """Copies as the next shots of the same part might look: shifted, brighter, darker, a little out of focus."""
    height, width = picture.shape[:2]
    down, across = max(1, round(height * SHIFT_SHARE)), max(1, round(width * SHIFT_SHARE))
    copies: list[Picture] = []
    for dy, dx in ((down, 0), (-down, 0), (0, across), (0, -across)):
        move: NDArray[np.float32] = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float32)
        shifted = cv2.warpAffine(picture, move, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        copies.append(np.asarray(shifted, dtype=np.uint8))
    for gain in (1 - BRIGHTNESS, 1 + BRIGHTNESS):
        copies.append(np.clip(picture * gain, 0, 255).astype(np.uint8))
    copies.append(np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.8), dtype=np.uint8))
    return copies

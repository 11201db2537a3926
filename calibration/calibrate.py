"""Normal shots to bank, threshold and limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.shots import Shot
from calibration.threshold import from_leave_one_out, from_one_shot
from edge.bank import combine, fit_bank, moments_of, without
from edge.condition import Limits, learn_limits
from edge.engines.base import Engine
from edge.preprocess import preprocess
from edge.recipe import Threshold
from edge.types import Bank, Match, Picture, Tokens

SHIFT_SHARE = 0.02
BRIGHTNESS = 0.05

Step = Callable[[str, int, int], None]
"""Told what is being done, how many steps of it are done, and of how many."""


@dataclass(frozen=True)
class Calibration:
    """All that a recipe needs. `matches` are the shots against the others; with one shot, that shot against itself."""

    bank: Bank
    threshold: Threshold
    limits: Limits
    matches: tuple[Match, ...]


def calibrate(shots: tuple[Shot, ...], engine: Engine, step: Step) -> Calibration:
    """Build the bank and find the threshold; no shot is ever scored against a bank that holds it.

    Args:
        shots: at least one.
        engine: of the package that the recipe will run with.
        step: progress.

    Raises:
        EngineError: the executor failed.
    """
    tokens: list[Tokens] = []
    for index, shot in enumerate(shots):
        tokens.append(encode(shot.picture, engine))
        step("encoding shots", index + 1, len(shots))
    limits = learn_limits([s.picture for s in shots])
    if len(shots) == 1:
        bank = fit_bank(moments_of(tokens[0]))
        copies = [match(encode(copy, engine), bank, engine) for copy in perturbed(shots[0].picture)]
        threshold = from_one_shot(copies)
        return Calibration(bank, threshold, limits, (match(tokens[0], bank, engine),))
    bank, held_out = leave_one_out(tokens, engine, step)
    threshold = from_leave_one_out(held_out)
    return Calibration(bank, threshold, limits, held_out)


def leave_one_out(tokens: Sequence[Tokens], engine: Engine, step: Step) -> tuple[Bank, tuple[Match, ...]]:
    """The bank of all shots, and each shot matched against a bank of the others.

    Args:
        tokens: of two or more shots.
        engine: that made them.
        step: progress.
    """
    moments = [moments_of(t) for t in tokens]
    total = combine(moments)
    held_out: list[Match] = []
    for index, shot_tokens in enumerate(tokens):
        held_out.append(match(shot_tokens, fit_bank(without(total, moments[index])), engine))
        step("scoring each shot against the others", index + 1, len(tokens))
    return fit_bank(total), tuple(held_out)


def encode(picture: Picture, engine: Engine) -> Tokens:
    """Tokens of one `uint8 [H, W, 3]` RGB picture."""
    return engine.encode(preprocess(picture, engine.package.info.encoder.input_size)[np.newaxis])


def match(tokens: Tokens, bank: Bank, engine: Engine) -> Match:
    """Match the tokens of one picture."""
    return engine.match(tokens, bank)[0]


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

"""Simulated defects of a given size and contrast, drawn on pictures of normal parts."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.types import Picture

Random = np.random.Generator
Shape = NDArray[np.float32]
"""`float32 [s, s]`, -1 to 1: how much of the contrast each pixel gets."""


class Defect(str, Enum):
    """What is drawn."""

    SCRATCH = "scratch"
    SPOT = "spot"
    DENT = "dent"
    STAIN = "stain"
    FOREIGN_PATCH = "foreign patch"


def draw(
    picture: Picture, kind: Defect, size_px: float, contrast: float, centre: tuple[int, int], random: Random
) -> Picture:
    """A copy of `uint8 [H, W, 3]` with one defect.

    Args:
        picture: of a normal part.
        kind: of the defect.
        size_px: its length or diameter.
        contrast: change of brightness as a share of what is there; for a foreign patch, its opacity.
        centre: `(x, y)`.
        random: decides turn, sign and outline.
    """
    side = max(7, int(np.ceil(size_px * 1.5)) | 1)
    window = _window(picture.shape[:2], centre, side)
    drawn = picture.copy()
    rows, columns = window
    part = drawn[rows, columns].astype(np.float32)
    if kind is Defect.FOREIGN_PATCH:
        cover = np.abs(_spot(side, size_px, random))[: part.shape[0], : part.shape[1], None] * contrast
        other = _elsewhere(picture, part.shape[:2], random)
        changed = part * (1 - cover) + other * cover
    else:
        shape = SHAPES[kind](side, size_px, random)[: part.shape[0], : part.shape[1], None]
        sign = -1.0 if random.random() < 0.5 else 1.0
        changed = part * (1 + sign * contrast * shape)
    drawn[rows, columns] = np.clip(changed, 0, 255).astype(np.uint8)
    return np.asarray(drawn, dtype=np.uint8)


def _window(shape: tuple[int, ...], centre: tuple[int, int], side: int) -> tuple[slice, slice]:
    top = int(np.clip(centre[1] - side // 2, 0, max(0, shape[0] - side)))
    left = int(np.clip(centre[0] - side // 2, 0, max(0, shape[1] - side)))
    return slice(top, min(top + side, shape[0])), slice(left, min(left + side, shape[1]))


def _elsewhere(picture: Picture, shape: tuple[int, ...], random: Random) -> NDArray[np.float32]:
    """Another place of the picture, turned upside down: cut-paste as in the training of AnomalyGPT and CutPaste."""
    top = int(random.integers(0, picture.shape[0] - shape[0] + 1))
    left = int(random.integers(0, picture.shape[1] - shape[1] + 1))
    return picture[top : top + shape[0], left : left + shape[1]][::-1, ::-1].astype(np.float32)


def _grid(side: int) -> tuple[Shape, Shape]:
    axis = np.arange(side, dtype=np.float32) - side // 2
    across, down = np.meshgrid(axis, axis)
    return across, down


def _soft(distance: Shape) -> Shape:
    """1 inside (negative distance), 0 outside, a pixel wide edge."""
    return np.asarray(np.clip(0.5 - distance, 0, 1), dtype=np.float32)


def _scratch(side: int, size_px: float, random: Random) -> Shape:
    x, y = _grid(side)
    turn, bend = random.uniform(0, np.pi), random.uniform(-0.3, 0.3) / max(size_px, 1)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    across = across - bend * along**2
    half_width = max(0.75, size_px / 24)
    inside = np.maximum(np.abs(across) - half_width, np.abs(along) - size_px / 2)
    return _soft(inside)


def _spot(side: int, size_px: float, random: Random) -> Shape:
    x, y = _grid(side)
    squeeze = random.uniform(0.8, 1.25)
    return _soft(np.hypot(x * squeeze, y / squeeze) - size_px / 2)


def _dent(side: int, size_px: float, random: Random) -> Shape:
    x, y = _grid(side)
    turn, width = random.uniform(0, 2 * np.pi), size_px / 4
    slope = (x * np.cos(turn) + y * np.sin(turn)) / width
    bump = slope * np.exp(0.5 - 0.5 * (x**2 + y**2) / width**2)
    return np.asarray(bump, dtype=np.float32)


def _stain(side: int, size_px: float, random: Random) -> Shape:
    x, y = _grid(side)
    rough = random.standard_normal((side, side)).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(rough, (0, 0), max(1.0, size_px / 8)), dtype=np.float32)
    noise = smooth / max(float(smooth.std()), 1e-6)
    distance = np.hypot(x, y) - size_px / 2 * (0.85 + 0.2 * noise)
    return np.asarray(np.clip(0.5 - distance / max(2.0, size_px / 6), 0, 1), dtype=np.float32)


SHAPES: dict[Defect, Callable[[int, float, Random], Shape]] = {
    Defect.SCRATCH: _scratch,
    Defect.SPOT: _spot,
    Defect.DENT: _dent,
    Defect.STAIN: _stain,
}

"""Pictures of a part with a shape of its own, on a belt; where it lies is up to the test."""

from __future__ import annotations

import cv2
import numpy as np

from edge.types import Picture

HEIGHT_PX, WIDTH_PX = 240, 300


def board(seed: int = 0, shift: tuple[float, float] = (0.0, 0.0), degrees: float = 0.0) -> Picture:
    """A bracket moved by `shift` (x, y) pixels and turned about the picture's centre, with the texture of `seed`."""
    random = np.random.default_rng(seed)
    part = np.full((HEIGHT_PX, WIDTH_PX), 60, np.uint8)
    cv2.rectangle(part, (80, 60), (220, 180), 170, -1)
    cv2.rectangle(part, (150, 60), (220, 110), 60, -1)
    cv2.circle(part, (110, 145), 16, 90, -1)
    cv2.rectangle(part, (180, 140), (205, 165), 220, -1)
    cv2.line(part, (90, 75), (140, 115), 120, 3)
    warp = cv2.getRotationMatrix2D((WIDTH_PX / 2, HEIGHT_PX / 2), degrees, 1.0)
    warp[:, 2] += np.array(shift)
    moved = cv2.warpAffine(part, warp, (WIDTH_PX, HEIGHT_PX), borderMode=cv2.BORDER_REPLICATE)
    rough = cv2.GaussianBlur(random.normal(0, 24, (HEIGHT_PX, WIDTH_PX)).astype(np.float32), (0, 0), 1.0)
    grey = np.clip(cv2.GaussianBlur(moved, (0, 0), 0.8) + np.asarray(rough), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def belt(seed: int = 0) -> Picture:
    """The same belt without a part."""
    rough = np.random.default_rng(seed).normal(0, 24, (HEIGHT_PX, WIDTH_PX)).astype(np.float32)
    grey = np.clip(60 + np.asarray(cv2.GaussianBlur(rough, (0, 0), 1.0)), 0, 255).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)

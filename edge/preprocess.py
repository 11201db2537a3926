"""The only crop and resize in the project. Calibration and the runtime both go through here."""

from __future__ import annotations

import cv2
import numpy as np

from edge.errors import PictureError
from edge.types import Picture

PREPROCESS_VERSION = 1
"""Stored in packages and recipes: scores from different versions must not be compared."""


def preprocess(picture: Picture, size: tuple[int, int]) -> Picture:
    """Scale a picture to the encoder's input.

    Args:
        picture: `uint8 [H, W, 3]` RGB of any size.
        size: the encoder's `(height, width)`.

    Returns:
        `uint8 [height, width, 3]` RGB: averaged over areas when shrinking, bilinear when growing.

    Raises:
        PictureError: not an 8-bit RGB picture.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        shape = f"{picture.dtype} {list(picture.shape)}"
        raise PictureError(f"a frame is {shape}", "The camera must deliver uint8 [H, W, 3] RGB.")
    height, width = size
    if picture.shape[:2] == size:
        return picture
    shrinks = picture.shape[0] > height or picture.shape[1] > width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)

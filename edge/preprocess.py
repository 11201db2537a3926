"""The only alignment, crop and resize in the project. Calibration and the runtime both go through here."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import PictureError
from edge.pose import Pose, find_pose
from edge.types import Picture
from edge.view import WHOLE, Box, Placement, window_of

PREPROCESS_VERSION = 2
"""Stored in packages and recipes: scores from different versions must not be compared."""


@dataclass(frozen=True)
class View:
    """What to take of a picture: align it with `reference` (a small grey picture, or None), then cut out `box`."""

    box: Box = WHOLE
    reference: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """The encoder's input `uint8 [h, w, 3]`, where it lies in the picture, and the part's pose if it was aligned."""

    image: Picture
    placement: Placement
    pose: Pose | None = None


def preprocess(picture: Picture, size: tuple[int, int], view: View) -> Prepared:
    """Align, cut out and scale a picture to the encoder's input.

    Args:
        picture: `uint8 [H, W, 3]` RGB of any size.
        size: the encoder's `(height, width)`.
        view: what to take of it.

    Returns:
        `uint8 [height, width, 3]` RGB, averaged over areas when both sides shrink, bilinear otherwise, and its
        placement.

    Raises:
        PictureError: not an 8-bit RGB picture.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        shape = f"{picture.dtype} {list(picture.shape)}"
        raise PictureError(f"a frame is {shape}", "The camera must deliver uint8 [H, W, 3] RGB.")
    full = (picture.shape[0], picture.shape[1])
    window = window_of(view.box, full)
    if view.reference is None:
        pose, warp = None, None
    else:
        pose = find_pose(picture, view.reference)
        warp = pose.warp
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        aligned = cv2.warpAffine(picture, warp, (full[1], full[0]), flags=flags, borderMode=cv2.BORDER_REFLECT_101)
        picture = np.asarray(aligned, dtype=np.uint8)
    cut = picture[window.y : window.y + window.height, window.x : window.x + window.width]
    return Prepared(_scale(cut, size), Placement(full, window, warp), pose)


def _scale(picture: Picture, size: tuple[int, int]) -> Picture:
    height, width = size
    if picture.shape[:2] == size:
        return picture
    shrinks = picture.shape[0] > height or picture.shape[1] > width
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)

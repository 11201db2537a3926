"""Which part of a picture is judged, and where what was found lies in it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray


class Box(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A rectangle in shares of a picture's width and height, from its top left corner."""

    left: float
    top: float
    right: float
    bottom: float


WHOLE = Box(0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle in pixels."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Placement:
    """How the encoder's input lies in the picture.

    `size` is the picture's `(height, width)`, `window` what was cut out of the aligned picture, and `warp` the `[2, 3]`
    matrix that takes aligned pixels to picture pixels; None when the picture was not aligned.
    """

    size: tuple[int, int]
    window: Window
    warp: NDArray[np.float32] | None = None


def window_of(box: Box, size: tuple[int, int]) -> Window:
    """A box in pixels of a picture of `size` (height, width); at least one pixel wide and high."""
    height, width = size
    x, y = int(box.left * width), int(box.top * height)
    right, bottom = int(np.ceil(box.right * width)), int(np.ceil(box.bottom * height))
    return Window(x, y, max(1, min(right, width) - x), max(1, min(bottom, height) - y))


def _scale(mask: NDArray[np.bool_], window: Window) -> NDArray[np.uint8]:
    """Nearest neighbour when growing; when shrinking, no set pixel is lost."""
    rows, columns = mask.shape
    # Each axis is shrunk or grown on its own: OpenCV's area mean does not shrink one side while it grows the other.
    least = (min(window.width, columns), min(window.height, rows))
    share = cv2.resize(mask.astype(np.float32), least, interpolation=cv2.INTER_AREA)
    found = (np.asarray(share) > 0).astype(np.uint8)
    size = (window.width, window.height)
    return np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_NEAREST_EXACT), dtype=np.uint8)


def place_mask(mask: NDArray[np.bool_], placement: Placement) -> NDArray[np.bool_]:
    """Put `bool [h, w]` over the encoder's input where it belongs in the picture, `bool [H, W]`, by nearest neighbour."""
    window = placement.window
    scaled = _scale(mask, window)
    if (window.height, window.width) == placement.size and placement.warp is None:
        return scaled.view(np.bool_)
    full = np.zeros(placement.size, np.uint8)
    full[window.y : window.y + window.height, window.x : window.x + window.width] = scaled
    if placement.warp is not None:
        full = np.asarray(
            cv2.warpAffine(full, placement.warp, (placement.size[1], placement.size[0]), flags=cv2.INTER_NEAREST),
            np.uint8,
        )
    return full.view(np.bool_)

"""A region of interest from a mask picture or a polygon."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bank import INSIDE_LEAST_SHARE, Geometry
from edge.engines.package import EncoderSpec
from edge.errors import ShotsError
from edge.pictures import read_picture
from edge.view import Box, window_of

POLYGON_SUFFIX = ".txt"
LEAST_TOKENS = 16
MARGIN = 0.02
"""Added around the region, as a share of the picture: what lies at its edge needs some surroundings."""


@dataclass(frozen=True)
class Roi:
    """The region `bool [H, W]` in pixels of the shots, and the box around it."""

    mask: NDArray[np.bool_]
    box: Box


def read_roi(path: Path, size: tuple[int, int]) -> Roi:
    """Read a region of interest for pictures of `size` (height, width).

    A text file holds a polygon, one `x y` in pixels a line; a picture is the region where it is white.

    Raises:
        ShotsError: not readable, outside the picture, or empty.
        PictureError: no picture.
    """
    mask = _polygon(path, size) if path.suffix.lower() == POLYGON_SUFFIX else _picture(path, size)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise ShotsError(f"{path} marks nothing", "Draw the region of interest in white, or name its corners.")
    height, width = size
    box = Box(
        max(0.0, float(columns[0]) / width - MARGIN),
        max(0.0, float(rows[0]) / height - MARGIN),
        min(1.0, float(columns[-1] + 1) / width + MARGIN),
        min(1.0, float(rows[-1] + 1) / height + MARGIN),
    )
    return Roi(mask, box)


def geometry_of(roi: Roi, encoder: EncoderSpec) -> Geometry:
    """Which tokens lie in the region, once its box is scaled to the encoder's input.

    Raises:
        ShotsError: next to none do.
    """
    window = window_of(roi.box, (roi.mask.shape[0], roi.mask.shape[1]))
    cut = roi.mask[window.y : window.y + window.height, window.x : window.x + window.width].astype(np.float32)
    inside: list[NDArray[np.float32]] = []
    for tap in encoder.taps:
        share = cv2.resize(cut, (tap.grid[1], tap.grid[0]), interpolation=cv2.INTER_AREA)
        inside.append((np.asarray(share).reshape(-1) >= INSIDE_LEAST_SHARE).astype(np.float32))
    if inside[0].sum() < LEAST_TOKENS or any(not tap.any() for tap in inside):
        raise ShotsError("the region of interest is too thin for this encoder", "Draw it larger.")
    return Geometry(tuple(inside))


def _polygon(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    remedy = "Write one corner a line: x y, in pixels, at least three."
    try:
        rows = [
            line.replace(",", " ").split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()
        ]
        corners = np.array([[float(x), float(y)] for x, y in rows])
    except OSError as error:
        raise ShotsError(f"{path} cannot be read ({error.strerror})", remedy) from error
    except ValueError as error:
        raise ShotsError(f"{path} is not a polygon", remedy) from error
    if len(corners) < 3:
        raise ShotsError(f"{path} has {len(corners)} corners", remedy)
    height, width = size
    if not np.isfinite(corners).all() or corners.min() < 0 or (corners > (width, height)).any():
        raise ShotsError(f"{path} lies outside the picture ({width} x {height})", "Name corners inside the shots.")
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 1)
    return mask.astype(np.bool_)


def _picture(path: Path, size: tuple[int, int]) -> NDArray[np.bool_]:
    picture = read_picture(path)
    if picture.shape[:2] != size:
        raise ShotsError(
            f"{path} is {picture.shape[1]} x {picture.shape[0]}, the shots are {size[1]} x {size[0]}",
            "Draw the region of interest over one of the shots.",
        )
    return np.asarray(picture.max(axis=2) > 127)

"""Where the part lies against a reference shot: shift and small rotation."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.types import Picture

SMALL_SIDE_PX = 128
ITERATIONS, PRECISION = 40, 1e-4
SMOOTHING_PX = 5


class PoseSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The reference (a grey PNG beside the recipe) and how far a frame may lie from it.

    `shift_most` is a share of the picture's longer side, `angle_most` in degrees, `likeness_least` the correlation that must
    remain after aligning.
    """

    sha256: str
    shift_most: float
    angle_most: float
    likeness_least: float


@dataclass(frozen=True, slots=True)
class Pose:
    """A frame against the reference: `shift` as a share of the longer side, `angle` in degrees, `likeness` up to 1.

    `warp` is the `[2, 3]` matrix that takes pixels of the aligned picture to those of the frame.
    """

    shift: float
    angle: float
    likeness: float
    warp: NDArray[np.float32]


def small_grey(picture: Picture) -> NDArray[np.uint8]:
    """`uint8 [h, w]`, its longer side 128 pixels: what poses are compared on."""
    scale = SMALL_SIDE_PX / max(picture.shape[:2])
    size = (max(8, round(picture.shape[1] * scale)), max(8, round(picture.shape[0] * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def find_pose(picture: Picture, reference: NDArray[np.uint8]) -> Pose:
    """Align `uint8 [H, W, 3]` with a reference made by `small_grey`.

    Phase correlation gives the shift to start from, enhanced correlation (Evangelidis and Psarakis, PAMI 2008) refines it with
    a rotation. A frame that does not converge has a likeness of 0.
    """
    grey = small_grey(picture)
    if grey.shape != reference.shape:
        grey = np.asarray(cv2.resize(grey, (reference.shape[1], reference.shape[0])), dtype=np.uint8)
    window = cv2.createHanningWindow((reference.shape[1], reference.shape[0]), cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(reference.astype(np.float32), grey.astype(np.float32), window)
    best = Pose(0.0, 0.0, 0.0, np.eye(2, 3, dtype=np.float32))
    for start in ((dx, dy), (0.0, 0.0)):
        found = _refine(grey, reference, start, picture)
        best = found if found.likeness > best.likeness else best
        if best.likeness > 0.9:
            break
    return best


def _refine(
    grey: NDArray[np.uint8], reference: NDArray[np.uint8], start: tuple[float, float], picture: Picture
) -> Pose:
    warp = np.array([[1, 0, start[0]], [0, 1, start[1]]], dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, ITERATIONS, PRECISION)
    try:
        likeness, warp_found = cv2.findTransformECC(
            reference, grey, warp, cv2.MOTION_EUCLIDEAN, stop, np.full_like(reference, 255), SMOOTHING_PX
        )
    except cv2.error:
        return Pose(0.0, 0.0, 0.0, np.eye(2, 3, dtype=np.float32))
    matrix = np.asarray(warp_found, dtype=np.float64)
    angle = math.degrees(math.atan2(matrix[1, 0], matrix[0, 0]))
    height, width = reference.shape
    centre = np.array([width / 2, height / 2, 1.0])
    moved = matrix @ centre - centre[:2]
    across, down = picture.shape[1] / width, picture.shape[0] / height
    full = matrix.copy()
    full[0, 1] *= across / down
    full[1, 0] *= down / across
    full[0, 2] *= across
    full[1, 2] *= down
    shift = float(np.hypot(*moved)) / max(height, width)
    return Pose(shift, angle, float(likeness), full.astype(np.float32))

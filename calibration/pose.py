"""Choose the reference shot that frames are aligned with, and learn how far parts lie from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.errors import ShotsError
from edge.pose import Pose, PoseSpec, find_pose, small_grey
from edge.sealed import sha256_of
from edge.types import Picture

SHIFT_MARGIN, ANGLE_MARGIN = 0.05, 3.0
LIKENESS_MARGIN = 0.15
ALIGNABLE_LIKENESS = 0.5


def learn_pose(
    pictures: Sequence[Picture], step: Callable[[str, int, int], None]
) -> tuple[NDArray[np.uint8], PoseSpec]:
    """The reference `uint8 [h, w]` and the limits that all shots keep, with margins.

    The reference is the shot that is most like the others.

    Raises:
        ShotsError: the shots have no common shape to align by.
    """
    greys = [small_grey(p) for p in pictures]
    flat = np.stack([_standard(np.asarray(cv2.resize(g, (64, 64)), dtype=np.uint8)) for g in greys])
    reference = greys[int((flat @ flat.T).sum(axis=1).argmax())]
    poses: list[Pose] = []
    for index, picture in enumerate(pictures):
        poses.append(find_pose(picture, reference))
        step("aligning shots", index + 1, len(pictures))
    worst = min(p.likeness for p in poses)
    if worst < ALIGNABLE_LIKENESS:
        raise ShotsError(
            f"a shot cannot be aligned with the others (likeness {worst:.2f})",
            "Take the shot that lies differently out, or calibrate without --align if parts have no common shape.",
        )
    spec = PoseSpec(
        sha256=sha256_of(reference_png(reference)),
        shift_most=max(p.shift for p in poses) + SHIFT_MARGIN,
        angle_most=max(abs(p.angle) for p in poses) + ANGLE_MARGIN,
        likeness_least=max(0.0, worst - LIKENESS_MARGIN),
    )
    return reference, spec


def reference_png(reference: NDArray[np.uint8]) -> bytes:
    """The reference as it is stored beside the recipe."""
    return cv2.imencode(".png", reference)[1].tobytes()


def _standard(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    centred = grey.astype(np.float32).reshape(-1) - float(grey.mean())
    return np.asarray(centred / max(float(np.linalg.norm(centred)), 1e-6), dtype=np.float32)

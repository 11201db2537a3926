"""Small videos, written where OpenCV can write and read them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

FRAMES = 5


def write_video(path: Path) -> Path:
    """Five frames of 64 x 48 pixels whose red grows while green and blue stay; skips the test where that cannot be done."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write Motion JPEG: pip install opencv-python-headless")
    for number in range(FRAMES):
        writer.write(np.full((48, 64, 3), (30, 90, 50 * number + 20), np.uint8))
    writer.release()
    if not cv2.VideoCapture(str(path), cv2.CAP_FFMPEG).isOpened():
        pytest.skip("this OpenCV cannot read videos (no FFMPEG): pip install opencv-python-headless")
    return path

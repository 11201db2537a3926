"""Anomaly maps and masks drawn over pictures."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.types import Picture

OUTLINE = (255, 255, 255)
STRENGTH = 0.55
JPEG_QUALITY = 85


def overlay(picture: Picture, anomaly_map: NDArray[np.float32], low: float, high: float) -> Picture:
    """Tint a picture by its anomaly map.

    Args:
        picture: `uint8 [H, W, 3]` RGB.
        anomaly_map: `float32 [h, w]`, scaled to the picture.
        low: drawn without tint.
        high: drawn as the hottest colour.
    """
    scaled = cv2.resize(anomaly_map, (picture.shape[1], picture.shape[0]), interpolation=cv2.INTER_LINEAR)
    heat = np.clip((np.asarray(scaled) - low) / max(high - low, 1e-12), 0.0, 1.0)
    colours = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    tint = np.asarray(cv2.cvtColor(colours, cv2.COLOR_BGR2RGB), dtype=np.float32)
    weight = (STRENGTH * np.sqrt(heat))[..., np.newaxis]
    return np.asarray(picture * (1 - weight) + tint * weight, dtype=np.uint8)


def outline(picture: Picture, mask: NDArray[np.bool_], thickness: int = 2) -> Picture:
    """A copy of `uint8 [H, W, 3]` with the borders of `bool [H, W]` drawn in white on black."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    drawn = picture.copy()
    cv2.drawContours(drawn, contours, -1, (0, 0, 0), thickness + 2)
    cv2.drawContours(drawn, contours, -1, OUTLINE, thickness)
    return np.asarray(drawn, dtype=np.uint8)


def thumbnail(picture: Picture, side: int) -> Picture:
    """Shrink to at most `side` pixels; smaller pictures stay as they are."""
    scale = side / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def jpeg(picture: Picture) -> bytes:
    """`uint8 [H, W, 3]` RGB as JPEG."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()


def data_uri(picture: Picture) -> str:
    """`uint8 [H, W, 3]` RGB for the `src` of an image in a self-contained page."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture)).decode()

"""A camera that replays a folder of pictures or a video at a set rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edge.cameras.base import StreamEnded
from edge.errors import CameraError, PictureError, UsageError
from edge.pictures import list_pictures, read_picture
from edge.types import Frame, FrameStatus, Picture, Trigger

VIDEO_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4"})
Item = tuple[str, "Picture | None", str]
"""Part id, pixels and what is wrong with them (empty when nothing is)."""


class ReplayCamera:
    """Fires one trigger per picture. The next picture is read ahead, so that a frame follows its trigger at once.

    A file that cannot be decoded is an incomplete frame. When reading is slower than the rate, the rate drops; triggers
    do not pile up.
    """

    is_simulated = True

    def __init__(self, camera_id: str, source: Path, rate_hz: float, loop: bool, bit_depth: int | None = None) -> None:
        """Open the source.

        Raises:
            CameraError: there is nothing to replay.
        """
        self.camera_id = camera_id
        self._period_ns = round(1e9 / rate_hz)
        self._wake = threading.Event()
        self._items = _videos(source, loop) if source.is_file() else _folder(source, loop, bit_depth)
        self._broken: CameraError | None = None
        self._ahead = self._read_ahead()
        if self._broken is not None:
            raise self._broken
        self._count = 0
        self._due_ns: int | None = None

    def grab(self, timeout_s: float) -> Frame | None:
        """See `Camera.grab`."""
        if self._ahead is None:
            raise self._broken or StreamEnded
        now = time.monotonic_ns()
        due = now if self._due_ns is None else self._due_ns
        if due > now and self._wake.wait(min(timeout_s, (due - now) / 1e9)):
            raise StreamEnded
        if time.monotonic_ns() < due:
            return None
        frame = self._fire(*self._ahead)
        self._due_ns = max(due + self._period_ns, time.monotonic_ns())
        self._ahead = self._read_ahead()
        return frame

    def _read_ahead(self) -> Item | None:
        """The next item; a source that breaks is told of when its turn comes, after the last good frame."""
        try:
            return next(self._items, None)
        except CameraError as error:
            self._broken = error
            return None

    def _fire(self, part_id: str, pixels: Picture | None, fault: str) -> Frame:
        self._count += 1
        trigger = Trigger(self._count, time.monotonic_ns(), time.time_ns() // 1000, part_id)
        status = FrameStatus.COMPLETE if pixels is not None else FrameStatus.INCOMPLETE
        return Frame(trigger, self._count, status, time.monotonic_ns(), pixels, fault)

    def close(self) -> None:
        """Stop waiting for the next trigger."""
        self._wake.set()


def _folder(folder: Path, loop: bool, bit_depth: int | None) -> Iterator[Item]:
    try:
        paths = list_pictures(folder)
    except UsageError as error:
        raise CameraError(error.what, error.remedy) from error
    while True:
        for path in paths:
            try:
                yield path.name, read_picture(path, bit_depth), ""
            except PictureError as error:
                yield path.name, None, error.what
        if not loop:
            return


def _videos(path: Path, loop: bool) -> Iterator[Item]:
    if path.suffix.lower() not in VIDEO_SUFFIXES:
        raise CameraError(f"{path} is not a video", f"Use {', '.join(sorted(VIDEO_SUFFIXES))} or a folder of pictures.")
    while True:
        video = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        number = 0
        while True:
            good, frame = video.read()
            if not good:
                break
            number += 1
            rgb = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
            yield f"{path.name}#{number:06d}", rgb, ""
        video.release()
        if number == 0:
            raise CameraError(
                f"{path} cannot be decoded as a video", "Save it as H.264 in MP4, or use a folder of pictures."
            )
        if not loop:
            return

"""A camera that replays a folder of pictures or a video at a set rate."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from edge.cameras.base import SourceBroken, StreamEnded
from edge.errors import CameraError, PictureError, UsageError
from edge.pictures import list_pictures, read_picture
from edge.station import CameraSettings
from edge.types import Frame, FrameStatus, Picture, Trigger

VIDEO_SUFFIXES = frozenset({".avi", ".mkv", ".mov", ".mp4"})
Item = tuple[str, "Picture | None", str]
"""Part id, pixels and what is wrong with them (empty when nothing is)."""


class ReplayCamera:
    """Shows one picture for each trigger: those of its timer, or those that are fired.

    The next picture is read ahead, so that a frame follows its trigger at once. A file that cannot be decoded is an
    incomplete frame. When reading is slower than the rate, the rate drops; triggers do not pile up.
    """

    is_simulated = True

    def __init__(self, settings: CameraSettings) -> None:
        """Open the source.

        Raises:
            CameraError: there is nothing to replay.
        """
        source = Path(settings.source)
        if not source.exists():
            raise CameraError(f"camera.source {source} does not exist", "Name a folder of pictures or a video file.")
        self.camera_id = settings.id
        self._timed = settings.trigger == "timer"
        self._period_ns = round(1e9 / settings.rate_hz)
        self._fired: queue.Queue[Trigger | None] = queue.Queue()
        videos = source.is_file()
        self._items = _videos(source, settings.loop) if videos else _folder(source, settings.loop, settings.bit_depth)
        self._broken: CameraError | None = None
        self._ahead = self._read_ahead()
        if self._broken is not None:
            raise self._broken
        self._count = 0
        self._due_ns: int | None = None
        self._seen: Trigger | None = None

    def fire(self, trigger: Trigger) -> None:
        """See `Camera.fire`."""
        if self._timed:
            raise CameraError(
                "this camera fires by itself", 'Set camera.trigger = "software" in the station file to trigger it.'
            )
        self._fired.put(trigger)

    def grab(self, timeout_s: float) -> Trigger | Frame | None:
        """See `Camera.grab`."""
        if self._seen is not None:
            return self._show(self._seen)
        if self._ahead is None:
            raise self._broken or StreamEnded
        if self._timed:
            return self._wait_for_timer(timeout_s)
        return self._wait_for_fire(timeout_s)

    def _wait_for_timer(self, timeout_s: float) -> Trigger | None:
        now = time.monotonic_ns()
        due = now if self._due_ns is None else self._due_ns
        if due > now:
            # Nothing is ever fired: whatever ends this wait is the end.
            with contextlib.suppress(queue.Empty):
                self._fired.get(timeout=min(timeout_s, (due - now) / 1e9))
                raise StreamEnded
        now = time.monotonic_ns()
        if now < due:
            return None
        self._due_ns = max(due + self._period_ns, now)
        part_id = self._ahead[0] if self._ahead else ""
        self._seen = Trigger(now, time.time_ns() // 1000, part_id)
        return self._seen

    def _wait_for_fire(self, timeout_s: float) -> Frame | None:
        try:
            trigger = self._fired.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if trigger is None:
            raise StreamEnded
        return self._show(trigger)

    def _show(self, trigger: Trigger) -> Frame:
        _, pixels, fault = self._ahead or ("", None, "no picture is left")
        self._count += 1
        self._seen = None
        status = FrameStatus.COMPLETE if pixels is not None else FrameStatus.INCOMPLETE
        frame = Frame(trigger, self._count, status, time.monotonic_ns(), pixels, fault)
        self._ahead = self._read_ahead()
        return frame

    def _read_ahead(self) -> Item | None:
        """The next item; a source that breaks is told of when its turn comes, after the last good frame."""
        try:
            return next(self._items, None)
        except CameraError as error:
            self._broken = SourceBroken(error.what, error.remedy)
            return None

    def close(self) -> None:
        """Stop waiting for the next trigger."""
        self._fired.put(None)


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

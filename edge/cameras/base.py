"""The contract that every camera keeps."""

from __future__ import annotations

from typing import Protocol

from edge.types import Frame


class Camera(Protocol):
    """Delivers frames with their triggers, in order. Opened on construction, closed once."""

    camera_id: str
    is_simulated: bool

    def grab(self, timeout_s: float) -> Frame | None:
        """Wait for the next frame; None when none came within `timeout_s`.

        A frame that arrived damaged is delivered as such, because its trigger needs a verdict.

        Raises:
            StreamEnded: a finite source has no more frames.
            CameraError: the device is gone.
        """
        ...

    def close(self) -> None:
        """Give the device back. May be called twice."""
        ...


class StreamEnded(Exception):  # noqa: N818 - an end, not an error
    """A finite source has delivered its last frame."""

"""The contract that every camera keeps."""

from __future__ import annotations

from typing import Protocol

from edge.errors import CameraError
from edge.types import Frame, Trigger


class Camera(Protocol):
    """Delivers triggers and frames, in order. Opened on construction, closed once.

    A camera that sees parts by itself (a timer, its line input) delivers a trigger as soon as it knows of it, and that
    trigger's frame when it has arrived. A camera with a software trigger gets its triggers by `fire`.
    """

    camera_id: str
    is_simulated: bool

    def fire(self, trigger: Trigger) -> None:
        """Take a frame for this trigger; returns at once. The frame comes by `grab` and names the trigger.

        Raises:
            CameraError: this camera has no software trigger, or is gone.
        """
        ...

    def grab(self, timeout_s: float) -> Trigger | Frame | None:
        """Wait for the next trigger or frame; None when none came within `timeout_s`.

        A frame that arrived damaged is delivered as such, because its trigger needs a verdict.

        Raises:
            StreamEnded: a finite source has no more frames.
            CameraError: the device is gone; to open it again may help.
            SourceBroken: nothing helps.
        """
        ...

    def close(self) -> None:
        """Give the device back. May be called twice, and from another thread while `grab` waits."""
        ...


class StreamEnded(Exception):  # noqa: N818 - an end, not an error
    """A finite source has delivered its last frame."""


class SourceBroken(CameraError):  # noqa: N818 - what is the case
    """The source is broken for good: to open it again would give the same."""

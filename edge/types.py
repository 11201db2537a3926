"""What travels along the route of one frame. Frozen, typed, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
"""`uint8 [H, W, 3]`, RGB."""

Tokens = tuple[NDArray[np.float32], ...]
"""Patch tokens, one `float32 [B, N, D]` per tap of the encoder, rows of the grid from top left."""

Bank = Mapping[str, NDArray[np.float32]]
"""The memory bank: the decoder's inputs beside the tokens, by name."""


class Judgement(str, Enum):
    """What was decided about a part."""

    OK = "OK"
    NOT_OK = "NOT_OK"
    NOT_DECIDABLE = "NOT_DECIDABLE"


class Reason(str, Enum):
    """Why a part was not accepted."""

    DEFECT = "defect"
    DEADLINE_MISSED = "deadline_missed"
    FRAME_INCOMPLETE = "frame_incomplete"
    CAMERA_LOST = "camera_lost"
    UNFIT_IMAGE = "unfit_image"
    NO_RECIPE = "no_recipe"
    OVERLOAD = "overload"
    RESTART = "restart"
    ENGINE_FAULT = "engine_fault"


class FrameStatus(str, Enum):
    """How much of the picture arrived."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True, eq=False)
class Trigger:
    """What the outside said: a part is here. A request for one frame, and so for exactly one verdict.

    Two triggers are the same only if they are the same object: a frame names its trigger by it. `time_ns` is on the
    monotonic clock, `wall_us` on the wall clock (microseconds since 1970). `trigger_id` is the sender's own name for this
    trigger: one that is sent twice is one trigger. Empty when the source cannot repeat itself.
    """

    time_ns: int
    wall_us: int
    part_id: str = ""
    encoder_count: int | None = None
    trigger_id: str = ""


@dataclass(frozen=True, slots=True)
class Frame:
    """An acquired picture and its identity. `pixels` is None when nothing usable arrived."""

    trigger: Trigger
    frame_id: int
    status: FrameStatus
    captured_ns: int
    pixels: Picture | None
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """The decoder's answer for one picture.

    `anomaly_map` is `float32 [h, w]` over the encoder's input; `score` tells how much the worst places stand out;
    `unlikeness` tells how unlike the shots the picture is as a whole. In all, higher is worse.
    """

    anomaly_map: NDArray[np.float32]
    score: float
    unlikeness: float


@dataclass(frozen=True, slots=True)
class Region:
    """One connected part of the mask, in picture pixels; `peak` is the map's largest value in it."""

    x: int
    y: int
    width: int
    height: int
    area_px: int
    peak: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on one part. `mask` is `bool [H, W]` in picture pixels, None unless the judgement is NOT_OK."""

    judgement: Judgement
    reason: Reason | None
    score: float | None
    threshold: float | None
    regions: tuple[Region, ...] = ()
    mask: NDArray[np.bool_] | None = None
    detail: str = ""

    @property
    def accept(self) -> bool:
        """True for OK alone: whatever else happens, the part is rejected."""
        return self.judgement is Judgement.OK

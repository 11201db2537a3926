"""Fill the bus' messages from what the pipeline knows."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bus.messages import MaskMessage, MaskReference, VerdictMessage
from edge.ledger import Entry
from edge.types import Frame, Verdict

PNG_EFFORT = 1
LONGEST_DETAIL = 500
_TIMESYNC_FLAG = Path("/run/systemd/timesync/synchronized")


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict on its way to the bus. `frame` is None when none arrived, `done_ns` when it was never judged.

    `mask` names the verdict's mask, if that was worked out before.
    """

    entry: Entry
    verdict: Verdict
    frame: Frame | None = None
    done_ns: int | None = None
    mask: MaskReference | None = None


def judged_now(entry: Entry, verdict: Verdict, frame: Frame) -> Judged:
    """A verdict that was just reached; what takes long about its message is done here, not by who publishes."""
    mask = None if verdict.mask is None else mask_reference(verdict.mask)
    return Judged(entry, verdict, frame, time.monotonic_ns(), mask)


@lru_cache(maxsize=1)
def _synchronised_at(_second: int) -> bool | None:
    return True if _TIMESYNC_FLAG.exists() else None


def clock_synchronised() -> bool | None:
    """True if systemd says that the wall clock is synchronised; None if nobody says anything. Looked up once a second."""
    return _synchronised_at(int(time.monotonic()))


def mask_reference(mask: NDArray[np.bool_]) -> MaskReference:
    """Name a mask `bool [H, W]` by the hash of its packed bits."""
    return MaskReference(hashlib.sha256(np.packbits(mask).tobytes()).hexdigest(), mask.shape[1], mask.shape[0])


def mask_png(mask: NDArray[np.bool_]) -> bytes:
    """A mask `bool [H, W]` as an 8-bit PNG, 255 where it is set."""
    grey = mask.astype(np.uint8) * np.uint8(255)
    _, data = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT])
    return data.tobytes()


def verdict_message(judged: Judged, seq: int) -> VerdictMessage:
    """The message for one terminal verdict, stamped as published now.

    `accept` is the verdict's, unless the deadline has passed meanwhile or the verdict is only for observing.
    """
    entry, frame, verdict = judged.entry, judged.frame, judged.verdict
    trigger, provenance = entry.trigger, entry.job.provenance
    mask = judged.mask
    if mask is None and verdict.mask is not None:
        mask = mask_reference(verdict.mask)
    # Stamped last, so that no work on the message is left out of the latency.
    now_ns = time.monotonic_ns()
    latency_us = (now_ns - trigger.time_ns) // 1000
    deadline_met = now_ns <= entry.deadline_ns
    return VerdictMessage(
        station_id=provenance.station_id,
        camera_id=provenance.camera_id,
        epoch=provenance.epoch,
        product=provenance.product,
        recipe_revision=provenance.recipe_revision,
        recipe_hash=provenance.recipe_hash,
        package_hash=provenance.package_hash,
        bank_hash=provenance.bank_hash,
        config_hash=provenance.config_hash,
        software_version=provenance.software_version,
        engine=provenance.engine,
        is_simulated=provenance.is_simulated,
        is_test=provenance.is_test,
        seq=seq,
        trigger_seq=entry.seq,
        trigger_id=trigger.trigger_id,
        part_id=trigger.part_id,
        encoder_count=trigger.encoder_count,
        frame_id=None if frame is None else frame.frame_id,
        judgement=verdict.judgement,
        accept=verdict.accept and deadline_met and not provenance.is_test,
        reason=verdict.reason,
        detail=verdict.detail[:LONGEST_DETAIL],
        score=verdict.score,
        threshold=verdict.threshold,
        region_count=len(verdict.regions),
        regions=verdict.regions,
        mask=mask,
        trigger_wall_us=trigger.wall_us,
        capture_after_us=None if frame is None else (frame.captured_ns - trigger.time_ns) // 1000,
        done_after_us=None if judged.done_ns is None else (judged.done_ns - trigger.time_ns) // 1000,
        publish_after_us=latency_us,
        clock_synchronised=clock_synchronised(),
        latency_us=latency_us,
        deadline_us=(entry.deadline_ns - trigger.time_ns) // 1000,
        deadline_met=deadline_met,
    )


def mask_message(verdict: VerdictMessage, mask: NDArray[np.bool_]) -> tuple[MaskMessage, bytes]:
    """The announcement of a verdict's mask `bool [H, W]`, and its PNG.

    Raises:
        ValueError: the verdict names no mask.
    """
    if verdict.mask is None:
        raise ValueError("a verdict without a mask")
    message = MaskMessage(
        station_id=verdict.station_id,
        epoch=verdict.epoch,
        seq=verdict.seq,
        trigger_seq=verdict.trigger_seq,
        part_id=verdict.part_id,
        sha256=verdict.mask.sha256,
        width=verdict.mask.width,
        height=verdict.mask.height,
    )
    return message, mask_png(mask)

"""Fill the bus' messages from what the pipeline knows."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.bus.messages import HeartbeatMessage, MaskMessage, MaskReference, Provenance, State, VerdictMessage
from edge.ledger import Counts
from edge.types import Frame, Trigger, Verdict

PNG_EFFORT = 1
_TIMESYNC_FLAG = Path("/run/systemd/timesync/synchronized")


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict on its way to the bus. `frame` is None when none arrived, `done_ns` when it was never judged."""

    trigger: Trigger
    verdict: Verdict
    frame: Frame | None = None
    done_ns: int | None = None


def clock_synchronised() -> bool | None:
    """True if systemd says that the wall clock is synchronised; None if nobody says anything."""
    return True if _TIMESYNC_FLAG.exists() else None


def mask_reference(mask: NDArray[np.bool_]) -> MaskReference:
    """Name a mask `bool [H, W]` by the hash of its packed bits."""
    return MaskReference(hashlib.sha256(np.packbits(mask).tobytes()).hexdigest(), mask.shape[1], mask.shape[0])


def mask_png(mask: NDArray[np.bool_]) -> bytes:
    """A mask `bool [H, W]` as an 8-bit PNG, 255 where it is set."""
    grey = mask.astype(np.uint8) * np.uint8(255)
    _, data = cv2.imencode(".png", grey, [cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT])
    return data.tobytes()


class Composer:
    """Writes messages that all carry the same provenance."""

    def __init__(self, provenance: Provenance, deadline_ns: int) -> None:
        self._provenance = provenance
        self._constant = msgspec.structs.asdict(provenance)
        self._deadline_us = deadline_ns // 1000
        self._synchronised = clock_synchronised()

    def verdict(self, judged: Judged, seq: int) -> VerdictMessage:
        """The message for one terminal verdict, stamped as published now."""
        trigger, frame, verdict = judged.trigger, judged.frame, judged.verdict
        mask = None if verdict.mask is None else mask_reference(verdict.mask)
        # Stamped last, so that no work on the message is left out of the latency.
        latency_us = (time.monotonic_ns() - trigger.time_ns) // 1000
        return VerdictMessage(
            **self._constant,
            seq=seq,
            trigger_seq=trigger.seq,
            part_id=trigger.part_id,
            encoder_count=trigger.encoder_count,
            frame_id=None if frame is None else frame.frame_id,
            judgement=verdict.judgement,
            accept=verdict.accept,
            reason=verdict.reason,
            detail=verdict.detail,
            score=verdict.score,
            threshold=verdict.threshold,
            region_count=len(verdict.regions),
            regions=verdict.regions,
            mask=mask,
            trigger_wall_us=trigger.wall_us,
            capture_after_us=None if frame is None else (frame.captured_ns - trigger.time_ns) // 1000,
            done_after_us=None if judged.done_ns is None else (judged.done_ns - trigger.time_ns) // 1000,
            publish_after_us=latency_us,
            clock_synchronised=self._synchronised,
            latency_us=latency_us,
            deadline_us=self._deadline_us,
            deadline_met=latency_us <= self._deadline_us,
        )

    def mask(self, judged: Judged, seq: int) -> tuple[MaskMessage, bytes]:
        """The announcement of a mask, and its PNG.

        Raises:
            ValueError: the verdict has no mask.
        """
        mask = judged.verdict.mask
        if mask is None:
            raise ValueError("a verdict without a mask")
        reference = mask_reference(mask)
        message = MaskMessage(
            station_id=self._provenance.station_id,
            epoch=self._provenance.epoch,
            seq=seq,
            trigger_seq=judged.trigger.seq,
            part_id=judged.trigger.part_id,
            sha256=reference.sha256,
            width=reference.width,
            height=reference.height,
        )
        return message, mask_png(mask)

    def heartbeat(self, counts: Counts, head_seq: int, state: State) -> HeartbeatMessage:
        """The message for one heartbeat."""
        return HeartbeatMessage(
            station_id=self._provenance.station_id,
            epoch=self._provenance.epoch,
            head_seq=head_seq,
            triggers_seen=counts.triggers_seen,
            ok=counts.ok,
            not_ok=counts.not_ok,
            not_decidable=counts.not_decidable,
            in_flight=counts.in_flight,
            missed=counts.missed,
            late=counts.late,
            overruns=counts.overruns,
            state=state,
            wall_us=time.time_ns() // 1000,
        )

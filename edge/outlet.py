"""The end of the route: closes a trigger's entry, keeps the verdict, sends it. One thread at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import msgspec

from edge.bus.compose import Judged, verdict_message
from edge.bus.messages import HeartbeatMessage, JournalState, StateMessage, VerdictMessage, encode
from edge.bus.publisher import Publisher
from edge.bus.topics import HEARTBEAT, MASK, STATE, VERDICT
from edge.ledger import Entry, Ledger
from edge.logs import log_event
from edge.press import Press
from edge.types import Picture, Reason
from edge.verdict import undecided

MISSED = "no verdict was ready by the deadline"
_LOG = logging.getLogger("linegate.verdicts")


class Keeper(Protocol):
    """What the outlet needs of a journal."""

    def record(self, message: VerdictMessage, data: bytes) -> None:
        """Keep a verdict before it is sent; never waits for a disk."""
        ...

    def picture(self, message: VerdictMessage, pixels: Picture) -> None:
        """Keep the picture of some of them."""
        ...

    @property
    def state(self) -> JournalState:
        """Whether the disk keeps up."""
        ...


class Outlet:
    """Gives terminal verdicts: to the ledger, the journal and the bus, in this order."""

    def __init__(
        self, ledger: Ledger, journal: Keeper, publisher: Publisher, note_latency: Callable[[int], None]
    ) -> None:
        self.publisher = publisher
        self.head_seq = 0
        self._ledger, self._journal = ledger, journal
        self._note_latency = note_latency
        self._press = Press()

    def give(self, judged: Judged) -> None:
        """Close the entry with this verdict, or with a missed deadline if that has passed; a second verdict is only logged."""
        entry = judged.entry
        if not self._ledger.is_open(entry):
            self.note_late(entry, judged)
            return
        message = verdict_message(judged, self.head_seq + 1)
        if (
            not message.deadline_met
            and judged.verdict.reason is not Reason.DEADLINE_MISSED
            and judged.done_ns is not None
        ):
            self.note_late(entry, judged)
            judged = replace(missed(entry), frame=judged.frame)
            message = verdict_message(judged, self.head_seq + 1)
        # What cannot be encoded has not been given: the entry stays open, and its deadline stands.
        data = encode(message)
        self._ledger.close(entry, judged.verdict)
        self.head_seq += 1
        self._journal.record(message, data)
        self.publisher.send(VERDICT, data)
        self._note_latency(message.latency_us)
        self._keep_picture(judged, message)

    def _keep_picture(self, judged: Judged, message: VerdictMessage) -> None:
        if judged.frame is not None and judged.frame.pixels is not None:
            self._journal.picture(message, judged.frame.pixels)
        if judged.verdict.mask is not None:
            self._press.order(message, judged.verdict.mask)

    def note_late(self, entry: Entry, judged: Judged | None = None) -> None:
        """A frame or a result came when the verdict was given already."""
        self._ledger.note_late()
        would_be = "" if judged is None else judged.verdict.judgement.value
        after_ms = (time.monotonic_ns() - entry.trigger.time_ns) // 1_000_000
        log_event(_LOG, "late_result", level="warning", trigger_seq=entry.seq, judgement=would_be, after_ms=after_ms)

    def repeat(self, data: bytes) -> None:
        """Send a verdict that an earlier epoch is owed; it is in the journal already."""
        self.publisher.send(VERDICT, data)

    @property
    def masks_lost(self) -> int:
        """Masks that were not sent, because too many waited."""
        return self._press.lost

    def send_mask(self) -> bool:
        """Send the oldest mask that is ready; False if none is."""
        ready = self._press.collect()
        if ready is not None:
            self.publisher.send(MASK, *ready)
        return ready is not None

    def send_last_masks(self, patience_s: float) -> None:
        """At the end: send those that still wait, as long as they come in time."""
        end = time.monotonic() + patience_s
        while self._press.owed and (left := end - time.monotonic()) > 0:
            ready = self._press.collect(left)
            if ready is not None:
                self.publisher.send(MASK, *ready)
        self._press.close()

    def send_state(self, message: StateMessage) -> None:
        """Tell what the station is doing."""
        self.publisher.send(STATE, encode(message))
        fields = msgspec.structs.asdict(message)
        log_event(_LOG, "state", **{k: fields[k] for k in ("state", "mode", "detail", "product", "recipe_revision")})

    def send_heartbeat(self, message: HeartbeatMessage) -> None:
        """Tell that every stage makes progress."""
        self.publisher.send(HEARTBEAT, encode(message))


def missed(entry: Entry) -> Judged:
    """The verdict of a trigger whose deadline has passed."""
    return Judged(entry, undecided(Reason.DEADLINE_MISSED, MISSED))

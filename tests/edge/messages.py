"""Messages of a station on fakes."""

from __future__ import annotations

import time

import msgspec
import numpy as np

from edge.bus.compose import Judged, verdict_message
from edge.bus.messages import HeartbeatMessage, JournalState, Mode, State, VerdictMessage
from edge.ledger import Entry
from edge.types import Frame, FrameStatus, Judgement, Reason, Region, Trigger, Verdict
from tests.edge.fakes import fake_entry, fake_job, normal_part

OK = Verdict(Judgement.OK, None, 0.1, 1.0)


def verdict(seq: int, epoch: int = 1) -> VerdictMessage:
    """The verdict with this number."""
    return msgspec.structs.replace(verdict_message(Judged(fake_entry(seq), OK), seq), epoch=epoch)


def heartbeat(head_seq: int, epoch: int = 1) -> HeartbeatMessage:
    """A heartbeat after this many verdicts."""
    return HeartbeatMessage(
        station_id="test",
        epoch=epoch,
        head_seq=head_seq,
        triggers_seen=head_seq,
        ok=head_seq,
        not_ok=0,
        not_decidable=0,
        in_flight=0,
        missed=0,
        late=0,
        overruns=0,
        duplicates=0,
        unclaimed=0,
        state=State.READY,
        mode=Mode.JUDGE,
        journal=JournalState.OK,
        journal_lost=0,
        pictures_lost=0,
        masks_lost=0,
        plaintext_remote=False,
        wall_us=time.time_ns() // 1000,
    )


def halted(head_seq: int) -> HeartbeatMessage:
    """The last heartbeat after this many verdicts."""
    return msgspec.structs.replace(heartbeat(head_seq), state=State.HALTED)


def rejected() -> Judged:
    """A NOT_OK verdict on a part that passed just now."""
    mask = np.zeros((50, 70), np.bool_)
    mask[10:20, 30:45] = True
    now = time.monotonic_ns()
    trigger = Trigger(now, time.time_ns() // 1000, "part-4", encoder_count=123, trigger_id="plc-4")
    frame = Frame(trigger, 9, FrameStatus.COMPLETE, now + 2_000_000, normal_part())
    regions = (Region(30, 10, 15, 10, 150, 3.5),)
    verdict = Verdict(Judgement.NOT_OK, Reason.DEFECT, 3.0, 1.0, regions, mask)
    entry = Entry(4, trigger, now + 10**9, fake_job())
    return Judged(entry, verdict, frame, now + 7_000_000)

"""Messages of a station on fakes."""

from __future__ import annotations

import time

import msgspec
import numpy as np

from edge.bus.compose import Composer, Judged
from edge.bus.messages import HeartbeatMessage, State, VerdictMessage
from edge.ledger import Counts
from edge.types import Frame, FrameStatus, Judgement, Reason, Region, Trigger, Verdict
from tests.edge.fakes import fake_provenance, normal_part

OK = Verdict(Judgement.OK, None, 0.1, 1.0)


def verdict(seq: int, epoch: int = 1) -> VerdictMessage:
    """The verdict with this number."""
    composer = Composer(msgspec.structs.replace(fake_provenance(), epoch=epoch), 1)
    return composer.verdict(Judged(Trigger(seq, 0, 0), OK), seq)


def heartbeat(head_seq: int, epoch: int = 1) -> HeartbeatMessage:
    """A heartbeat after this many verdicts."""
    composer = Composer(msgspec.structs.replace(fake_provenance(), epoch=epoch), 1)
    return composer.heartbeat(Counts(head_seq, head_seq, 0, 0, 0, 0, 0, 0), head_seq, State.READY)


def halted(head_seq: int) -> HeartbeatMessage:
    """The last heartbeat after this many verdicts."""
    return msgspec.structs.replace(heartbeat(head_seq), state=State.HALTED)


def rejected() -> Judged:
    """A NOT_OK verdict on a part that passed just now."""
    mask = np.zeros((50, 70), np.bool_)
    mask[10:20, 30:45] = True
    now = time.monotonic_ns()
    trigger = Trigger(4, now, time.time_ns() // 1000, "part-4", encoder_count=123)
    frame = Frame(trigger, 9, FrameStatus.COMPLETE, now + 2_000_000, normal_part())
    regions = (Region(30, 10, 15, 10, 150, 3.5),)
    verdict = Verdict(Judgement.NOT_OK, Reason.DEFECT, 3.0, 1.0, regions, mask)
    return Judged(trigger, verdict, frame, now + 7_000_000)

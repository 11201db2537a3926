"""Messages of a station that accepts everything."""

from __future__ import annotations

import msgspec

from edge.bus.compose import Composer, Judged
from edge.bus.messages import HeartbeatMessage, State, VerdictMessage
from edge.ledger import Counts
from edge.types import Judgement, Trigger, Verdict
from tests.edge.fakes import fake_provenance

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

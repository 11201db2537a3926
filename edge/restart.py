"""After a crash: the triggers that the last process owed a verdict get it, in their own epoch."""

from __future__ import annotations

import msgspec

from edge.bus.compose import Judged, verdict_message
from edge.bus.messages import Provenance, VerdictMessage, encode
from edge.job import Job
from edge.journal.left import Left, OpenTrigger
from edge.ledger import Entry
from edge.outlet import Keeper
from edge.types import Reason, Trigger
from edge.verdict import undecided

RESTART = "the station was restarted before this part was judged"


def settle(left: Left, journal: Keeper, present: Provenance, deadline_ns: int) -> list[bytes]:
    """Close what was in flight as NOT_DECIDABLE (restart); returns the verdicts, which are in the journal, to be sent.

    Args:
        left: what the last process left.
        journal: keeps the verdicts.
        present: says who gives them, where the last process left no note of who it was.
        deadline_ns: from the trigger.
    """
    provenance = left.provenance or present
    if provenance.epoch != left.epoch:
        provenance = msgspec.structs.replace(provenance, epoch=left.epoch)
    given = []
    for step, trigger in enumerate(left.triggers, start=1):
        message = _verdict(trigger, Job(None, _origin(provenance, trigger)), left.head_seq + step, deadline_ns)
        data = encode(message)
        journal.record(message, data)
        given.append(data)
    return given


def _origin(last: Provenance, trigger: OpenTrigger) -> Provenance:
    """What this trigger was to be judged with: the last process may have changed its recipe since it came."""
    return msgspec.structs.replace(
        last,
        product=trigger.product,
        recipe_revision=trigger.recipe_revision,
        recipe_hash=trigger.recipe_hash,
        bank_hash=trigger.bank_hash,
        is_test=trigger.is_test,
    )


def _verdict(left: OpenTrigger, job: Job, seq: int, deadline_ns: int) -> VerdictMessage:
    trigger = Trigger(left.time_ns, left.wall_us, left.part_id, left.encoder_count, left.trigger_id)
    entry = Entry(left.seq, trigger, left.time_ns + deadline_ns, job)
    return verdict_message(Judged(entry, undecided(Reason.RESTART, RESTART)), seq)

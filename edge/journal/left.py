"""What a process leaves when it dies: triggers that never got their verdict."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from edge.bus.messages import Provenance
from edge.ledger import Entry


class OpenTrigger(msgspec.Struct, frozen=True):
    """What the tail keeps of a trigger that waits for its verdict, and of what it was to be judged with."""

    seq: int
    time_ns: int
    wall_us: int
    part_id: str
    trigger_id: str
    encoder_count: int | None
    product: str = ""
    recipe_revision: int = 0
    recipe_hash: str = ""
    bank_hash: str = ""
    is_test: bool = False


@dataclass(frozen=True)
class Left:
    """The triggers of an epoch that never got their verdict, by number, and who was to judge them."""

    epoch: int
    head_seq: int
    triggers: tuple[OpenTrigger, ...]
    provenance: Provenance | None


def encode_trigger(entry: Entry, longest: int) -> bytes:
    """What is kept of an open trigger; of too long a part id only the beginning."""
    trigger, part_id, job = entry.trigger, entry.trigger.part_id, entry.job.provenance
    while True:
        kept = OpenTrigger(
            entry.seq,
            trigger.time_ns,
            trigger.wall_us,
            part_id,
            trigger.trigger_id,
            trigger.encoder_count,
            job.product,
            job.recipe_revision,
            job.recipe_hash,
            job.bank_hash,
            job.is_test,
        )
        data = msgspec.msgpack.encode(kept)
        if len(data) <= longest or not part_id:
            return data
        part_id = part_id[: len(part_id) // 2]


def decode_trigger(data: bytes) -> OpenTrigger | None:
    """None if it is not one."""
    try:
        return msgspec.msgpack.decode(data, type=OpenTrigger)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def decode_provenance(data: bytes) -> Provenance | None:
    """None if it is not one."""
    try:
        return msgspec.json.decode(data, type=Provenance)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None

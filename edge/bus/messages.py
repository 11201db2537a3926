"""The messages of the verdict bus: one flat JSON object each.

Integers stay below 2**53, so that a JavaScript peer reads them exactly. Times: `*_wall_us` is microseconds since 1970 on
the wall clock; `*_after_us` is a duration since the trigger on the monotonic clock; None says that it did not happen.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from edge.types import Judgement, Reason, Region

SCHEMA_VERSION = 2


class State(str, Enum):
    """What the runtime does; the names are those of OPC 40100-1.

    Preoperational: starting. Initialized: no recipe is active, so every trigger is NOT_DECIDABLE (no_recipe). Ready: waits
    for a software trigger. SingleExecution: judges what one asked for. ContinuousExecution: judges whatever comes.
    Halted: ended as asked. Error: ended because something failed for good.
    """

    PREOPERATIONAL = "Preoperational"
    INITIALIZED = "Initialized"
    READY = "Ready"
    SINGLE_EXECUTION = "SingleExecution"
    CONTINUOUS_EXECUTION = "ContinuousExecution"
    HALTED = "Halted"
    ERROR = "Error"


ENDED = frozenset({State.HALTED, State.ERROR})
"""After one of these an epoch gets no more verdicts."""


class Mode(str, Enum):
    """What verdicts are for: `judge` moves the gate; `observe` only looks, and accepts nothing."""

    JUDGE = "judge"
    OBSERVE = "observe"


class JournalState(str, Enum):
    """How the journal is: `behind` while the disk takes nothing; what waits is in memory and can still be replayed."""

    OFF = "off"
    OK = "ok"
    BEHIND = "behind"


class MaskReference(msgspec.Struct, frozen=True):
    """A mask that follows on its own topic. `sha256` is over its bits, packed row by row, most significant first."""

    sha256: str
    width: int
    height: int


class Provenance(msgspec.Struct, frozen=True):
    """What produced a verdict: constant while one recipe is active."""

    station_id: str
    camera_id: str
    epoch: int
    product: str
    recipe_revision: int
    recipe_hash: str
    package_hash: str
    bank_hash: str
    config_hash: str
    software_version: str
    engine: str
    is_simulated: bool
    is_test: bool = False


class VerdictMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One terminal verdict. `accept` is the only field that may open a gate, and only if `is_replay` is false.

    `is_test`: given in observe mode, accepts nothing. `is_replay`: a copy of an earlier verdict.
    """

    schema_version: int = SCHEMA_VERSION
    station_id: str
    camera_id: str
    epoch: int
    seq: int
    trigger_seq: int
    trigger_id: str
    part_id: str
    encoder_count: int | None
    frame_id: int | None
    judgement: Judgement
    accept: bool
    reason: Reason | None
    detail: str
    score: float | None
    threshold: float | None
    region_count: int
    regions: tuple[Region, ...]
    mask: MaskReference | None
    product: str
    recipe_revision: int
    recipe_hash: str
    package_hash: str
    bank_hash: str
    config_hash: str
    software_version: str
    engine: str
    trigger_wall_us: int
    capture_after_us: int | None
    done_after_us: int | None
    publish_after_us: int
    clock_synchronised: bool | None
    latency_us: int
    deadline_us: int
    deadline_met: bool
    is_simulated: bool
    is_test: bool = False
    is_replay: bool = False


class MaskMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Announces the PNG in the third part: 8-bit grey, 255 where the part is anomalous, of the picture's size."""

    schema_version: int = SCHEMA_VERSION
    station_id: str
    epoch: int
    seq: int
    trigger_seq: int
    part_id: str
    sha256: str
    width: int
    height: int


class HeartbeatMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Proof of life and the counts. `triggers_seen = ok + not_ok + not_decidable + in_flight`, always.

    Sent only while every stage of the pipeline makes progress: its absence means reject. `duplicates` are triggers that
    were sent twice, `unclaimed` frames that no open trigger asked for. `journal_lost` verdicts and `pictures_lost` pictures
    could not be kept, `masks_lost` masks not be sent. `plaintext_remote`: the bus is open to the network without
    encryption, as the station file asks.
    """

    schema_version: int = SCHEMA_VERSION
    station_id: str
    epoch: int
    head_seq: int
    triggers_seen: int
    ok: int
    not_ok: int
    not_decidable: int
    in_flight: int
    missed: int
    late: int
    overruns: int
    duplicates: int
    unclaimed: int
    state: State
    mode: Mode
    journal: JournalState
    journal_lost: int
    pictures_lost: int
    masks_lost: int
    plaintext_remote: bool
    wall_us: int


class StateMessage(msgspec.Struct, frozen=True, kw_only=True):
    """What the station is doing, at every change; late joiners get the last one.

    `product`, `recipe_revision` and `recipe_hash` are those of the active recipe, empty and 0 if there is none.
    `first_trigger_seq` is the first trigger of this epoch that is judged so. `detail` says why in words. The endpoints are as
    bound: a wildcard address stands for the station's.
    """

    schema_version: int = SCHEMA_VERSION
    station_id: str
    epoch: int
    state: State
    mode: Mode
    detail: str
    product: str
    recipe_revision: int
    recipe_hash: str
    package_hash: str
    config_hash: str
    software_version: str
    first_trigger_seq: int
    replay_endpoint: str
    control_endpoint: str
    wall_us: int


_ENCODER = msgspec.json.Encoder()
_VERDICTS = msgspec.json.Decoder(VerdictMessage)


def encode(message: msgspec.Struct) -> bytes:
    """A message as it goes over the wire."""
    return _ENCODER.encode(message)


def replayed(data: bytes) -> bytes:
    """A published verdict as an answer to somebody who asked for it again.

    Raises:
        msgspec.DecodeError: not a verdict.
    """
    return encode(msgspec.structs.replace(_VERDICTS.decode(data), is_replay=True))


def last_value(data: bytes) -> bytes:
    """A published verdict as information for late joiners, on the live feed: it opens no gate.

    Raises:
        msgspec.DecodeError: not a verdict.
    """
    return encode(msgspec.structs.replace(_VERDICTS.decode(data), is_replay=True, accept=False))

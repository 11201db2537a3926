"""The messages of the verdict bus: one flat JSON object each.

Integers stay below 2**53, so that a JavaScript peer reads them exactly. Times: `*_wall_us` is microseconds since 1970 on
the wall clock; `*_after_us` is a duration since the trigger on the monotonic clock; None says that it did not happen.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from edge.types import Judgement, Reason, Region

SCHEMA_VERSION = 1


class State(str, Enum):
    """What the runtime does; the names are those of OPC 40100-1."""

    INITIALIZED = "Initialized"
    READY = "Ready"
    CONTINUOUS_EXECUTION = "ContinuousExecution"
    HALTED = "Halted"
    ERROR = "Error"


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


class VerdictMessage(msgspec.Struct, frozen=True, kw_only=True):
    """One terminal verdict. `accept` is the only field that may open a gate."""

    schema_version: int = SCHEMA_VERSION
    station_id: str
    camera_id: str
    epoch: int
    seq: int
    trigger_seq: int
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

    Sent only while every stage of the pipeline makes progress: its absence means reject.
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
    state: State
    wall_us: int

"""All that a PLC sees at one moment, whatever the protocol."""

from __future__ import annotations

from dataclasses import dataclass

from edge.bus.messages import State
from edge.gateways.codes import FaultCode, OnlineReason, RecipeStatus, TriggerStatus
from edge.gateways.results import Result


@dataclass(frozen=True, slots=True)
class Counts:
    """Of the station's run (epoch) as its last heartbeat told them, and of the gateway since it started.

    `triggers_seen = ok + not_ok + unjudged + in_flight`. `missed`: deadlines. `lost`: verdicts that did not reach the gateway.
    `overruns`: results that found the queue full. `wrong_acks`, `missed_triggers`, `withdrawn` (acceptances) speak for
    themselves.
    """

    triggers_seen: int = 0
    ok: int = 0
    not_ok: int = 0
    unjudged: int = 0
    in_flight: int = 0
    missed: int = 0
    lost: int = 0
    overruns: int = 0
    wrong_acks: int = 0
    missed_triggers: int = 0
    withdrawn: int = 0
    results: int = 0


@dataclass(frozen=True, slots=True)
class Image:
    """One consistent view of the handshake. `result` is None when none waits for its acknowledgement.

    `accept` is that of the result: True only while the gateway is online. `station_state` is None while nothing is heard of it.
    """

    online: bool
    online_reason: OnlineReason
    ready: bool
    busy: bool
    result: Result | None
    accept: bool
    queue_depth: int
    overrun: bool
    fault: FaultCode
    faults: int
    heartbeat: int
    session: int
    plc_alive: bool
    plc_heartbeat: int
    trigger_ack: int
    trigger_status: TriggerStatus
    recipe_number: int
    recipe_hash: str
    recipe_wanted: int
    recipe_status: RecipeStatus
    product: str
    recipe_revision: int
    settings_checksum: int
    epoch: int
    station_id: str
    station_state: State | None
    station_detail: str
    counts: Counts

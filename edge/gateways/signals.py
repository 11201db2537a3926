"""The one table of what a PLC reads and writes. Register map, nodes, documents and import files all come from it.

The order of a table is the order of the registers. Rows are only ever added before the last one of STATUS, with a new
MAP_VERSION.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from edge.gateways.codes import Code, FaultCode, JudgementCode, OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.image import Image
from edge.gateways.results import Result

MAP_VERSION = 1
TEXT_BYTES = 32
Value = bool | int | float | str | None


class Kind(Enum):
    """How a value is laid out. SCALED is a number that is not negative, in 1/10,000; None is its largest value."""

    U16 = "UINT"
    U32 = "UDINT"
    U64 = "ULINT"
    I32 = "DINT"
    SCALED = "UDINT / 10,000"
    TEXT = "STRING[32]"


@dataclass(frozen=True, slots=True)
class Bit:
    """One bit of the status word."""

    name: str
    meaning: str
    read: Callable[[Image], bool]


@dataclass(frozen=True, slots=True)
class Signal:
    """A value that the gateway shows."""

    name: str
    kind: Kind
    meaning: str
    read: Callable[[Image], Value]
    codes: type[Code] | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Command:
    """A value that the PLC writes."""

    name: str
    kind: Kind
    meaning: str


def _of_result(read: Callable[[Result], Value], none: Value = 0) -> Callable[[Image], Value]:
    """A value of the result that waits for its acknowledgement."""
    return lambda image: none if image.result is None else read(image.result)


def _first_bytes(digest: str) -> int:
    """Of a hash in hex; 0 of what is none."""
    try:
        return int(digest[:16], 16)
    except ValueError:
        return 0


BITS: tuple[Bit, ...] = (
    Bit("online", "1: results may be used. 0: reject every part; online_reason says why", lambda i: i.online),
    Bit("ready", "1: a trigger will be taken", lambda i: i.ready),
    Bit("busy", "1: a trigger of the PLC waits for its result, or the recipe is being changed", lambda i: i.busy),
    Bit(
        "trigger_ack", "1: trigger_ack is the number that was taken", lambda i: i.trigger_status is TriggerStatus.TAKEN
    ),
    Bit("result_valid", "1: a result waits for its acknowledgement", lambda i: i.result is not None),
    Bit("accept", "1: the result's part may pass. The only bit that opens the gate", lambda i: i.accept),
    Bit("overrun", "1: a result found the queue full; latched until reset", lambda i: i.overrun),
    Bit("fault", "1: see fault_code", lambda i: i.fault is not FaultCode.NONE),
    Bit("plc_alive", "1: the PLC's heartbeat was seen changing", lambda i: i.plc_alive),
    Bit(
        "simulated",
        "1: the result's picture is from a replay",
        lambda i: i.result is not None and i.result.is_simulated,
    ),
)

STATUS: tuple[Signal, ...] = (
    Signal(
        "result_number",
        Kind.U16,
        "number of the result that waits, 1 to 65,535; 0: none",
        _of_result(lambda r: r.number),
    ),
    Signal(
        "status",
        Kind.U16,
        "bits, see below",
        lambda i: sum(bit.read(i) << place for place, bit in enumerate(BITS)),
    ),
    Signal("online_reason", Kind.U16, "why online or not", lambda i: i.online_reason, OnlineReason),
    Signal("fault_code", Kind.U16, "the gravest fault", lambda i: i.fault, FaultCode),
    Signal("fault_bits", Kind.U16, "all faults, bit code - 1 for each", lambda i: i.faults),
    Signal(
        "heartbeat",
        Kind.U16,
        "counts the station's heartbeats; stands still when the station does",
        lambda i: i.heartbeat,
    ),
    Signal("plc_heartbeat_echo", Kind.U16, "the PLC's heartbeat as it was read", lambda i: i.plc_heartbeat & 0xFFFF),
    Signal("session", Kind.U16, "another number after each start of the gateway", lambda i: i.session),
    Signal("queue_depth", Kind.U16, "results held, the one that waits included", lambda i: i.queue_depth),
    Signal("judgement", Kind.U16, "of the result", _of_result(lambda r: r.judgement), JudgementCode),
    Signal("reason", Kind.U16, "why its part is not accepted", _of_result(lambda r: r.reason), ReasonCode),
    Signal(
        "trigger_number_echo",
        Kind.U16,
        "the PLC's trigger number that the result belongs to; 0: not the PLC's",
        _of_result(lambda r: r.trigger_number),
    ),
    Signal(
        "result_recipe", Kind.U16, "recipe number that judged it; 0: it has none", _of_result(lambda r: r.recipe_number)
    ),
    Signal("score", Kind.SCALED, "higher is worse", _of_result(lambda r: r.score, None)),
    Signal("threshold", Kind.SCALED, "OK up to here", _of_result(lambda r: r.threshold, None)),
    Signal("region_count", Kind.U16, "defective regions", _of_result(lambda r: r.region_count)),
    Signal("box_x", Kind.U16, "largest region, left edge", _of_result(lambda r: r.box[0]), unit="px"),
    Signal("box_y", Kind.U16, "largest region, upper edge", _of_result(lambda r: r.box[1]), unit="px"),
    Signal("box_width", Kind.U16, "largest region", _of_result(lambda r: r.box[2]), unit="px"),
    Signal("box_height", Kind.U16, "largest region", _of_result(lambda r: r.box[3]), unit="px"),
    Signal("box_area", Kind.U32, "largest region, its own pixels", _of_result(lambda r: r.area_px), unit="px"),
    Signal("station_seq", Kind.U32, "the verdict's number in the station's run", _of_result(lambda r: r.seq)),
    Signal(
        "station_trigger",
        Kind.U32,
        "the trigger's number in the station's run; 0: not known",
        _of_result(lambda r: r.trigger_seq),
    ),
    Signal("latency", Kind.U32, "trigger to publication", _of_result(lambda r: r.latency_us), unit="us"),
    Signal("epoch", Kind.U64, "the station's run that the result belongs to", _of_result(lambda r: r.epoch)),
    Signal("part_id", Kind.TEXT, "the result's part, cut to 32 bytes", _of_result(lambda r: r.part_id, "")),
    Signal("trigger_ack", Kind.U16, "the last trigger number that was answered", lambda i: i.trigger_ack),
    Signal("trigger_status", Kind.U16, "what became of it", lambda i: i.trigger_status, TriggerStatus),
    Signal("recipe_number", Kind.U16, "active recipe; 0: none, or it has no number", lambda i: i.recipe_number),
    Signal("recipe_wanted_echo", Kind.U16, "the recipe number that the PLC wants", lambda i: i.recipe_wanted),
    Signal("recipe_status", Kind.U16, "what became of that wish", lambda i: i.recipe_status, RecipeStatus),
    Signal(
        "recipe_hash",
        Kind.U64,
        "first 8 bytes of the active recipe's SHA-256",
        lambda i: _first_bytes(i.recipe_hash),
    ),
    Signal(
        "settings_checksum",
        Kind.U32,
        "changes with any setting of the station or the gateway; 0: not known",
        lambda i: i.settings_checksum,
    ),
    Signal("triggers_seen", Kind.U32, "parts in the station's run", lambda i: i.counts.triggers_seen),
    Signal("ok_count", Kind.U32, "of these OK", lambda i: i.counts.ok),
    Signal("not_ok_count", Kind.U32, "of these NOT_OK", lambda i: i.counts.not_ok),
    Signal("unjudged_count", Kind.U32, "of these NOT_DECIDABLE", lambda i: i.counts.unjudged),
    Signal("in_flight", Kind.U32, "of these without a verdict yet", lambda i: i.counts.in_flight),
    Signal("missed_count", Kind.U32, "deadlines missed in the station's run", lambda i: i.counts.missed),
    Signal("lost_count", Kind.U32, "verdicts that did not reach the gateway", lambda i: i.counts.lost),
    Signal("overrun_count", Kind.U32, "results that found the queue full", lambda i: i.counts.overruns),
    Signal(
        "wrong_ack_count", Kind.U32, "acknowledgements of a number that was not held", lambda i: i.counts.wrong_acks
    ),
    Signal("missed_triggers", Kind.U32, "triggers of the PLC that were not taken", lambda i: i.counts.missed_triggers),
    Signal("withdrawn_count", Kind.U32, "acceptances taken back", lambda i: i.counts.withdrawn),
    Signal("map_version", Kind.U16, "of this table", lambda _i: MAP_VERSION),
    Signal(
        "result_number_end",
        Kind.U16,
        "the same as result_number, or the block was not read whole",
        _of_result(lambda r: r.number),
    ),
)

COMMANDS: tuple[Command, ...] = (
    Command("plc_heartbeat", Kind.U16, "change it at least every plc.heartbeat_ms"),
    Command("ack_number", Kind.U16, "the result_number that the PLC has taken over; the next result follows"),
    Command(
        "command",
        Kind.U16,
        "bit 0: reset, on its rising edge clears what is latched. Bit 1: stop, nothing is accepted while set",
    ),
    Command("recipe_wanted", Kind.U16, "another number than before starts a changeover; 0: whatever is active"),
    Command("encoder_count", Kind.I32, "of the next trigger; kept with the verdict"),
    Command("trigger_part_id", Kind.TEXT, "of the next trigger"),
    Command("trigger_number", Kind.U16, "another number than before, and not 0, is a trigger"),
)

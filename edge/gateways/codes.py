"""The numbers that a PLC reads. None of them is ever given another meaning; 0 never means pass."""

from __future__ import annotations

from enum import IntEnum

from edge.types import Judgement, Reason


class Code(IntEnum):
    """A number and what it means, for documents and screens. Codes of different kinds are equal if their numbers are."""

    meaning: str

    def __new__(cls, value: int, meaning: str = "") -> Code:
        """See `enum`."""
        code = int.__new__(cls, value)
        code._value_, code.meaning = value, meaning
        return code


class JudgementCode(Code):
    """What was decided about the part."""

    NONE = 0, "no result"
    OK = 1, "like the shots"
    NOT_OK = 2, "defective"
    NOT_DECIDABLE = 3, "nobody could judge it: reject"


class ReasonCode(Code):
    """Why the part is not to be accepted. Below 100 the station said so, from 100 on the gateway."""

    NONE = 0, "none: accepted"
    DEFECT = 1, "the part is defective"
    DEADLINE_MISSED = 2, "no result before the deadline"
    FRAME_INCOMPLETE = 3, "the picture did not arrive whole"
    CAMERA_LOST = 4, "the camera failed or does not answer"
    UNFIT_IMAGE = 5, "light, sharpness, contrast or pose unlike the shots, or another product"
    NO_RECIPE = 6, "no recipe is active"
    OVERLOAD = 7, "triggers faster than the line or the machine allows"
    RESTART = 8, "the station died while the part was in flight"
    ENGINE_FAULT = 9, "the executor failed or hangs"
    LOST = 100, "the verdict did not reach the gateway"
    NO_RESULT = 101, "the PLC's trigger got no verdict in time"
    NOT_ONLINE = 102, "the verdict came while the gateway was not online"
    OBSERVED = 103, "the station only observes"
    WRONG_RECIPE = 104, "judged with another recipe than the active one"
    OVERRUN = 105, "more results than the queue holds; cleared by reset"
    NOT_ACKNOWLEDGED = 106, "held longer than the PLC may take to acknowledge"
    DISOWNED = 107, "its trigger had been refused to the PLC"
    LATE = 108, "the verdict missed its deadline, or was held up on its way"
    NOT_ACCEPTED = 109, "the station does not accept it"
    SIMULATED = 110, "judged from a recording; plc.allow_simulated is off"


class OnlineReason(Code):
    """Why the gateway is online or not. Whatever is not ONLINE means: reject every part."""

    NOT_STARTED = 0, "power-on"
    ONLINE = 1, "online: results may be used"
    WAITING = 2, "waits for a station that beats regularly"
    BUS_SILENT = 3, "nothing heard from the station"
    NOT_RUNNING = 4, "the station is starting, halted, or between epochs"
    STATION_ERROR = 5, "the station ended in Error"
    NO_RECIPE = 6, "no recipe is active"
    OBSERVING = 7, "the station only observes"
    CHANGEOVER = 8, "the recipe is being changed"
    RECIPE_DIFFERS = 9, "another recipe is active than the PLC asked for"
    PLC_SILENT = 10, "the PLC's heartbeat does not change"
    STOPPED = 11, "the PLC said stop"
    OVERRUN = 12, "results were lost to a full queue; cleared by reset"
    UNREADABLE = 13, "the station speaks another version"
    WRONG_STATION = 14, "another station answers at this endpoint"


class FaultCode(Code):
    """What is wrong, gravest first. `Image.faults` has one bit for each, bit `code - 1`."""

    NONE = 0, "none"
    OVERRUN = 1, "a result found the queue full (latched)"
    STATION_ERROR = 2, "the station ended in Error"
    UNREADABLE = 3, "the station speaks another version"
    BUS_SILENT = 4, "nothing heard from the station"
    RESULTS_LOST = 5, "verdicts did not reach the gateway (latched)"
    NOT_ACKNOWLEDGED = 6, "a result was not acknowledged in time (latched)"
    RECIPE_FAILED = 7, "the recipe could not be changed"
    RECIPE_UNKNOWN = 8, "no recipe has this number"
    RECIPE_DIFFERS = 9, "another recipe is active than the PLC asked for"
    TRIGGER_MISSED = 10, "a trigger was not taken (latched)"
    WRONG_STATION = 12, "another station answers at this endpoint"
    WRONG_ACK = 11, "a number was acknowledged that is not held (latched)"


class TriggerStatus(Code):
    """What became of the PLC's trigger."""

    NONE = 0, "none yet"
    PENDING = 1, "asked of the station"
    TAKEN = 2, "the part will get a result"
    NOT_READY = 3, "not taken: not ready"
    REFUSED = 4, "not taken: the station refused"
    NO_ANSWER = 5, "the station did not answer: reject this part"


class RecipeStatus(Code):
    """What became of the PLC's wish for a recipe."""

    NONE = 0, "nothing asked for"
    CHANGING = 1, "being changed"
    ACTIVE = 2, "active"
    UNKNOWN_NUMBER = 3, "no such number; nothing has changed"
    FAILED = 4, "could not be loaded or activated; nothing has changed"


JUDGEMENTS = {
    Judgement.OK: JudgementCode.OK,
    Judgement.NOT_OK: JudgementCode.NOT_OK,
    Judgement.NOT_DECIDABLE: JudgementCode.NOT_DECIDABLE,
}
REASONS = {reason: ReasonCode[reason.name] for reason in Reason}

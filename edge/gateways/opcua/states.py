"""Which state of OPC 40100-1's vision state machine the gateway and its station are in. No protocol, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from edge.bus.messages import State
from edge.gateways.codes import OnlineReason
from edge.gateways.image import Image


class Top(Enum):
    """VisionStateMachineType."""

    PREOPERATIONAL = "Preoperational"
    HALTED = "Halted"
    ERROR = "Error"
    OPERATIONAL = "Operational"


class Mode(Enum):
    """VisionAutomaticModeStateMachineType, within Operational."""

    INITIALIZED = "Initialized"
    READY = "Ready"
    SINGLE = "SingleExecution"
    CONTINUOUS = "ContinuousExecution"


class Method(Enum):
    """What may be asked of the state machine."""

    START_SINGLE = "StartSingleJob"
    START_CONTINUOUS = "StartContinuous"
    STOP = "Stop"
    ABORT = "Abort"
    HALT = "Halt"
    RESET = "Reset"
    SELECT = "SelectModeAutomatic"
    SIMULATE = "SimulationMode"
    PREPARE = "PrepareRecipe"


@dataclass(frozen=True)
class Now:
    """The state; `mode` is None outside Operational."""

    top: Top
    mode: Mode | None = None


IN_ERROR = frozenset(
    {
        OnlineReason.BUS_SILENT,
        OnlineReason.STATION_ERROR,
        OnlineReason.UNREADABLE,
        OnlineReason.OVERRUN,
        OnlineReason.WRONG_STATION,
    }
)
STARTING = frozenset({OnlineReason.NOT_STARTED, OnlineReason.WAITING, OnlineReason.NOT_RUNNING})
WITHOUT_RECIPE = frozenset({OnlineReason.NO_RECIPE, OnlineReason.CHANGEOVER, OnlineReason.RECIPE_DIFFERS})
EXECUTIONS = {
    State.READY: Mode.READY,
    State.SINGLE_EXECUTION: Mode.SINGLE,
    State.CONTINUOUS_EXECUTION: Mode.CONTINUOUS,
}
ALLOWED = {
    Method.START_SINGLE: (Mode.READY, Mode.CONTINUOUS),
    Method.START_CONTINUOUS: (Mode.READY, Mode.CONTINUOUS),
}
"""Within Operational. The standard has StartSingleJob in Ready alone; a station that judges whatever comes also takes one."""

ALWAYS = frozenset({Method.STOP, Method.ABORT, Method.RESET})
"""Whoever says stop is heard in every state: the line must not come back by itself when the state does."""


def state_of(image: Image, *, is_halted: bool) -> Now:
    """The state that belongs to the image; `is_halted`: the method Halt was called."""
    reason = image.online_reason
    if is_halted or image.station_state is State.HALTED:
        return Now(Top.HALTED)
    if reason in IN_ERROR:
        return Now(Top.ERROR)
    if reason in STARTING or image.station_state in (None, State.PREOPERATIONAL):
        return Now(Top.PREOPERATIONAL)
    if reason in WITHOUT_RECIPE:
        return Now(Top.OPERATIONAL, Mode.INITIALIZED)
    if reason is OnlineReason.STOPPED:
        return Now(Top.OPERATIONAL, Mode.READY)
    mode = EXECUTIONS.get(image.station_state or State.INITIALIZED, Mode.INITIALIZED)
    if mode is Mode.READY and image.busy:
        mode = Mode.SINGLE
    return Now(Top.OPERATIONAL, mode)


def may(method: Method, now: Now) -> bool:
    """Whether the method may be called in this state."""
    if method is Method.HALT:
        return now.top is not Top.HALTED
    if method in ALWAYS:
        return True
    if now.top is not Top.OPERATIONAL:
        return False
    return now.mode in ALLOWED.get(method, tuple(Mode))


def transition_names(before: Enum | None, after: Enum, *, by_method: bool) -> list[str]:
    """Browse names that the transition may have in the specification, the likeliest first; most have one for each cause."""
    if before is None:
        return []
    plain = f"{before.value}To{after.value}"
    causes = ["Stop", "Abort", "Recipe", "Product", ""] if by_method else ["Auto", "", "Stop", "Recipe"]
    return [plain + cause for cause in causes]

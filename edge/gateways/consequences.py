"""What follows from how things stand."""

from __future__ import annotations

from edge.gateways.codes import FaultCode, OnlineReason, ReasonCode, RecipeStatus

BUS_GONE = frozenset(
    {
        OnlineReason.BUS_SILENT,
        OnlineReason.NOT_RUNNING,
        OnlineReason.STATION_ERROR,
        OnlineReason.UNREADABLE,
        OnlineReason.WRONG_STATION,
        OnlineReason.WAITING,
    }
)
"""While it is so, no verdict can be waited for."""
WHY_WITHHELD = {
    OnlineReason.OVERRUN: ReasonCode.OVERRUN,
    OnlineReason.OBSERVING: ReasonCode.OBSERVED,
    OnlineReason.CHANGEOVER: ReasonCode.WRONG_RECIPE,
    OnlineReason.RECIPE_DIFFERS: ReasonCode.WRONG_RECIPE,
}
"""Of a part that came while it is so; NOT_ONLINE where nothing is named."""
LIVE_FAULTS = {
    OnlineReason.STATION_ERROR: FaultCode.STATION_ERROR,
    OnlineReason.UNREADABLE: FaultCode.UNREADABLE,
    OnlineReason.WRONG_STATION: FaultCode.WRONG_STATION,
    OnlineReason.BUS_SILENT: FaultCode.BUS_SILENT,
    OnlineReason.RECIPE_DIFFERS: FaultCode.RECIPE_DIFFERS,
}
"""What is also a fault, as long as it is so."""
RECIPE_FAULTS = {
    RecipeStatus.UNKNOWN_NUMBER: FaultCode.RECIPE_UNKNOWN,
    RecipeStatus.FAILED: FaultCode.RECIPE_FAILED,
}

"""How much of the server one client may take up: all PLCs share one event loop."""

from __future__ import annotations

from collections.abc import Sized

from asyncua import Server, ua
from asyncua.common.utils import ServiceError

from edge.gateways.opcua.nodesets import Structure

FASTEST_PUBLISHING_MS = 5.0
SLOWEST_PUBLISHING_MS = 60_000.0
SMALLEST_EVENT_QUEUE = 1_000
LARGEST_QUEUE = 10_000
SUBSCRIPTIONS_PER_SESSION = 8
ITEMS_PER_SUBSCRIPTION = 1_000
EVENT_ITEMS_PER_SESSION = 4
FIELDS_OF_ALL = 1_024
"""Fields of all clients' event items together: each is copied for each event, some 50 us."""
NODES_AT_ONCE = 500
METHODS_AT_ONCE = 10
REFERENCES_AT_ONCE = 10_000
"""References that one Browse may be answered with, some 80 ms."""
LONGEST_SESSION_MS = 60_000
LARGEST_MESSAGE = 1024 * 1024
LARGEST_CHUNK = 65_535
_ids = ua.ObjectIds
_SHOWN = {
    _ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead: NODES_AT_ONCE,
    _ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerWrite: NODES_AT_ONCE,
    _ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse: NODES_AT_ONCE,
    _ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerRegisterNodes: NODES_AT_ONCE,
    _ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerTranslateBrowsePathsToNodeIds: NODES_AT_ONCE,
    _ids.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall: ITEMS_PER_SUBSCRIPTION,
    _ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerMethodCall: METHODS_AT_ONCE,
}


async def show_limits(server: Server) -> None:
    """Say the limits where clients look for them, to cut their requests."""
    for node, limit in _SHOWN.items():
        value = ua.DataValue(ua.Variant(limit, ua.VariantType.UInt32))
        await server.iserver.write_attribute_value(ua.NodeId(node), value)


def bound(asked: Sized, most: int = NODES_AT_ONCE) -> None:
    """See that not too much is asked at once.

    Raises:
        ServiceError: it is too much.
    """
    if len(asked) > most:
        raise ServiceError(ua.StatusCodes.BadTooManyOperations)


def bound_values(answer: list[ua.DataValue]) -> None:
    """See that values are not too long for an answer, before anything is copied into one.

    Raises:
        ServiceError: they are too long.
    """
    if sum(_length(data.Value) for data in answer) > LARGEST_MESSAGE:
        raise ServiceError(ua.StatusCodes.BadResponseTooLarge)


def _length(variant: Structure) -> int:
    value = None if variant is None else variant.Value
    return len(value) if isinstance(value, (bytes, str, list)) else 0

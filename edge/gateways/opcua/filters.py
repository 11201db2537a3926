"""Which events a client asks for."""

from __future__ import annotations

import math

from asyncua import ua
from asyncua.common.events import Event
from asyncua.server.address_space import AddressSpace
from asyncua.server.monitored_item_service import WhereClauseEvaluator
from asyncua.ua.uaprotocol_auto import DataChangeFilter

from edge.gateways.opcua.nodesets import Structure

MOST_FIELDS = 64
MOST_ELEMENTS, MOST_OPERANDS = 8, 24
"""Each element may use others twice over: a long filter would be evaluated for ever, in the loop that all PLCs share."""
_ATTRIBUTES = frozenset(int(known) for known in ua.AttributeIds)
_types = ua.VariantType
_INTEGERS = frozenset(
    {_types.SByte, _types.Byte, _types.Int16, _types.UInt16, _types.Int32, _types.UInt32, _types.Int64, _types.UInt64}
)


def event_refusal(wanted: object) -> int:
    """Why an event filter is refused, as a status; 0 if it is not."""
    return 0 if is_sound(wanted) else ua.StatusCodes.BadEventFilterInvalid


def value_refusal(wanted: object, what: ua.ReadValueId, nodes: AddressSpace) -> int:
    """Why the filter of a monitored value is refused, as a status; 0 if it is not.

    asyncua subtracts the values, whatever they are, and does not know of a percentage. A Double may have no value here.
    """
    if wanted is None:
        return 0
    if not isinstance(wanted, DataChangeFilter):
        return ua.StatusCodes.BadMonitoredItemFilterUnsupported
    if wanted.DeadbandType == ua.DeadbandType.None_:
        return 0
    if wanted.DeadbandType != ua.DeadbandType.Absolute:
        return ua.StatusCodes.BadMonitoredItemFilterUnsupported
    value = nodes.read_attribute_value(what.NodeId, what.AttributeId).Value
    if (
        what.AttributeId != ua.AttributeIds.Value
        or value is None
        or value.is_array
        or value.VariantType not in _INTEGERS
    ):
        return ua.StatusCodes.BadFilterNotAllowed
    is_usable = math.isfinite(wanted.DeadbandValue) and wanted.DeadbandValue >= 0
    return 0 if is_usable else ua.StatusCodes.BadDeadbandFilterInvalid


def is_sound(wanted: object) -> bool:
    """Whether asyncua can evaluate this event filter, and in time.

    asyncua takes a field's name for that of a Python attribute: one like `data_types` would end in an exception for everybody.
    """
    if not isinstance(wanted, ua.EventFilter):
        return False
    elements = wanted.WhereClause.Elements
    operands = sum(len(element.FilterOperands) for element in elements)
    return (
        len(wanted.SelectClauses) <= MOST_FIELDS
        and len(elements) <= MOST_ELEMENTS
        and operands <= MOST_OPERANDS
        and all(_is_field(clause) for clause in wanted.SelectClauses)
    )


def _is_field(clause: Structure) -> bool:
    if not clause.BrowsePath:
        return clause.AttributeId in _ATTRIBUTES
    names = [step.Name or "" for step in clause.BrowsePath]
    return all(names) and not hasattr(_BLANK, "/".join(names))


_BLANK = Event()


class SubtypeEvaluator(WhereClauseEvaluator):
    """asyncua's `OfType` does not know that a subtype is of its type, so a filter for a standard type would miss ours."""

    def _eval_el(self, index: int, event: Structure) -> Structure:
        element = self.elements[index]
        if element.FilterOperator != ua.FilterOperator.OfType:
            return super()._eval_el(index, event)
        wanted = self._eval_op(element.FilterOperands[0], event)
        found = event.EventType
        while found is not None and found != wanted:
            found = self._supertype(found)
        return found is not None

    def _supertype(self, node_id: ua.NodeId) -> ua.NodeId | None:
        node = self._aspace.get(node_id)
        for reference in [] if node is None else node.references:
            if reference.ReferenceTypeId == ua.NodeId(ua.ObjectIds.HasSubtype) and not reference.IsForward:
                return reference.NodeId
        return None

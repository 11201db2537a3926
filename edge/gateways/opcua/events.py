"""Events: made once, sent from the vision system and from the Server object, in order."""

from __future__ import annotations

import copy
import datetime
import logging
import secrets
from typing import Any

from asyncua import Node, Server, ua
from asyncua.common.events import get_event_obj_from_type_node

from edge.gateways.opcua.nodesets import Namespaces
from edge.gateways.opcua.typed import CONTENT, Typed, content
from edge.gateways.results import Result
from edge.logs import log_event

_LOG = logging.getLogger("linegate.gateway.opcua")
RESULT_EVENT = "LinegateResultReadyEventType"
SEVERITY, GRAVE = 300, 700
STATE_CHANGED, READY, RECIPE_PREPARED, JOB_STARTED, RESULT_READY = 1018, 1023, 1022, 1013, 1024
_types = ua.VariantType
FIELD_TYPES = {
    "CreationTime": _types.DateTime,
    "IsPartial": _types.Boolean,
    "IsSimulated": _types.Boolean,
    "ResultState": _types.Int32,
    "ResultContent": _types.Variant,
    "Transition/Id": _types.NodeId,
    "FromState/Id": _types.NodeId,
    "ToState/Id": _types.NodeId,
    "ExternalId": _types.ExtensionObject,
    "InternalId": _types.ExtensionObject,
    "ExternalConfigurationId": _types.ExtensionObject,
    "InternalConfigurationId": _types.ExtensionObject,
    "ExternalRecipeId": _types.ExtensionObject,
    "InternalRecipeId": _types.ExtensionObject,
}
"""asyncua does not find the built-in type behind a specification's own."""
BLANKS: dict[ua.VariantType, object] = {_types.Boolean: False, _types.Double: 0.0, _types.String: ""}


class Events:
    """Sends the events of one vision system."""

    def __init__(self, server: Server, names: Namespaces, vision: Node, typed: Typed) -> None:
        self._server, self._names, self._vision, self._typed = server, names, vision, typed
        self._patterns: dict[int, Any] = {}

    async def build(self) -> None:
        """Make our own type of event, and wire the vision system below the Server as a source of events."""
        server, names = self._server, self._names
        parent = server.get_node(names.vision_type(RESULT_READY))
        own = await parent.add_object_type(names.own_id(RESULT_EVENT), names.own_name(RESULT_EVENT))
        for name, kind in CONTENT:
            data_type = ua.NodeId(3002, names.result) if name == "ResultEvaluation" else ua.NodeId(kind.value)
            blank = ua.Variant([] if name == "Box" else BLANKS.get(kind, 0), kind)
            field = await own.add_property(
                names.own_id(f"{RESULT_EVENT}.{name}"), names.own_name(name), blank, datatype=data_type
            )
            await field.set_modelling_rule(True)
        for number in (STATE_CHANGED, READY, RECIPE_PREPARED, JOB_STARTED):
            await self._pattern(number, names.vision_type(number))
        await self._pattern(RESULT_READY, own.nodeid)
        self._patterns[RESULT_READY].data_types.update(dict(CONTENT))
        await self._vision.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        await server.nodes.server.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        await server.nodes.server.add_reference(
            self._vision, ua.ObjectIds.HasNotifier, forward=True, bidirectional=True
        )
        await self._vision.add_reference(own, ua.ObjectIds.GeneratesEvent, forward=True, bidirectional=False)

    async def _pattern(self, number: int, event_type: ua.NodeId) -> None:
        pattern = await get_event_obj_from_type_node(self._server.get_node(event_type))
        pattern.EventType = event_type
        pattern.SourceNode, pattern.SourceName = self._vision.nodeid, (await self._vision.read_browse_name()).Name
        pattern.data_types.update({name: kind for name, kind in FIELD_TYPES.items() if name in pattern.data_types})
        self._patterns[number] = pattern

    async def result(self, result: Result) -> None:
        """A result has come."""
        fields = {**self._typed.fields(result), "ResultContent": self._typed.content(result), **content(result)}
        evaluation = result.judgement.name
        text = f"{result.part_id or 'part'}: {evaluation}, {'accepted' if result.accept else result.reason.meaning}"
        await self.send(RESULT_READY, text, fields)

    async def send(self, kind: int, text: str, fields: dict[str, Any], severity: int = SEVERITY) -> None:
        """Send one.

        Args:
            kind: its type in the Machine Vision specification.
            text: in words.
            fields: by browse path, joined with `/`.
            severity: 1 to 1000.
        """
        pattern = self._patterns[kind]
        event = copy.copy(pattern)
        now = datetime.datetime.now(datetime.timezone.utc)
        event.EventId, event.Time, event.ReceiveTime = secrets.token_bytes(16), now, now
        event.Message, event.Severity = ua.LocalizedText(text), severity
        for name, value in fields.items():
            setattr(event, name, value)
        service = self._server.iserver.subscription_service
        # asyncua does not pass an event on to the objects above: it is sent from each of them, as the same event.
        for emitter in (self._vision.nodeid, ua.NodeId(ua.ObjectIds.Server)):
            event.emitting_node = emitter
            for number, subscription in list(service.subscriptions.items()):
                try:
                    await subscription.monitored_item_srv.trigger_event(event)
                except Exception as broken:  # noqa: BLE001 - one client's filter is not to keep the others' events
                    log_event(_LOG, "event_not_sent", level="error", error=broken, subscription=number)

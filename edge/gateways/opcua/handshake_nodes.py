"""The handshake's variables and methods: one node for each row of the table of signals."""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from asyncua import Server, ua

from edge.gateways.codes import TriggerStatus
from edge.gateways.image import Image
from edge.gateways.link import Link
from edge.gateways.opcua.commands import Commands, CommandValue, Ownership, is_part_id
from edge.gateways.opcua.methods import Handler, MethodRefused, bind
from edge.gateways.opcua.names import FOLDER, browse_name, describe, node_name, variant_type
from edge.gateways.opcua.nodesets import Namespaces, Structure
from edge.gateways.opcua.session import CALLER
from edge.gateways.results import Result
from edge.gateways.signals import BITS, COMMANDS, STATUS, Kind, Value
from edge.logs import log_event

ASK_AGAIN_S = 0.005
NEVER = object()
_LOG = logging.getLogger("linegate.gateway.opcua")
MakeStructure = Callable[[Result], Any]
_types = ua.VariantType


@dataclass
class _Row:
    """One variable: how it is read from the image, and what it was when last looked at."""

    node_id: ua.NodeId
    type: ua.VariantType
    read: Callable[[Image], Value]
    last: object = NEVER


class HandshakeNodes:
    """See `session.Address`: the variables are brought up to now before anybody reads them."""

    def __init__(self, server: Server, names: Namespaces, link: Link) -> None:
        self._server, self._names, self._link = server, names, link
        settings = link.settings.plc
        self._ownership = Ownership(settings.heartbeat_ms, link.new_plc)
        self._answer_s = settings.answer_ms / 1000
        self._rows = [
            _Row(names.own_id(node_name(bit.name, is_bit=True)), _types.Boolean, bit.read) for bit in BITS
        ] + [_Row(names.own_id(node_name(row.name)), variant_type(row.kind), row.read) for row in STATUS]
        self._structure_id = names.own_id(f"{FOLDER}.Result")
        self._structure: tuple[Result | None, Any] = (None, None)
        self._make_structure: MakeStructure | None = None
        self._changed: dict[ua.NodeId, ua.DataValue] = {}
        self._commands = Commands(link, self._ownership, names.own, self._keep)

    async def build(self, make_structure: MakeStructure) -> None:
        """Make the nodes.

        Args:
            make_structure: a result as ResultDataType.
        """
        self._make_structure = make_structure
        names, server = self._names, self._server
        folder = await server.nodes.objects.add_object(names.own_id(FOLDER), names.own_name(FOLDER))
        for bit in BITS:
            await self._add(folder, bit.name, ua.Variant(False, _types.Boolean), bit.meaning, is_bit=True)
        for signal in STATUS:
            text = describe(signal.meaning, signal.codes, signal.unit)
            if signal.kind is Kind.SCALED:
                text += ", no value if there is none"
            await self._add(folder, signal.name, _blank(signal.kind), text)
        for command in COMMANDS:
            await self._add(folder, command.name, _blank(command.kind), command.meaning, is_writable=True)
        structure = await folder.add_variable(
            self._structure_id, names.own_name("Result"), ua.Variant(None, _types.ExtensionObject),
            datatype=names.vision_type(3006),
        )  # fmt: skip
        await _describe(structure, "the result that waits, whole; null if none does")
        await self._build_methods(folder)
        self.refresh()

    async def _add(
        self,
        folder: Structure,
        name: str,
        value: ua.Variant,
        text: str,
        *,
        is_bit: bool = False,
        is_writable: bool = False,
    ) -> None:
        names = self._names
        node = await folder.add_variable(
            names.own_id(node_name(name, is_bit=is_bit)), names.own_name(browse_name(name, is_bit=is_bit)), value,
            datatype=ua.NodeId(value.VariantType.value),
        )  # fmt: skip
        await _describe(node, text)
        if is_writable:
            await node.set_writable()

    # What a client reads.

    def refresh(self) -> None:
        """Bring every variable up to now. What has changed is told to subscribers by `notify`."""
        image = self._link.image()
        now = datetime.datetime.now(datetime.timezone.utc)
        for row in self._rows:
            value = row.read(image)
            if value != row.last:
                row.last = value
                self._set(row.node_id, _data(value, row.type, now))
        result = image.result
        if result is not self._structure[0] and self._make_structure is not None:
            made = None if result is None else self._make_structure(result)
            self._structure = (result, made)
            self._set(self._structure_id, ua.DataValue(ua.Variant(made, _types.ExtensionObject), SourceTimestamp=now))

    def _set(self, node_id: ua.NodeId, data: ua.DataValue) -> None:
        self._server.iserver.aspace[node_id].attributes[ua.AttributeIds.Value].value = data
        self._changed[node_id] = data

    async def notify(self) -> None:
        """Tell the subscribers what has changed."""
        changed, self._changed = self._changed, {}
        for node_id, data in changed.items():
            attribute = self._server.iserver.aspace[node_id].attributes[ua.AttributeIds.Value]
            for handle, callback in list(attribute.datachange_callbacks.items()):
                try:
                    await callback(handle, data)
                except Exception as broken:  # noqa: BLE001 - what one client has asked for is not to keep it from the others
                    log_event(_LOG, "value_not_sent", level="error", error=broken, node=node_id.to_string())

    # What a client writes and calls.

    def write(self, caller: ua.NodeId, wanted: list[ua.WriteValue]) -> list[ua.StatusCode | None]:
        """See `Commands.write`."""
        return self._commands.write(caller, wanted)

    def gone(self, caller: ua.NodeId) -> None:
        """The session has ended: another one may write."""
        self._ownership.release(caller)

    def claim(self) -> None:
        """The caller of a method is the PLC.

        Raises:
            MethodRefused: another one is.
        """
        caller = CALLER.get()
        if caller is not None and not self._ownership.claim(caller):
            raise MethodRefused(ua.StatusCodes.BadUserAccessDenied)

    def _keep(self, name: str, value: CommandValue) -> None:
        command = next(command for command in COMMANDS if command.name == name)
        now = datetime.datetime.now(datetime.timezone.utc)
        self._set(self._names.own_id(node_name(name)), _data(value, variant_type(command.kind), now))

    async def _build_methods(self, folder: Structure) -> None:
        made: dict[str, tuple[Handler, list[Structure], list[Structure]]] = {
            "Acknowledge": (
                self._acknowledge,
                [_argument("Number", _types.UInt16, "the ResultNumber that was taken over")],
                [
                    _argument("Released", _types.Boolean, "this result was held, and the next one follows"),
                    _argument("Accept", _types.Boolean, "its part may pass, still: the gate may be opened"),
                ],
            ),
            "Trigger": (
                self._trigger,
                [
                    _argument("Number", _types.UInt16, "another number than before, and not 0"),
                    _argument("PartId", _types.String, "at most 32 bytes"),
                    _argument("EncoderCount", _types.Int32, "kept with the verdict"),
                ],
                [_argument("Status", _types.UInt16, describe("what became of it", TriggerStatus))],
            ),
            "Reset": (self._reset, [], []),
        }
        for name, (handler, inputs, outputs) in made.items():
            node = await folder.add_method(
                self._names.own_id(f"{FOLDER}.{name}"), self._names.own_name(name), None, inputs, outputs
            )
            bind(self._server, node.nodeid, handler, [_types(given.DataType.Identifier) for given in inputs])

    async def _acknowledge(self, number: int) -> list[ua.Variant]:
        self.claim()
        image = self._link.image()
        is_held = image.result is not None and image.result.number == number
        self._link.acknowledge(number)
        return [ua.Variant(is_held, _types.Boolean), ua.Variant(is_held and image.accept, _types.Boolean)]

    async def _trigger(self, number: int, part_id: str | None, encoder_count: int) -> list[ua.Variant]:
        if not is_part_id(part_id or "") or number == 0:
            raise MethodRefused(ua.StatusCodes.BadOutOfRange)
        self.claim()
        self._link.trigger(number, part_id or "", encoder_count)
        status = await self.answered(number)
        return [ua.Variant(int(status), _types.UInt16)]

    async def _reset(self) -> list[ua.Variant]:
        self.claim()
        self._link.reset()
        return []

    async def answered(self, number: int) -> TriggerStatus:
        """What becomes of a trigger, as far as the station says it in time."""
        end = time.monotonic() + self._answer_s + 2 * ASK_AGAIN_S
        while True:
            image = self._link.image()
            if image.trigger_ack == number and image.trigger_status is not TriggerStatus.PENDING:
                return image.trigger_status
            if time.monotonic() > end:
                return (
                    image.trigger_status if image.trigger_status is TriggerStatus.PENDING else TriggerStatus.NOT_READY
                )
            await asyncio.sleep(ASK_AGAIN_S)


def _blank(kind: Kind) -> ua.Variant:
    return ua.Variant("" if kind is Kind.TEXT else 0.0 if kind is Kind.SCALED else 0, variant_type(kind))


def _data(value: Value, kind: ua.VariantType, now: datetime.datetime) -> ua.DataValue:
    if value is None:
        return ua.DataValue(None, ua.StatusCode(ua.StatusCodes.BadNoData), now)
    plain = str(value) if kind is _types.String else bool(value) if kind is _types.Boolean else value
    if isinstance(plain, int) and not isinstance(plain, bool):
        plain = int(plain)
    return ua.DataValue(ua.Variant(plain, kind), SourceTimestamp=now)


def _argument(name: str, kind: ua.VariantType, text: str) -> ua.Argument:
    return ua.Argument(name, ua.NodeId(kind.value), -1, [], ua.LocalizedText(text))


async def _describe(node: Structure, text: str) -> None:
    await node.write_attribute(ua.AttributeIds.Description, ua.DataValue(ua.LocalizedText(text)))

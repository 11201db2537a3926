"""The vision state machine's nodes: follow the station, announce every change, and do what its methods say."""

from __future__ import annotations

from typing import Any

from asyncua import Node, Server, ua

from edge.gateways.codes import TriggerStatus
from edge.gateways.image import Image
from edge.gateways.link import Link
from edge.gateways.opcua.commands import is_part_id
from edge.gateways.opcua.events import GRAVE, JOB_STARTED, READY, SEVERITY, STATE_CHANGED, Events
from edge.gateways.opcua.handshake_nodes import HandshakeNodes
from edge.gateways.opcua.methods import MethodError, MethodRefused, bind, error, null_structure, structure
from edge.gateways.opcua.nodesets import Namespaces, Structure, children_by_name
from edge.gateways.opcua.states import Method, Mode, Now, Top, may, state_of, transition_names
from edge.gateways.signals import MAP_VERSION

NOT_STARTED = {TriggerStatus.NOT_READY: MethodError.NOT_READY, TriggerStatus.REFUSED: MethodError.REFUSED}
TOP_TYPE, MODE_TYPE = 1017, 1021
_types = ua.VariantType
_REASON = [_types.Int32, _types.String]


class MachineNodes:
    """The two nested state machines of one vision system."""

    def __init__(
        self, server: Server, names: Namespaces, link: Link, handshake: HandshakeNodes, events: Events
    ) -> None:
        self._server, self._names, self._link = server, names, link
        self._handshake, self._events = handshake, events
        self._now: Now | None = None
        self._is_halted = False
        self._by_method = False
        self._state_ids: dict[str, ua.NodeId] = {}
        self._type_ids: dict[str, ua.NodeId] = {}
        self._nodes: dict[str, ua.NodeId] = {}

    async def build(self, vision: Node) -> None:
        """Bind the methods; the state is shown by `update`."""
        children = await children_by_name(vision)
        top = self._server.get_node(children["VisionStateMachine"])
        mode = self._server.get_node((await children_by_name(top))["AutomaticModeStateMachine"])
        for number in (TOP_TYPE, MODE_TYPE):
            self._type_ids.update(await children_by_name(self._server.get_node(self._names.vision_type(number))))
        # A state's id is that of its node; the specification has the top states' nodes also in the instance.
        top_children = await children_by_name(top)
        self._state_ids = {
            **self._type_ids,
            **{state.value: top_children[state.value] for state in Top if state.value in top_children},
        }
        for prefix, machine in (("top", top), ("mode", mode)):
            await self._add_last_transition(prefix, machine)
        self._nodes["system"] = children["SystemState"]
        handlers: dict[Method, tuple[Node, Any, list[Any]]] = {
            Method.START_SINGLE: (mode, self._start_single, self._job_arguments()),
            Method.START_CONTINUOUS: (mode, self._start_continuous, self._job_arguments()),
            Method.STOP: (mode, self._stop, _REASON),
            Method.ABORT: (mode, self._abort, _REASON),
            Method.SIMULATE: (mode, self._simulate, [_types.Boolean, *_REASON]),
            Method.HALT: (top, self._halt, _REASON),
            Method.RESET: (top, self._reset, _REASON),
            Method.SELECT: (top, self._select, []),
        }
        for method, (machine, handler, arguments) in handlers.items():
            bind(self._server, (await children_by_name(machine))[method.value], handler, arguments)
        await self._describe(vision)

    async def _describe(self, vision: Node) -> None:
        text = f"Modelled on OPC 40100-1; the handshake is the folder Handshake, version {MAP_VERSION}."
        await vision.write_attribute(ua.AttributeIds.Description, ua.DataValue(ua.LocalizedText(text)))

    async def _add_last_transition(self, prefix: str, machine: Node) -> None:
        """Add what what the state machine's own supertype has as optional."""
        current = self._server.get_node((await children_by_name(machine))["CurrentState"])
        last = await machine.add_variable(
            self._names.own_id(f"{machine.nodeid.Identifier}.LastTransition"), ua.QualifiedName("LastTransition", 0),
            ua.Variant(ua.LocalizedText(""), _types.LocalizedText), datatype=ua.NodeId(ua.ObjectIds.LocalizedText),
        )  # fmt: skip
        last_id = await last.add_property(
            self._names.own_id(f"{machine.nodeid.Identifier}.LastTransition.Id"), ua.QualifiedName("Id", 0),
            ua.Variant(ua.NodeId(), _types.NodeId),
        )  # fmt: skip
        self._nodes[f"{prefix}.state"] = current.nodeid
        self._nodes[f"{prefix}.state.id"] = (await children_by_name(current))["Id"]
        self._nodes[f"{prefix}.last"], self._nodes[f"{prefix}.last.id"] = last.nodeid, last_id.nodeid

    # The state.

    async def update(self) -> None:
        """Show the state of now, and announce it if it is another one."""
        image = self._link.image()
        found = state_of(image, is_halted=self._is_halted)
        if found == self._now:
            return
        before, self._now = self._now, found
        by_method, self._by_method = self._by_method, False
        await self._show_system(image, found)
        if before is None or before.top is not found.top:
            await self._move("top", before.top if before else None, found.top, image, by_method=by_method)
        old_mode = before.mode if before else None
        if old_mode is not found.mode:
            await self._move("mode", old_mode, found.mode, image, by_method=by_method)
        if found.mode is Mode.READY:
            await self._events.send(READY, "ready for a job", {"JobId": None})

    async def _move(
        self, prefix: str, before: Top | Mode | None, now: Top | Mode | None, image: Image, *, by_method: bool
    ) -> None:
        """Show one machine's state. Outside Operational the mode has none."""
        state_id = self._state_ids.get(now.value, ua.NodeId()) if now else ua.NodeId()
        text = ua.LocalizedText(now.value if now else "")
        await self._set(f"{prefix}.state", ua.Variant(text, _types.LocalizedText))
        await self._set(f"{prefix}.state.id", ua.Variant(state_id, _types.NodeId))
        if now is None or before is None:
            return
        names = transition_names(before, now, by_method=by_method)
        name = next((name for name in names if name in self._type_ids), "")
        transition, label = self._type_ids.get(name, ua.NodeId()), ua.LocalizedText(name or names[-1])
        await self._set(f"{prefix}.last", ua.Variant(label, _types.LocalizedText))
        await self._set(f"{prefix}.last.id", ua.Variant(transition, _types.NodeId))
        fields = {
            "FromState": ua.LocalizedText(before.value),
            "FromState/Id": self._state_ids.get(before.value, ua.NodeId()),
            "ToState": text,
            "ToState/Id": state_id,
            "Transition": label,
            "Transition/Id": transition,
        }
        why = f"{before.value} to {now.value}: {image.online_reason.meaning}"
        grave = GRAVE if now is Top.ERROR else SEVERITY
        await self._events.send(STATE_CHANGED, why, fields, grave)

    async def _show_system(self, image: Image, now: Now) -> None:
        """1: works, 2: stands by, 4: shut down as asked, 5: down by a fault."""
        number = {Top.HALTED: 4, Top.ERROR: 5, Top.PREOPERATIONAL: 2}.get(now.top, 2)
        if now.mode in (Mode.SINGLE, Mode.CONTINUOUS):
            number = 1
        types = self._names.types
        state = types.SystemStateDescriptionDataType(
            State=_system_state(types, number), StateDescription=image.online_reason.meaning
        )
        await self._set("system", structure(state))

    async def _set(self, name: str, value: ua.Variant) -> None:
        await self._server.iserver.write_attribute_value(self._nodes[name], ua.DataValue(value))

    # Methods.

    def demand(self, method: Method) -> Image:
        """The image of now, if the method may be called.

        Raises:
            MethodRefused: not in this state.
        """
        image = self._link.image()
        if not may(method, state_of(image, is_halted=self._is_halted)):
            raise MethodRefused(ua.StatusCodes.BadInvalidState)
        return image

    async def _done(self) -> list[ua.Variant]:
        self._by_method = True
        await self.update()
        self._by_method = False
        return [error(MethodError.NONE)]

    def _job_arguments(self) -> list[Any]:
        types = self._names.types
        structures = (
            types.MeasIdDataType,
            types.PartIdDataType,
            types.RecipeIdExternalDataType,
            types.ProductIdDataType,
        )
        return [*structures, _types.Variant]

    def _suits(self, image: Image, recipe: Structure, product: Structure) -> bool:
        """Whether what a job names is what is active; one that names nothing suits."""
        if recipe is not None and recipe.Id and recipe.Id != image.product:
            return False
        if recipe is not None and recipe.Version and recipe.Version != str(image.recipe_revision):
            return False
        return product is None or not product.Id or bool(product.Id == image.product)

    async def _start_single(
        self, _meas: Structure, part: Structure, recipe: Structure, product: Structure, _more: Structure
    ) -> list[ua.Variant]:
        image = self.demand(Method.START_SINGLE)
        self._handshake.claim()
        part_id = part.Id if part is not None and part.Id else ""
        if not is_part_id(part_id):
            raise MethodRefused(ua.StatusCodes.BadOutOfRange)
        if not self._suits(image, recipe, product):
            return [null_structure(), error(MethodError.UNKNOWN_RECIPE)]
        if not image.ready:
            return [null_structure(), error(MethodError.NOT_READY)]
        # Beside the PLC's trigger numbers: its unchanged number is no new trigger afterwards.
        trigger_id, status = await self._link.start_job(part_id)
        if status is not TriggerStatus.TAKEN:
            return [null_structure(), error(NOT_STARTED.get(status, MethodError.NO_ANSWER))]
        job = self._names.types.JobIdDataType(Id=trigger_id)
        await self._events.send(JOB_STARTED, f"job {trigger_id} for {part_id or 'a part'}", {"JobId": job})
        return [structure(job), error(MethodError.NONE)]

    async def _start_continuous(
        self, _meas: Structure, _part: Structure, recipe: Structure, product: Structure, _more: Structure
    ) -> list[ua.Variant]:
        image = self.demand(Method.START_CONTINUOUS)
        self._handshake.claim()
        if not self._suits(image, recipe, product):
            return [null_structure(), error(MethodError.UNKNOWN_RECIPE)]
        self._link.start()
        job = self._names.types.JobIdDataType(Id="line")
        return [structure(job), *await self._done()]

    # Whoever sees that a line must not go on may say so: stopping needs no ownership.

    async def _stop(self, _cause: int, _text: str | None) -> list[ua.Variant]:
        self.demand(Method.STOP)
        self._link.stop()
        return await self._done()

    async def _abort(self, _cause: int, _text: str | None) -> list[ua.Variant]:
        self.demand(Method.ABORT)
        self._link.stop()
        self._link.abort()
        return await self._done()

    async def _halt(self, _cause: int, _text: str | None) -> list[ua.Variant]:
        self.demand(Method.HALT)
        self._link.stop()
        self._link.abort()
        self._is_halted = True
        return await self._done()

    async def _reset(self, _cause: int, _text: str | None) -> list[ua.Variant]:
        self.demand(Method.RESET)
        self._handshake.claim()
        self._is_halted = False
        self._link.reset()
        self._link.start()
        return await self._done()

    async def _select(self) -> list[ua.Variant]:
        self.demand(Method.SELECT)
        return [error(MethodError.NONE)]

    async def _simulate(self, activate: bool, _cause: int, _text: str | None) -> list[ua.Variant]:
        self.demand(Method.SIMULATE)
        return [error(MethodError.NOT_SUPPORTED if activate else MethodError.NONE)]


def _system_state(types: Structure, number: int) -> Structure:
    """The number as its enumeration."""
    kind = type(types.SystemStateDescriptionDataType().State)
    return kind(number)

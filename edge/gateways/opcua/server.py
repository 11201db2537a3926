"""The OPC UA gateway: puts the parts together and runs them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from pathlib import Path

from asyncua import Node, ua
from asyncua.common.instantiate_util import instantiate

from edge.errors import GatewayError
from edge.gateways import service
from edge.gateways.link import FATAL, Link
from edge.gateways.opcua.channel import GatewayServer
from edge.gateways.opcua.events import Events
from edge.gateways.opcua.handshake_nodes import HandshakeNodes
from edge.gateways.opcua.internal_server import GatewayInternalServer
from edge.gateways.opcua.limits import show_limits
from edge.gateways.opcua.machine import MachineNodes
from edge.gateways.opcua.methods import refuse
from edge.gateways.opcua.nodesets import Namespaces, load_nodesets
from edge.gateways.opcua.pki import TrustFolder, own_pair
from edge.gateways.opcua.quiet import quieten
from edge.gateways.opcua.recipes import RecipeNodes
from edge.gateways.opcua.result_store import ResultStore
from edge.gateways.opcua.typed import Typed
from edge.gateways.opcua.user import load_users
from edge.gateways.results import Result
from edge.gateways.settings import GatewaySettings

PATH = "/linegate"
VISION_SYSTEM, VISION_SYSTEM_TYPE = "VisionSystem", 1003
ENCRYPTED = (
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
)


class OpcUaServer:
    """See `edge.gateways.service.Server`."""

    def __init__(self, link: Link, settings: GatewaySettings) -> None:
        """Make it; nothing is opened yet."""
        self._link, self._settings = link, settings
        self._server: GatewayServer | None = None
        self._pump: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._results: deque[Result] = deque()

    async def start(self) -> str:
        """Build the address space, then listen.

        Raises:
            GatewayError: a certificate or the users are no good, or the port is taken.
        """
        quieten()
        settings = self._settings.opcua
        users = load_users(Path(settings.users)) if settings.users else None
        if users is None and not settings.anonymous:
            raise GatewayError(
                "nobody could log in: there is no opcua.users, and opcua.anonymous is false",
                "Make a users file with `linegate gateway user`, or let the client's certificate be enough: anonymous = true.",
            )
        trust, pair = TrustFolder(Path(settings.pki)), own_pair(settings, self._settings.name)
        encrypted = settings.security == "encrypted"
        internal = GatewayInternalServer(
            users, anonymous=settings.anonymous, encrypted=encrypted, sessions=settings.sessions
        )
        server = self._server = GatewayServer(internal, trust, (settings.host, settings.port))
        try:
            await server.init()
            server.set_endpoint(f"opc.tcp://{settings.host}:{settings.port}{PATH}")
            await server.set_application_uri(pair.application_uri)
            server.set_server_name(f"Linegate {self._settings.name}")
            internal.certificate, internal.private_key = pair.certificate, pair.private_key
            plain = () if encrypted else (ua.SecurityPolicyType.NoSecurity,)
            server.set_security_policy([*ENCRYPTED, *plain])
            await self._build(server)
            await self._listen(server)
        except BaseException:
            await self.close()
            raise
        return f"opc.tcp://{settings.host}:{server.port}{PATH}"

    async def _listen(self, server: GatewayServer) -> None:
        settings = self._settings.opcua
        try:
            await server.start()
        except OSError as error:
            raise GatewayError(
                f"opcua cannot listen on {settings.host}:{settings.port} ({error.strerror or error})",
                "End what uses the port, or choose another opcua.port.",
            ) from error

    async def _build(self, server: GatewayServer) -> None:
        """Everything that a client sees."""
        link, names = self._link, await load_nodesets(server)
        session = link.image().session
        typed = Typed(names, session)
        vision = await _vision_system(server, names)
        handshake = HandshakeNodes(server, names, link)
        await handshake.build(typed.result)
        events = Events(server, names, vision, typed)
        await events.build()
        store = ResultStore(server, names, typed, session, self._settings.opcua.results)
        await store.build(vision)
        machine = MachineNodes(server, names, link, handshake, events)
        await machine.build(vision)
        await show_limits(server)
        recipes = RecipeNodes(server, names, link, handshake, machine, events, typed)
        await recipes.build(vision)
        server.iserver.ours = handshake
        link.on_result(self._take)
        link.on_change(self._wake.set)
        loop = asyncio.get_running_loop()
        self._pump = loop.create_task(self._run(handshake, events, store, machine, recipes))
        self._pump.add_done_callback(_say_if_broken)

    def _take(self, result: Result) -> None:
        self._results.append(result)
        self._wake.set()

    async def _run(
        self, handshake: HandshakeNodes, events: Events, store: ResultStore, machine: MachineNodes, recipes: RecipeNodes
    ) -> None:
        """Tell the clients of everything that happens, results first and in order."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._results:
                result = self._results.popleft()
                store.put(result)
                await events.result(result)
            handshake.refresh()
            await handshake.notify()
            await machine.update()
            await recipes.update()

    async def close(self) -> None:
        """Let every client go."""
        if self._pump is not None:
            self._pump.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._pump
            self._pump = None
        if self._server is not None:
            await self._server.stop()
            self._server = None


async def _vision_system(server: GatewayServer, names: Namespaces) -> Node:
    """The vision system, with every method that has no meaning here answered so."""
    made = await instantiate(
        server.nodes.objects,
        server.get_node(names.vision_type(VISION_SYSTEM_TYPE)),
        bname=names.own_name(VISION_SYSTEM),
        nodeid=names.own_id(VISION_SYSTEM),
        instantiate_optional=True,
    )
    for node_id in [known for known in server.iserver.aspace.keys() if known.NamespaceIndex == names.own]:  # noqa: SIM118 - not a dict
        attributes = server.iserver.aspace[node_id].attributes
        if attributes[ua.AttributeIds.NodeClass].value.Value.Value == ua.NodeClass.Method:
            await refuse(server, node_id)
    return made[0]


def _say_if_broken(task: asyncio.Task[None]) -> None:
    """A gateway that tells nothing any more is worth less than none: the PLC is to see it go."""
    if not task.cancelled() and task.exception() is not None:
        context = {"message": "the OPC UA server broke", "exception": task.exception(), FATAL: True}
        asyncio.get_running_loop().call_exception_handler(context)


def serve(settings: GatewaySettings) -> int:
    """Run the gateway until it is told to end. See `edge.gateways.service.serve`."""
    logging.getLogger("asyncua").setLevel(logging.WARNING)
    return service.serve(settings, OpcUaServer, "OPC UA")

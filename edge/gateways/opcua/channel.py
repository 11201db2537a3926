"""asyncua's server with what it lacks: channels that are trusted before anything is done for them, and bounded numbers.

Everything is a subclass of asyncua's; the reasons for each override stand beside it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

from asyncua import Server, ua
from asyncua.common.utils import Buffer, ServiceError
from asyncua.crypto.security_policies import SecurityPolicyFactory
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_session import SessionState
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary, uatcp_to_binary

from edge.gateways.opcua.internal_server import GatewayInternalServer
from edge.gateways.opcua.limits import LARGEST_CHUNK, LARGEST_MESSAGE
from edge.gateways.opcua.nodesets import Structure
from edge.gateways.opcua.pki import CertificateRefused, TrustFolder, first_certificate
from edge.gateways.opcua.session import GatewaySession
from edge.logs import log_event

PENDING_CONNECTIONS = 32
"""So many connections may be without a session; one more, and the oldest of them is dropped."""
SMALLEST_BUFFER = 8_192
"""By OPC UA's Part 6; with a smaller one asyncua cannot cut an answer into pieces."""
SIZE_BEGIN, SIZE_END = 4, 8
"""Where a chunk's header says how long it is."""
WRONG_PASSWORD_S = 0.5
_LOG = logging.getLogger("linegate.gateway.opcua")
_ids = ua.ObjectIds
OPENS_SESSION = frozenset(
    ua.NodeId(kind)
    for kind in (_ids.CreateSessionRequest_Encoding_DefaultBinary, _ids.ActivateSessionRequest_Encoding_DefaultBinary)
)
ACTIVATES = ua.NodeId(_ids.ActivateSessionRequest_Encoding_DefaultBinary)
CREATES = ua.NodeId(_ids.CreateSessionRequest_Encoding_DefaultBinary)
CLOSES = ua.NodeId(_ids.CloseSessionRequest_Encoding_DefaultBinary)
# Anybody may send these before a session, and each would be kept for good.
NEVER = frozenset(
    ua.NodeId(kind)
    for kind in (_ids.RegisterServerRequest_Encoding_DefaultBinary, _ids.RegisterServer2Request_Encoding_DefaultBinary)
)


class TrustedPolicyFactory(SecurityPolicyFactory):
    """Makes a channel's security only for a certificate that is trusted.

    asyncua asks its validator at CreateSession, about a certificate that the client may leave out or take from elsewhere:
    the one that counts is the channel's.
    """

    def __init__(self, made: SecurityPolicyFactory, trust: TrustFolder) -> None:
        super().__init__(
            made.cls, made.mode, made.certificate, made.private_key, made.permission_ruleset, made.certificate_chain
        )
        self._trust = trust

    def create(self, peer_certificate: bytes | None) -> Structure:
        """See asyncua."""
        if self.mode != ua.MessageSecurityMode.None_:
            # A client may send its CA's certificates behind its own.
            peer_certificate = first_certificate(peer_certificate or b"")
            if not peer_certificate:
                raise ServiceError(ua.StatusCodes.BadSecurityChecksFailed)
            try:
                self._trust.check(peer_certificate)
            except CertificateRefused as refused:
                code = (
                    ua.StatusCodes.BadCertificateTimeInvalid
                    if refused.is_expired
                    else ua.StatusCodes.BadSecurityChecksFailed
                )
                raise ServiceError(code) from refused
        return super().create(peer_certificate)


class GatewayProcessor(UaProcessor):
    """One connection."""

    iserver: GatewayInternalServer
    _session_watchdog_task: asyncio.Task[None] | None

    @property
    def is_encrypted(self) -> bool:
        """Whether the channel is signed and encrypted, by a client that is trusted."""
        return bool(self._connection.security_policy.Mode == ua.MessageSecurityMode.SignAndEncrypt)

    async def process(self, header: Structure, body: Structure) -> bool:
        """See asyncua, which leaves a client without an answer, and the connection open, when its message is refused."""
        try:
            goes_on = bool(await super().process(header, body))
            if self._limits.max_send_buffer < SMALLEST_BUFFER:
                raise ServiceError(ua.StatusCodes.BadTcpNotEnoughResources)
            return goes_on
        except Exception as error:  # noqa: BLE001 - whatever a client sends, it is told no and let go
            code = getattr(error, "code", ua.StatusCodes.BadTcpInternalError)
            log_event(
                _LOG, "connection_refused", level="warning", peer=_peer(self.name), code=hex(code), why=_one_line(error)
            )
            with contextlib.suppress(Exception):
                message = ua.ErrorMessage(ua.StatusCode(code), "refused")
                self._transport.write(uatcp_to_binary(ua.MessageType.Error, message))
            return False

    async def _process_message(
        self, typeid: Structure, requesthdr: Structure, seqhdr: Structure, body: Structure
    ) -> Structure:
        if typeid in NEVER:
            raise ServiceError(ua.StatusCodes.BadServiceUnsupported)
        if typeid in OPENS_SESSION and not self.is_encrypted and self.iserver.demands_encryption:
            # asyncua opens a plaintext channel for anybody, so that endpoints can be asked for, and would let it have a session.
            raise ServiceError(ua.StatusCodes.BadSecurityModeInsufficient)
        if typeid == CREATES:
            if self.session is not None and self.session.state is not SessionState.Closed:
                # asyncua would forget the first one, and keep it.
                raise ServiceError(ua.StatusCodes.BadTooManySessions)
            self._forget_session()
            await self.iserver.make_room()
        if typeid == ACTIVATES:
            await self._check_password(requesthdr, body)
        goes_on = await super()._process_message(typeid, requesthdr, seqhdr, body)
        if typeid == CLOSES:
            self._forget_session()
        return goes_on

    def _forget_session(self) -> None:
        """Be as before the first session; asyncua would go on with the one that is closed."""
        self.session = None
        if self._session_watchdog_task is not None:
            self._session_watchdog_task.cancel()
            self._session_watchdog_task = None
        while self._publish_requests:
            waiting = self._publish_requests.popleft()
            self._send_fault(waiting.requesthdr.RequestHandle, waiting.seqhdr, ua.StatusCodes.BadSessionClosed)
        self._publish_results_subs.clear()

    def _send_fault(self, handle: int, seqhdr: Structure, code: int) -> None:
        fault = ua.ServiceFault()
        fault.ResponseHeader.ServiceResult = ua.StatusCode(code)
        super().send_response(handle, seqhdr, fault)

    def send_response(
        self, requesthandle: int, seqhdr: Structure, response: Structure, msgtype: bytes = ua.MessageType.SecureMessage
    ) -> None:
        """See asyncua, which takes no notice of how much the client takes, nor of how long it takes to encrypt it.

        What a subscription has gathered is sent all the same: it would be lost.
        """
        response.ResponseHeader.RequestHandle = requesthandle
        data = struct_to_binary(response)
        if len(data) > (self._limits.max_message_size or LARGEST_MESSAGE) and not isinstance(
            response, ua.PublishResponse
        ):
            self._send_fault(requesthandle, seqhdr, ua.StatusCodes.BadResponseTooLarge)
            return
        self._transport.write(
            self._connection.message_to_binary(data, message_type=msgtype, request_id=seqhdr.RequestId)
        )

    async def _check_password(self, requesthdr: Structure, body: Buffer) -> None:
        """Check the password beside the event loop, where it would hold up every PLC for as long as a hash takes."""
        session = self.session or self.iserver.lookup_external_session(requesthdr.AuthenticationToken)
        params = struct_from_binary(ua.ActivateSessionParameters, body.copy())
        token = params.UserIdentityToken
        if not isinstance(session, GatewaySession) or not isinstance(token, ua.UserNameIdentityToken):
            return
        if not self.is_encrypted:
            # Before it is checked: how long the answer takes would tell whether it was right.
            raise ServiceError(ua.StatusCodes.BadIdentityTokenRejected)
        try:
            name, password = self.iserver.decrypt_user_token(session, token)
        except Exception as error:
            raise ServiceError(ua.StatusCodes.BadIdentityTokenInvalid) from error
        if not await self.iserver.passwords.check(str(name), str(password)):
            log_event(_LOG, "user_refused", level="warning", user=_one_line(name), peer=_peer(self.name))
            await asyncio.sleep(WRONG_PASSWORD_S)
            raise ServiceError(ua.StatusCodes.BadUserAccessDenied)


class GatewayProtocol(OPCUAProtocol):
    """One socket."""

    processor: Structure
    _buffer: bytes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncua, which turns newcomers away when it is full: a flood would keep every PLC out."""
        pending = [client for client in self.clients if not _has_session(client)]
        if len(pending) >= PENDING_CONNECTIONS and pending[0].transport is not None:
            pending[0].transport.abort()
            self.clients.remove(pending[0])
        super().connection_made(transport)
        if self.processor is not None:
            self.processor = GatewayProcessor(self.iserver, self.transport, self.limits)
            self.processor.set_policies(self.policies)

    def data_received(self, data: bytes) -> None:
        """See asyncua, which gathers a chunk of any size before it looks at it, and keeps what it cannot read for good."""
        super().data_received(data)
        if len(self._buffer) < SIZE_END or self.transport is None or self.transport.is_closing():
            return
        size = int.from_bytes(self._buffer[SIZE_BEGIN:SIZE_END], "little")
        if size > LARGEST_CHUNK or size <= len(self._buffer):
            log_event(_LOG, "connection_refused", level="warning", peer=_peer(self.peer_name), why="chunk", size=size)
            message = ua.ErrorMessage(ua.StatusCode(ua.StatusCodes.BadTcpMessageTooLarge), "refused")
            self.transport.write(uatcp_to_binary(ua.MessageType.Error, message))
            self._buffer = b""
            self.transport.close()


class GatewayBinaryServer(BinaryServer):
    """The listening socket."""

    def _make_protocol(self) -> GatewayProtocol:
        return GatewayProtocol(
            iserver=self.iserver,
            policies=self._policies,
            clients=self.clients,
            closing_tasks=self.closing_tasks,
            limits=self.limits,
        )


class GatewayServer(Server):
    """The whole server."""

    iserver: GatewayInternalServer
    bserver: Structure
    _policies: list[Structure]

    def __init__(self, iserver: GatewayInternalServer, trust: TrustFolder, bind: tuple[str, int]) -> None:
        super().__init__(iserver=iserver)
        self._trust, self._bind = trust, bind
        self.limits.max_message_size = LARGEST_MESSAGE
        self.limits.max_chunk_count = 32

    async def start(self) -> None:
        """See asyncua; listens with our own sockets.

        Raises:
            OSError: it cannot listen there.
        """
        await self._setup_server_nodes()
        self._policies = [TrustedPolicyFactory(policy, self._trust) for policy in self._policies]
        await self.iserver.start()
        self.bserver = GatewayBinaryServer(self.iserver, *self._bind, self.limits)
        self.bserver.set_policies(self._policies)
        self.iserver.connected = self._connected
        try:
            await self.bserver.start()
        except BaseException:
            self.bserver = None
            raise

    def _connected(self) -> set[Any]:
        """The sessions that have a connection."""
        if self.bserver is None:
            return set()
        return {client.processor.session for client in self.bserver.clients if client.processor is not None}

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.bserver.port) if self.bserver is not None else 0


def _has_session(client: OPCUAProtocol) -> bool:
    session = client.processor.session if client.processor is not None else None
    return session is not None and session.is_activated()


def _peer(name: object) -> str:
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) and len(name) >= 2 else str(name)


def _one_line(said: object) -> str:
    return "".join(c if c.isprintable() else "?" for c in str(said))[:200]

"""The TCP side: connections, frames, and one answer for each request, on top of pymodbus' server."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator

from pymodbus.constants import ExcCodes
from pymodbus.pdu import ExceptionResponse, ModbusPDU
from pymodbus.pdu.register_message import ReadWriteMultipleRegistersRequest
from pymodbus.server import ModbusTcpServer
from pymodbus.server.requesthandler import ServerRequestHandler
from pymodbus.simulator import SimDevice

from edge.gateways.modbus.admission import Admission, PacedLog
from edge.gateways.modbus.layout import is_readable

HEADER = struct.Struct(">HHH")
"""Of a frame: transaction, protocol, and how many bytes follow: unit, function, data."""
SHORTEST, LONGEST = 2, 254
FUNCTIONS = {3: 5, 4: 5, 6: 5, 16: None, 23: None}
"""What is answered, with the length that it must have: read (both kinds), write one, write many, write many and read."""
MOST_WAITING = 32
ACCEPTED_AT_ONCE, BACKLOG = 8, 128
"""New connections before the others have their turn again, and those that wait to be accepted."""
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 25_000}
"""Seconds, seconds, probes, milliseconds: a peer that lost its power is let go after half a minute."""
CLOSE_S = 2.0
UNREAD_BYTES = 65_536
"""So much may wait for a client that does not read, on its way and here."""
_LOG = logging.getLogger("linegate.gateway.modbus")


def split(received: bytearray) -> Iterator[bytes]:
    """Take the whole frames out of what was received.

    Raises:
        ValueError: this is not Modbus TCP, and nobody can tell where a frame begins.
    """
    while len(received) >= HEADER.size:
        _transaction, protocol, length = HEADER.unpack_from(received)
        if protocol != 0 or not SHORTEST <= length <= LONGEST:
            raise ValueError(f"protocol {protocol}, length {length}")
        if len(received) < HEADER.size + length:
            return
        yield bytes(received[: HEADER.size + length])
        del received[: HEADER.size + length]


class Listener(ModbusTcpServer):
    """pymodbus' server with connections of our own."""

    def __init__(
        self,
        device: SimDevice,
        bound: socket.socket,
        admission: Admission,
        unit_id: int,
        new_owner: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(device, address=bound.getsockname()[:2])
        self._bound = bound
        self.call_create = self._listen
        self.admission, self.unit_id = admission, unit_id
        self.new_owner = new_owner
        """Is called before another client than before writes."""
        self.paced = PacedLog(_LOG)
        self.open: set[Connection] = set()

    async def _listen(self) -> asyncio.Server:
        # asyncio takes one number for both: with the larger one a flood would hold up the PLC for as long.
        server = await self.loop.create_server(self.handle_new_connection, sock=self._bound, backlog=ACCEPTED_AT_ONCE)
        self._bound.listen(BACKLOG)
        return server

    def callback_new_connection(self) -> Connection:
        """See `ModbusProtocol`."""
        connection = Connection(self)
        self.open.add(connection)
        return connection

    async def stop(self) -> None:
        """Let everybody go."""
        # asyncio would leave open what it has accepted but not greeted yet: accept no more, and give it the turn that it needs.
        self.loop.remove_reader(self._bound)
        await asyncio.sleep(0)
        for connection in self.open:
            # pymodbus would wait until a peer that is gone has read its answers.
            connection.drop()
        await self.shutdown()  # type: ignore[no-untyped-call]
        if self.open:
            await asyncio.wait([connection.gone for connection in self.open], timeout=CLOSE_S)


class Connection(ServerRequestHandler):
    """One client.

    On pymodbus' own way from bytes to answers the second of two requests in one segment is lost, answers can be mixed up, and
    what waits is forgotten when it is more than 264 bytes. So the frames are told apart here by their lengths, and answered
    one after the other.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__(listener, None, None, None)  # type: ignore[no-untyped-call]
        self.asked, self.heard_s = 0, self.loop.time()
        self.address = ""
        self.gone: asyncio.Future[None] = self.loop.create_future()
        self._listener = listener
        self._datastore = Datastore(self, listener)
        self._received = bytearray()
        self._waiting: deque[bytes] = deque()
        self._task: asyncio.Task[None] | None = None

    # What asyncio calls. An exception in here would be a fault of the whole gateway.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it in if it may come; whoever has to go for it goes."""
        super().connection_made(transport)
        listener = self._listener
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        if not peer or listener.is_closing:
            # It was gone before it was greeted, or the gateway ends.
            self.drop()
        elif not listener.admission.admits(self.address):
            listener.paced.note("connection_refused", address=self.address)
            self.drop()
        else:
            _prepare(transport.get_extra_info("socket"))
            goes = listener.admission.enter(self, self.loop.time())
            if isinstance(goes, Connection):
                listener.paced.note("connection_gave_way", address=goes.address, what=f"to {self.address}")
                goes.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        super().connection_lost(exc)
        self._listener.admission.leave(self)
        self._listener.open.discard(self)
        self._waiting.clear()
        if not self.gone.done():
            self.gone.set_result(None)

    def data_received(self, data: bytes) -> None:
        """Take what came. What is not Modbus ends the connection."""
        self._received += data
        try:
            self._waiting.extend(split(self._received))
        except ValueError as error:
            self._listener.paced.note("not_modbus", address=self.address, what=str(error))
            self.drop()
            return
        if len(self._waiting) > MOST_WAITING and isinstance(self.transport, asyncio.ReadTransport):
            self.transport.pause_reading()
        self._begin()

    def pause_writing(self) -> None:
        """It asks, but does not read the answers."""
        self._listener.paced.note("answers_not_read", address=self.address)
        self.drop()

    def drop(self) -> None:
        """Close it now, whatever is still to be sent."""
        self._waiting.clear()
        self._listener.admission.leave(self)
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()

    # Requests and answers.

    def _begin(self) -> None:
        """Answer what waits, unless that is being done."""
        if self._waiting and self._task is None:
            self._task = self.loop.create_task(self._serve())
            self._task.add_done_callback(self._served)

    async def _serve(self) -> None:
        while self._waiting and self.is_active():
            frame = self._waiting.popleft()
            self.asked, self.heard_s = self.asked + 1, self.loop.time()
            self.server_send(await self._answer(frame), None)  # type: ignore[no-untyped-call]
            # One that asks without a pause waits for all others between two of its requests.
            await asyncio.sleep(0)
        if isinstance(self.transport, asyncio.ReadTransport):
            self.transport.resume_reading()

    def _served(self, task: asyncio.Task[None]) -> None:
        self._task = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # No answer is the only safe one; the other connections are not to suffer from it.
            self._listener.paced.note("request_failed", address=self.address, what=repr(error), level="error")
            self.drop()
        self._begin()

    async def _answer(self, frame: bytes) -> ModbusPDU:
        """One request's answer, with the numbers of that request."""
        transaction, unit, data = int.from_bytes(frame[:2], "big"), frame[6], frame[7:]
        answer = await self._obey(unit, data[0], data)
        answer.transaction_id, answer.dev_id = transaction, unit
        return answer

    async def _obey(self, unit: int, function: int, data: bytes) -> ModbusPDU:
        """Nothing here waits for anything, so that no request sees half of another one."""
        if self._listener.unit_id not in (0, unit):
            return ExceptionResponse(function, ExcCodes.GATEWAY_NO_RESPONSE)
        if function not in FUNCTIONS:
            return ExceptionResponse(function, ExcCodes.ILLEGAL_FUNCTION)
        request = self._listener.decoder.decode(data)
        if request is None or FUNCTIONS[function] not in (None, len(data)):
            return ExceptionResponse(function, ExcCodes.ILLEGAL_VALUE)
        if isinstance(request, ReadWriteMultipleRegistersRequest) and not is_readable(
            request.read_address, request.read_count
        ):
            # pymodbus would write first, and find only then that it cannot read.
            return ExceptionResponse(function, ExcCodes.ILLEGAL_ADDRESS)
        return await request.datastore_update(self._datastore, unit)  # type: ignore[arg-type]


class Datastore:
    """The registers as one connection may use them: for a request of pymodbus."""

    def __init__(self, connection: Connection, listener: Listener) -> None:
        self._connection, self._listener = connection, listener
        self._was_told = False

    async def async_getValues(  # noqa: N802 - pymodbus' name
        self, device_id: int, func_code: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        """Everybody may read."""
        return await self._listener.context.async_getValues(device_id, func_code, address, count)

    async def async_setValues(  # noqa: N802 - pymodbus' name
        self, device_id: int, func_code: int, address: int, values: list[int]
    ) -> ExcCodes | None:
        """Only one may write."""
        listener, connection = self._listener, self._connection
        now_s = connection.loop.time()
        if not listener.admission.may_write(connection, now_s):
            if not self._was_told:
                listener.paced.note("second_master", address=connection.address)
            self._was_told = True
            return ExcCodes.DEVICE_BUSY
        if not listener.admission.is_owner(connection):
            listener.new_owner()
        refused = await listener.context.async_setValues(device_id, func_code, address, values)
        if refused is None and listener.admission.wrote(connection, now_s):
            listener.paced.note("master", address=connection.address, level="info")
        return refused


def _prepare(connected: socket.socket) -> None:
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)
    for name, value in KEEPALIVE.items():
        # Not every system has them all.
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

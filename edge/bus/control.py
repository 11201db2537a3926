"""The control endpoint: takes commands over ROUTER, and the client that gives them."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec
import zmq

from edge.bus.binding import bind
from edge.bus.messages import encode
from edge.bus.requests import LARGEST_REQUEST_BYTES, ActivateCommand, Command, ModeCommand, PrepareCommand, Reply, id_of
from edge.bus.subscriber import CurveClient
from edge.errors import BusError, ControlError, LinegateError
from edge.logs import log_event

POLL_MS = 20
HELD_UP_NS = 60_000_000
"""Who has not looked for so long does not know when something came."""
SETTLE_NS = 100_000_000
"""After that, what came meanwhile may still be on its way from the system through ZeroMQ's own thread."""
WAITING_REPLIES = 1000
LINGER_MS = 500
SLOW = (PrepareCommand, ActivateCommand, ModeCommand)
WAKE = "inproc://control-wake"
_LOG = logging.getLogger("linegate.control")
_COMMANDS = msgspec.json.Decoder(Command)
_REPLIES = msgspec.json.Decoder(Reply)
Socket = zmq.Socket[bytes]


class Handler(Protocol):
    """Does what a command asks for."""

    def handle(self, command: Command, since_ns: int) -> Reply:
        """Do it and answer.

        Args:
            command: what is asked for.
            since_ns: when it came, on the monotonic clock; if that is not known, the earliest time it may have come.

        Raises:
            LinegateError: it cannot be done, and nothing has changed.
        """
        ...


class ControlServer:
    """Answers commands one at a time; a changeover, which takes long, in a thread of its own beside the triggers."""

    def __init__(
        self, context: zmq.Context[Socket], endpoint: str, handler: Handler, guard: Callable[[Socket], None]
    ) -> None:
        """Bind `endpoint`.

        Raises:
            BusError: in use, or not an endpoint.
        """
        self._context, self._handler = context, handler
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_REQUEST_BYTES)
        self._socket.setsockopt(zmq.SNDHWM, WAITING_REPLIES)
        self._socket.setsockopt(zmq.RCVHWM, WAITING_REPLIES)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._wake = context.socket(zmq.PULL)
        self._done: queue.Queue[tuple[list[bytes], Reply]] = queue.Queue()
        self._beside: threading.Thread | None = None
        self._stopping = threading.Event()
        self._empty_ns = self._looked_ns = self._doubt_ns = 0
        self.refused = 0
        try:
            self.endpoint = bind(self._socket, endpoint, guard, "control", "bus.control_endpoint")
            self._wake.bind(WAKE)
        except BaseException:
            self._close()
            raise

    def serve(self) -> None:
        """Answer until `stop`."""
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake, zmq.POLLIN)
        self._empty_ns = self._looked_ns = time.monotonic_ns()
        try:
            while not self._stopping.is_set():
                ready = dict(poller.poll(POLL_MS))
                if self._wake in ready:
                    self._wake.recv()
                    # Its thread may not have ended quite yet; whoever has the answer may begin the next one.
                    self._beside = None
                    with contextlib.suppress(queue.Empty):
                        self._answer(*self._done.get_nowait())
                if self._socket in ready:
                    self._take(self._socket.recv_multipart(), self._arrival_ns())
                self._look()
        finally:
            self._close()

    def _look(self) -> None:
        """Note when nothing lay in the socket, if that can be known."""
        now = time.monotonic_ns()
        if now - self._looked_ns > HELD_UP_NS:
            self._doubt_ns = now + SETTLE_NS
        self._looked_ns = now
        if now >= self._doubt_ns and not self._socket.poll(0):
            self._empty_ns = now

    def _arrival_ns(self) -> int:
        """When the command that is read now came.

        A process that was stopped finds the triggers of that time in its socket. They are as old as they may be: a part that
        has passed long ago must not get the verdict of the part that lies there now.
        """
        now = time.monotonic_ns()
        return self._empty_ns if now - self._empty_ns > HELD_UP_NS else now

    def stop(self) -> None:
        """Let `serve` return soon."""
        self._stopping.set()

    def close(self) -> None:
        """Close a server whose `serve` was never called."""
        self._close()

    def _take(self, parts: list[bytes], since_ns: int) -> None:
        # A REQ client sends an empty part between its identity and the request, and wants it back.
        address = parts[:2] if len(parts) == 3 and not parts[1] else parts[:1]
        if len(parts) != len(address) + 1:
            self._refuse(parts[:1], 0, "a command is one part", "Send one JSON object.")
            return
        try:
            command = _COMMANDS.decode(parts[-1])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._refuse(
                address, id_of(parts[-1]), f"not a command ({error})", "See edge/bus/requests.py for what can be asked."
            )
            return
        if isinstance(command, SLOW):
            self._do_beside(address, command, since_ns)
        else:
            self._answer(address, self._do(command, since_ns))

    def _do(self, command: Command, since_ns: int) -> Reply:
        try:
            reply = self._handler.handle(command, since_ns)
        except LinegateError as error:
            self.refused += 1
            log_event(_LOG, "command_refused", level="warning", command=type(command).__name__, error=error)
            return Reply(id=command.id, error=error.what, remedy=error.remedy)
        except Exception as error:  # noqa: BLE001 - one command that breaks must not end the station
            self.refused += 1
            log_event(_LOG, "command_broke", level="error", command=type(command).__name__, error=error)
            return Reply(id=command.id, error=f"this broke ({error})", remedy="Look at the station's log.")
        return msgspec.structs.replace(reply, id=command.id)

    def _do_beside(self, address: list[bytes], command: Command, since_ns: int) -> None:
        if self._beside is not None and self._beside.is_alive():
            self._refuse(address, command.id, "another changeover is being done", "Wait for its answer.")
            return

        def work() -> None:
            self._done.put((address, self._do(command, since_ns)))
            # The station may have ended meanwhile, and its context with it: nobody waits for the answer then.
            with contextlib.suppress(zmq.ZMQError), self._context.socket(zmq.PUSH) as wake:
                wake.connect(WAKE)
                wake.send(b"")

        self._beside = threading.Thread(target=work, name="changeover", daemon=True)
        self._beside.start()

    def _refuse(self, address: list[bytes], number: int, what: str, remedy: str) -> None:
        self.refused += 1
        self._answer(address, Reply(id=number, error=what, remedy=remedy))

    def _answer(self, address: list[bytes], reply: Reply) -> None:
        # A client that does not read its answers loses them; it may ask again.
        with contextlib.suppress(zmq.Again, zmq.ZMQError):
            self._socket.send_multipart([*address, encode(reply)], flags=zmq.NOBLOCK)

    def _close(self) -> None:
        self._socket.close()
        self._wake.close(linger=0)


class ControlClient:
    """Gives commands to a station, one at a time."""

    def __init__(self, endpoint: str, keys: CurveClient | None = None) -> None:
        """Connect; the station need not be there yet.

        Raises:
            BusError: not an endpoint.
        """
        self._context: zmq.Context[Socket] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, 1)
        self._endpoint = endpoint
        self._number = 0
        if keys is not None:
            keys.apply(self._socket)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise BusError(
                f"{endpoint} is not an endpoint ({error.strerror})", "Use tcp://HOST:PORT or ipc://PATH."
            ) from error

    def ask(self, command: Command, timeout_s: float) -> Reply:
        """Give a command and wait for its answer.

        Raises:
            ControlError: the station refuses.
            BusError: no answer came in time: whether the command was done is not known.
        """
        self._number += 1
        self._socket.send(encode(msgspec.structs.replace(command, id=self._number)))
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0 and poller.poll(round(left_s * 1000)):
            try:
                reply = _REPLIES.decode(self._socket.recv_multipart()[-1])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if reply.id not in (0, self._number):
                continue
            if reply.error:
                raise ControlError(reply.error, reply.remedy)
            return reply
        raise BusError(
            f"no answer from {self._endpoint} within {timeout_s:g} s",
            "Is the station running, and is this its control endpoint? With CURVE, is the key allowed there?",
        )

    def close(self) -> None:
        """Disconnect. May be called twice."""
        if not self._socket.closed:
            self._socket.close()
            self._context.term()

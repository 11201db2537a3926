"""The receiving end of the live feed, and how it tells that nothing was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import msgspec
import zmq

from edge.bus.messages import SCHEMA_VERSION, HeartbeatMessage, MaskMessage, StateMessage, VerdictMessage
from edge.bus.topics import TOPICS, Topic
from edge.errors import BusError

RECEIVE_HIGH_WATER_MARK = 100_000
Message: TypeAlias = VerdictMessage | HeartbeatMessage | StateMessage | MaskMessage
_DECODERS: dict[bytes, tuple[Topic, msgspec.json.Decoder[Any]]] = {
    topic.name: (topic, msgspec.json.Decoder(topic.message)) for topic in TOPICS
}


class CurveClient(Protocol):
    """A client's keys."""

    def apply(self, socket: zmq.Socket[bytes]) -> None:
        """Make a socket use them; before it connects."""


@dataclass
class _Span:
    """What arrived of one epoch, since this subscriber joined it."""

    first_seq: int = 0
    last_seq: int = 0
    received: int = 0
    head_seq: int = 0

    def note_head(self, head_seq: int) -> None:
        """The publisher has sent up to here."""
        self.head_seq = max(self.head_seq, head_seq)
        self.first_seq = self.first_seq or head_seq + 1

    def note_verdict(self, seq: int) -> None:
        """This one arrived."""
        self.first_seq = self.first_seq or seq
        self.received += 1
        self.last_seq = max(self.last_seq, seq)
        self.head_seq = max(self.head_seq, seq)

    @property
    def missing(self) -> int:
        return max(0, self.head_seq - self.first_seq + 1 - self.received) if self.first_seq else 0


@dataclass
class Reception:
    """Counts what arrived against what the publisher says it sent, epoch by epoch."""

    epoch: int = 0
    _spans: dict[int, _Span] = field(default_factory=lambda: {0: _Span()})

    def note(self, message: VerdictMessage | HeartbeatMessage) -> None:
        """Take account of one message; a copy of a verdict tells no more than how many were sent.

        A new epoch starts the count again. The last verdicts of an earlier epoch may come after it has begun.
        """
        self.epoch = max(self.epoch, message.epoch)
        span = self._spans.setdefault(message.epoch, _Span())
        if isinstance(message, HeartbeatMessage):
            span.note_head(message.head_seq)
        elif message.is_replay:
            span.note_head(message.seq)
        else:
            span.note_verdict(message.seq)

    @property
    def received(self) -> int:
        """Verdicts of this epoch that arrived."""
        return self._spans[self.epoch].received

    @property
    def head_seq(self) -> int:
        """The last verdict of this epoch that is known to have been sent."""
        return self._spans[self.epoch].head_seq

    @property
    def missing(self) -> int:
        """Verdicts sent since this subscriber joined the epoch that did not arrive."""
        return self._spans[self.epoch].missing

    @property
    def earlier_missing(self) -> int:
        """Verdicts of all earlier epochs that did not arrive."""
        return sum(span.missing for epoch, span in self._spans.items() if epoch != self.epoch)


def decode(parts: Sequence[bytes]) -> tuple[Message, bytes]:
    """A message of the feed and its blob (empty for topics without one).

    Raises:
        BusError: not a message of this bus.
    """
    found = _DECODERS.get(parts[0])
    if found is None or len(parts) != found[0].parts:
        raise BusError(
            f"an unknown message arrived on topic {parts[0][:32]!r}", "Check that the endpoint is a verdict bus."
        )
    try:
        message: Message = found[1].decode(parts[1])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BusError(f"a malformed message arrived ({error})", "Use the same version on both ends.") from error
    if message.schema_version != SCHEMA_VERSION:
        said = f"a message of schema version {message.schema_version} arrived, this software reads {SCHEMA_VERSION}"
        raise BusError(said, "Use the same version on both ends.")
    return message, parts[2] if len(parts) > 2 else b""


def connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """Connect a socket; the other end need not be there yet.

    Raises:
        BusError: `endpoint` is not a ZeroMQ endpoint.
    """
    socket.setsockopt(zmq.IPV6, 1)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise BusError(
            f"{endpoint} is not an endpoint ({error.strerror})", "Use tcp://HOST:PORT or ipc://PATH."
        ) from error


class Subscriber:
    """Reads all that one endpoint publishes, copies of last values too, as it comes. It asks for nothing again."""

    def __init__(self, endpoint: str, masks: bool = False, keys: CurveClient | None = None) -> None:
        """Connect; the publisher need not be there yet.

        Raises:
            BusError: `endpoint` is not a ZeroMQ endpoint.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, RECEIVE_HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, 0)
        for topic in TOPICS:
            if masks or topic.parts == 2:
                self._socket.setsockopt(zmq.SUBSCRIBE, topic.name)
        try:
            if keys is not None:
                keys.apply(self._socket)
            connect(self._socket, endpoint)
        except BaseException:
            self.close()
            raise

    def receive(self, timeout_ms: int) -> tuple[Message, bytes] | None:
        """The next message and its blob (empty for topics without one); None when none came in time.

        Raises:
            BusError: what came is not a message of this bus.
        """
        if not self._socket.poll(timeout_ms):
            return None
        return decode(self._socket.recv_multipart())

    def close(self) -> None:
        """Disconnect. May be called twice."""
        if not self._socket.closed:
            self._socket.close()
            self._context.term()

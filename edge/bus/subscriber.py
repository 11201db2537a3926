"""The receiving end of the verdict bus, and how it tells that nothing was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import zmq

from edge.bus.messages import SCHEMA_VERSION, HeartbeatMessage, MaskMessage, VerdictMessage
from edge.bus.topics import TOPICS, Topic
from edge.errors import BusError

RECEIVE_HIGH_WATER_MARK = 100_000
Message = VerdictMessage | HeartbeatMessage | MaskMessage


@dataclass
class Reception:
    """Counts what arrived of one epoch against what the publisher says it sent."""

    epoch: int = 0
    first_seq: int = 0
    last_seq: int = 0
    received: int = 0
    head_seq: int = 0
    earlier_missing: int = 0

    def note(self, message: VerdictMessage | HeartbeatMessage) -> None:
        """Take account of one message; a new epoch starts the count again and keeps what the last one missed."""
        if message.epoch != self.epoch:
            self.earlier_missing += self.missing
            self.epoch, self.first_seq, self.last_seq, self.received, self.head_seq = message.epoch, 0, 0, 0, 0
        if isinstance(message, HeartbeatMessage):
            self.head_seq = max(self.head_seq, message.head_seq)
            self.first_seq = self.first_seq or message.head_seq + 1
            return
        self.first_seq = self.first_seq or message.seq
        self.received += 1
        self.last_seq = max(self.last_seq, message.seq)
        self.head_seq = max(self.head_seq, message.seq)

    @property
    def missing(self) -> int:
        """Verdicts sent since this subscriber joined the epoch that did not arrive."""
        return max(0, self.head_seq - self.first_seq + 1 - self.received) if self.first_seq else 0


class Subscriber:
    """Reads verdicts, masks and heartbeats from one endpoint."""

    def __init__(self, endpoint: str, masks: bool = False) -> None:
        """Connect; the publisher need not be there yet.

        Raises:
            BusError: `endpoint` is not a ZeroMQ endpoint.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, RECEIVE_HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.IPV6, 1)
        self._decoders: dict[bytes, tuple[Topic, msgspec.json.Decoder[Any]]] = {
            topic.name: (topic, msgspec.json.Decoder(topic.message)) for topic in TOPICS
        }
        for topic in TOPICS:
            if masks or topic.parts == 2:
                self._socket.setsockopt(zmq.SUBSCRIBE, topic.name)
        try:
            self._socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise BusError(
                f"{endpoint} is not an endpoint ({error.strerror})", "Use tcp://HOST:PORT or ipc://PATH."
            ) from error

    def receive(self, timeout_ms: int) -> tuple[Message, bytes] | None:
        """The next message and its blob (empty for topics without one); None when none came in time.

        Raises:
            BusError: what came is not a message of this bus.
        """
        if not self._socket.poll(timeout_ms):
            return None
        parts = self._socket.recv_multipart()
        found = self._decoders.get(parts[0])
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

    def close(self) -> None:
        """Disconnect. May be called twice."""
        if not self._socket.closed:
            self._socket.close()
            self._context.term()

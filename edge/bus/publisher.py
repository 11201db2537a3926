"""The sending end of the verdict bus: one XPUB socket, used by one thread at a time."""

from __future__ import annotations

import time

import msgspec
import zmq

from edge.bus.topics import HEARTBEAT, VERDICT, Topic
from edge.errors import BusError

SEND_HIGH_WATER_MARK = 10_000
"""Messages kept for one slow subscriber before it loses the newest; it sees the loss by the heartbeat's head_seq."""
LINGER_MS = 2_000
ZMTP_HEARTBEAT_MS = 500


class Publisher:
    """Sends typed messages by topic. Never blocks: a subscriber that does not read loses messages, others do not."""

    def __init__(self, endpoint: str) -> None:
        """Bind `endpoint`.

        Raises:
            BusError: in use, or not an endpoint.
        """
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, SEND_HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.setsockopt(zmq.IPV6, int("[" in endpoint))
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
        self._encoder = msgspec.json.Encoder()
        self._subscriptions: dict[bytes, int] = {}
        try:
            self._socket.bind(endpoint)
        except zmq.ZMQError as error:
            self.close()
            raise BusError(
                f"the bus cannot be bound to {endpoint} ({error.strerror})",
                "Stop the program that holds it (`ss -ltnp`), or choose another bus.endpoint in the station file.",
            ) from error
        self.endpoint = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)

    def send(self, topic: Topic, message: msgspec.Struct, blob: bytes | None = None) -> None:
        """Send one message.

        Args:
            topic: a row of the table of topics.
            message: of the topic's type.
            blob: the third part, for topics that have one.
        """
        parts = [topic.name, self._encoder.encode(message)]
        if blob is not None:
            parts.append(blob)
        self._socket.send_multipart(parts, copy=True)

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Wait until somebody subscribes to both verdicts and heartbeats; False when nobody does in time."""
        end = time.monotonic() + timeout_s
        while not (self._subscribed(VERDICT) and self._subscribed(HEARTBEAT)):
            left_ms = round((end - time.monotonic()) * 1000)
            if left_ms <= 0:
                return False
            if self._socket.poll(left_ms):
                self.note_subscriptions()
        return True

    def note_subscriptions(self) -> None:
        """Read what subscribers asked for since the last call; unread requests would pile up."""
        while self._socket.poll(0):
            request = self._socket.recv()
            prefix, step = request[1:], 1 if request[:1] == b"\x01" else -1
            self._subscriptions[prefix] = self._subscriptions.get(prefix, 0) + step

    def _subscribed(self, topic: Topic) -> bool:
        return any(count > 0 and topic.name.startswith(prefix) for prefix, count in self._subscriptions.items())

    def close(self) -> None:
        """Give what was sent up to two seconds to leave, then close. May be called twice."""
        if not self._socket.closed:
            self._socket.close()
            self._context.term()

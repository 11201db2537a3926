"""The sending end of the verdict bus: one XPUB socket, used by one thread at a time."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import zmq

from edge.bus.binding import bind
from edge.bus.messages import last_value
from edge.bus.topics import HEARTBEAT, TOPICS, VERDICT, Topic
from edge.errors import BusError

SEND_HIGH_WATER_MARK = 10_000
"""Messages kept for one slow subscriber before it loses the newest; it sees the loss by the heartbeat's head_seq."""
LINGER_MS = 2_000
UNBIND_MS = 1_000
ZMTP_HEARTBEAT_MS = 500
LARGEST_SUBSCRIPTION_BYTES = 4096
MOST_PREFIXES = 1024
MOST_REQUESTS = 256
"""Read in one go: whoever sends subscriptions without end must not keep verdicts from being sent."""


class Publisher:
    """Sends encoded messages by topic. Never blocks: a subscriber that does not read loses messages, others do not.

    Whoever subscribes gets the last message of each topic at once. So does everybody else on that topic, which is why a
    repeated verdict says that it is one, and opens no gate.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, guard: Callable[[zmq.Socket[bytes]], None]
    ) -> None:
        """Bind `endpoint`; `guard` sets up the socket's security before.

        Raises:
            BusError: in use, or not an endpoint.
        """
        self._socket = context.socket(zmq.XPUB)
        self._socket.setsockopt(zmq.SNDHWM, SEND_HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_SUBSCRIPTION_BYTES)
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._subscriptions: dict[bytes, int] = {}
        self._last: dict[bytes, list[bytes]] = {}
        self.endpoint = bind(self._socket, endpoint, guard, "the bus", "bus.endpoint")

    def send(self, topic: Topic, data: bytes, blob: bytes | None = None) -> None:
        """Send one message.

        Args:
            topic: a row of the table of topics.
            data: the topic's message, encoded.
            blob: the third part, for topics that have one.

        Raises:
            BusError: the socket is broken.
        """
        parts = [topic.name, data] if blob is None else [topic.name, data, blob]
        self._last[topic.name] = parts
        try:
            self._socket.send_multipart(parts, copy=True)
        except zmq.ZMQError as error:
            raise BusError(f"the bus cannot send ({error.strerror})", "Restart the station.") from error

    def forget(self, topic: Topic) -> None:
        """Who joins from now on gets no last value of this topic, until there is a new one."""
        self._last.pop(topic.name, None)

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Wait until somebody subscribes to both verdicts and heartbeats; False when nobody does in time."""
        end = time.monotonic() + timeout_s
        while not (self._subscribed(VERDICT) and self._subscribed(HEARTBEAT)):
            left_ms = round((end - time.monotonic()) * 1000)
            if left_ms <= 0:
                return False
            if self._socket.poll(left_ms):
                self.answer_subscriptions()
        return True

    def answer_subscriptions(self) -> None:
        """Read what subscribers asked for since the last call, and give them the last values."""
        wanted: set[bytes] = set()
        for _ in range(MOST_REQUESTS):
            if not self._socket.poll(0):
                break
            request = self._socket.recv()
            if request[:1] not in (b"\x00", b"\x01"):
                continue
            prefix, joins = request[1:], request[:1] == b"\x01"
            self._count(prefix, 1 if joins else -1)
            if joins:
                wanted.update(topic.name for topic in TOPICS if topic.name.startswith(prefix))
        for name in sorted(wanted & set(self._last)):
            topic, data, *blob = self._last[name]
            self._socket.send_multipart([topic, last_value(data) if name == VERDICT.name else data, *blob], copy=True)

    def _count(self, prefix: bytes, step: int) -> None:
        count = self._subscriptions.pop(prefix, 0) + step
        # A prefix that only its sender knows is not kept: many of them would fill the memory.
        if count > 0 and len(self._subscriptions) < MOST_PREFIXES:
            self._subscriptions[prefix] = count

    def _subscribed(self, topic: Topic) -> bool:
        return any(topic.name.startswith(prefix) for prefix in self._subscriptions)

    def close(self) -> None:
        """Close; what was sent has up to two seconds to leave once the context ends. May be called twice."""
        if not self._socket.closed:
            if self.endpoint:
                self._free_endpoint()
            self._socket.close()

    def _free_endpoint(self) -> None:
        """Let go of the endpoint now, not when the last message has left.

        ZeroMQ does it in a thread of its own. Who bound the endpoint again before that would find it taken or, with ipc, have
        the new socket's file deleted.
        """
        monitor = self._socket.get_monitor_socket(zmq.EVENT_CLOSED)
        with contextlib.suppress(zmq.ZMQError):
            self._socket.unbind(self.endpoint)
            monitor.poll(UNBIND_MS)
        self._socket.disable_monitor()
        monitor.close(linger=0)

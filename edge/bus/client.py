"""Read every verdict of a station, exactly once and in order: what came live, and what must be asked for again.

    with VerdictSubscriber("tcp://192.168.0.7:5556", position_file=Path("line3.position")) as verdicts:
        for verdict in verdicts:
            ...

A verdict with `is_replay` set comes late: it is for the books, never for the gate.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec
import zmq

from edge.bus.collector import ROOM, Collector, Item, Lost, Start
from edge.bus.endpoints import sibling
from edge.bus.messages import HeartbeatMessage, MaskMessage, StateMessage, VerdictMessage
from edge.bus.position import Position, PositionFile
from edge.bus.requests import EpochsReply, EpochsRequest, VerdictsReply
from edge.bus.subscriber import RECEIVE_HIGH_WATER_MARK, CurveClient, Message, connect, decode
from edge.bus.topics import HEARTBEAT, STATE, VERDICT
from edge.errors import BusError, VerdictsLost

__all__ = ["ROOM", "CurveClient", "Item", "Lost", "Position", "Start", "VerdictReader", "VerdictSubscriber"]

ZMTP_HEARTBEAT_MS = 500
ZMTP_TIMEOUT_MS = 1_500
READ_AT_ONCE = 100
"""Messages of the feed that are read before replay and the reader get their turn."""
QUESTIONS_QUEUED = 2
Self = TypeVar("Self", bound="VerdictReader")


class _AnyReply(msgspec.Struct):
    id: int


class VerdictReader:
    """All but the waiting: both sockets, what they bring, and what the reader has had of it. Used by one thread."""

    def __init__(
        self,
        endpoint: str,
        *,
        replay: str = "",
        start: Start = "now",
        position_file: Path | None = None,
        keys: CurveClient | None = None,
        raise_on_loss: bool = False,
    ) -> None:
        """Connect; the station need not be there yet.

        Args:
            endpoint: the station's feed.
            replay: its replay endpoint; the sibling of `endpoint` if empty.
            start: "now", "oldest" (all that is kept), or go on after a position.
            position_file: remembers the position across restarts of this program; `start` counts for a new file alone.
            keys: for a station with CURVE.
            raise_on_loss: `VerdictsLost` is raised where `Lost` would be handed out.

        Raises:
            BusError: not an endpoint, or the position file is damaged or in use.
        """
        self.malformed = 0
        """Messages and replies that could not be read; what they told is asked for again."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._file: PositionFile | None = None
        self._raise_on_loss = raise_on_loss
        self._ready: deque[Item] = deque()
        self._handed: Position | None = None
        self._heartbeat: HeartbeatMessage | None = None
        self._state: StateMessage | None = None
        self._heard_s = time.monotonic()
        try:
            if position_file is not None:
                self._file = PositionFile(position_file)
                start = self._file.position or start
            self._collector = Collector(start)
            # Subscribed first, so that nothing is between what replay gives and what comes live.
            self._live = self._feed(endpoint, keys)
            self._replay = self._asking(replay or sibling(endpoint, 1), keys)
        except BaseException:
            self.close()
            raise

    def _feed(self, endpoint: str, keys: CurveClient | None) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, RECEIVE_HIGH_WATER_MARK)
        for topic in (VERDICT, HEARTBEAT, STATE):
            socket.setsockopt(zmq.SUBSCRIBE, topic.name)
        return _connected(socket, endpoint, keys)

    def _asking(self, endpoint: str, keys: CurveClient | None) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.SNDHWM, QUESTIONS_QUEUED)
        return _connected(socket, endpoint, keys)

    @property
    def heartbeat(self) -> HeartbeatMessage | None:
        """The last one that was read."""
        return self._heartbeat

    @property
    def state(self) -> StateMessage | None:
        """The last one that was read."""
        return self._state

    @property
    def silent_for_s(self) -> float:
        """Since the last good message of the feed was read. Longer than two heartbeats: treat every part as rejected."""
        return time.monotonic() - self._heard_s

    @property
    def position(self) -> Position | None:
        """After what was handed out last; None while it is not known where to start."""
        return self._handed or self._collector.started

    @property
    def held_back(self) -> int:
        """Verdicts that wait for replay to fill a gap before them."""
        return self._collector.held_back

    @property
    def refusal(self) -> str:
        """Why replay refuses to answer; empty if it does not."""
        return self._collector.refusal

    def acknowledge(self) -> None:
        """What was handed out last is done: a restart goes on after it.

        Asking for the next one says so too. A reader that dies between gets the last one again: at least once, never lost.
        """
        if self._file is not None and self.position is not None:
            self._file.write(self.position)

    def close(self) -> None:
        """Disconnect. What was handed out last and not acknowledged comes again. May be called twice."""
        if not self._context.closed:
            self._context.destroy(linger=0)
        if self._file is not None:
            self._file.close()

    def _next(self) -> Item | None:
        """Acknowledge what was handed out, read what is there, and hand out what comes next, if it is there."""
        self.acknowledge()
        self._read()
        if not self._ready:
            return None
        item = self._ready.popleft()
        self._handed = _after(item)
        if self._raise_on_loss and isinstance(item, Lost):
            raise VerdictsLost(
                f"verdicts {item.first_seq} to {item.last_seq or 'an unknown one'} of epoch {item.epoch} are lost "
                f"({item.why.value})",
                "Treat their parts as rejected, then go on reading: the next verdict follows them.",
            )
        return item

    def _wait_ms(self, end_s: float | None) -> int:
        """How long to wait for the sockets: until `end_s`, or until there is something to ask."""
        now_s = time.monotonic()
        waits = [s for s in (self._collector.wait_s(now_s), None if end_s is None else end_s - now_s) if s is not None]
        return max(1, round(min(waits) * 1000)) if waits else -1

    def _read(self) -> None:
        while self._replay.poll(0):
            self._ready += self._answered(self._replay.recv_multipart())
        for _ in range(READ_AT_ONCE if len(self._ready) < ROOM else 0):
            if not self._live.poll(0):
                break
            self._ready += self._heard(self._live.recv_multipart())
        # Not more than the reader takes: the next page is asked for when this one is read.
        request = None if self._ready else self._collector.request(time.monotonic())
        if request is not None:
            with contextlib.suppress(zmq.Again):  # nobody is there to take it: it is asked again
                self._replay.send(msgspec.json.encode(request), zmq.NOBLOCK)

    def _heard(self, parts: Sequence[bytes]) -> list[Item]:
        try:
            message, _ = decode(parts)
        except BusError:
            self.malformed += 1
            return []
        if self._is_news(message):
            self._heard_s = time.monotonic()
        if isinstance(message, MaskMessage):
            return []
        if isinstance(message, HeartbeatMessage):
            self._heartbeat = message
        elif isinstance(message, StateMessage):
            self._state = message
        return self._collector.live(message)

    def _is_news(self, message: Message) -> bool:
        """Whether the station lives: a copy of its last values, made for somebody else, does not say so."""
        if isinstance(message, HeartbeatMessage):
            return self._heartbeat is None or message.wall_us != self._heartbeat.wall_us
        return isinstance(message, VerdictMessage) and not message.is_replay

    def _answered(self, parts: Sequence[bytes]) -> list[Item]:
        try:
            asked = self._collector.asked(msgspec.json.decode(parts[0], type=_AnyReply).id)
            if asked is None:
                return []
            if isinstance(asked, EpochsRequest):
                return self._collector.epochs(msgspec.json.decode(parts[0], type=EpochsReply))
            reply = msgspec.json.decode(parts[0], type=VerdictsReply)
            page = [msgspec.json.decode(part, type=VerdictMessage) for part in parts[1:]]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.malformed += 1
            return []
        if len(page) != reply.count:
            self.malformed += 1
            return []
        return self._collector.verdicts(reply, page)


class VerdictSubscriber(VerdictReader):
    """Hands out every verdict since its start, and `Lost` where there are none any more. Waits in the calling thread."""

    def receive(self, timeout_s: float | None = None) -> Item | None:
        """The next item; None when none came in time. It is acknowledged when the next one is asked for.

        Raises:
            VerdictsLost: with `raise_on_loss`, in place of `Lost`; asking again goes on after the loss.
            BusError: the position to go on from is not this station's, or cannot be written.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        poller = zmq.Poller()
        poller.register(self._live, zmq.POLLIN)
        poller.register(self._replay, zmq.POLLIN)
        while (item := self._next()) is None:
            if end_s is not None and time.monotonic() >= end_s:
                return None
            poller.poll(self._wait_ms(end_s))
        return item

    def __iter__(self) -> Iterator[Item]:
        """All items, without end."""
        while True:
            item = self.receive()
            if item is not None:
                yield item

    def __enter__(self: Self) -> Self:
        """Connected already."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()


def _connected(socket: zmq.Socket[bytes], endpoint: str, keys: CurveClient | None) -> zmq.Socket[bytes]:
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, ZMTP_TIMEOUT_MS)
    if keys is not None:
        keys.apply(socket)
    connect(socket, endpoint)
    return socket


def _after(item: Item) -> Position:
    """Where a reader stands that has had this item."""
    if isinstance(item, VerdictMessage):
        return Position(item.epoch, item.seq)
    return Position(item.epoch, item.first_seq - 1 if item.last_seq is None else item.last_seq)

"""The bus for asyncio: the reader of `edge.bus.client`, the live feed as it comes, and control.

async with AsyncVerdictSubscriber("tcp://192.168.0.7:5556") as verdicts:
    async for verdict in verdicts:
        ...
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Generic, TypeVar, cast

import msgspec
import zmq
import zmq.asyncio

from edge.bus.client import ZMTP_HEARTBEAT_MS, ZMTP_TIMEOUT_MS, Item, VerdictReader
from edge.bus.messages import encode
from edge.bus.requests import Command, EpochInfo, EpochsReply, EpochsRequest, Reply
from edge.bus.subscriber import RECEIVE_HIGH_WATER_MARK, CurveClient, Message, connect, decode
from edge.bus.topics import HEARTBEAT, STATE, VERDICT, Topic
from edge.errors import BusError, ControlError

UNANSWERED = 100
"""Requests that ZeroMQ keeps for a station that is slow to take them."""
R = TypeVar("R", Reply, EpochsReply)


class AsyncVerdictSubscriber(VerdictReader):
    """Hands out every verdict since its start, and `Lost` where there are none any more. Waits in the event loop.

    Arguments, properties and promises are those of `VerdictSubscriber`. One task reads at a time; a `receive` that is
    cancelled takes nothing away.
    """

    async def receive(self, timeout_s: float | None = None) -> Item | None:
        """The next item; None when none came in time. It is acknowledged when the next one is asked for.

        Raises:
            VerdictsLost: with `raise_on_loss`, in place of `Lost`; asking again goes on after the loss.
            BusError: the position to go on from is not this station's, or cannot be written.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        poller = zmq.asyncio.Poller()
        poller.register(self._live, zmq.POLLIN)
        poller.register(self._replay, zmq.POLLIN)
        while (item := self._next()) is None:
            if end_s is not None and time.monotonic() >= end_s:
                return None
            await poller.poll(self._wait_ms(end_s))
        return item

    async def __aiter__(self) -> AsyncIterator[Item]:
        """All items, without end."""
        while True:
            item = await self.receive()
            if item is not None:
                yield item

    async def __aenter__(self) -> AsyncVerdictSubscriber:
        """Connected already."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect."""
        self.close()


class AsyncFeed:
    """The live feed without masks, as it comes, copies of last values too. It asks for nothing again: that is for a gate."""

    def __init__(self, endpoint: str, keys: CurveClient | None = None) -> None:
        """Connect; the station need not be there yet.

        Raises:
            BusError: not an endpoint.
        """
        self._context = zmq.asyncio.Context()
        topics = (VERDICT.name, HEARTBEAT.name, STATE.name)
        self._socket = _opened(self._context, zmq.SUB, endpoint, keys, *topics)

    async def receive(self) -> Message:
        """The next message.

        Raises:
            BusError: what came is not a message of this bus.
        """
        return decode(await self._socket.recv_multipart())[0]

    def renew(self, topic: Topic) -> None:
        """Ask for the last message of a topic again."""
        self._socket.setsockopt(zmq.UNSUBSCRIBE, topic.name)
        self._socket.setsockopt(zmq.SUBSCRIBE, topic.name)

    def close(self) -> None:
        """Disconnect. May be called twice."""
        self._context.destroy(linger=0)


class _AsyncClient(Generic[R]):
    """Asks one of a station's endpoints; several may wait for their answers. Use it in one event loop."""

    _replies: msgspec.json.Decoder[R]
    _name: str

    def __init__(self, endpoint: str, keys: CurveClient | None = None) -> None:
        """Connect; the station need not be there yet.

        Raises:
            BusError: not an endpoint.
        """
        self._endpoint = endpoint
        self._context = zmq.asyncio.Context()
        self._socket = _opened(self._context, zmq.DEALER, endpoint, keys)
        self._waiting: dict[int, asyncio.Future[R]] = {}
        self._reader: asyncio.Task[None] | None = None
        self._number = 0

    async def _ask(self, request: msgspec.Struct, timeout_s: float) -> R:
        if self._reader is None:
            self._reader = asyncio.get_running_loop().create_task(self._read())
        self._number += 1
        number = self._number
        answer: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            # What nobody is there to take must not reach whoever comes later.
            await self._socket.send(encode(msgspec.structs.replace(request, id=number)), zmq.NOBLOCK)
            return await asyncio.wait_for(answer, timeout_s)
        except zmq.Again as error:
            raise BusError(f"nobody is at {self._endpoint}", "Is the station running?") from error
        except asyncio.TimeoutError as error:
            raise BusError(
                f"no answer from {self._endpoint} within {timeout_s:g} s",
                f"Is the station running, and is this its {self._name} endpoint? With CURVE, is the key allowed there?",
            ) from error
        finally:
            del self._waiting[number]

    async def _read(self) -> None:
        while True:
            parts = await self._socket.recv_multipart()
            try:
                reply = self._replies.decode(parts[0] if parts[0] else parts[-1])
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            answer = self._waiting.get(reply.id)
            if answer is not None and not answer.done():
                answer.set_result(reply)

    async def close(self) -> None:
        """Disconnect. May be called twice."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
            self._reader = None
        self._context.destroy(linger=0)


class AsyncControlClient(_AsyncClient[Reply]):
    """Gives commands to a station."""

    _replies, _name = msgspec.json.Decoder(Reply), "control"

    async def ask(self, command: Command, timeout_s: float) -> Reply:
        """Give a command and wait for its answer.

        Raises:
            ControlError: the station refuses.
            BusError: nobody is there, and the command is forgotten; or no answer came in time: whether it was done is not known.
        """
        reply = await self._ask(command, timeout_s)
        if reply.error:
            raise ControlError(reply.error, reply.remedy)
        return reply


class AsyncReplayClient(_AsyncClient[EpochsReply]):
    """Asks a station which runs it had."""

    _replies, _name = msgspec.json.Decoder(EpochsReply), "replay"

    async def epochs(self, after: int, timeout_s: float) -> tuple[EpochInfo, ...]:
        """The runs after this one (exclusive), oldest first.

        Raises:
            ControlError: the station refuses.
            BusError: nobody is there, or no answer came in time.
        """
        reply = await self._ask(EpochsRequest(after=max(0, after)), timeout_s)
        if reply.error:
            raise ControlError(reply.error, reply.remedy)
        return reply.epochs


def _opened(
    context: zmq.asyncio.Context, kind: int, endpoint: str, keys: CurveClient | None, *topics: bytes
) -> zmq.asyncio.Socket:
    socket = context.socket(kind)
    # It is set up and connected like any other; only waiting differs.
    plain = cast("zmq.Socket[bytes]", socket)
    plain.setsockopt(zmq.LINGER, 0)
    plain.setsockopt(zmq.RCVHWM, RECEIVE_HIGH_WATER_MARK)
    plain.setsockopt(zmq.SNDHWM, UNANSWERED)
    plain.setsockopt(zmq.IMMEDIATE, 1)
    # A network that was cut is noticed, and connected again.
    plain.setsockopt(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
    plain.setsockopt(zmq.HEARTBEAT_TIMEOUT, ZMTP_TIMEOUT_MS)
    for topic in topics:
        plain.setsockopt(zmq.SUBSCRIBE, topic)
    try:
        if keys is not None:
            keys.apply(plain)
        connect(plain, endpoint)
    except BaseException:
        context.destroy(linger=0)
        raise
    return socket

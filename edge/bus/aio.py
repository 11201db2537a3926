"""The same as `edge.bus.client`, for asyncio.

async with AsyncVerdictSubscriber("tcp://192.168.0.7:5556") as verdicts:
    async for verdict in verdicts:
        ...
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from types import TracebackType

import zmq
import zmq.asyncio

from edge.bus.client import Item, VerdictReader


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

"""The client for asyncio keeps the promises of the plain one, and does not stop the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from edge.bus.aio import AsyncVerdictSubscriber
from edge.bus.client import Item, Lost, Position
from edge.bus.collector import Why
from edge.bus.messages import VerdictMessage
from edge.errors import VerdictsLost
from tests.edge.feed import PATIENCE_S, Feed, running_feed


def in_time(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, PATIENCE_S))


async def received(subscriber: AsyncVerdictSubscriber, count: int) -> list[tuple[int, int] | Lost]:
    items: list[Item] = []
    async for item in subscriber:
        items.append(item)
        if len(items) == count:
            break
    return [(item.epoch, item.seq) if isinstance(item, VerdictMessage) else item for item in items]


async def joined(feed: Feed, subscriber: AsyncVerdictSubscriber) -> None:
    feed.wait_for_subscriber()
    feed.beat()
    while subscriber.heartbeat is None:
        assert await subscriber.receive(0.05) is None


def test_live_skipped_and_old_verdicts_come_in_order() -> None:
    async def work(feed: Feed) -> None:
        feed.give(1, 2, 3)
        async with AsyncVerdictSubscriber(feed.endpoint, start="oldest") as subscriber:
            feed.wait_for_subscriber()
            feed.give(4)
            feed.give(5, live=False)
            feed.give(6)
            assert await received(subscriber, 6) == [(1, seq) for seq in range(1, 7)]
            assert await subscriber.receive(0.01) is None

    with running_feed() as feed:
        in_time(work(feed))


def test_the_loop_goes_on_while_it_waits_and_every_verdict_wakes_it() -> None:
    async def work(feed: Feed) -> None:
        async with AsyncVerdictSubscriber(feed.endpoint) as subscriber:
            await joined(feed, subscriber)
            for seq in range(1, 200):
                waiting = asyncio.ensure_future(subscriber.receive())
                await asyncio.sleep(0)
                assert not waiting.done()
                feed.give(seq)
                item = await waiting
                assert isinstance(item, VerdictMessage) and (item.seq, item.is_replay) == (seq, False)

    with running_feed() as feed:
        in_time(work(feed))


def test_a_receive_that_is_cancelled_takes_nothing_away() -> None:
    async def work(feed: Feed) -> None:
        async with AsyncVerdictSubscriber(feed.endpoint) as subscriber:
            await joined(feed, subscriber)
            for seq in range(1, 20):
                waiting = asyncio.ensure_future(subscriber.receive())
                await asyncio.sleep(0)
                feed.give(seq)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
                assert await received(subscriber, 1) == [(1, seq)]

    with running_feed() as feed:
        in_time(work(feed))


def test_losses_are_handed_out_or_raised() -> None:
    async def work(feed: Feed) -> None:
        feed.give(1, 2, 3)
        feed.history.prune(1, 3)
        async with AsyncVerdictSubscriber(feed.endpoint, start=Position(1, 0)) as subscriber:
            assert await received(subscriber, 2) == [Lost(1, 1, 2, Why.PRUNED), (1, 3)]
        async with AsyncVerdictSubscriber(feed.endpoint, start=Position(1, 0), raise_on_loss=True) as subscriber:
            with pytest.raises(VerdictsLost):
                await subscriber.receive()

    with running_feed() as feed:
        in_time(work(feed))


def test_replay_absent_for_a_while_and_a_new_reader_with_the_position_file(tmp_path: Path) -> None:
    path = tmp_path / "position"

    async def work(feed: Feed) -> None:
        async with AsyncVerdictSubscriber(feed.endpoint, position_file=path) as subscriber:
            await joined(feed, subscriber)
            feed.give(1, live=False)
            feed.beat()
            assert await subscriber.receive(0.2) is None
            feed.start_replay()
            assert await received(subscriber, 1) == [(1, 1)]
            subscriber.acknowledge()
        feed.give(2)
        async with AsyncVerdictSubscriber(feed.endpoint, position_file=path) as subscriber:
            assert await received(subscriber, 1) == [(1, 2)]

    with running_feed(replay=False) as feed:
        in_time(work(feed))

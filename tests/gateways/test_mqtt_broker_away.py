"""MQTT telemetry against mosquitto: every verdict arrives, in order, whoever goes away meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

from edge.bus.client import Position
from edge.bus.position import PositionFile
from tests.edge.feed import running_feed
from tests.gateways.mosquitto import Broker, Listener, Scene, needs_mosquitto, running_scene, telemetry

pytestmark = needs_mosquitto


def seqs(listener: Listener) -> list[int]:
    return [int(verdict["seq"]) for verdict in listener.payloads("verdict")]


def first_sights(numbers: list[int]) -> list[int]:
    return list(dict.fromkeys(numbers))


def position(scene: Scene) -> Position | None:
    file = PositionFile(Path(scene.settings.mqtt.position_file))
    try:
        return file.position
    finally:
        file.close()


def test_verdicts_arrive_once_in_order_without_anything_that_could_open_a_gate(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        async with telemetry(scene.settings) as delivering:
            scene.feed.give(*range(1, 101))
            scene.feed.beat()
            await scene.listener.until(lambda: len(seqs(scene.listener)) >= 100)
            assert seqs(scene.listener) == list(range(1, 101))
            while delivering.delivered < 100:
                await asyncio.sleep(0.01)
        first = scene.listener.payloads("verdict")[0]
        assert (first["part_id"], first["judgement"], first["epoch"]) == ("part-1-1", "OK", 1)
        assert "accept" not in first
        assert position(scene) == Position(1, 100)

    with running_scene(tmp_path) as scene:
        asyncio.run(work(scene))


def test_what_was_given_while_the_broker_was_away_arrives_later(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        async with telemetry(scene.settings):
            scene.feed.give(*range(1, 51))
            scene.feed.beat()
            await scene.listener.until(lambda: len(seqs(scene.listener)) >= 25)
            scene.broker.kill()
            before = seqs(scene.listener)
            scene.feed.give(*range(51, 201))
            scene.broker.start()
            scene.listener = after = Listener(scene.broker)
            await after.until(lambda: 200 in seqs(after))
            assert seqs(after) == list(range(seqs(after)[0], 201))
            assert first_sights(before + seqs(after)) == list(range(1, 201))

    with running_scene(tmp_path) as scene:
        asyncio.run(work(scene))


def test_a_broker_that_hangs_up_in_the_middle_again_and_again_loses_nothing(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        seen: list[int] = []
        async with telemetry(scene.settings):
            for turn in range(3):
                scene.feed.give(*range(turn * 100 + 1, turn * 100 + 101))
                await scene.listener.until(lambda: len(seqs(scene.listener)) >= 5)
                scene.broker.kill()
                seen += seqs(scene.listener)
                scene.broker.start()
                scene.listener = Listener(scene.broker)
            await scene.listener.until(lambda: 300 in seen + seqs(scene.listener))
        assert first_sights(seen + seqs(scene.listener)) == list(range(1, 301))

    with running_scene(tmp_path) as scene:
        asyncio.run(work(scene))


def test_a_gateway_that_dies_before_it_noted_what_the_broker_has_repeats_and_misses_nothing(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        path = Path(scene.settings.mqtt.position_file)
        scene.feed.give(*range(1, 11))
        async with telemetry(scene.settings):
            await scene.listener.until(lambda: len(seqs(scene.listener)) >= 10)
        # As a kill between the broker's answer and the note of it leaves the file.
        path.unlink()
        file = PositionFile(path)
        file.write(Position(1, 6))
        file.close()
        scene.feed.give(11, 12)
        async with telemetry(scene.settings):
            await scene.listener.until(lambda: 12 in seqs(scene.listener))
        assert seqs(scene.listener) == [*range(1, 11), *range(7, 13)]

    with running_scene(tmp_path) as scene:
        asyncio.run(work(scene))


def test_a_broker_that_is_not_there_yet_is_waited_for_and_gets_the_oldest_verdict_that_is_kept(tmp_path: Path) -> None:
    async def work(broker: Broker, scene: Scene) -> None:
        async with telemetry(scene.settings):
            scene.feed.give(1, 2, 3)
            broker.start()
            scene.listener = Listener(broker)
            await scene.listener.until(lambda: seqs(scene.listener) == [1, 2, 3])

    with running_feed() as feed:
        broker = Broker(tmp_path / "broker")
        scene = Scene(feed, broker, tmp_path)
        try:
            asyncio.run(work(broker, scene))
        finally:
            scene.close()


def test_verdicts_that_nobody_has_any_more_are_told_as_lost(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        scene.feed.give(1, 2, 3, live=False)
        file = PositionFile(Path(scene.settings.mqtt.position_file))
        file.write(Position(1, 0))
        file.close()
        scene.feed.history.prune(1, 3)
        async with telemetry(scene.settings):
            await scene.listener.until(lambda: seqs(scene.listener) == [3])
        assert scene.listener.payloads("lost") == [{"epoch": 1, "first_seq": 1, "last_seq": 2, "why": "pruned"}]
        assert position(scene) == Position(1, 3)

    with running_scene(tmp_path) as scene:
        asyncio.run(work(scene))

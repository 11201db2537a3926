"""What is retained tells the truth about now: of the gateway, of the station, and when one of them has gone."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from edge.bus.messages import State
from tests.edge.feed import state_message
from tests.gateways.mosquitto import PATIENCE_S, Listener, Scene, needs_mosquitto, running_scene, telemetry

pytestmark = needs_mosquitto


def has_seq(listener: Listener, seq: int) -> bool:
    return seq in [verdict["seq"] for verdict in listener.payloads("verdict")]


async def beat_until_online(scene: Scene) -> None:
    while "online" not in scene.listener.texts("gateway"):
        scene.feed.beat()
        await asyncio.sleep(0.05)


def test_the_gateway_is_online_only_while_the_station_is_heard(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        listener = scene.listener
        async with telemetry(scene.settings):
            await beat_until_online(scene)
            await listener.until(lambda: listener.texts("gateway")[-1] == "silent")
        await listener.until(lambda: listener.texts("gateway")[-1] == "offline")
        assert listener.texts("gateway") == ["silent", "online", "silent", "offline"]

    with running_scene(tmp_path) as scene:
        asyncio.run(work(scene))


def test_state_and_counts_wait_for_who_comes_late_and_verdicts_do_not(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        async with telemetry(scene.settings):
            await beat_until_online(scene)
            scene.feed.give(1)
            scene.feed.say(state_message(state=State.READY))
            await scene.listener.until(lambda: bool(scene.listener.payloads("state")))
            await scene.listener.until(lambda: bool(scene.listener.payloads("verdict")))
            late = scene.listener = Listener(scene.broker)
            await late.until(lambda: bool(late.texts("counts", retained=True) and late.texts("state", retained=True)))
            assert late.payloads("state")[0]["state"] == "Ready"
            assert late.payloads("counts")[0]["triggers_seen"] == 0
            assert not late.texts("verdict")
            assert late.topics() == {
                "plant/hall/gate/gateway",
                "plant/hall/test/state",
                "plant/hall/test/counts",
            }

    with running_scene(tmp_path) as scene:
        asyncio.run(work(scene))


def test_counts_come_at_most_once_a_second_however_often_the_station_beats(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        loop = asyncio.get_running_loop()
        async with telemetry(scene.settings):
            await beat_until_online(scene)
            begin_s = loop.time()
            while len(scene.listener.texts("counts")) < 3:
                scene.feed.beat()
                await asyncio.sleep(0.02)
            assert loop.time() - begin_s > 1.0

    with running_scene(tmp_path) as scene:
        asyncio.run(work(scene))


def test_a_gateway_that_is_killed_is_offline_and_the_next_one_goes_on_where_it_stopped(tmp_path: Path) -> None:
    async def work(scene: Scene, file: Path) -> None:
        listener = scene.listener
        words = [sys.executable, "-m", "linegate", "gateway", "mqtt", str(file)]
        scene.feed.give(*range(1, 21))
        for head in (20, 40):
            process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
            try:
                await listener.until(partial(has_seq, listener, head))
            finally:
                process.kill()
                process.wait()
            await listener.until(lambda: listener.texts("gateway")[-1] == "offline")
            scene.feed.give(*range(21, 41), live=False)
        seqs = [verdict["seq"] for verdict in listener.payloads("verdict")]
        assert list(dict.fromkeys(seqs)) == list(range(1, 41))
        assert len(seqs) <= 40 + 20, "more than the window was sent twice"

    with running_scene(tmp_path) as scene:
        mqtt = scene.settings.mqtt
        file = tmp_path / "gateway.toml"
        file.write_text(
            f'name = "gate"\n[bus]\nendpoint = "{scene.feed.endpoint}"\n'
            f'[mqtt]\nport = {mqtt.port}\ntopic = "{mqtt.topic}"\nposition_file = "{mqtt.position_file}"\n'
        )
        asyncio.run(work(scene, file))


def test_a_gateway_that_is_told_to_end_ends_well(tmp_path: Path) -> None:
    with running_scene(tmp_path) as scene:
        file = tmp_path / "gateway.toml"
        file.write_text(
            f'name = "gate"\n[bus]\nendpoint = "{scene.feed.endpoint}"\n[mqtt]\nport = {scene.broker.port}\n'
        )
        words = [sys.executable, "-m", "linegate", "gateway", "mqtt", str(file)]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        try:
            asyncio.run(scene.listener.until(lambda: bool(scene.listener.texts("gateway"))))
            process.terminate()
            _, said = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
        assert process.returncode == 0, said
        assert f"gateway gate delivers to mqtt://127.0.0.1:{scene.broker.port}/linegate" in said
        assert "ended: 0 verdicts delivered" in said
        assert "Traceback" not in said


@pytest.mark.parametrize("name", ["one", "two"])
def test_the_gateways_own_topic_has_its_name(tmp_path: Path, name: str) -> None:
    async def work(scene: Scene) -> None:
        async with telemetry(scene.settings):
            await scene.listener.until(lambda: f"plant/{name}/gate/gateway" in scene.listener.topics())

    with running_scene(tmp_path, topic=f"plant/{name}") as scene:
        asyncio.run(work(scene))

"""A mosquitto broker and mosquitto_sub, the independent peers of MQTT telemetry."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.gateways.mqtt.telemetry import MqttTelemetry
from edge.gateways.settings import BusLinkSettings, GatewaySettings, MqttSettings
from tests.edge.feed import Feed, running_feed

PATIENCE_S = 60.0
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
SUBSCRIBER, PUBLISHER = shutil.which("mosquitto_sub"), shutil.which("mosquitto_pub")
needs_mosquitto = pytest.mark.skipif(
    not (MOSQUITTO and SUBSCRIBER), reason="no MQTT broker: apt-get install mosquitto mosquitto-clients"
)
MARK = "mark"


class Broker:
    """mosquitto on a free port of its own.

    It passes on at once what it takes: what it took and had not passed on would be gone with it, and that is not the gateway's
    loss.
    """

    def __init__(self, folder: Path, config: str = "allow_anonymous true\n", subscriber: tuple[str, ...] = ()) -> None:
        folder.mkdir()
        self.subscriber = subscriber
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._config, self._log = folder / "mosquitto.conf", folder / "log"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nuser root\nmax_inflight_messages 0\nmax_queued_messages 0\n{config}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen([str(MOSQUITTO), "-c", str(self._config)], stdout=log, stderr=log)
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s and self._process.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.02)
        raise AssertionError(f"mosquitto did not start: {self.log()}")

    def kill(self) -> None:
        """kill -9, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """Of the running one."""
        return 0 if self._process is None else self._process.pid

    def reload(self) -> None:
        """Have it read its access rules again."""
        os.kill(self.pid, signal.SIGHUP)

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text(errors="replace")


class Listener:
    """mosquitto_sub on everything. The event loop, and with it the gateway, stands still until it has subscribed."""

    def __init__(self, broker: Broker) -> None:
        where = ["-h", "127.0.0.1", "-p", str(broker.port), "-V", "5", *broker.subscriber]
        words = [str(SUBSCRIBER), *where, "-q", "1", "-t", "#", "-F", "%r %t %p"]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self._lines: list[tuple[bool, str, str]] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()
        end_s = time.monotonic() + PATIENCE_S
        while not any(topic == MARK for _, topic, _ in self._lines):
            assert time.monotonic() < end_s, f"mosquitto_sub heard nothing: {self._lines}"
            subprocess.run([str(PUBLISHER), *where, "-t", MARK, "-m", "here"], check=True, timeout=PATIENCE_S)
            time.sleep(0.02)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            retained, _, rest = line.decode().rstrip("\n").partition(" ")
            topic, _, payload = rest.partition(" ")
            self._lines.append((retained == "1", topic, payload))

    def texts(self, kind: str, *, retained: bool | None = None) -> list[str]:
        """What came on topics that end so, in order; `retained`: the broker kept it from before."""
        return [
            payload
            for was_kept, topic, payload in list(self._lines)
            if topic.rpartition("/")[2] == kind and retained in (None, was_kept)
        ]

    def payloads(self, kind: str) -> list[dict[str, Any]]:
        """The same, read as JSON."""
        return [json.loads(text) for text in self.texts(kind)]

    def topics(self) -> set[str]:
        """On which something came."""
        return {topic for _, topic, _ in list(self._lines)} - {MARK}

    async def until(self, true: Callable[[], bool]) -> None:
        """Wait for something that is there sooner or later."""
        end_s = time.monotonic() + PATIENCE_S
        while not true():
            assert time.monotonic() < end_s, f"waited in vain; last came {self._lines[-3:]}"
            await asyncio.sleep(0.02)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reading.join()
        if self._process.stdout is not None:
            self._process.stdout.close()


class Scene:
    """A station's feed with its replay, a broker, a listener, and a gateway's settings between them."""

    def __init__(self, feed: Feed, broker: Broker, folder: Path, **mqtt: object) -> None:
        self.feed, self.broker = feed, broker
        self._listeners: list[Listener] = []
        own = {"port": broker.port, "topic": "plant/hall", "position_file": str(folder / "position"), **mqtt}
        self.settings = GatewaySettings(
            name="gate",
            bus=BusLinkSettings(endpoint=feed.endpoint, silence_ms=500.0),
            mqtt=msgspec.structs.replace(MqttSettings(), **own),
        )

    @property
    def listener(self) -> Listener:
        """The newest."""
        return self._listeners[-1]

    @listener.setter
    def listener(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def close(self) -> None:
        """End the listeners and the broker."""
        self.broker.kill()
        for listener in self._listeners:
            listener.close()


@contextmanager
def running_scene(
    folder: Path, config: str = "allow_anonymous true\n", subscriber: tuple[str, ...] = (), **mqtt: object
) -> Iterator[Scene]:
    """A scene whose broker runs; `mqtt` are settings of the gateway."""
    with running_feed() as feed:
        broker = Broker(folder / "broker", config, subscriber)
        scene = Scene(feed, broker, folder, **mqtt)
        try:
            broker.start()
            scene.listener = Listener(broker)
            yield scene
        finally:
            scene.close()


@asynccontextmanager
async def telemetry(settings: GatewaySettings) -> AsyncIterator[MqttTelemetry]:
    """A gateway that delivers."""
    gateway = MqttTelemetry(settings)
    await gateway.start()
    running = asyncio.ensure_future(gateway.run())
    try:
        yield gateway
        assert not running.done(), f"the gateway has ended: {running}"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await gateway.close()

"""From the station's feed to the broker: every verdict at least once and in order, however often either goes away.

Nothing is kept in memory for a broker that is away. Each connection begins anew behind the last verdict that the broker has
taken, and asks the station's replay for what follows.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from edge.bus.aio import AsyncVerdictSubscriber
from edge.bus.client import Item
from edge.bus.keys import ClientKeys
from edge.bus.messages import HeartbeatMessage, StateMessage
from edge.bus.position import PositionFile
from edge.errors import BusError
from edge.gateways.link import client_keys
from edge.gateways.mqtt.access import Access, load_access
from edge.gateways.mqtt.broker import BrokerConnection, BrokerGoneError
from edge.gateways.mqtt.payloads import Presence, item_message, own_topic, status_payload, topic_of
from edge.gateways.mqtt.window import Window
from edge.gateways.settings import GatewaySettings
from edge.logs import log_event

BACK_OFF_S, LONGEST_BACK_OFF_S = 0.5, 30.0
COUNTS_S = 1.0
LOOK_S = 0.2
COMPLAIN_S = 60.0
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_LOG = logging.getLogger("linegate.gateway")


class MqttTelemetry:
    """One station and one broker. Use it in one event loop."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Nothing is opened yet."""
        self.delivered = 0
        """Verdicts and losses that the broker has taken."""
        self._settings = settings
        self._presence_topic = own_topic(settings, "gateway")
        self._complained: dict[bool, float] = {}
        self._access: Access | None = None
        self._keys: ClientKeys | None = None
        self._file: PositionFile | None = None

    async def start(self) -> str:
        """Check everything that can be checked without the broker, which need not be there; returns where it is.

        Raises:
            GatewayError: settings contradict each other, or a file of the broker's is missing, malformed or not private.
            SecurityError: a key of the station's is.
            BusError: the position file is damaged or in use.
        """
        mqtt = self._settings.mqtt
        self._access = load_access(mqtt)
        self._keys = client_keys(self._settings)
        self._file = PositionFile(Path(mqtt.position_file))
        if self._access.password is not None and self._access.tls is None and mqtt.host not in LOOPBACK:
            log_event(_LOG, "mqtt_password_in_the_clear", level="warning", host=mqtt.host)
        return f"{'mqtts' if self._access.tls else 'mqtt'}://{mqtt.host}:{mqtt.port}/{mqtt.topic}"

    async def close(self) -> None:
        """Flush the position. End `run` before. May be called twice."""
        if self._file is not None:
            self._file.close()

    async def run(self) -> None:
        """Deliver until cancelled.

        Raises:
            BusError: the position is not one of this station, or cannot be written; or an endpoint is none.
            GatewayError: the station's id cannot be a part of a topic.
        """
        delay_s = BACK_OFF_S
        while True:
            before = self.delivered
            try:
                await self._connection()
            except BrokerGoneError as gone:
                self._complain(gone)
            # A broker that accepts and then ends every connection is not tried faster than one that is away.
            delay_s = BACK_OFF_S if self.delivered > before else delay_s
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, LONGEST_BACK_OFF_S)

    async def _connection(self) -> None:
        if self._access is None or self._file is None:
            raise RuntimeError("start comes first")
        bus, window = self._settings.bus, Window()
        delivery = _Delivery(self._file, window)
        connection = BrokerConnection(
            self._settings.mqtt, self._settings.name, self._access, self._presence_topic, delivery.taken
        )
        try:
            await connection.open()
            log_event(_LOG, "mqtt_connected", host=self._settings.mqtt.host, port=self._settings.mqtt.port)
            subscriber = AsyncVerdictSubscriber(
                bus.endpoint, replay=bus.replay_endpoint, start=self._file.position or "oldest", keys=self._keys
            )
            async with subscriber as verdicts:
                pump = _Pump(self._settings, self._presence_topic, connection, verdicts, window)
                while True:
                    delivery.check()
                    await pump.step()
                    self.delivered += delivery.count()
        finally:
            await connection.close()
            self.delivered += delivery.count()

    def _complain(self, gone: BrokerGoneError) -> None:
        """Once a minute, and apart for a broker that is away and one that refuses."""
        now_s = time.monotonic()
        if now_s - self._complained.get(gone.refused, float("-inf")) >= COMPLAIN_S:
            self._complained[gone.refused] = now_s
            log_event(_LOG, "mqtt_refused" if gone.refused else "mqtt_away", level="warning", error=gone)


class _Delivery:
    """Takes note of what the broker has taken; the position file follows at once."""

    def __init__(self, file: PositionFile, window: Window) -> None:
        self._file, self._window = file, window
        self._fault: BusError | None = None
        self._items = 0

    def taken(self, mid: int) -> None:
        """Called for each PUBACK."""
        reached = self._window.take(mid)
        if not reached or self._fault is not None:
            return
        try:
            self._file.write(reached[-1])
        except BusError as error:
            self._fault = error
        self._items += len(reached)

    def check(self) -> None:
        """Raise what went wrong since."""
        if self._fault is not None:
            raise self._fault

    def count(self) -> int:
        """Items that the position went past since it was asked last."""
        count, self._items = self._items, 0
        return count


class _Pump:
    """Moves what the station says into one connection."""

    def __init__(
        self,
        settings: GatewaySettings,
        presence_topic: str,
        connection: BrokerConnection,
        verdicts: AsyncVerdictSubscriber,
        window: Window,
    ) -> None:
        self._settings, self._connection, self._verdicts, self._window = settings, connection, verdicts, window
        self._presence_topic = presence_topic
        self._presence: Presence | None = None
        self._state: StateMessage | None = None
        self._counts: HeartbeatMessage | None = None
        self._counted_s = float("-inf")

    async def step(self) -> None:
        """Send one item if there is one and room for it, and what else has changed; waits at most `LOOK_S`.

        Raises:
            BrokerGoneError: the connection has ended.
            BusError, GatewayError: see `MqttTelemetry.run`.
        """
        if self._connection.gone is not None:
            raise self._connection.gone
        if not self._has_room:
            await self._connection.moved(LOOK_S)
            return
        # Before anything of the station: what was retained when the last connection ended is not of now.
        self._send_presence()
        item = await self._verdicts.receive(LOOK_S) if self._has_room else None
        if item is not None:
            self._send_item(item)
        self._send_state()
        self._send_counts()

    @property
    def _has_room(self) -> bool:
        return len(self._window) < self._connection.in_flight

    def _send_item(self, item: Item) -> None:
        topic, payload = item_message(self._settings, item)
        self._window.send(self._connection.publish(topic, payload), self._verdicts.position)

    def _send_presence(self) -> None:
        silent = self._verdicts.heartbeat is None or (
            self._verdicts.silent_for_s * 1000 > self._settings.bus.silence_ms
        )
        presence = Presence.SILENT if silent else Presence.ONLINE
        if presence is not self._presence and self._send_retained(self._presence_topic, presence.value.encode()):
            self._presence = presence

    def _send_state(self) -> None:
        state = self._verdicts.state
        if state is not None and state != self._state and self._send_of_station(state, "state"):
            self._state = state

    def _send_counts(self) -> None:
        counts, now_s = self._verdicts.heartbeat, time.monotonic()
        if counts is None or counts is self._counts or now_s - self._counted_s < COUNTS_S:
            return
        if self._send_of_station(counts, "counts"):
            self._counts, self._counted_s = counts, now_s

    def _send_of_station(self, message: StateMessage | HeartbeatMessage, kind: str) -> bool:
        topic = topic_of(self._settings.mqtt.topic, message.station_id, kind)
        return self._send_retained(topic, status_payload(message))

    def _send_retained(self, topic: str, payload: bytes) -> bool:
        """Whether there was room; what had none is sent later, as it is then."""
        if not self._has_room:
            return False
        self._window.send(self._connection.publish(topic, payload, retain=True), None)
        return True

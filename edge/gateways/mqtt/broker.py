"""One connection to the broker, from its making to its end. A new one is made for the next.

MQTT 5, because its PUBACK says whether the broker took the message. With 3.1.1 a broker whose access rules forbid the topic
acknowledges and throws away, and nobody could tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.errors import GatewayError
from edge.gateways.mqtt.access import Access
from edge.gateways.mqtt.payloads import Presence
from edge.gateways.settings import MqttSettings

IN_FLIGHT = 20
KEEPALIVE_S = 10
"""A broker that says nothing for twice as long is taken for gone."""
CONNECT_S = 5.0
GOODBYE_S = 1.0
TAKEN_OVER, BANNED = 0x8E, {0x86, 0x87, 0x8C}


class BrokerGoneError(GatewayError):
    """The connection cannot be made, or has ended. `refused`: the broker is there, and does not want what it gets."""

    def __init__(self, what: str, remedy: str, *, refused: bool = False) -> None:
        super().__init__(what, remedy)
        self.refused = refused


class BrokerConnection:
    """The network is served by a thread of paho's own; all else happens in the event loop, which never waits for it."""

    def __init__(
        self, settings: MqttSettings, name: str, access: Access, presence_topic: str, taken: Callable[[int], None]
    ) -> None:
        """Nothing is connected yet.

        Args:
            settings: where the broker is.
            name: the gateway's; the broker ends an older connection of the same name.
            access: who we are.
            presence_topic: gets OFFLINE when the connection ends, however it ends.
            taken: is called in the event loop with the id of each message that the broker has taken.
        """
        self.in_flight = IN_FLIGHT
        """So many messages may wait for their PUBACK."""
        self.gone: BrokerGoneError | None = None
        self._where = f"{settings.host}:{settings.port}"
        self._settings, self._presence_topic, self._taken = settings, presence_topic, taken
        self._loop = asyncio.get_running_loop()
        self._answered, self._moved, self._ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._started = self._connected = False
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"linegate-{name}",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_S
        client.will_set(presence_topic, Presence.OFFLINE.value, qos=1, retain=True)
        if access.user is not None:
            client.username_pw_set(access.user, access.password)
        if access.tls is not None:
            client.tls_set_context(access.tls)
        client.on_connect, client.on_disconnect, client.on_publish = (
            self._on_connect,
            self._on_disconnect,
            self._on_publish,
        )
        self._client = client

    async def open(self) -> None:
        """Connect, and wait until the broker has agreed.

        Raises:
            BrokerGoneError: it cannot be reached, or refuses.
        """
        try:
            await asyncio.to_thread(self._client.connect, self._settings.host, self._settings.port, KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise BrokerGoneError(
                f"the broker at {self._where} cannot be reached ({error})",
                "Check mqtt.host and mqtt.port, whether it runs, and with TLS its certificate.",
            ) from error
        self._client.loop_start()
        self._started = True
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._answered.wait(), CONNECT_S)
        if not self._connected:
            raise self.gone or BrokerGoneError(
                f"the broker at {self._where} does not answer", "Is it an MQTT broker that speaks version 5?"
            )

    def publish(self, topic: str, payload: bytes | str, *, retain: bool = False) -> int:
        """Send a message with QoS 1; returns the id under which it will be taken.

        Raises:
            BrokerGoneError: there is no connection any more.
        """
        if self.gone is not None:
            raise self.gone
        info = self._client.publish(topic, payload, qos=1, retain=retain)
        if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise self._lost(f"it takes nothing ({info.rc.name})")
        return info.mid

    async def moved(self, timeout_s: float) -> None:
        """Wait until the broker has taken something or is gone, or until the time is over."""
        self._moved.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._moved.wait(), timeout_s)

    async def close(self) -> None:
        """Say goodbye if somebody listens, and end the thread."""
        if not self._started:
            return
        if self.gone is None and self._connected:
            with contextlib.suppress(asyncio.TimeoutError, BrokerGoneError):
                await asyncio.wait_for(self._say_goodbye(), GOODBYE_S)
        self._client.disconnect()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._ended.wait(), GOODBYE_S)
        self._cut()
        # The thread may end, and forget itself, between paho's look at it and its wait for it.
        with contextlib.suppress(AttributeError):
            await asyncio.to_thread(self._client.loop_stop)

    async def _say_goodbye(self) -> None:
        """Tell that we go, and wait until that is known: the broker takes messages in order, so it has all before it too."""
        goodbye, left = self.publish(self._presence_topic, Presence.OFFLINE.value, retain=True), asyncio.Event()
        taken = self._taken

        def note(mid: int) -> None:
            taken(mid)
            if mid == goodbye:
                left.set()

        self._taken = note
        await left.wait()

    def _cut(self) -> None:
        """End the connection under paho: its thread ends of itself only when everything has been sent and taken."""
        with contextlib.suppress(OSError, AttributeError, ValueError):
            own = self._client.socket()
            if own is not None:
                with socket.socket(fileno=os.dup(own.fileno())) as twin:
                    twin.shutdown(socket.SHUT_RDWR)

    # Called by paho's thread: each only hands over to the event loop.

    def _on_connect(
        self, _client: Client, _data: object, _flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        self._hand_over(self._agreed, reason, getattr(properties, "ReceiveMaximum", IN_FLIGHT))

    def _on_disconnect(
        self, _client: Client, _data: object, flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._hand_over(self._left, reason, flags.is_disconnect_packet_from_server)

    def _on_publish(
        self, _client: Client, _data: object, mid: int, reason: ReasonCode, _properties: Properties
    ) -> None:
        self._hand_over(self._acknowledged, mid, reason)

    def _hand_over(self, do: Callable[..., None], *words: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(do, *words)

    # In the event loop.

    def _agreed(self, reason: ReasonCode, receive_maximum: int) -> None:
        if reason.is_failure:
            self._refused(reason)
        else:
            self._connected = True
            self.in_flight = min(IN_FLIGHT, receive_maximum)
        self._answered.set()

    def _left(self, reason: ReasonCode, said_by_broker: bool) -> None:
        if said_by_broker:
            self._refused(reason)
        self.gone = self.gone or self._lost(str(reason))
        for event in (self._answered, self._moved, self._ended):
            event.set()

    def _acknowledged(self, mid: int, reason: ReasonCode) -> None:
        if reason.is_failure:
            self._refused(reason)
        elif self.gone is None:
            self._taken(mid)
        self._moved.set()

    def _lost(self, why: str) -> BrokerGoneError:
        return BrokerGoneError(f"the connection to the broker at {self._where} is lost ({why})", "Is it running?")

    def _refused(self, reason: ReasonCode) -> None:
        remedy = "See the broker's log."
        if reason.value in BANNED:
            remedy = (
                f"Check mqtt.user, the password file, and whether the broker lets it write {self._settings.topic}/#."
            )
        elif reason.value == TAKEN_OVER:
            remedy = "Another gateway has the same name: give each its own `name`."
        self.gone = self.gone or BrokerGoneError(
            f"the broker at {self._where} refuses ({reason})", remedy, refused=True
        )

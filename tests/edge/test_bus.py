"""What is sent arrives as it was; what is no message of the bus is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.bus.compose import Composer
from edge.bus.messages import HeartbeatMessage
from edge.bus.publisher import Publisher
from edge.bus.subscriber import Message, Subscriber
from edge.bus.topics import HEARTBEAT, MASK, TOPICS, VERDICT
from edge.errors import BusError
from tests.conftest import free_port
from tests.edge.fakes import fake_provenance
from tests.edge.messages import heartbeat, rejected

PATIENCE_MS = 60_000


@pytest.fixture(params=["tcp", "ipc"])
def publisher(request: pytest.FixtureRequest, endpoint: str) -> Iterator[Publisher]:
    made = Publisher(endpoint if request.param == "ipc" else "tcp://127.0.0.1:*")
    yield made
    made.close()


def test_what_is_published_arrives_in_order(publisher: Publisher) -> None:
    composer = Composer(fake_provenance(), 1)
    judged = rejected()
    mask, png = composer.mask(judged, 1)
    sent: list[tuple[Message, bytes]] = [(composer.verdict(judged, 1), b""), (heartbeat(1), b""), (mask, png)]
    subscriber = Subscriber(publisher.endpoint, masks=True)
    assert publisher.wait_for_subscriber(60)
    for topic, (message, blob) in zip((VERDICT, HEARTBEAT, MASK), sent, strict=True):
        publisher.send(topic, message, blob or None)
    assert [subscriber.receive(PATIENCE_MS) for _ in sent] == sent
    subscriber.close()


def test_masks_come_only_to_those_who_ask(publisher: Publisher) -> None:
    subscriber = Subscriber(publisher.endpoint)
    assert publisher.wait_for_subscriber(60)
    publisher.send(MASK, *Composer(fake_provenance(), 1).mask(rejected(), 1))
    publisher.send(HEARTBEAT, heartbeat(0))
    received = subscriber.receive(PATIENCE_MS)
    assert received is not None and isinstance(received[0], HeartbeatMessage)
    subscriber.close()


def test_nothing_comes_where_nothing_was_sent(publisher: Publisher) -> None:
    subscriber = Subscriber(publisher.endpoint)
    assert subscriber.receive(1) is None
    subscriber.close()
    subscriber.close()


def test_without_a_subscriber_the_wait_ends_and_sending_does_not_block(publisher: Publisher) -> None:
    assert not publisher.wait_for_subscriber(0.01)
    for _ in range(100):
        publisher.send(HEARTBEAT, heartbeat(0))


def test_a_subscriber_that_left_is_not_waited_with(publisher: Publisher) -> None:
    subscriber = Subscriber(publisher.endpoint)
    assert publisher.wait_for_subscriber(60)
    subscriber.close()
    end = time.monotonic() + 60
    while publisher.wait_for_subscriber(0.01) and time.monotonic() < end:
        publisher.note_subscriptions()
    assert not publisher.wait_for_subscriber(0.01)


def test_a_port_in_use_is_told_with_the_remedy() -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    first = Publisher(endpoint)
    with pytest.raises(BusError, match=r"cannot be bound.*in use.*bus\.endpoint"):
        Publisher(endpoint)
    first.close()
    first.close()
    Publisher(endpoint).close()


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://", "tcp://nowhere", "ipc:///nowhere/at/all", "x://y:1"])
def test_what_is_no_endpoint_is_told(endpoint: str) -> None:
    with pytest.raises(BusError, match="cannot be bound"):
        Publisher(endpoint)


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://", "x://y:1"])
def test_a_subscriber_tells_what_is_no_endpoint(endpoint: str) -> None:
    with pytest.raises(BusError, match="not an endpoint"):
        Subscriber(endpoint)


@dataclass
class Stranger:
    """Publishes whatever it likes on an endpoint where a bus is expected."""

    socket: zmq.Socket[bytes]
    subscriber: Subscriber

    def say(self, *parts: bytes) -> tuple[Message, bytes] | None:
        self.socket.send_multipart(parts)
        return self.subscriber.receive(PATIENCE_MS)


@pytest.fixture
def stranger(endpoint: str) -> Iterator[Stranger]:
    with zmq.Context() as context, context.socket(zmq.XPUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(endpoint)
        subscriber = Subscriber(endpoint, masks=True)
        for _ in TOPICS:
            assert socket.poll(PATIENCE_MS)
            socket.recv()
        yield Stranger(socket, subscriber)
        subscriber.close()


GOOD = msgspec.json.encode(heartbeat(0))
MALFORMED = {
    "longer topic": (b"heartbeats", GOOD),
    "topic alone": (b"heartbeat",),
    "one part too many": (b"heartbeat", GOOD, b""),
    "mask without picture": (b"mask", GOOD),
    "no JSON": (b"heartbeat", b"hello"),
    "nothing": (b"heartbeat", b""),
    "cut short": (b"heartbeat", GOOD[:-1]),
    "array": (b"heartbeat", b"[]"),
    "missing field": (b"heartbeat", b"{}"),
    "wrong type": (b"heartbeat", GOOD.replace(b'"ok":0', b'"ok":"0"')),
    "unknown state": (b"heartbeat", GOOD.replace(b"Ready", b"Asleep")),
    "not UTF-8": (b"heartbeat", GOOD.replace(b'"test"', b'"\xff\xfe"')),
    "message of another topic": (b"verdict", GOOD),
}


@pytest.mark.parametrize("parts", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_message_is_told(stranger: Stranger, parts: tuple[bytes, ...]) -> None:
    assert all(len(part) for part in parts) or parts[-1] == b""
    with pytest.raises(BusError):
        stranger.say(*parts)
    assert stranger.say(b"heartbeat", GOOD) == (heartbeat_again(), b"")


def heartbeat_again() -> HeartbeatMessage:
    return msgspec.json.decode(GOOD, type=HeartbeatMessage)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(topic=st.sampled_from([t.name for t in TOPICS]), more=st.lists(st.binary(max_size=100), max_size=3))
@example(topic=b"heartbeat", more=[b"[" * 100_000])
@example(topic=b"heartbeat", more=[b'{"more":' + b"[" * 100_000])
def test_arbitrary_messages_raise_nothing_but_a_bus_error(stranger: Stranger, topic: bytes, more: list[bytes]) -> None:
    with pytest.raises(BusError):
        stranger.say(topic, *more)

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

from edge.bus.compose import mask_message, verdict_message
from edge.bus.messages import HeartbeatMessage, MaskMessage, VerdictMessage, encode
from edge.bus.publisher import Publisher
from edge.bus.subscriber import Message, Subscriber
from edge.bus.topics import HEARTBEAT, MASK, STATE, TOPICS, VERDICT, Topic
from edge.errors import BusError
from tests.conftest import free_port
from tests.edge.feed import state_message, unguarded
from tests.edge.messages import heartbeat, rejected, verdict

PATIENCE_MS = 60_000


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """Ends when all publishers of the test are closed."""
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield made
    made.destroy(linger=0)


@pytest.fixture(params=["tcp", "ipc"])
def publisher(
    request: pytest.FixtureRequest, context: zmq.Context[zmq.Socket[bytes]], endpoint: str
) -> Iterator[Publisher]:
    made = Publisher(context, endpoint if request.param == "ipc" else "tcp://127.0.0.1:*", unguarded)
    yield made
    made.close()


def mask_of_a_reject() -> tuple[MaskMessage, bytes]:
    judged = rejected()
    assert judged.verdict.mask is not None
    return mask_message(verdict_message(judged, 1), judged.verdict.mask)


def test_what_is_published_arrives_in_order(publisher: Publisher) -> None:
    sent: list[tuple[Message, bytes]] = [
        (verdict_message(rejected(), 1), b""),
        (heartbeat(1), b""),
        mask_of_a_reject(),
        (state_message(), b""),
    ]
    subscriber = Subscriber(publisher.endpoint, masks=True)
    # Subscriptions come in the order of the table: with the last one all are there.
    wait_for_topic(publisher, TOPICS[-1])
    for topic, (message, blob) in zip((VERDICT, HEARTBEAT, MASK, STATE), sent, strict=True):
        publisher.send(topic, encode(message), blob or None)
    assert [subscriber.receive(PATIENCE_MS) for _ in sent] == sent
    subscriber.close()


def wait_for_topic(publisher: Publisher, topic: Topic) -> None:
    end = time.monotonic() + PATIENCE_MS / 1000
    while not publisher._subscribed(topic):
        assert time.monotonic() < end, "nobody subscribed"
        publisher.answer_subscriptions()


@dataclass
class Heard:
    """What one subscriber received, in order."""

    subscriber: Subscriber

    def of(self, publisher: Publisher, count: int) -> list[Message]:
        """The next `count` messages, while the publisher answers."""
        found: list[Message] = []
        end = time.monotonic() + PATIENCE_MS / 1000
        while len(found) < count:
            assert time.monotonic() < end, f"received {found}"
            publisher.answer_subscriptions()
            received = self.subscriber.receive(10)
            if received is not None:
                found.append(received[0])
        return found


def test_a_late_joiner_gets_the_last_message_of_each_topic_at_once(publisher: Publisher) -> None:
    for seq in (1, 2, 3):
        publisher.send(VERDICT, encode(verdict(seq)))
        publisher.send(HEARTBEAT, encode(heartbeat(seq)))
    publisher.send(STATE, encode(state_message()))
    publisher.send(MASK, encode(mask_of_a_reject()[0]), mask_of_a_reject()[1])
    subscriber = Subscriber(publisher.endpoint, masks=True)
    found = {type(message).__name__: message for message in Heard(subscriber).of(publisher, 4)}
    assert len(found) == 4
    copy = found["VerdictMessage"]
    assert isinstance(copy, VerdictMessage) and (copy.seq, copy.is_replay) == (3, True)
    assert found["HeartbeatMessage"] == heartbeat_like(found["HeartbeatMessage"], 3)
    assert found["StateMessage"] == state_message()
    subscriber.close()


def heartbeat_like(message: Message, head_seq: int) -> HeartbeatMessage:
    return msgspec.structs.replace(heartbeat(head_seq), wall_us=getattr(message, "wall_us", 0))


def test_the_copy_of_an_accepted_verdict_accepts_nothing_and_says_that_it_is_one(publisher: Publisher) -> None:
    original = verdict(1)
    assert original.accept and not original.is_replay
    publisher.send(VERDICT, encode(original))
    subscriber = Subscriber(publisher.endpoint)
    (copy,) = Heard(subscriber).of(publisher, 1)
    assert copy == msgspec.structs.replace(original, is_replay=True, accept=False)
    subscriber.close()


def test_those_who_listen_already_see_a_late_joiners_copy_as_one(publisher: Publisher) -> None:
    first = Subscriber(publisher.endpoint)
    assert publisher.wait_for_subscriber(60)
    publisher.send(VERDICT, encode(verdict(1)))
    heard = Heard(first)
    assert [getattr(m, "is_replay", None) for m in heard.of(publisher, 1)] == [False]
    second = Subscriber(publisher.endpoint)
    assert [getattr(m, "is_replay", None) for m in Heard(second).of(publisher, 1)] == [True]
    assert [(m.seq, m.is_replay, m.accept) for m in heard.of(publisher, 1) if isinstance(m, VerdictMessage)] == [
        (1, True, False)
    ]
    first.close()
    second.close()


def test_where_nothing_was_sent_a_late_joiner_gets_nothing(publisher: Publisher) -> None:
    subscriber = Subscriber(publisher.endpoint, masks=True)
    wait_for_topic(publisher, TOPICS[-1])
    publisher.send(HEARTBEAT, encode(heartbeat(0)))
    received = subscriber.receive(PATIENCE_MS)
    assert received is not None and isinstance(received[0], HeartbeatMessage)
    subscriber.close()


def test_masks_come_only_to_those_who_ask(publisher: Publisher) -> None:
    subscriber = Subscriber(publisher.endpoint)
    assert publisher.wait_for_subscriber(60)
    mask, png = mask_of_a_reject()
    publisher.send(MASK, encode(mask), png)
    publisher.send(HEARTBEAT, encode(heartbeat(0)))
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
        publisher.send(HEARTBEAT, encode(heartbeat(0)))


def test_a_subscriber_that_left_is_not_waited_with(publisher: Publisher) -> None:
    subscriber = Subscriber(publisher.endpoint)
    assert publisher.wait_for_subscriber(60)
    subscriber.close()
    end = time.monotonic() + 60
    while publisher.wait_for_subscriber(0.01) and time.monotonic() < end:
        publisher.answer_subscriptions()
    assert not publisher.wait_for_subscriber(0.01)


def test_a_port_in_use_is_told_with_the_remedy_and_is_free_as_soon_as_the_first_closes(
    context: zmq.Context[zmq.Socket[bytes]],
) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    first = Publisher(context, endpoint, unguarded)
    with pytest.raises(BusError, match=r"cannot be bound.*in use.*bus\.endpoint"):
        Publisher(context, endpoint, unguarded)
    first.close()
    first.close()
    Publisher(context, endpoint, unguarded).close()


def test_a_publisher_takes_the_place_of_one_that_closed_just_before(
    publisher: Publisher, context: zmq.Context[zmq.Socket[bytes]]
) -> None:
    subscriber = Subscriber(publisher.endpoint)
    assert publisher.wait_for_subscriber(60)
    for seq in range(10):
        publisher.close()
        publisher = Publisher(context, publisher.endpoint, unguarded)
        publisher.send(VERDICT, encode(verdict(seq)))
        # A subscriber asks again for its topics while it reads.
        (copy,) = Heard(subscriber).of(publisher, 1)
        assert isinstance(copy, VerdictMessage) and copy.seq == seq
    publisher.close()
    subscriber.close()


def test_sending_on_a_closed_socket_is_a_bus_error(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
    publisher = Publisher(context, endpoint, unguarded)
    publisher.close()
    with pytest.raises(BusError, match="cannot send"):
        publisher.send(HEARTBEAT, encode(heartbeat(0)))


def test_the_guard_sees_the_socket_before_it_is_bound(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
    bound: list[object] = []
    Publisher(context, endpoint, lambda socket: bound.append(socket.getsockopt(zmq.LAST_ENDPOINT))).close()
    assert bound == [b""]


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://", "tcp://nowhere", "ipc:///nowhere/at/all", "x://y:1"])
def test_what_is_no_endpoint_is_told(endpoint: str, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    with pytest.raises(BusError, match="cannot be bound"):
        Publisher(context, endpoint, unguarded)


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

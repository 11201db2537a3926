"""What is sent arrives as it was; what is no message of the bus is told."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.bus.compose import Composer, Judged, mask_png, mask_reference
from edge.bus.messages import HeartbeatMessage, MaskMessage, MaskReference, State, VerdictMessage
from edge.bus.publisher import Publisher
from edge.bus.subscriber import Message, Subscriber
from edge.bus.topics import HEARTBEAT, MASK, TOPICS, VERDICT
from edge.errors import BusError
from edge.ledger import Counts
from edge.types import Frame, FrameStatus, Judgement, Reason, Region, Trigger, Verdict
from tests.conftest import free_port
from tests.edge.fakes import fake_provenance, normal_part

LARGEST = 2**53 - 1
PATIENCE_MS = 60_000
WHOLE = st.integers(0, LARGEST)
TEXT = st.text(max_size=20)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
REGIONS = st.lists(st.builds(Region, WHOLE, WHOLE, WHOLE, WHOLE, WHOLE, FINITE), max_size=3).map(tuple)

VERDICTS = st.builds(
    VerdictMessage,
    station_id=TEXT,
    camera_id=TEXT,
    epoch=WHOLE,
    seq=WHOLE,
    trigger_seq=WHOLE,
    part_id=TEXT,
    encoder_count=st.none() | WHOLE,
    frame_id=st.none() | WHOLE,
    judgement=st.sampled_from(Judgement),
    accept=st.booleans(),
    reason=st.none() | st.sampled_from(Reason),
    detail=TEXT,
    score=st.none() | FINITE,
    threshold=st.none() | FINITE,
    region_count=WHOLE,
    regions=REGIONS,
    mask=st.none() | st.builds(MaskReference, sha256=TEXT, width=WHOLE, height=WHOLE),
    product=TEXT,
    recipe_revision=WHOLE,
    recipe_hash=TEXT,
    package_hash=TEXT,
    bank_hash=TEXT,
    config_hash=TEXT,
    software_version=TEXT,
    engine=TEXT,
    trigger_wall_us=WHOLE,
    capture_after_us=st.none() | WHOLE,
    done_after_us=st.none() | WHOLE,
    publish_after_us=WHOLE,
    clock_synchronised=st.none() | st.booleans(),
    latency_us=WHOLE,
    deadline_us=WHOLE,
    deadline_met=st.booleans(),
    is_simulated=st.booleans(),
    is_test=st.booleans(),
    is_replay=st.booleans(),
)
HEARTBEATS = st.builds(
    HeartbeatMessage,
    station_id=TEXT,
    epoch=WHOLE,
    head_seq=WHOLE,
    triggers_seen=WHOLE,
    ok=WHOLE,
    not_ok=WHOLE,
    not_decidable=WHOLE,
    in_flight=WHOLE,
    missed=WHOLE,
    late=WHOLE,
    overruns=WHOLE,
    state=st.sampled_from(State),
    wall_us=WHOLE,
)
MASKS = st.builds(
    MaskMessage,
    station_id=TEXT,
    epoch=WHOLE,
    seq=WHOLE,
    trigger_seq=WHOLE,
    part_id=TEXT,
    sha256=TEXT,
    width=WHOLE,
    height=WHOLE,
)


@given(message=VERDICTS | HEARTBEATS | MASKS)
def test_every_message_comes_back_as_it_was(message: Message) -> None:
    assert msgspec.json.decode(msgspec.json.encode(message), type=type(message)) == message


def test_the_table_has_one_row_a_topic_and_no_name_begins_another() -> None:
    names = [topic.name for topic in TOPICS]
    assert len(set(names)) == len(names) == 3
    assert not any(a != b and a.startswith(b) for a in names for b in names)


def whole_numbers(value: object) -> Iterator[int]:
    """All integers of a JSON value."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from whole_numbers(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from whole_numbers(inner)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield value


def rejected() -> Judged:
    """A NOT_OK verdict on a part that passed just now."""
    mask = np.zeros((50, 70), np.bool_)
    mask[10:20, 30:45] = True
    now = time.monotonic_ns()
    trigger = Trigger(4, now, time.time_ns() // 1000, "part-4", encoder_count=123)
    frame = Frame(trigger, 9, FrameStatus.COMPLETE, now + 2_000_000, normal_part())
    regions = (Region(30, 10, 15, 10, 150, 3.5),)
    verdict = Verdict(Judgement.NOT_OK, Reason.DEFECT, 3.0, 1.0, regions, mask)
    return Judged(trigger, verdict, frame, now + 7_000_000)


def test_whole_numbers_stay_exact_in_javascript() -> None:
    composer = Composer(msgspec.structs.replace(fake_provenance(), epoch=time.time_ns() // 1_000_000), 10**9)
    messages: list[Message] = [
        composer.verdict(rejected(), 7),
        composer.mask(rejected(), 7)[0],
        composer.heartbeat(Counts(9, 3, 3, 2, 1, 1, 0, 0), 8, State.READY),
    ]
    for message in messages:
        numbers = list(whole_numbers(msgspec.json.decode(msgspec.json.encode(message))))
        assert numbers and all(abs(number) <= LARGEST for number in numbers)


def test_a_verdict_tells_identity_judgement_provenance_and_times() -> None:
    judged = rejected()
    message = Composer(fake_provenance(), deadline_ns=80_000_000).verdict(judged, 7)
    assert (message.seq, message.trigger_seq, message.frame_id, message.part_id) == (7, 4, 9, "part-4")
    assert (message.encoder_count, message.epoch, message.camera_id) == (123, 1, "fake")
    assert (message.judgement, message.accept, message.reason) == (Judgement.NOT_OK, False, Reason.DEFECT)
    assert (message.score, message.threshold, message.region_count) == (3.0, 1.0, 1)
    assert (message.product, message.recipe_revision, message.package_hash) == ("board", 3, "a" * 64)
    assert (message.capture_after_us, message.done_after_us) == (2000, 7000)
    assert message.latency_us == message.publish_after_us >= 0 and message.deadline_us == 80_000
    assert message.deadline_met is (message.latency_us <= 80_000)
    assert (message.is_simulated, message.is_test, message.is_replay) == (True, False, False)


def test_a_verdict_without_a_frame_says_none_not_zero() -> None:
    verdict = Verdict(Judgement.NOT_DECIDABLE, Reason.DEADLINE_MISSED, None, None)
    message = Composer(fake_provenance(), 1).verdict(Judged(rejected().trigger, verdict), 1)
    assert (message.frame_id, message.capture_after_us, message.done_after_us, message.score) == (None,) * 4
    assert message.mask is None and message.regions == () and not message.accept


def test_a_mask_is_named_by_the_hash_of_its_bits_and_not_of_its_png() -> None:
    mask = np.zeros((50, 70), np.bool_)
    empty = mask_reference(mask)
    mask[49, 69] = True
    assert mask_reference(mask) != empty and (empty.width, empty.height) == (70, 50)
    assert mask_png(mask) != mask_png(~mask)
    with pytest.raises(ValueError, match="without a mask"):
        Composer(fake_provenance(), 1).mask(Judged(rejected().trigger, Verdict(Judgement.OK, None, 0.0, 1.0)), 1)


@pytest.fixture(params=["tcp", "ipc"])
def publisher(request: pytest.FixtureRequest, endpoint: str) -> Iterator[Publisher]:
    made = Publisher(endpoint if request.param == "ipc" else "tcp://127.0.0.1:*")
    yield made
    made.close()


def heartbeat(head_seq: int = 0) -> HeartbeatMessage:
    return Composer(fake_provenance(), 1).heartbeat(Counts(0, 0, 0, 0, 0, 0, 0, 0), head_seq, State.READY)


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
    publisher.send(HEARTBEAT, heartbeat())
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
        publisher.send(HEARTBEAT, heartbeat())


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


GOOD = msgspec.json.encode(heartbeat())
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

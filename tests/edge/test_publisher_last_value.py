"""Who joins late gets the last values at once; nobody is confused by that, and nobody can abuse it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import pytest
import zmq

from edge.bus.compose import mask_message, verdict_message
from edge.bus.messages import StateMessage, VerdictMessage, encode
from edge.bus.publisher import MOST_PREFIXES, Publisher
from edge.bus.subscriber import Message, Reception, Subscriber
from edge.bus.topics import HEARTBEAT, MASK, STATE, TOPICS, VERDICT
from edge.errors import SecurityError
from tests.edge.feed import state_message, unguarded, verdict
from tests.edge.messages import heartbeat, rejected

PATIENCE_S = 20.0
PATIENCE_MS = 20_000


class Sender:
    """A publisher that its test drives."""

    def __init__(self, endpoint: str) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.publisher = Publisher(self.context, endpoint, unguarded)
        self.subscribers: list[Subscriber] = []

    def join(self, masks: bool = True) -> Subscriber:
        """One more subscriber, whose subscriptions have arrived."""
        made = Subscriber(self.publisher.endpoint, masks)
        self.subscribers.append(made)
        return made

    def give(self, *seqs: int) -> None:
        for seq in seqs:
            self.publisher.send(VERDICT, encode(verdict(seq)))
            self.publisher.send(HEARTBEAT, encode(heartbeat(seq)))

    def received(self, subscriber: Subscriber, until: Message) -> list[Message]:
        """Everything up to a message, while the publisher answers who joins."""
        found: list[Message] = []
        end = time.monotonic() + PATIENCE_S
        while until not in found:
            assert time.monotonic() < end, f"waited in vain; received {found[-3:]}"
            self.publisher.answer_subscriptions()
            got = subscriber.receive(20)
            if got is not None:
                found.append(got[0])
        return found

    def close(self) -> None:
        for subscriber in self.subscribers:
            subscriber.close()
        self.publisher.close()
        self.context.term()


@pytest.fixture
def sender(endpoint: str) -> Iterator[Sender]:
    made = Sender(endpoint)
    yield made
    made.close()


def as_copy(message: VerdictMessage) -> VerdictMessage:
    return msgspec.structs.replace(message, is_replay=True, accept=False)


def test_whoever_joins_late_gets_the_last_message_of_every_topic(sender: Sender) -> None:
    judged = rejected()
    rejection = verdict_message(judged, 4)
    assert judged.verdict.mask is not None
    mask, png = mask_message(rejection, judged.verdict.mask)
    beat = heartbeat(3)
    for topic, data, blob in (
        (STATE, state_message(), None),
        (VERDICT, verdict(3), None),
        (HEARTBEAT, beat, None),
        (MASK, mask, png),
    ):
        sender.publisher.send(topic, encode(data), blob)
    late = sender.join()
    found: list[tuple[Message, bytes]] = []
    while len(found) < len(TOPICS):
        sender.publisher.answer_subscriptions()
        got = late.receive(20)
        if got is not None and got not in found:
            found.append(got)
    wanted: list[tuple[Message, bytes]] = [(as_copy(verdict(3)), b""), (beat, b""), (mask, png)]
    for one in wanted:
        assert one in found
    assert any(isinstance(m, StateMessage) for m, _ in found)


def test_the_copy_of_an_accepted_verdict_opens_no_gate_and_keeps_its_number(sender: Sender) -> None:
    sender.give(1, 2)
    assert verdict(2).accept
    late = sender.join()
    (copy, *_) = [m for m in sender.received(late, heartbeat_of(sender)) if isinstance(m, VerdictMessage)]
    assert (copy.is_replay, copy.accept, copy.seq, copy.judgement) == (True, False, 2, verdict(2).judgement)


def heartbeat_of(sender: Sender) -> Message:
    """A heartbeat sent now, which nothing sent before can follow."""
    beat = heartbeat(99)
    # Once the subscriptions are there: what is sent before goes nowhere.
    assert sender.publisher.wait_for_subscriber(PATIENCE_S)
    sender.publisher.send(HEARTBEAT, encode(beat))
    return beat


def test_those_who_are_there_see_the_copies_and_still_count_right(sender: Sender) -> None:
    first = sender.join()
    assert sender.publisher.wait_for_subscriber(PATIENCE_S)
    reception = Reception()
    accepted: list[int] = []
    for seq in range(1, 6):
        sender.give(seq)
        joining = sender.join()
        sender.received(joining, as_copy(verdict(seq)))
    sender.give(6)
    for message in sender.received(first, verdict(6)):
        if isinstance(message, VerdictMessage):
            reception.note(message)
            accepted += [message.seq] * message.accept
    assert accepted == [1, 2, 3, 4, 5, 6], "a copy opened the gate again, or a verdict was lost"
    assert (reception.received, reception.missing, reception.head_seq) == (6, 0, 6)


def test_a_late_joiner_misses_nothing_of_what_is_sent_after_the_copy(sender: Sender) -> None:
    sender.give(1, 2, 3)
    late = sender.join()
    copies = sender.received(late, as_copy(verdict(3)))
    sender.give(4)
    reception = Reception()
    for message in [*copies, *sender.received(late, verdict(4))]:
        if isinstance(message, VerdictMessage):
            reception.note(message)
    assert (reception.received, reception.missing, reception.head_seq) == (1, 0, 4)
    reception.note(heartbeat(6))
    assert reception.missing == 2


def test_before_anything_was_sent_there_is_nothing_to_give(sender: Sender) -> None:
    late = sender.join()
    assert sender.publisher.wait_for_subscriber(PATIENCE_S)
    assert late.receive(1) is None


def test_a_prefix_gets_its_topics_and_no_others(sender: Sender) -> None:
    sender.give(1)
    with sender.context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SUBSCRIBE, b"heart")
        socket.connect(sender.publisher.endpoint)
        while not socket.poll(20):
            sender.publisher.answer_subscriptions()
        assert socket.recv_multipart()[0] == b"heartbeat"
        assert not socket.poll(0)


def odd_subscriptions(sender: Sender, count: int) -> zmq.Socket[bytes]:
    socket = sender.context.socket(zmq.XSUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.connect(sender.publisher.endpoint)
    for number in range(count):
        socket.send(b"\x01odd-%d" % number)
    return socket


def test_thousands_of_odd_subscriptions_fill_no_memory_and_shut_nobody_out(sender: Sender) -> None:
    with odd_subscriptions(sender, 5 * MOST_PREFIXES):
        seen = 0
        while sender.publisher._socket.poll(500):
            sender.publisher.answer_subscriptions()
            seen = max(seen, len(sender.publisher._subscriptions))
        assert seen == MOST_PREFIXES
        sender.give(1)
        late = sender.join()
        sender.received(late, as_copy(verdict(1)))


def test_a_flood_of_subscriptions_keeps_the_publisher_from_nothing(sender: Sender) -> None:
    """The publishing thread gives deadlines their verdicts too: it must come back soon, whatever a client sends."""
    with odd_subscriptions(sender, 200_000):
        assert sender.publisher._socket.poll(PATIENCE_MS)
        sender.publisher.answer_subscriptions()
        assert sender.publisher._socket.poll(PATIENCE_MS), "one call read the whole flood"


def test_whoever_left_is_forgotten(sender: Sender) -> None:
    for _ in range(20):
        subscriber = Subscriber(sender.publisher.endpoint, masks=True)
        assert sender.publisher.wait_for_subscriber(PATIENCE_S)
        subscriber.close()
        while sender.publisher._subscriptions:
            assert sender.publisher._socket.poll(PATIENCE_MS)
            sender.publisher.answer_subscriptions()


@pytest.mark.parametrize("junk", [b"", b"\x02", b"\x00never", b"\xff" * 100, b"\x01" + b"x" * 4000])
def test_what_is_no_subscription_changes_nothing(sender: Sender, junk: bytes) -> None:
    with sender.context.socket(zmq.XSUB) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(sender.publisher.endpoint)
        socket.send(junk)
        sender.give(1)
        late = sender.join()
        sender.received(late, as_copy(verdict(1)))


def test_a_guard_that_fails_leaves_nothing_behind() -> None:
    def guard(_socket: zmq.Socket[bytes]) -> None:
        raise SecurityError("no keys", "Make some.")

    with zmq.Context() as context:
        with pytest.raises(SecurityError, match="no keys"):
            Publisher(context, "tcp://127.0.0.1:*", guard)
        Publisher(context, "tcp://127.0.0.1:*", unguarded).close()

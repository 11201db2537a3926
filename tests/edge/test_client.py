"""The client hands out every verdict once and in order, over real sockets, whatever happens to feed, replay and itself."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from edge.bus.client import Item, Lost, Position, VerdictSubscriber
from edge.bus.collector import Collector, Why
from edge.bus.messages import VerdictMessage
from edge.errors import BusError, VerdictsLost
from tests.edge.feed import PATIENCE_S, Feed, Kept, copy_of, heartbeat, running_feed, state_message, verdict


@pytest.fixture
def feed() -> Iterator[Feed]:
    with running_feed() as running:
        yield running


def place(item: Item | None) -> tuple[int, int] | Lost | None:
    return (item.epoch, item.seq) if isinstance(item, VerdictMessage) else item


def received(subscriber: VerdictSubscriber, count: int) -> list[tuple[int, int] | Lost | None]:
    return [place(subscriber.receive(PATIENCE_S)) for _ in range(count)]


def joined(feed: Feed, subscriber: VerdictSubscriber, epoch: int = 1) -> None:
    """The subscriber has read its first heartbeat."""
    feed.wait_for_subscriber()
    feed.beat(epoch)
    end = time.monotonic() + PATIENCE_S
    while subscriber.heartbeat is None and time.monotonic() < end:
        assert subscriber.receive(0.05) is None


def seqs(first: int, last: int, epoch: int = 1) -> list[tuple[int, int]]:
    return [(epoch, seq) for seq in range(first, last + 1)]


def test_live_verdicts_come_at_once_and_as_they_are(feed: Feed) -> None:
    with VerdictSubscriber(feed.endpoint) as subscriber:
        assert subscriber.position is None
        joined(feed, subscriber)
        feed.give(1)
        assert subscriber.receive(PATIENCE_S) == verdict(1)
        assert subscriber.receive(0.0) is None
        assert subscriber.position == Position(1, 1)


def test_who_joins_late_can_have_all_that_is_kept(feed: Feed) -> None:
    feed.give(*range(1, 451))
    with VerdictSubscriber(feed.endpoint, start="oldest") as subscriber:
        feed.wait_for_subscriber()
        feed.give(451)
        assert received(subscriber, 451) == seqs(1, 451)


def test_who_joins_now_gets_no_copy_and_nothing_old(feed: Feed) -> None:
    feed.give(1, 2, 3)
    with VerdictSubscriber(feed.endpoint) as subscriber:
        feed.wait_for_subscriber()
        feed.say(copy_of(verdict(3)))
        feed.beat()
        feed.give(4)
        assert received(subscriber, 1) == [(1, 4)]


def test_what_the_feed_skipped_is_replayed_in_its_place(feed: Feed) -> None:
    with VerdictSubscriber(feed.endpoint) as subscriber:
        joined(feed, subscriber)
        feed.give(1)
        feed.give(2, 3, live=False)
        feed.give(4, 5)
        items = [subscriber.receive(PATIENCE_S) for _ in range(5)]
        assert [place(item) for item in items] == seqs(1, 5)
        assert [item.is_replay for item in items if isinstance(item, VerdictMessage)] == [False, True, True, True, True]


def test_a_lost_tail_is_seen_by_the_heartbeat(feed: Feed) -> None:
    with VerdictSubscriber(feed.endpoint) as subscriber:
        joined(feed, subscriber)
        feed.give(1, 2, live=False)
        feed.beat()
        assert received(subscriber, 2) == seqs(1, 2)


def test_a_new_epoch_comes_after_all_of_the_last_one(feed: Feed) -> None:
    with VerdictSubscriber(feed.endpoint) as subscriber:
        joined(feed, subscriber)
        feed.give(1, 2)
        assert received(subscriber, 2) == seqs(1, 2)
        feed.give(3, live=False)
        feed.restart()
        feed.wait_for_subscriber(lambda: subscriber.receive(0.0))
        feed.give(4, restart=True)
        feed.history.kept[1].ended = True
        feed.history.kept[5] = Kept({}, 0, True)
        feed.give(1, 2, epoch=6)
        assert received(subscriber, 4) == [(1, 3), (1, 4), (6, 1), (6, 2)]


def test_what_the_journal_forgot_is_told_as_lost(feed: Feed) -> None:
    feed.give(*range(1, 8))
    feed.history.prune(1, 6)
    with VerdictSubscriber(feed.endpoint, start=Position(1, 2)) as subscriber:
        assert received(subscriber, 3) == [Lost(1, 3, 5, Why.PRUNED), (1, 6), (1, 7)]


def test_a_loss_can_be_raised_and_the_next_verdict_follows(feed: Feed) -> None:
    feed.give(1, 2)
    feed.history.prune(1, 2)
    with VerdictSubscriber(feed.endpoint, start=Position(1, 0), raise_on_loss=True) as subscriber:
        with pytest.raises(VerdictsLost, match=r"verdicts 1 to 1 of epoch 1 are lost \(pruned\)"):
            subscriber.receive(PATIENCE_S)
        assert received(subscriber, 1) == [(1, 2)]


def test_an_unknown_epoch_is_told_as_lost(feed: Feed) -> None:
    feed.give(1, epoch=8)
    with VerdictSubscriber(feed.endpoint, start=Position(3, 9)) as subscriber:
        assert received(subscriber, 2) == [Lost(3, 10, None, Why.UNKNOWN_EPOCH), (8, 1)]


def test_the_position_of_another_station_is_told(feed: Feed) -> None:
    with VerdictSubscriber(feed.endpoint, start=Position(9, 9)) as subscriber:
        feed.wait_for_subscriber()
        feed.beat(3)
        with pytest.raises(BusError, match="another station"):
            subscriber.receive(PATIENCE_S)


def test_while_replay_is_absent_nothing_is_handed_out_of_order_and_nothing_is_lost() -> None:
    with running_feed(replay=False) as feed, VerdictSubscriber(feed.endpoint) as subscriber:
        joined(feed, subscriber)
        feed.give(1)
        feed.give(2, live=False)
        feed.give(3)
        assert received(subscriber, 1) == [(1, 1)]
        assert subscriber.receive(0.3) is None
        assert subscriber.held_back == 1
        feed.start_replay()
        assert received(subscriber, 2) == [(1, 2), (1, 3)]


def test_more_questions_than_can_wait_for_an_absent_replay_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.bus.client.Collector", functools.partial(Collector, ask_again_s=0.01))
    with running_feed(replay=False) as feed, VerdictSubscriber(feed.endpoint) as subscriber:
        joined(feed, subscriber)
        feed.give(1, live=False)
        feed.beat()
        assert subscriber.receive(0.3) is None
        feed.start_replay()
        assert received(subscriber, 1) == [(1, 1)]


def test_replay_may_go_and_come_again(feed: Feed) -> None:
    with VerdictSubscriber(feed.endpoint) as subscriber:
        joined(feed, subscriber)
        for seq in (1, 2, 3):
            feed.stop_replay()
            feed.give(seq, live=False)
            feed.beat()
            assert subscriber.receive(0.05) is None
            feed.start_replay()
            assert received(subscriber, 1) == [(1, seq)]


def test_a_reader_goes_on_where_it_was_and_has_the_last_one_twice(feed: Feed, tmp_path: Path) -> None:
    path = tmp_path / "position"
    feed.give(*range(1, 7))
    with VerdictSubscriber(feed.endpoint, start="oldest", position_file=path) as subscriber:
        assert received(subscriber, 3) == seqs(1, 3)
    with VerdictSubscriber(feed.endpoint, start="now", position_file=path) as subscriber:
        assert received(subscriber, 2) == seqs(3, 4)
        subscriber.acknowledge()
    with VerdictSubscriber(feed.endpoint, position_file=path) as subscriber:
        assert received(subscriber, 2) == seqs(5, 6)


def test_a_reader_that_dies_before_its_first_verdict_goes_on_where_it_joined(feed: Feed, tmp_path: Path) -> None:
    path = tmp_path / "position"
    with VerdictSubscriber(feed.endpoint, position_file=path) as subscriber:
        joined(feed, subscriber)
        assert subscriber.receive(0.0) is None
    feed.give(1, 2)
    with VerdictSubscriber(feed.endpoint, position_file=path) as subscriber:
        assert received(subscriber, 2) == seqs(1, 2)


def test_a_damaged_position_file_is_told_and_leaves_nothing_open(feed: Feed, tmp_path: Path) -> None:
    path = tmp_path / "position"
    path.write_bytes(b"nonsense")
    with pytest.raises(BusError, match="not a position file"):
        VerdictSubscriber(feed.endpoint, position_file=path)


@pytest.mark.parametrize("endpoint", ["", "nonsense", "tcp://", "x://y:1"])
def test_what_is_no_endpoint_is_told(endpoint: str) -> None:
    with pytest.raises(BusError, match="not an endpoint"):
        VerdictSubscriber(endpoint)
    with pytest.raises(BusError, match="not an endpoint"):
        VerdictSubscriber("tcp://127.0.0.1:9", replay=endpoint or "x://y:1")


def test_malformed_messages_are_counted_and_what_they_told_is_asked_for(feed: Feed) -> None:
    with VerdictSubscriber(feed.endpoint) as subscriber:
        joined(feed, subscriber)
        feed.give(1, live=False)
        feed.socket.send_multipart([b"verdict", b"{broken"])
        feed.socket.send_multipart([b"heartbeat"])
        feed.give(2)
        assert received(subscriber, 2) == seqs(1, 2)
        assert subscriber.malformed == 2


def test_state_and_heartbeat_are_remembered(feed: Feed) -> None:
    with VerdictSubscriber(feed.endpoint) as subscriber:
        assert [subscriber.state, subscriber.heartbeat] == [None, None]
        feed.wait_for_subscriber()
        feed.say(state_message())
        feed.beat()
        feed.give(1)
        assert received(subscriber, 1) == [(1, 1)]
        told = [subscriber.state, subscriber.heartbeat]
        assert told == [state_message(), heartbeat(0)]
        assert subscriber.silent_for_s < PATIENCE_S


def test_silence_grows_while_nothing_comes(feed: Feed) -> None:
    with VerdictSubscriber(feed.endpoint) as subscriber:
        assert subscriber.receive(0.05) is None
        assert subscriber.silent_for_s >= 0.05


def test_iteration_hands_out_what_receive_does(feed: Feed) -> None:
    feed.give(1, 2, 3)
    with VerdictSubscriber(feed.endpoint, start="oldest") as subscriber:
        assert [place(item) for item in itertools.islice(subscriber, 3)] == seqs(1, 3)


def test_keys_are_applied_to_both_sockets_before_they_connect(feed: Feed) -> None:
    class Keys:
        applied: list[tuple[int, str]]

        def apply(self, socket: zmq.Socket[bytes]) -> None:
            self.applied.append((int(socket.type), socket.getsockopt_string(zmq.LAST_ENDPOINT)))

    keys = Keys()
    keys.applied = []
    VerdictSubscriber(feed.endpoint, keys=keys).close()
    assert keys.applied == [(zmq.SUB, ""), (zmq.DEALER, "")]

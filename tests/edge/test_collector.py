"""Whatever the feed and the replay lose, delay or repeat: every verdict comes once and in order, or is told as lost."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.bus.collector import Collector, Item, Lost, Start, Why
from edge.bus.messages import HeartbeatMessage, StateMessage, VerdictMessage
from edge.bus.position import Position
from edge.bus.requests import EpochInfo, EpochsReply, EpochsRequest, VerdictsReply, VerdictsRequest
from edge.errors import BusError
from tests.edge.feed import copy_of, heartbeat, state_message, verdict

LiveMessage = VerdictMessage | HeartbeatMessage | StateMessage


def places(items: Sequence[Item]) -> list[tuple[int, int] | Lost]:
    """Verdicts by their places; losses as they are."""
    return [(item.epoch, item.seq) if isinstance(item, VerdictMessage) else item for item in items]


def page(request_id: int, info: EpochInfo, *seqs: int) -> tuple[VerdictsReply, list[VerdictMessage]]:
    verdicts = [verdict(seq, info.epoch, is_replay=True) for seq in seqs]
    return VerdictsReply(id=request_id, info=info, count=len(seqs)), verdicts


def asking(collector: Collector, now_s: float = 0.0) -> VerdictsRequest:
    request = collector.request(now_s)
    assert isinstance(request, VerdictsRequest), request
    return request


def asking_epochs(collector: Collector, now_s: float = 0.0) -> EpochsRequest:
    request = collector.request(now_s)
    assert isinstance(request, EpochsRequest), request
    return request


def test_now_begins_after_the_first_heartbeat() -> None:
    collector = Collector("now")
    assert collector.position is None and collector.request(0.0) is None
    assert collector.live(heartbeat(7)) == []
    assert collector.started == Position(1, 7)
    assert places(collector.live(verdict(8))) == [(1, 8)]


def test_now_begins_with_the_first_live_verdict_and_not_with_a_copy() -> None:
    collector = Collector("now")
    assert collector.live(copy_of(verdict(6))) == []
    assert collector.position is None
    assert collector.live(verdict(7)) == [verdict(7)]
    assert collector.started == Position(1, 6)


def test_a_copy_is_never_handed_out_even_where_its_verdict_is_wanted() -> None:
    collector = Collector("now")
    collector.live(heartbeat(0))
    assert collector.live(copy_of(verdict(1))) == []
    assert asking(collector).from_seq == 1


def test_what_waited_behind_a_gap_moves_no_gate() -> None:
    collector = Collector("now")
    collector.live(heartbeat(0))
    assert collector.live(verdict(2)) == [] and collector.held_back == 1
    items = collector.verdicts(*page(asking(collector).id, EpochInfo(1, 1, 1, False), 1))
    assert items == [verdict(1, is_replay=True), verdict(2, is_replay=True)]


def test_a_question_is_asked_again_only_in_time_and_a_late_answer_counts() -> None:
    collector = Collector("now", ask_again_s=2.0)
    collector.live(heartbeat(0))
    collector.live(heartbeat(1))
    first = asking(collector, 10.0)
    assert collector.request(11.9) is None and collector.wait_s(11.5) == 0.5
    second = asking(collector, 12.0)
    assert first.id != second.id
    info = EpochInfo(1, 1, 1, False)
    assert places(collector.verdicts(*page(first.id, info, 1))) == [(1, 1)]
    assert collector.verdicts(*page(second.id, info, 1)) == collector.verdicts(*page(first.id, info, 1)) == []


def test_an_answer_to_no_question_changes_nothing() -> None:
    collector = Collector("now")
    collector.live(heartbeat(0))
    assert collector.verdicts(*page(99, EpochInfo(1, 5, 9, True), 9)) == []
    assert collector.epochs(EpochsReply(id=99, epochs=(EpochInfo(2, 1, 1, False),))) == []
    assert collector.position == Position(1, 0)


def test_a_late_answer_about_an_epoch_that_is_done_changes_nothing() -> None:
    collector = Collector("now", ask_again_s=1.0)
    collector.live(heartbeat(0))
    collector.live(heartbeat(1))
    done = EpochInfo(1, 1, 1, True)
    first, late = asking(collector, 0.0), asking(collector, 1.0)
    collector.verdicts(*page(first.id, done, 1))
    collector.live(verdict(3, 2))
    known = (done, EpochInfo(2, 1, 3, False))
    collector.epochs(EpochsReply(id=asking_epochs(collector, 1.0).id, epochs=known))
    assert collector.position == Position(2, 0)
    assert collector.verdicts(*page(late.id, done, 1)) == []
    assert collector.position == Position(2, 0)


def test_lost_is_told_with_its_cause() -> None:
    collector = Collector("now")
    collector.live(heartbeat(0))
    collector.live(verdict(9))
    items = collector.verdicts(*page(asking(collector).id, EpochInfo(1, 4, 9, False), 5, 6))
    assert places(items) == [Lost(1, 1, 3, Why.PRUNED), Lost(1, 4, 4, Why.UNRECORDED), (1, 5), (1, 6)]
    items = collector.verdicts(*page(asking(collector).id, EpochInfo(1, 4, 9, False)))
    assert places(items) == [Lost(1, 7, 8, Why.UNRECORDED), (1, 9)]


def test_a_journal_that_is_behind_the_feed_loses_nothing() -> None:
    collector = Collector("now", ask_again_s=1.0)
    collector.live(heartbeat(0))
    collector.live(heartbeat(2))
    assert collector.verdicts(*page(asking(collector, 0.0).id, EpochInfo(1, 1, 0, False))) == []
    assert places(collector.verdicts(*page(asking(collector, 1.0).id, EpochInfo(1, 1, 2, False), 1, 2))) == [
        (1, 1),
        (1, 2),
    ]


def test_what_an_ended_epoch_does_not_have_is_lost_even_if_only_the_feed_knew_of_it() -> None:
    collector = Collector("now")
    collector.live(heartbeat(0))
    collector.live(heartbeat(3))
    items = collector.verdicts(*page(asking(collector).id, EpochInfo(1, 1, 2, True), 1, 2))
    items += collector.verdicts(*page(asking(collector).id, EpochInfo(1, 1, 2, True)))
    assert places(items) == [(1, 1), (1, 2), Lost(1, 3, 3, Why.UNRECORDED)]


def test_a_new_epoch_waits_for_the_end_of_the_last_one_and_of_those_missed_altogether() -> None:
    collector = Collector(Position(1, 4))
    collector.live(state_message(3))
    assert collector.live(verdict(1, 3)) == []
    known = (EpochInfo(1, 1, 5, True), EpochInfo(2, 1, 1, True), EpochInfo(3, 1, 1, False))
    asked = asking_epochs(collector)
    assert asked.after == 0 and collector.epochs(EpochsReply(id=asked.id, epochs=known)) == []
    assert places(collector.verdicts(*page(asking(collector).id, known[0], 5))) == [(1, 5)]
    assert places(collector.verdicts(*page(asking(collector).id, known[1], 1))) == [(2, 1), (3, 1)]


def test_the_last_verdicts_of_a_crashed_epoch_may_come_live() -> None:
    collector = Collector("now")
    collector.live(heartbeat(4))
    assert places(collector.live(verdict(5, restart=True))) == [(1, 5)]
    assert collector.live(verdict(1, 2)) == []
    known = (EpochInfo(1, 1, 5, True), EpochInfo(2, 1, 1, False))
    assert places(collector.epochs(EpochsReply(id=asking_epochs(collector).id, epochs=known))) == [(2, 1)]


def test_oldest_begins_with_what_is_kept() -> None:
    collector = Collector("oldest")
    assert collector.epochs(EpochsReply(id=asking_epochs(collector, 0.0).id)) == []
    assert collector.request(0.5) is None
    known = (EpochInfo(4, 8, 7, True), EpochInfo(5, 3, 4, False))
    assert collector.epochs(EpochsReply(id=asking_epochs(collector, 1.0).id, epochs=known)) == []
    items = collector.verdicts(*page(asking(collector).id, known[1], 3, 4))
    assert places(items) == [Lost(5, 1, 2, Why.PRUNED), (5, 3), (5, 4)]


def test_an_epoch_that_the_journal_does_not_know_is_told_and_left() -> None:
    collector = Collector(Position(3, 4))
    collector.live(heartbeat(0, 7))
    known = (EpochInfo(7, 1, 1, False),)
    items = collector.epochs(EpochsReply(id=asking_epochs(collector).id, epochs=known))
    assert places(items) == [Lost(3, 5, None, Why.UNKNOWN_EPOCH)]
    assert places(collector.verdicts(*page(asking(collector).id, known[0], 1))) == [(7, 1)]


def test_a_refusal_is_told_and_the_epochs_are_asked_for() -> None:
    collector = Collector("now")
    collector.live(heartbeat(0))
    collector.live(heartbeat(1))
    refused = VerdictsReply(id=asking(collector).id, error="the journal is gone", remedy="Mend it.")
    assert collector.verdicts(refused, []) == []
    assert collector.refusal == "the journal is gone. Mend it."
    assert collector.epochs(EpochsReply(id=asking_epochs(collector).id, epochs=(EpochInfo(1, 1, 1, False),))) == []
    assert collector.refusal == ""
    assert collector.request(0.0) is None, "a refused question is not asked again at once"
    assert asking(collector, 1.0).from_seq == 1


def test_an_unknown_live_epoch_is_asked_for_again_and_nothing_is_lost() -> None:
    collector = Collector(Position(1, 4))
    collector.live(heartbeat(6))
    assert collector.epochs(EpochsReply(id=asking_epochs(collector).id)) == []
    refused = VerdictsReply(id=asking(collector).id, error="unknown", remedy="")
    assert collector.verdicts(refused, []) == []
    assert collector.position == Position(1, 4)


def test_the_position_of_another_station_is_an_error() -> None:
    collector = Collector(Position(9, 4))
    with pytest.raises(BusError, match=r"epoch 3.*later epoch 9.*another station"):
        collector.live(heartbeat(0, 3))
    collector.live(heartbeat(4, 9))
    collector.live(heartbeat(4, 3))


def test_more_than_there_is_room_for_is_asked_for_again() -> None:
    collector = Collector("now", room=3)
    collector.live(heartbeat(0))
    for seq in range(2, 10):
        collector.live(verdict(seq))
    assert collector.held_back == 3
    items = collector.verdicts(*page(asking(collector).id, EpochInfo(1, 1, 9, False), 1))
    assert places(items) == [(1, 1), (1, 2), (1, 3), (1, 4)]
    assert asking(collector).from_seq == 5


@dataclass
class Station:
    """The model: all that was ever published, what the journal still has of it, and what is on its way to the client."""

    published: list[tuple[int, int]] = field(default_factory=list)
    kept: set[tuple[int, int]] = field(default_factory=set)
    heads: dict[int, int] = field(default_factory=dict)
    ended: set[int] = field(default_factory=set)
    epoch: int = 0
    connected: bool = True
    feed: deque[LiveMessage] = field(default_factory=deque)
    last: dict[type[LiveMessage], LiveMessage] = field(default_factory=dict)

    def send(self, message: LiveMessage) -> None:
        self.last[type(message)] = message
        if self.connected:
            self.feed.append(message)

    def start(self) -> None:
        self.epoch += 10
        self.heads[self.epoch] = 0
        self.send(state_message(self.epoch))

    def publish(self, epoch: int, keep: bool = True, restart: bool = False) -> None:
        self.heads[epoch] += 1
        place = (epoch, self.heads[epoch])
        self.published.append(place)
        if keep:
            self.kept.add(place)
        self.send(verdict(place[1], epoch, restart=restart))

    def beat(self) -> None:
        self.send(heartbeat(self.heads[self.epoch], self.epoch))

    def connect(self) -> None:
        self.connected = True
        self.copies()

    def copies(self) -> None:
        """What all subscribers get when one joins."""
        for message in self.last.values():
            self.feed.append(copy_of(message) if isinstance(message, VerdictMessage) else message)

    def crash(self, in_flight: int) -> None:
        """A new process closes what was open, then begins its epoch; its feed has no last values yet."""
        old = self.epoch
        self.last.clear()
        for _ in range(in_flight):
            self.publish(old, restart=True)
        self.ended.add(old)
        self.start()

    def halt(self) -> None:
        self.ended.add(self.epoch)
        self.last.clear()
        self.start()

    def info(self, epoch: int) -> EpochInfo:
        seqs = [seq for e, seq in self.kept if e == epoch]
        return EpochInfo(epoch, min(seqs, default=self.heads[epoch] + 1), self.heads[epoch], epoch in self.ended)

    def answer(self, request: VerdictsRequest | EpochsRequest) -> Answer:
        if isinstance(request, EpochsRequest):
            infos = tuple(self.info(epoch) for epoch in sorted(self.heads) if epoch > request.after)
            return EpochsReply(id=request.id, epochs=infos), []
        seqs = sorted(seq for e, seq in self.kept if e == request.epoch and seq >= request.from_seq)
        return page(request.id, self.info(request.epoch), *seqs[: request.limit])


Answer = tuple[VerdictsReply | EpochsReply, list[VerdictMessage]]


class Reading(RuleBasedStateMachine):
    """A client of the station. `at` is the index of what must be handed out next."""

    def __init__(self) -> None:
        super().__init__()
        self.station = Station()
        self.now_s = 0.0
        self.answers: list[Answer] = []
        self.at: int | None = None

    def begin(self, start: Start) -> None:
        self.collector = Collector(start, ask_again_s=1.0, room=6, page=4)
        self.station.feed.clear()
        self.answers.clear()
        self.at = None if not isinstance(start, Position) else self.index_after(start)
        self.oldest = start == "oldest"
        self.station.connect()

    def index_after(self, position: Position) -> int:
        return sum(place <= (position.epoch, position.seq) for place in self.station.published)

    @initialize(epochs=st.lists(st.integers(0, 6), max_size=3), start=st.sampled_from(["now", "oldest", "position"]))
    def existing(self, epochs: list[int], start: str) -> None:
        self.station.start()
        for count in epochs:
            for _ in range(count):
                self.station.publish(self.station.epoch)
            self.station.crash(0)
        published = self.station.published
        if start == "position":
            somewhere = published[len(published) // 2] if published else (self.station.epoch, 0)
            self.begin(Position(*somewhere))
        else:
            self.begin("now" if start == "now" else "oldest")

    def take(self, items: Sequence[Item]) -> None:
        started = self.collector.started
        if self.at is None and started is not None:
            self.at = self.index_after(started)
            kept = [place for place in self.station.published if place in self.station.kept]
            if self.oldest and kept:
                assert self.station.published[self.at] <= kept[0], "something that is kept is left out"
        for item in items:
            assert self.at is not None
            if isinstance(item, Lost):
                assert item.last_seq is not None
                names = [(item.epoch, seq) for seq in range(item.first_seq, item.last_seq + 1)]
                assert names and not self.station.kept.intersection(names), "lost is what the journal has"
            else:
                names = [(item.epoch, item.seq)]
                assert item.accept == (item.reason is None), "a copy was handed out"
            assert names == self.station.published[self.at : self.at + len(names)]
            self.at += len(names)

    def read(self) -> None:
        """Take the next message of the feed."""
        self.take(self.collector.live(self.station.feed.popleft()))

    def ask(self, answered: bool = True) -> bool:
        request = self.collector.request(self.now_s)
        if request is not None and answered:
            self.answers.append(self.station.answer(request))
        return request is not None

    def hear(self, answer: Answer) -> None:
        reply, verdicts = answer
        if isinstance(reply, EpochsReply):
            self.take(self.collector.epochs(reply))
        else:
            self.take(self.collector.verdicts(reply, verdicts))

    @rule(count=st.integers(1, 4), keep=st.sampled_from([True, True, True, False]))
    def publish(self, count: int, keep: bool) -> None:
        for _ in range(count):
            self.station.publish(self.station.epoch, keep)

    @rule()
    def beat(self) -> None:
        self.station.beat()

    @rule(count=st.integers(1, 8))
    def read_some(self, count: int) -> None:
        for _ in range(min(count, len(self.station.feed))):
            self.read()

    @precondition(lambda self: self.station.feed)
    @rule(which=st.randoms(use_true_random=False))
    def lose_a_message(self, which: random.Random) -> None:
        del self.station.feed[which.randrange(len(self.station.feed))]

    @rule(lost=st.booleans())
    def disconnect(self, lost: bool) -> None:
        self.station.connected = False
        if lost:
            self.station.feed.clear()

    @rule()
    def connect(self) -> None:
        self.station.connect()

    @precondition(lambda self: self.station.connected)
    @rule()
    def another_client_joins(self) -> None:
        self.station.copies()

    @rule(answered=st.booleans())
    def ask_replay(self, answered: bool) -> None:
        self.ask(answered)

    @precondition(lambda self: self.answers)
    @rule(which=st.randoms(use_true_random=False), again=st.booleans())
    def answer_comes(self, which: random.Random, again: bool) -> None:
        place = which.randrange(len(self.answers))
        self.hear(self.answers[place] if again else self.answers.pop(place))

    @precondition(lambda self: self.answers)
    @rule()
    def replay_refuses(self) -> None:
        reply, _ = self.answers.pop()
        self.hear((type(reply)(id=reply.id, error="busy", remedy="Wait."), []))

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule(in_flight=st.integers(0, 3), connected=st.booleans())
    def crash(self, in_flight: int, connected: bool) -> None:
        self.station.connected = connected
        self.station.crash(in_flight)

    @rule()
    def halt_and_start(self) -> None:
        self.station.halt()

    @rule(count=st.integers(1, 12))
    def prune(self, count: int) -> None:
        self.station.kept.difference_update(sorted(self.station.kept)[:count])

    @precondition(lambda self: self.at is not None)
    @rule()
    def client_restarts(self) -> None:
        assert self.collector.position is not None
        self.begin(self.collector.position)

    @rule()
    def all_is_well(self) -> None:
        """Nothing is lost any more: then everything must come, and no more is asked."""
        self.station.connect()
        self.station.beat()
        for _ in range(10_000):
            if self.station.feed:
                self.read()
            elif self.answers:
                self.hear(self.answers.pop(0))
            elif not self.ask():
                wait_s = self.collector.wait_s(self.now_s)
                if wait_s is None:
                    break
                self.now_s += wait_s
        else:
            raise AssertionError(f"it goes on asking {self.collector.request(self.now_s + 9)}")
        assert self.at == len(self.station.published)
        assert self.collector.held_back == 0

    @invariant()
    def the_position_is_that_of_the_last_item(self) -> None:
        if self.at is not None and self.collector.position is not None:
            assert self.index_after(self.collector.position) == self.at

    def teardown(self) -> None:
        if self.station.heads:
            self.all_is_well()


Reading.TestCase.settings = settings(max_examples=120, stateful_step_count=60, deadline=None)
TestReading = Reading.TestCase


def test_the_model_answers_in_the_form_of_the_wire() -> None:
    station = Station()
    station.start()
    station.publish(station.epoch)
    reply, verdicts = station.answer(VerdictsRequest(id=1, epoch=station.epoch))
    assert msgspec.json.decode(msgspec.json.encode(reply), type=VerdictsReply) == reply
    assert [v.is_replay for v in verdicts] == [True]

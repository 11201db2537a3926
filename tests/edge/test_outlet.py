"""A verdict goes to the ledger, the journal and the bus, in this order, once, and accepts nothing after its deadline."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from typing import cast

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.bus import compose
from edge.bus.compose import Judged
from edge.bus.messages import JournalState, MaskMessage, VerdictMessage, encode
from edge.bus.publisher import Publisher
from edge.bus.topics import MASK, VERDICT, Topic
from edge.errors import BusError
from edge.job import Job
from edge.ledger import Counts, Entry, Ledger
from edge.outlet import MISSED, Outlet, missed
from edge.press import MOST_WAITING
from edge.types import Frame, FrameStatus, Judgement, Picture, Reason, Trigger, Verdict
from edge.verdict import undecided
from tests.edge.fakes import PATIENCE_S, fake_job, normal_part

DEADLINE_NS = 1_000_000
OK = Verdict(Judgement.OK, None, 0.1, 1.0)
DEFECT = Verdict(Judgement.NOT_OK, Reason.DEFECT, 3.0, 1.0, mask=np.ones((2, 3), np.bool_))


class Clock:
    """Stands still until it is moved."""

    now_ns = 0

    def monotonic_ns(self) -> int:
        """See `time`."""
        return self.now_ns

    def monotonic(self) -> float:
        """See `time`."""
        return self.now_ns / 1e9


class Room:
    """An outlet in an empty room: what is done is written down in order."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.log: list[tuple[str, VerdictMessage]] = []
        self.sent: list[tuple[Topic, bytes, bytes | None]] = []
        self.recorded: list[bytes] = []
        self.pictured: list[tuple[int, Judgement]] = []
        self.latencies_us: list[int] = []
        self.broken = False
        self.state = JournalState.OK
        self.ledger = Ledger(DEADLINE_NS)
        self.outlet = Outlet(self.ledger, self, cast(Publisher, self), self.latencies_us.append)

    def record(self, message: VerdictMessage, data: bytes) -> None:
        """See `Keeper`."""
        assert encode(message) == data
        assert self.ledger.counts().in_flight + len(self.recorded) + 1 == self.ledger.counts().triggers_seen
        self.log.append(("record", message))
        self.recorded.append(data)

    def picture(self, message: VerdictMessage, pixels: Picture) -> None:
        """See `Keeper`."""
        assert pixels.shape == normal_part().shape
        self.pictured.append((message.seq, message.judgement))

    def send(self, topic: Topic, data: bytes, blob: bytes | None = None) -> None:
        """See `Publisher`."""
        if self.broken:
            raise BusError("the bus cannot send", "Restart the station.")
        if topic is VERDICT:
            self.log.append(("send", msgspec.json.decode(data, type=VerdictMessage)))
        self.sent.append((topic, data, blob))

    def open(self, job: Job | None = None) -> Entry:
        """A part comes now."""
        return self.ledger.open(Trigger(self.clock.now_ns, self.clock.now_ns // 1000), job or fake_job())

    def result(self, entry: Entry, verdict: Verdict) -> Judged:
        """The engine has judged it now."""
        frame = Frame(entry.trigger, 9, FrameStatus.COMPLETE, self.clock.now_ns, normal_part())
        return Judged(entry, verdict, frame, self.clock.now_ns)

    @property
    def verdicts(self) -> list[VerdictMessage]:
        """What the bus got."""
        return [message for what, message in self.log if what == "send"]


@pytest.fixture
def room() -> Iterator[Room]:
    """Where time is what the test says."""
    clock = Clock()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edge.bus.compose.time", clock)
        patch.setattr("edge.outlet.time", clock)
        yield Room(clock)


def test_the_journal_has_a_verdict_before_the_bus_has_it(room: Room) -> None:
    for _ in range(3):
        room.outlet.give(room.result(room.open(), OK))
    assert [(what, message.seq) for what, message in room.log] == [
        (what, seq) for seq in (1, 2, 3) for what in ("record", "send")
    ]
    assert [data for _, data, _ in room.sent] == room.recorded
    assert room.outlet.head_seq == 3


def test_numbers_follow_the_order_of_verdicts_not_of_triggers(room: Room) -> None:
    entries = [room.open() for _ in range(3)]
    for entry in reversed(entries):
        room.outlet.give(room.result(entry, OK))
    assert [(v.seq, v.trigger_seq) for v in room.verdicts] == [(1, 3), (2, 2), (3, 1)]


def test_a_second_verdict_is_not_given(room: Room) -> None:
    entry = room.open()
    room.outlet.give(room.result(entry, DEFECT))
    room.outlet.give(room.result(entry, OK))
    room.outlet.give(missed(entry))
    assert [(v.seq, v.judgement) for v in room.verdicts] == [(1, Judgement.NOT_OK)]
    assert room.ledger.counts() == Counts(1, 0, 1, 0, 0, missed=0, late=2, overruns=0)
    assert room.outlet.head_seq == 1


def test_a_result_at_the_deadline_counts_and_one_a_nanosecond_later_is_late(room: Room) -> None:
    entries = [room.open(), room.open()]
    room.clock.now_ns = DEADLINE_NS
    room.outlet.give(room.result(entries[0], OK))
    room.clock.now_ns += 1
    room.outlet.give(room.result(entries[1], OK))
    first, second = room.verdicts
    assert (first.judgement, first.accept, first.deadline_met) == (Judgement.OK, True, True)
    assert (second.judgement, second.reason, second.detail) == (
        Judgement.NOT_DECIDABLE,
        Reason.DEADLINE_MISSED,
        MISSED,
    )
    assert (second.accept, second.deadline_met, second.score, second.mask) == (False, False, None, None)
    assert room.ledger.counts() == Counts(2, 1, 0, 1, 0, missed=1, late=1, overruns=0)
    assert (second.frame_id, room.pictured) == (9, [(1, Judgement.OK), (2, Judgement.NOT_DECIDABLE)])
    assert room.outlet._press.owed == 0


def test_a_part_that_was_never_judged_keeps_its_reason_after_the_deadline(room: Room) -> None:
    entry = room.open()
    room.clock.now_ns = 5 * DEADLINE_NS
    room.outlet.give(Judged(entry, undecided(Reason.OVERLOAD, "full")))
    (verdict,) = room.verdicts
    assert (verdict.reason, verdict.accept, verdict.deadline_met) == (Reason.OVERLOAD, False, False)
    assert room.ledger.counts().late == 0


def test_a_missed_deadline_that_is_told_late_is_still_a_missed_deadline(room: Room) -> None:
    entry = room.open()
    room.clock.now_ns = 5 * DEADLINE_NS
    room.outlet.give(missed(entry))
    (verdict,) = room.verdicts
    assert (verdict.reason, verdict.frame_id) == (Reason.DEADLINE_MISSED, None)
    assert room.ledger.counts() == Counts(1, 0, 0, 1, 0, missed=1, late=0, overruns=0)


def test_a_verdict_for_observing_accepts_nothing(room: Room) -> None:
    job = fake_job()
    observing = Job(job.recipe, msgspec.structs.replace(job.provenance, is_test=True))
    room.outlet.give(room.result(room.open(observing), OK))
    (verdict,) = room.verdicts
    assert (verdict.judgement, verdict.accept, verdict.is_test) == (Judgement.OK, False, True)


def test_times_are_told_from_the_trigger(room: Room) -> None:
    room.clock.now_ns = 10**15
    entry = room.open()
    room.clock.now_ns += 400_000
    judged = room.result(entry, OK)
    room.clock.now_ns += 100_000
    room.outlet.give(dataclasses.replace(judged))
    (verdict,) = room.verdicts
    assert (verdict.capture_after_us, verdict.done_after_us, verdict.publish_after_us) == (400, 400, 500)
    assert (verdict.latency_us, verdict.deadline_us) == (500, 1000)
    assert room.latencies_us == [500]


def test_masks_follow_their_verdicts_and_do_not_hold_up_others(room: Room) -> None:
    for verdict in (DEFECT, OK, DEFECT):
        room.outlet.give(room.result(room.open(), verdict))
    assert [topic for topic, _, _ in room.sent] == [VERDICT] * 3
    room.outlet.send_last_masks(PATIENCE_S)
    assert not room.outlet.send_mask()
    masks = [msgspec.json.decode(data, type=MaskMessage) for topic, data, _ in room.sent if topic is MASK]
    assert [(mask.seq, mask.width, mask.height) for mask in masks] == [(1, 3, 2), (3, 3, 2)]
    assert all(blob is not None and blob.startswith(b"\x89PNG") for topic, _, blob in room.sent if topic is MASK)


def test_no_more_masks_wait_than_there_is_room_for(room: Room) -> None:
    for _ in range(MOST_WAITING + 3):
        room.outlet.give(room.result(room.open(), DEFECT))
    assert [topic for topic, _, _ in room.sent] == [VERDICT] * (MOST_WAITING + 3)
    assert room.outlet.masks_lost == 3
    room.outlet.send_last_masks(PATIENCE_S)
    masks = [msgspec.json.decode(data, type=MaskMessage).seq for topic, data, _ in room.sent if topic is MASK]
    assert masks == list(range(1, MOST_WAITING + 1))
    assert room.outlet.masks_lost == 3


def test_a_mask_s_picture_is_not_made_by_who_publishes(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    publishing, makers = threading.get_ident(), list[int]()
    slow = threading.Event()
    real = compose.mask_png

    def make(mask: NDArray[np.bool_]) -> bytes:
        makers.append(threading.get_ident())
        assert makers[-1] != publishing
        assert slow.wait(PATIENCE_S)
        return real(mask)

    monkeypatch.setattr(compose, "mask_png", make)
    for verdict in (DEFECT, OK):
        room.outlet.give(room.result(room.open(), verdict))
        assert not room.outlet.send_mask()
    assert [topic for topic, _, _ in room.sent] == [VERDICT, VERDICT]
    slow.set()
    room.outlet.send_last_masks(PATIENCE_S)
    ((topic, data, png),) = room.sent[2:]
    assert (topic, msgspec.json.decode(data)["seq"]) == (MASK, 1)
    assert png == real(cast(NDArray[np.bool_], DEFECT.mask))
    assert len(makers) == 1


def test_what_cannot_be_encoded_leaves_its_entry_open_and_the_journal_untouched(room: Room) -> None:
    entry = room.open()
    with pytest.raises(UnicodeEncodeError):
        room.outlet.give(room.result(entry, dataclasses.replace(DEFECT, detail="\udc80")))
    assert room.ledger.is_open(entry)
    assert room.ledger.counts() == Counts(1, 0, 0, 0, 1, missed=0, late=0, overruns=0)
    assert (room.log, room.sent, room.recorded, room.pictured, room.latencies_us) == ([], [], [], [], [])
    assert (room.outlet.head_seq, room.outlet._press.owed) == (0, 0)
    room.outlet.give(room.result(room.open(), OK))
    room.clock.now_ns = DEADLINE_NS + 1
    assert room.ledger.expired(room.clock.now_ns) == [entry]
    room.outlet.give(missed(entry))
    assert [(v.seq, v.trigger_seq, v.reason) for v in room.verdicts] == [(1, 2, None), (2, 1, Reason.DEADLINE_MISSED)]
    assert room.ledger.counts() == Counts(2, 1, 0, 1, 0, missed=1, late=0, overruns=0)


def test_a_verdict_that_the_bus_refuses_is_in_the_journal_and_keeps_its_number(room: Room) -> None:
    entries = [room.open(), room.open()]
    room.broken = True
    with pytest.raises(BusError):
        room.outlet.give(room.result(entries[0], OK))
    room.broken = False
    room.outlet.give(room.result(entries[0], OK))
    room.outlet.give(room.result(entries[1], OK))
    assert [msgspec.json.decode(data, type=VerdictMessage).seq for data in room.recorded] == [1, 2]
    assert [v.seq for v in room.verdicts] == [2]
    assert room.ledger.counts() == Counts(2, 2, 0, 0, 0, missed=0, late=1, overruns=0)


def test_a_verdict_of_an_earlier_epoch_is_sent_as_it_is_and_numbers_nothing(room: Room) -> None:
    room.outlet.give(room.result(room.open(), OK))
    data = room.recorded[0]
    room.outlet.repeat(data)
    assert [sent for _, sent, _ in room.sent] == [data, data]
    assert (room.outlet.head_seq, len(room.recorded)) == (1, 1)

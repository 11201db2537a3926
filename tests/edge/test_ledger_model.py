"""Intake, ledger and outlet together against a model that a child could check: one verdict for each trigger, always."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, cast

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from edge.bus.compose import Judged
from edge.bus.messages import JournalState, VerdictMessage
from edge.bus.publisher import Publisher
from edge.bus.topics import VERDICT, Topic
from edge.intake import Intake, StationEnding
from edge.job import Job
from edge.ledger import Entry, Ledger
from edge.outlet import Outlet, missed
from edge.types import Frame, FrameStatus, Judgement, Picture, Reason, Trigger, Verdict
from edge.verdict import undecided
from tests.edge.fakes import fake_provenance, fake_recipe, normal_part

DEADLINE_NS = 1_000_000
INTERVAL_NS = 1_000
PLACES = 3
EXAMPLES, STEPS = 100, 60
STEPS_LEAST = 5_000
RECIPE, PART = fake_recipe(), normal_part()
VERDICTS = (
    Verdict(Judgement.OK, None, 0.1, 1.0),
    Verdict(Judgement.NOT_OK, Reason.DEFECT, 2.0, 1.0),
    undecided(Reason.UNFIT_IMAGE, "blurred", 1.0),
    undecided(Reason.ENGINE_FAULT, "broken", 1.0),
)


@dataclass
class Owed:
    """A trigger as the model sees it."""

    entry: Entry
    job: Job
    refusal: Reason | None
    place: bool


class Station(RuleBasedStateMachine):
    """Triggers, changes of the job, time and results come in any order."""

    steps = 0
    clock_ns = 0
    met: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        super().__init__()
        Station.steps -= 1
        Station.clock_ns = 10**12
        self.revision = 0
        self.ledger = Ledger(DEADLINE_NS)
        self.latencies_us: list[int] = []
        self.state = JournalState.OK
        self.messages: list[VerdictMessage] = []
        self.recorded: list[bytes] = []
        self.places: set[int] = set()
        self.job = Job(RECIPE, fake_provenance())
        recent = {"old": (0, 99)}
        self.intake = Intake(self.ledger, self, self.job, min_interval_ns=INTERVAL_NS, recent=recent)
        self.outlet = Outlet(self.ledger, self, cast(Publisher, self), self.latencies_us.append)
        self.closed = False
        self.last_ns = -(10**18)
        self.known = dict(recent)
        self.duplicates = self.late = self.seen = 0
        self.owed: dict[int, Owed] = {}
        self.given: dict[int, tuple[Owed, Judgement, Reason | None, bool]] = {}

    # The journal and the bus.

    def opened(self, entry: Entry) -> bool:
        """See `OpenTriggers`."""
        if len(self.places) == PLACES:
            return False
        self.places.add(entry.seq)
        return True

    def record(self, message: VerdictMessage, data: bytes) -> None:
        """See `Keeper`."""
        self.places.discard(message.trigger_seq)
        self.recorded.append(data)

    def picture(self, message: VerdictMessage, pixels: Picture) -> None:
        """See `Keeper`."""
        assert pixels is PART
        assert message is not None

    def send(self, topic: Topic, data: bytes) -> None:
        """See `Publisher`."""
        assert topic is VERDICT
        assert self.recorded[-1] == data
        self.messages.append(msgspec.json.decode(data, type=VerdictMessage))

    # What happens.

    @rule(pause_ns=st.one_of(st.integers(0, 3 * INTERVAL_NS), st.sampled_from([DEADLINE_NS - 1, DEADLINE_NS])))
    def time_passes(self, pause_ns: int) -> None:
        Station.clock_ns += pause_ns

    @rule(
        trigger_id=st.sampled_from(["", "", "", "a", "b", "c", "d", "old"]),
        age_ns=st.sampled_from([0, 0, 0, 1, INTERVAL_NS, DEADLINE_NS, DEADLINE_NS + 1]),
        pause_ns=st.sampled_from([0, INTERVAL_NS - 1, INTERVAL_NS, 3 * INTERVAL_NS]),
    )
    def a_part_comes(self, trigger_id: str, age_ns: int, pause_ns: int) -> None:
        Station.clock_ns += pause_ns
        trigger = Trigger(Station.clock_ns - age_ns, 5, f"part-{self.seen}", self.seen, trigger_id)
        if self.closed:
            with pytest.raises(StationEnding):
                self.intake.open(trigger)
            return
        has_place = len(self.places) < PLACES
        opened = self.intake.open(trigger)
        if trigger_id in self.known:
            self.duplicates += 1
            assert (opened.epoch, opened.seq) == self.known[trigger_id]
            assert (opened.entry, opened.refusal) == (None, None)
            return
        self.seen += 1
        assert opened.entry is not None
        assert (opened.epoch, opened.seq, opened.entry.seq) == (1, self.seen, self.seen)
        refusal = self._refusal(trigger, has_place)
        assert (None if opened.refusal is None else opened.refusal.reason) is refusal
        Station.met.add("judged" if opened.refusal is None else opened.refusal.detail.split()[-1])
        if trigger_id:
            self.known[trigger_id] = (1, self.seen)
        self.owed[self.seen] = Owed(opened.entry, self.job, refusal, has_place)

    def _refusal(self, trigger: Trigger, has_place: bool) -> Reason | None:
        if trigger.time_ns - self.last_ns < INTERVAL_NS:
            return Reason.OVERLOAD
        self.last_ns = trigger.time_ns
        if self.job.recipe is None:
            return Reason.NO_RECIPE
        if self.intake.camera_fault:
            return Reason.CAMERA_LOST
        return None if has_place else Reason.OVERLOAD

    @rule(has_recipe=st.booleans(), is_test=st.booleans())
    def the_job_changes(self, has_recipe: bool, is_test: bool) -> None:
        self.revision += 1
        provenance = msgspec.structs.replace(fake_provenance(), recipe_revision=self.revision, is_test=is_test)
        self.job = Job(RECIPE if has_recipe else None, provenance)
        assert self.intake.change(self.job) == self.seen + 1

    @rule(fault=st.sampled_from(["", "unplugged"]))
    def the_camera_comes_and_goes(self, fault: str) -> None:
        self.intake.camera_fault = fault

    @precondition(lambda self: self.owed)
    @rule(data=st.data(), verdict=st.sampled_from(VERDICTS))
    def a_result_or_a_refusal_comes(self, data: st.DataObject, verdict: Verdict) -> None:
        owed = self.owed[data.draw(st.sampled_from(sorted(self.owed)))]
        if owed.refusal is not None:
            self._expect(owed, Judgement.NOT_DECIDABLE, owed.refusal)
            self.outlet.give(Judged(owed.entry, undecided(owed.refusal, "refused")))
            return
        if Station.clock_ns > owed.entry.deadline_ns:
            self.late += 1
            self._expect(owed, Judgement.NOT_DECIDABLE, Reason.DEADLINE_MISSED)
        else:
            self._expect(owed, verdict.judgement, verdict.reason)
        self.outlet.give(self._judged(owed, verdict))

    def _judged(self, owed: Owed, verdict: Verdict) -> Judged:
        frame = Frame(owed.entry.trigger, 1, FrameStatus.COMPLETE, Station.clock_ns, PART)
        return Judged(owed.entry, verdict, frame, Station.clock_ns)

    def _expect(self, owed: Owed, judgement: Judgement, reason: Reason | None) -> None:
        in_time = Station.clock_ns <= owed.entry.deadline_ns
        del self.owed[owed.entry.seq]
        self.given[owed.entry.seq] = (owed, judgement, reason, in_time)

    @precondition(lambda self: self.given)
    @rule(data=st.data(), verdict=st.sampled_from(VERDICTS))
    def a_second_result_comes(self, data: st.DataObject, verdict: Verdict) -> None:
        owed, *_ = self.given[data.draw(st.sampled_from(sorted(self.given)))]
        self.late += 1
        self.outlet.give(self._judged(owed, verdict))

    @rule()
    def the_publisher_looks_at_the_deadlines(self) -> None:
        deadlines = {owed.entry.deadline_ns for owed in self.owed.values()}
        assert self.ledger.next_deadline_ns() == min(deadlines, default=None)
        due = [owed.entry for owed in self.owed.values() if owed.entry.deadline_ns <= Station.clock_ns]
        expired = self.ledger.expired(Station.clock_ns)
        assert expired == sorted(due, key=lambda entry: (entry.deadline_ns, entry.seq))
        for entry in expired:
            self._expect(self.owed[entry.seq], Judgement.NOT_DECIDABLE, Reason.DEADLINE_MISSED)
            self.outlet.give(missed(entry))

    @rule(really=st.sampled_from([False] * 15 + [True]))
    def the_station_takes_no_more(self, really: bool) -> None:
        if really:
            self.closed = True
            self.intake.close()

    # What always holds.

    @invariant()
    def everything_is_counted_once(self) -> None:
        Station.steps += 1
        counts = self.ledger.counts()
        assert counts.triggers_seen == counts.ok + counts.not_ok + counts.not_decidable + counts.in_flight
        judged = [judgement for _, judgement, _, _ in self.given.values()]
        reasons = [reason for _, _, reason, _ in self.given.values()]
        assert (counts.ok, counts.not_ok, counts.not_decidable) == tuple(judged.count(each) for each in Judgement)
        assert (counts.triggers_seen, counts.in_flight) == (self.seen, len(self.owed))
        assert (counts.missed, counts.overruns) == tuple(
            reasons.count(each) for each in (Reason.DEADLINE_MISSED, Reason.OVERLOAD)
        )
        assert (counts.late, self.intake.duplicates) == (self.late, self.duplicates)
        assert self.ledger.all_open() == [self.owed[seq].entry for seq in sorted(self.owed)]
        assert self.places == {seq for seq, owed in self.owed.items() if owed.place}

    @invariant()
    def each_trigger_has_its_one_verdict(self) -> None:
        assert [message.seq for message in self.messages] == list(range(1, len(self.given) + 1))
        assert self.outlet.head_seq == len(self.messages) == len(self.recorded) == len(self.latencies_us)
        assert [message.trigger_seq for message in self.messages] == list(self.given)
        if self.messages:
            self._check(self.messages[-1])

    def _check(self, message: VerdictMessage) -> None:
        owed, judgement, reason, in_time = self.given[message.trigger_seq]
        trigger, provenance = owed.entry.trigger, owed.job.provenance
        assert (message.judgement, message.reason, message.deadline_met) == (judgement, reason, in_time)
        assert message.accept == (judgement is Judgement.OK and in_time and not provenance.is_test)
        assert (message.recipe_revision, message.is_test) == (provenance.recipe_revision, provenance.is_test)
        assert (message.trigger_id, message.part_id, message.encoder_count) == (
            trigger.trigger_id,
            trigger.part_id,
            trigger.encoder_count,
        )

    def teardown(self) -> None:
        self.closed = True
        self.intake.close()
        Station.clock_ns += 10 * DEADLINE_NS
        self.the_publisher_looks_at_the_deadlines()
        for message in self.messages:
            self._check(message)
        assert sorted(message.trigger_seq for message in self.messages) == list(range(1, self.seen + 1))
        assert self.places == set()


class _Clock:
    def monotonic_ns(self) -> int:
        """See `time`."""
        return Station.clock_ns

    def monotonic(self) -> float:
        """See `time`."""
        return Station.clock_ns / 1e9


def test_each_trigger_gets_exactly_one_verdict_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.bus.compose.time", _Clock())
    monkeypatch.setattr("edge.outlet.time", _Clock())
    Station.steps = 0
    Station.met.clear()
    run_state_machine_as_test(Station, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
    assert Station.steps >= STEPS_LEAST
    # Too fast, no recipe, no camera, no place.
    assert Station.met == {"judged", "allows", "active", "unplugged", "verdicts"}

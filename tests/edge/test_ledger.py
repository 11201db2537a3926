"""One verdict per trigger, against a model that a child could check."""

from __future__ import annotations

import dataclasses
import threading

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.job import Job
from edge.ledger import Entry, Ledger
from edge.types import Judgement, Reason, Trigger, Verdict
from tests.edge.fakes import fake_entry, fake_job, fake_provenance

DEADLINE_NS = 1000
OK = Verdict(Judgement.OK, None, 0.1, 1.0)
VERDICTS = (
    OK,
    Verdict(Judgement.NOT_OK, Reason.DEFECT, 2.0, 1.0),
    *(Verdict(Judgement.NOT_DECIDABLE, r, None, 1.0) for r in Reason if r is not Reason.DEFECT),
)


JOBS = (fake_job(), Job(None, fake_provenance()))


def trigger(time_ns: int = 0) -> Trigger:
    return Trigger(time_ns, 0)


class AnyOrder(RuleBasedStateMachine):
    """Triggers, verdicts, late verdicts and time come in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(DEADLINE_NS)
        self.now_ns = 0
        self.seq = 0
        self.waiting: dict[int, Entry] = {}
        self.ended: dict[int, tuple[Entry, Verdict]] = {}
        self.late = 0

    @rule(pause_ns=st.integers(0, 3 * DEADLINE_NS))
    def time_passes(self, pause_ns: int) -> None:
        self.now_ns += pause_ns

    @rule(skew_ns=st.integers(-50, 50), job=st.sampled_from(JOBS))
    def a_part_comes(self, skew_ns: int, job: Job) -> None:
        """Triggers are numbered as they come, from 1 without a gap, and keep their job."""
        seen = trigger(self.now_ns + skew_ns)
        entry = self.ledger.open(seen, job)
        self.seq += 1
        assert (entry.seq, entry.deadline_ns) == (self.seq, seen.time_ns + DEADLINE_NS)
        assert entry.trigger is seen and entry.job is job
        self.waiting[entry.seq] = entry

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), verdict=st.sampled_from(VERDICTS))
    def a_verdict_comes(self, data: st.DataObject, verdict: Verdict) -> None:
        seq = data.draw(st.sampled_from(sorted(self.waiting)))
        assert self.ledger.close(self.waiting[seq], verdict)
        self.ended[seq] = (self.waiting.pop(seq), verdict)

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), verdict=st.sampled_from(VERDICTS))
    def a_second_verdict_changes_nothing(self, data: st.DataObject, verdict: Verdict) -> None:
        seq = data.draw(st.sampled_from(sorted(self.ended)))
        before = self.ledger.counts()
        assert not self.ledger.close(self.ended[seq][0], verdict)
        after = self.ledger.counts()
        self.late += 1
        assert (after.ok, after.not_ok, after.not_decidable) == (before.ok, before.not_ok, before.not_decidable)

    @rule()
    def deadlines_are_those_of_the_waiting(self) -> None:
        """The most urgent come first; of two that are as urgent, the first that came."""
        due = sorted((e for e in self.waiting.values() if e.deadline_ns <= self.now_ns), key=urgency)
        assert self.ledger.expired(self.now_ns) == due
        first = min((e.deadline_ns for e in self.waiting.values()), default=None)
        assert self.ledger.next_deadline_ns() == first

    @invariant()
    def what_waits_is_open_and_in_order(self) -> None:
        assert self.ledger.all_open() == [self.waiting[seq] for seq in sorted(self.waiting)]
        assert all(self.ledger.is_open(entry) for entry in self.waiting.values())
        assert not any(self.ledger.is_open(entry) for entry, _ in self.ended.values())

    @rule()
    def a_late_result_is_only_counted(self) -> None:
        before = self.ledger.counts()
        self.ledger.note_late()
        self.late += 1
        assert self.ledger.counts() == dataclasses.replace(before, late=before.late + 1)

    @invariant()
    def everything_is_counted_once(self) -> None:
        counts = self.ledger.counts()
        verdicts = [verdict for _, verdict in self.ended.values()]
        assert counts.triggers_seen == counts.ok + counts.not_ok + counts.not_decidable + counts.in_flight
        assert counts.triggers_seen == len(self.waiting) + len(self.ended)
        assert counts.in_flight == len(self.waiting)
        for count, judgement in zip((counts.ok, counts.not_ok, counts.not_decidable), Judgement, strict=True):
            assert count == sum(v.judgement is judgement for v in verdicts)
        assert counts.missed == sum(v.reason is Reason.DEADLINE_MISSED for v in verdicts)
        assert counts.overruns == sum(v.reason is Reason.OVERLOAD for v in verdicts)
        assert counts.late == self.late


def urgency(entry: Entry) -> tuple[int, int]:
    return entry.deadline_ns, entry.seq


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_verdict_for_a_part_that_never_came_is_counted_late_and_judges_nothing() -> None:
    ledger = Ledger(DEADLINE_NS)
    assert not ledger.close(fake_entry(7), OK)
    counts = ledger.counts()
    assert (counts.triggers_seen, counts.ok, counts.in_flight, counts.late) == (0, 0, 0, 1)


def test_the_deadline_itself_is_missed_and_one_nanosecond_before_is_not() -> None:
    ledger = Ledger(DEADLINE_NS)
    entry = ledger.open(trigger(500), fake_job())
    assert ledger.expired(500 + DEADLINE_NS - 1) == []
    assert ledger.expired(500 + DEADLINE_NS) == [entry]
    assert ledger.counts().in_flight == 1


def test_of_many_threads_exactly_one_closes_each_entry() -> None:
    ledger = Ledger(DEADLINE_NS)
    entries = [ledger.open(trigger(), fake_job()) for _ in range(500)]
    won: list[int] = []
    start = threading.Barrier(4)

    def close_all() -> None:
        start.wait()
        mine = [entry.seq for entry in entries if ledger.close(entry, OK)]
        won.extend(mine)

    threads = [threading.Thread(target=close_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [entry.seq for entry in entries] == list(range(1, 501))
    counts = ledger.counts()
    assert (counts.ok, counts.in_flight, counts.late) == (500, 0, 1500)


def test_of_many_threads_each_trigger_gets_a_number_of_its_own() -> None:
    ledger = Ledger(DEADLINE_NS)
    start = threading.Barrier(4)
    seqs: list[int] = []

    def open_many() -> None:
        start.wait()
        mine = [ledger.open(trigger(), fake_job()).seq for _ in range(250)]
        assert mine == sorted(mine)
        seqs.extend(mine)

    threads = [threading.Thread(target=open_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seqs) == list(range(1, 1001)) and ledger.counts().triggers_seen == 1000

"""One verdict per trigger, against a model that a child could check."""

from __future__ import annotations

import threading

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.ledger import Ledger
from edge.types import Judgement, Reason, Trigger, Verdict

DEADLINE_NS = 1000
OK = Verdict(Judgement.OK, None, 0.1, 1.0)
VERDICTS = (
    OK,
    Verdict(Judgement.NOT_OK, Reason.DEFECT, 2.0, 1.0),
    *(Verdict(Judgement.NOT_DECIDABLE, r, None, 1.0) for r in Reason if r is not Reason.DEFECT),
)


def trigger(seq: int, time_ns: int = 0) -> Trigger:
    return Trigger(seq, time_ns, 0)


class AnyOrder(RuleBasedStateMachine):
    """Triggers, verdicts, late verdicts and time come in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(DEADLINE_NS)
        self.now_ns = 0
        self.seq = 0
        self.waiting: dict[int, Trigger] = {}
        self.ended: dict[int, tuple[Trigger, Verdict]] = {}
        self.late = 0

    @rule(pause_ns=st.integers(0, 3 * DEADLINE_NS))
    def time_passes(self, pause_ns: int) -> None:
        self.now_ns += pause_ns

    @rule(step=st.integers(1, 3), skew_ns=st.integers(-50, 50))
    def a_part_comes(self, step: int, skew_ns: int) -> None:
        self.seq += step
        self.waiting[self.seq] = trigger(self.seq, self.now_ns + skew_ns)
        self.ledger.open(self.waiting[self.seq])

    @precondition(lambda self: self.seq > 0)
    @rule(back=st.integers(0, 3))
    def an_old_number_is_refused(self, back: int) -> None:
        with pytest.raises(ValueError, match="after trigger"):
            self.ledger.open(trigger(self.seq - back, self.now_ns))

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
        due = [t for t in self.waiting.values() if t.time_ns + DEADLINE_NS <= self.now_ns]
        assert self.ledger.expired(self.now_ns) == due
        first = min((t.time_ns + DEADLINE_NS for t in self.waiting.values()), default=None)
        assert self.ledger.next_deadline_ns() == first

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


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40)


def test_a_verdict_for_a_part_that_never_came_is_counted_late_and_judges_nothing() -> None:
    ledger = Ledger(DEADLINE_NS)
    assert not ledger.close(trigger(7), OK)
    counts = ledger.counts()
    assert (counts.triggers_seen, counts.ok, counts.in_flight, counts.late) == (0, 0, 0, 1)


def test_the_deadline_itself_is_missed_and_one_nanosecond_before_is_not() -> None:
    ledger = Ledger(DEADLINE_NS)
    ledger.open(trigger(1, 500))
    assert ledger.expired(500 + DEADLINE_NS - 1) == []
    assert ledger.expired(500 + DEADLINE_NS) == [trigger(1, 500)]
    assert ledger.counts().in_flight == 1


def test_of_many_threads_exactly_one_closes_each_entry() -> None:
    ledger = Ledger(DEADLINE_NS)
    triggers = [trigger(seq) for seq in range(1, 501)]
    for entry in triggers:
        ledger.open(entry)
    won: list[int] = []
    start = threading.Barrier(4)

    def close_all() -> None:
        start.wait()
        mine = [entry.seq for entry in triggers if ledger.close(entry, OK)]
        won.extend(mine)

    threads = [threading.Thread(target=close_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == [entry.seq for entry in triggers]
    counts = ledger.counts()
    assert (counts.ok, counts.in_flight, counts.late) == (500, 0, 1500)

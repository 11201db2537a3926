"""Every trigger gets one number, the job of its moment and a place in the journal; one that is sent twice gets no second."""

from __future__ import annotations

import dataclasses
import threading

import pytest

from edge import intake as intake_module
from edge.errors import ControlError
from edge.intake import Intake, Opened, StationEnding
from edge.job import Job
from edge.ledger import Entry, Ledger
from edge.types import Judgement, Reason, Trigger
from tests.edge.fakes import fake_job

DEADLINE_NS = 1_000
INTERVAL_NS = 100


class Places:
    """Room for so many open triggers."""

    def __init__(self, count: int = 1_000_000) -> None:
        self.count = count
        self.entries: list[Entry] = []

    def opened(self, entry: Entry) -> bool:
        """See `OpenTriggers`."""
        if len(self.entries) >= self.count:
            return False
        self.entries.append(entry)
        return True


def taking(
    *, job: Job | None = None, places: Places | None = None, interval_ns: int = 0, **recent: tuple[int, int]
) -> Intake:
    return Intake(
        Ledger(DEADLINE_NS), places or Places(), job or fake_job(), min_interval_ns=interval_ns, recent=recent
    )


def trigger(time_ns: int, trigger_id: str = "") -> Trigger:
    return Trigger(time_ns, time_ns // 1000, trigger_id=trigger_id)


def reason(opened: Opened) -> Reason | None:
    assert opened.entry is not None
    if opened.refusal is None:
        return None
    assert opened.refusal.judgement is Judgement.NOT_DECIDABLE
    return opened.refusal.reason


def test_triggers_are_numbered_from_one_and_keep_what_they_said() -> None:
    places = Places()
    intake = taking(places=places)
    triggers = [Trigger(time_ns, 7, f"part-{time_ns}", 5, f"id-{time_ns}") for time_ns in (10, 20, 30)]
    opened = [intake.open(each) for each in triggers]
    assert [(each.epoch, each.seq, each.refusal) for each in opened] == [(1, 1, None), (1, 2, None), (1, 3, None)]
    entries = [each.entry for each in opened]
    assert places.entries == entries
    assert [(e.seq, e.trigger, e.deadline_ns) for e in places.entries] == [
        (n, each, each.time_ns + DEADLINE_NS) for n, each in enumerate(triggers, start=1)
    ]


def test_a_trigger_that_is_sent_twice_is_told_its_first_number() -> None:
    intake = taking()
    first = intake.open(trigger(10, "a"))
    intake.open(trigger(20, "b"))
    again = intake.open(trigger(30, "a"))
    assert (again.epoch, again.seq, again.entry, again.refusal) == (first.epoch, first.seq, None, None)
    assert intake.duplicates == 1
    assert intake._ledger.counts().triggers_seen == 2


def test_a_trigger_without_a_name_is_never_a_duplicate() -> None:
    intake = taking()
    assert [intake.open(trigger(10)).seq for _ in range(3)] == [1, 2, 3]
    assert intake.duplicates == 0


def test_a_trigger_that_an_earlier_epoch_has_seen_is_told_so() -> None:
    intake = taking(old=(77, 1234))
    again = intake.open(trigger(10, "old"))
    assert (again.epoch, again.seq, again.entry) == (77, 1234, None)


def test_a_refused_trigger_is_known_when_it_is_sent_again() -> None:
    intake = taking(interval_ns=INTERVAL_NS)
    intake.open(trigger(0, "a"))
    assert reason(intake.open(trigger(1, "b"))) is Reason.OVERLOAD
    assert intake.open(trigger(500, "b")).entry is None


def test_only_the_newest_names_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "REMEMBERED_TRIGGERS", 3)
    intake = taking()
    for name in "abcd":
        intake.open(trigger(10, name))
    assert [intake.open(trigger(10, name)).entry is None for name in "bcd"] == [True] * 3
    assert intake.open(trigger(10, "a")).seq == 5


def test_a_trigger_at_the_least_interval_is_judged_and_one_before_is_not() -> None:
    intake = taking(interval_ns=INTERVAL_NS)
    times = [0, INTERVAL_NS, 2 * INTERVAL_NS - 1, 2 * INTERVAL_NS, 2 * INTERVAL_NS]
    assert [reason(intake.open(trigger(time_ns))) for time_ns in times] == [
        None,
        None,
        Reason.OVERLOAD,
        None,
        Reason.OVERLOAD,
    ]


def test_a_duplicate_does_not_make_the_next_trigger_too_fast() -> None:
    intake = taking(interval_ns=INTERVAL_NS)
    intake.open(trigger(0, "a"))
    intake.open(trigger(INTERVAL_NS - 1, "a"))
    assert reason(intake.open(trigger(INTERVAL_NS))) is None


def test_without_a_least_interval_no_trigger_is_too_fast_even_if_it_was_held_up() -> None:
    intake = taking()
    assert [reason(intake.open(trigger(time_ns))) for time_ns in (50, 50, 49, 0)] == [None] * 4


def test_without_a_recipe_nothing_is_judged() -> None:
    assert reason(taking(job=Job(None, fake_job().provenance)).open(trigger(0))) is Reason.NO_RECIPE


def test_without_a_camera_nothing_is_judged_until_there_is_one() -> None:
    intake = taking()
    intake.camera_fault = "unplugged"
    opened = intake.open(trigger(0))
    assert reason(opened) is Reason.CAMERA_LOST
    assert opened.refusal is not None
    assert opened.refusal.detail == "unplugged"
    intake.camera_fault = ""
    assert reason(intake.open(trigger(1))) is None


def test_what_the_journal_has_no_place_for_is_not_judged_but_owed_its_verdict() -> None:
    places = Places(2)
    intake = taking(places=places)
    assert [reason(intake.open(trigger(time_ns))) for time_ns in range(3)] == [None, None, Reason.OVERLOAD]
    assert intake._ledger.counts().in_flight == 3


def test_a_job_holds_from_the_next_trigger_on() -> None:
    intake = taking()
    old, new = intake.job, fake_job()
    before = intake.open(trigger(0)).entry
    assert intake.change(new) == 2
    after = intake.open(trigger(1)).entry
    assert before is not None
    assert after is not None
    assert (before.job is old, after.job is new, intake.job is new, intake.first_seq) == (True, True, True, 2)


def test_a_closed_intake_takes_nothing_not_even_a_duplicate() -> None:
    intake = taking()
    intake.open(trigger(0, "a"))
    intake.close()
    for name in ("", "a", "b"):
        with pytest.raises(StationEnding) as caught:
            intake.open(trigger(1, name))
        assert isinstance(caught.value, ControlError)
    assert intake._ledger.counts().triggers_seen == 1
    assert intake.duplicates == 0


def test_from_many_threads_each_name_gets_one_number_and_jobs_never_mix() -> None:
    intake = taking()
    jobs = [dataclasses.replace(fake_job()) for _ in range(50)]
    changed: list[tuple[int, Job]] = [(1, intake.job)]
    opened: list[Opened] = []
    start = threading.Barrier(5)

    def send() -> None:
        start.wait()
        opened.extend([intake.open(trigger(n, f"id-{n}")) for n in range(500)])

    def change() -> None:
        start.wait()
        changed.extend((intake.change(job), job) for job in jobs)

    threads = [threading.Thread(target=send) for _ in range(4)] + [threading.Thread(target=change)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = [each.entry for each in opened if each.entry is not None]
    assert sorted(entry.seq for entry in entries) == list(range(1, 501))
    assert len({entry.trigger.trigger_id for entry in entries}) == 500
    assert intake.duplicates == 1500
    for entry in entries:
        assert entry.job is [job for first, job in changed if first <= entry.seq][-1]

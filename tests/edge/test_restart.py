"""After a crash each trigger that was left gets exactly one verdict, in its own epoch, however often the start fails."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bus.messages import JournalState, VerdictMessage, encode
from edge.job import Job
from edge.journal.journal import Journal
from edge.journal.left import Left, OpenTrigger
from edge.ledger import Entry
from edge.restart import RESTART, settle
from edge.station import JournalSettings
from edge.types import Judgement, Picture, Reason, Trigger
from tests.edge.fakes import fake_provenance
from tests.edge.journals import data_of, message

DEADLINE_NS = 500_000_000
OLD, NEW = 1_000, 2_000
EVERYTHING = 2**53


class Memory:
    """Keeps what is recorded; dies before one record too many."""

    state = JournalState.OK

    def __init__(self, most: int = 1_000_000) -> None:
        self.most = most
        self.recorded: list[bytes] = []

    def record(self, message: VerdictMessage, data: bytes) -> None:
        """See `Keeper`."""
        if len(self.recorded) == self.most:
            raise Killed
        assert encode(message) == data
        self.recorded.append(data)

    def picture(self, message: VerdictMessage, pixels: Picture) -> None:
        """See `Keeper`."""
        raise AssertionError


class Killed(BaseException):
    """The process ends here."""


class Dying(Journal):
    """A journal whose process is killed after so many verdicts, or in the middle of the next."""

    most = 1_000_000
    half = False

    def record(self, message: VerdictMessage, data: bytes) -> None:
        """See `Keeper`."""
        if not self.most and not self.half:
            raise Killed
        if not self.most:
            # The verdict is kept, and its trigger not yet marked as judged.
            self._tail.clear_slot = die  # type: ignore[method-assign, assignment]
        self.most -= 1
        super().record(message, data)


def die(_number: int) -> NoReturn:
    raise Killed


def left_trigger(seq: int) -> OpenTrigger:
    """Was to be judged as bracket, revision 8."""
    return OpenTrigger(
        seq, 10**9 * seq, 10**15 + seq, f"part-{seq}", f"id-{seq}", 7 * seq, "bracket", 8, "e" * 64, "f" * 64, True
    )


def decoded(data: list[bytes]) -> list[VerdictMessage]:
    return [msgspec.json.decode(each, type=VerdictMessage) for each in data]


def journal_in(folder: Path, kind: type[Journal] = Journal) -> Journal:
    return kind(JournalSettings(folder=str(folder / "journal"), tail_folder=str(folder), tail_mb=1))


def kill(journal: Journal) -> None:
    """What is left of the process is what is in its files."""
    assert not journal._thread.is_alive()
    journal._tail.close()
    assert journal._store is not None
    journal._store.close()


def test_what_was_left_is_undecided_in_its_own_epoch_after_its_head() -> None:
    # The recipe was changed after these triggers came, and before the process died.
    was = msgspec.structs.replace(fake_provenance(), epoch=OLD, product="plate", recipe_revision=9, engine="another")
    present = msgspec.structs.replace(fake_provenance(), epoch=NEW)
    memory = Memory()
    given = settle(Left(OLD, 40, (left_trigger(39), left_trigger(44)), was), memory, present, DEADLINE_NS)
    assert given == memory.recorded
    verdicts = decoded(given)
    assert [(v.epoch, v.seq, v.trigger_seq) for v in verdicts] == [(OLD, 41, 39), (OLD, 42, 44)]
    for verdict, seq in zip(verdicts, (39, 44), strict=True):
        assert (verdict.judgement, verdict.reason, verdict.detail, verdict.accept) == (
            Judgement.NOT_DECIDABLE,
            Reason.RESTART,
            RESTART,
            False,
        )
        assert (verdict.part_id, verdict.trigger_id, verdict.encoder_count) == (f"part-{seq}", f"id-{seq}", 7 * seq)
        assert (verdict.trigger_wall_us, verdict.deadline_us) == (10**15 + seq, 500_000)
        assert (verdict.product, verdict.recipe_revision, verdict.is_test) == ("bracket", 8, True)
        assert (verdict.recipe_hash, verdict.bank_hash, verdict.engine) == ("e" * 64, "f" * 64, "another")
        assert (verdict.frame_id, verdict.is_replay) == (None, False)


def test_where_nobody_knows_who_it_was_the_present_process_signs_in_the_old_epoch() -> None:
    present = msgspec.structs.replace(fake_provenance(), epoch=NEW, station_id="present")
    (verdict,) = decoded(settle(Left(OLD, 0, (left_trigger(1),), None), Memory(), present, DEADLINE_NS))
    assert (verdict.epoch, verdict.seq, verdict.station_id) == (OLD, 1, "present")


def test_a_note_of_another_epoch_does_not_move_the_verdict_there() -> None:
    other = msgspec.structs.replace(fake_provenance(), epoch=OLD - 1, station_id="other")
    (verdict,) = decoded(settle(Left(OLD, 5, (left_trigger(1),), other), Memory(), fake_provenance(), DEADLINE_NS))
    assert (verdict.epoch, verdict.seq, verdict.station_id) == (OLD, 6, "other")


def test_where_nothing_was_left_nothing_is_given() -> None:
    memory = Memory()
    assert settle(Left(0, 0, (), None), memory, fake_provenance(), DEADLINE_NS) == []
    assert memory.recorded == []


def test_verdicts_before_the_end_are_kept_when_settling_is_cut_off() -> None:
    memory = Memory(most=1)
    with pytest.raises(Killed):
        settle(Left(OLD, 0, (left_trigger(1), left_trigger(2)), None), memory, fake_provenance(), DEADLINE_NS)
    assert [v.trigger_seq for v in decoded(memory.recorded)] == [1]


@settings(max_examples=25)
@given(
    judged=st.sets(st.integers(1, 12)),
    deaths=st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=4),
    drained=st.booleans(),
)
def test_however_often_settling_is_cut_off_each_trigger_gets_one_verdict(
    tmp_path_factory: pytest.TempPathFactory, judged: set[int], deaths: list[tuple[int, bool]], drained: bool
) -> None:
    folder = tmp_path_factory.mktemp("station")
    first = journal_in(folder)
    if drained:
        first.begin(OLD, OLD * 1000)
    else:
        # The thread that takes verdicts to the disk has not come to any of them yet.
        first._tail.begin(OLD)
    first.describe(Job(None, msgspec.structs.replace(fake_provenance(), epoch=OLD, product="bracket")))
    # What the triggers came for, whatever the process changed to before it died.
    own = Job(None, msgspec.structs.replace(fake_provenance(), product="plate", recipe_revision=9, is_test=True))
    for seq in range(1, 13):
        trigger = Trigger(seq, seq, f"part-{seq}", trigger_id=f"id-{seq}")
        assert first.opened(Entry(seq, trigger, seq + DEADLINE_NS, own))
    for head, seq in enumerate(sorted(judged), start=1):
        verdict = message(head, OLD, trigger_seq=seq)
        first.record(verdict, data_of(verdict))
    if drained:
        first.close("killed")
        assert not first._thread.is_alive()
    else:
        kill(first)
    for most, half in deaths:
        dying = journal_in(folder, Dying)
        assert isinstance(dying, Dying)
        dying.most, dying.half = most, half
        left = dying.left()
        assert left.head_seq + len(left.triggers) == 12
        if most < len(left.triggers):
            with pytest.raises(Killed):
                settle(left, dying, fake_provenance(), DEADLINE_NS)
        kill(dying)
    last = journal_in(folder)
    settle(last.left(), last, fake_provenance(), DEADLINE_NS)
    last.begin(NEW, NEW * 1000)
    last.close("Halted")
    look = journal_in(folder)
    verdicts = decoded(look.read(OLD, 0, EVERYTHING))
    assert [v.seq for v in verdicts] == list(range(1, 13))
    assert sorted(v.trigger_seq for v in verdicts) == list(range(1, 13))
    restarted = [v for v in verdicts if v.reason is Reason.RESTART]
    assert {v.trigger_seq for v in restarted} == set(range(1, 13)) - judged
    assert {(v.product, v.recipe_revision, v.is_test) for v in restarted} <= {("plate", 9, True)}
    assert [(info.epoch, info.head_seq, info.ended) for info in look.epochs(0)] == [(OLD, 12, True), (NEW, 0, True)]
    kill(look)

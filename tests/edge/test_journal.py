"""The journal tells what was judged, whether the disk has it yet or not, over ends, crashes and full disks."""

from __future__ import annotations

import contextlib
import itertools
import logging
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from edge import sealed
from edge.bus.messages import JournalState, VerdictMessage
from edge.bus.requests import EpochInfo
from edge.errors import JournalError, OutputError
from edge.job import Job
from edge.journal import facts as facts_module
from edge.journal import journal as journal_module
from edge.journal import tail as tail_module
from edge.journal.database import FILE_NAME
from edge.journal.journal import Journal
from edge.journal.store import DiskFull, Store
from edge.journal.tail import tail_path
from edge.ledger import Entry
from edge.restart import settle
from edge.station import JournalSettings
from edge.types import Trigger
from tests.conftest import PATIENCE_S
from tests.edge.fakes import fake_job, fake_provenance
from tests.edge.journals import data_of, message

EXAMPLES, STEPS = 40, 40
STEPS_LEAST = 1_400
ENTRIES, PLACES, TAIL_BYTES = 25, 8, 1 << 18
DEADLINE_NS = 10**9
EVERYTHING = 2**53


class Disk:
    """What every write to the disk has to pass."""

    lock = threading.Lock()
    full = False


@pytest.fixture(scope="module", autouse=True)
def _disk() -> Iterator[None]:
    """A disk that can be full, a small tail, and no pauses."""
    transaction, write = Store._transaction, sealed.write_whole

    @contextlib.contextmanager
    def through_disk(store: Store) -> Iterator[object]:
        with Disk.lock:
            if Disk.full:
                raise DiskFull("the disk is full", "Free some space.")
            with transaction(store) as writer:
                yield writer

    def write_through_disk(path: Path, data: bytes) -> None:
        with Disk.lock:
            if Disk.full:
                raise OutputError(f"{path} cannot be written (No space left on device)", "Choose another folder.")
            write(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "_transaction", through_disk)
        patch.setattr(facts_module, "write_whole", write_through_disk)
        patch.setattr(tail_module, "SLOT_COUNT", PLACES)
        patch.setattr(journal_module, "MEGABYTE", TAIL_BYTES)
        patch.setattr(journal_module, "DRAIN_S", 0.0005)
        patch.setattr(journal_module, "RETRY_S", 0.005)
        patch.setattr(logging.getLogger("linegate.journal"), "disabled", True)
        yield
    Disk.full = False


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.0005)


def caught_up(journal: Journal) -> None:
    """Wait until the disk has everything."""
    wait_for(
        lambda: (
            journal.waiting == 0
            and journal.state is JournalState.OK
            and journal._begun is None
            and journal._album.empty
        )
    )


def journal_in(folder: Path) -> Journal:
    keys = JournalSettings(folder=str(folder / "journal"), tail_folder=str(folder), entries=ENTRIES, tail_mb=1)
    return Journal(keys)


def entry(seq: int, trigger_id: str = "", part_id: str = "") -> Entry:
    return Entry(seq, Trigger(seq, seq, part_id, trigger_id=trigger_id), seq + DEADLINE_NS, fake_job())


def record(journal: Journal, *verdicts: VerdictMessage) -> None:
    for verdict in verdicts:
        journal.record(verdict, data_of(verdict))


class Years(RuleBasedStateMachine):
    """Parts, verdicts, full disks, ends and crashes in any order."""

    steps = 0

    def __init__(self) -> None:
        super().__init__()
        Years.steps -= 1
        Disk.full = False
        self.base = tempfile.TemporaryDirectory()
        self.folders = (Path(self.base.name) / str(n) for n in itertools.count())
        self.folder = next(self.folders)
        self.folder.mkdir()
        self.verdicts: dict[tuple[int, int], bytes] = {}
        self.names: dict[str, tuple[int, int]] = {}
        self.heads: dict[int, int] = {}
        self.open: dict[int, Entry] = {}
        self.epoch = self.triggers = 0
        self.facts: dict[str, str] = {}
        self._start()

    def _start(self) -> None:
        """What a process does that starts: settle what was left, then begin."""
        self.journal = journal = journal_in(self.folder)
        left = journal.left()
        assert [trigger.seq for trigger in left.triggers] == sorted(self.open)
        assert (left.epoch, left.head_seq) == (self.epoch, self.heads.get(self.epoch, 0))
        for data in settle(left, journal, fake_provenance(), DEADLINE_NS):
            self._given(msgspec.json.decode(data, type=VerdictMessage), data)
        assert journal.newest_epoch() == self.epoch
        recent = journal.recent_triggers()
        assert recent.items() <= self.names.items()
        newest = {msgspec.json.decode(data)["trigger_id"] for data in self._newest().values()}
        assert newest - {""} <= recent.keys()
        self.epoch += 7
        self.heads[self.epoch] = self.triggers = 0
        journal.begin(self.epoch, self.epoch * 1000)
        journal.describe(Job(None, msgspec.structs.replace(fake_provenance(), epoch=self.epoch)))

    def _given(self, verdict: VerdictMessage, data: bytes) -> None:
        self.heads[verdict.epoch] += 1
        assert verdict.seq == self.heads[verdict.epoch]
        self.verdicts[verdict.epoch, verdict.seq] = data
        if verdict.trigger_id:
            self.names[verdict.trigger_id] = (verdict.epoch, verdict.trigger_seq)
        del self.open[verdict.trigger_seq]

    def _newest(self) -> dict[tuple[int, int], bytes]:
        return {key: self.verdicts[key] for key in sorted(self.verdicts)[-ENTRIES:]}

    @rule(named=st.booleans())
    def a_part_comes(self, named: bool) -> None:
        has_place = len(self.open) < PLACES
        trigger_id = f"{self.epoch}/{self.triggers + 1}" if named else ""
        opened = entry(self.triggers + 1, trigger_id)
        assert self.journal.opened(opened) == has_place
        if has_place:
            self.triggers += 1
            self.open[self.triggers] = opened

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def a_verdict_is_given(self, data: st.DataObject) -> None:
        self._give(data.draw(st.sampled_from(sorted(self.open))))

    def _give(self, trigger_seq: int) -> None:
        trigger_id = self.open[trigger_seq].trigger.trigger_id
        verdict = message(self.heads[self.epoch] + 1, self.epoch, trigger_seq=trigger_seq, trigger_id=trigger_id)
        self.journal.record(verdict, data_of(verdict))
        self._given(verdict, data_of(verdict))

    @rule()
    def the_disk_fills(self) -> None:
        with Disk.lock:
            Disk.full = True

    @rule()
    def the_disk_has_room_again_and_takes_everything(self) -> None:
        Disk.full = False
        caught_up(self.journal)
        newest = self._newest()
        for epoch in self.heads:
            kept = [data for (of, _), data in newest.items() if of == epoch]
            assert self.journal.read(epoch, 0, EVERYTHING) == kept
        for info in self.journal.epochs(0):
            kept_seqs = [seq for of, seq in newest if of == info.epoch]
            assert info.first_seq == min(kept_seqs, default=info.head_seq + 1)

    @rule(key=st.sampled_from("ab"), value=st.text("xyz", max_size=3))
    def a_fact_is_remembered(self, key: str, value: str) -> None:
        kept = self.journal.remember(key, value)
        assert kept == (not Disk.full or self.facts.get(key) == value)
        if kept:
            self.facts[key] = value

    @rule(data=st.data(), from_seq=st.integers(0, 30), limit=st.integers(1, 10), after=st.integers(0, 60))
    def somebody_asks(self, data: st.DataObject, from_seq: int, limit: int, after: int) -> None:
        epoch = data.draw(st.sampled_from(sorted(self.heads)))
        found = self.journal.read(epoch, from_seq, limit)
        numbers = [msgspec.json.decode(each)["seq"] for each in found]
        assert found == [self.verdicts[epoch, seq] for seq in numbers]
        must = [seq for of, seq in self._newest() if of == epoch and seq >= from_seq]
        # What the quota has pruned may be there still, and then comes first.
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else not must
        assert len(numbers) == limit or set(must) <= set(numbers)
        assert not must or numbers[0] <= must[0]
        later = [info.epoch for info in self.journal.epochs(0) if info.epoch > after]
        assert [info.epoch for info in self.journal.epochs(after)] == later

    @rule()
    def the_process_dies_and_another_comes(self) -> None:
        old, self.folder = self.folder, next(self.folders)
        (self.folder / "journal").mkdir(parents=True)
        with Disk.lock, self.journal._backlog._lock:
            for name in (FILE_NAME, f"{FILE_NAME}-wal", facts_module.FILE_NAME):
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(old / "journal" / name, self.folder / "journal")
            shutil.copy(tail_path(old, old / "journal"), tail_path(self.folder, self.folder / "journal"))
        self.journal.close("another world")
        shutil.rmtree(old)
        self._start()

    @rule()
    def the_station_ends_and_starts(self) -> None:
        for trigger_seq in sorted(self.open):
            self._give(trigger_seq)
        self.journal.close("Halted")
        self._start()

    @invariant()
    def everything_new_is_told(self) -> None:
        Years.steps += 1
        told = self.journal.epochs(0)
        numbers = [info.epoch for info in told]
        # An epoch without a verdict, of which the disk never heard, is the only one that may be forgotten.
        assert numbers == [epoch for epoch, head in self.heads.items() if head or epoch in numbers]
        assert numbers[-1] == self.epoch
        for info in told:
            assert (info.head_seq, info.ended) == (self.heads[info.epoch], info.epoch != self.epoch)
        newest = self._newest()
        for epoch in {epoch for epoch, _ in newest}:
            kept = [data for (of, _), data in newest.items() if of == epoch]
            assert self.journal.read(epoch, 0, EVERYTHING)[-len(kept) :] == kept
        for info in told:
            assert info.first_seq <= min((seq for of, seq in newest if of == info.epoch), default=info.head_seq + 1)
        assert {key: self.journal.fact(key) for key in "ab"} == {key: self.facts.get(key) for key in "ab"}
        assert (self.journal.lost, self.journal.pictures_lost) == (0, 0)

    def teardown(self) -> None:
        Disk.full = False
        if hasattr(self, "journal"):
            self.journal.close("over")
        self.base.cleanup()


def test_the_journal_agrees_with_its_model_over_years() -> None:
    Years.steps = 0
    run_state_machine_as_test(Years, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
    assert Years.steps >= STEPS_LEAST


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    """A journal in its epoch 5."""
    Disk.full = False
    kept = journal_in(tmp_path)
    kept.begin(5, 5_000)
    yield kept
    Disk.full = False
    # The test may have closed it itself.
    with contextlib.suppress(ValueError):
        kept.close("over")


def test_a_verdict_can_be_read_as_soon_as_it_is_recorded(journal: Journal) -> None:
    Disk.full = True
    record(journal, message(1, 5), message(2, 5))
    assert journal.read(5, 2, 10) == [data_of(message(2, 5))]
    assert journal.epochs(0) == [EpochInfo(5, 1, 2, False)]
    wait_for(lambda: journal.state is JournalState.BEHIND)
    Disk.full = False
    caught_up(journal)
    assert journal.read(5, 1, 10) == [data_of(message(1, 5)), data_of(message(2, 5))]


def test_the_disk_tells_how_each_epoch_ended(tmp_path: Path) -> None:
    Disk.full = False
    for epoch, ending in ((5, "Halted"), (9, "Error"), (11, "")):
        kept = journal_in(tmp_path)
        kept.begin(epoch, epoch)
        record(kept, message(1, epoch))
        if ending:
            kept.close(ending)
    caught_up(kept)
    assert kept._store is not None
    rows = kept._store._reader.execute("SELECT epoch, ending FROM epochs ORDER BY epoch").fetchall()
    assert rows == [(5, "Halted"), (9, "Error"), (11, None)]
    kept.close("Halted")


def test_what_ends_while_the_disk_is_full_is_told_by_the_next_process(tmp_path: Path) -> None:
    Disk.full = False
    kept = journal_in(tmp_path)
    kept.begin(5, 5)
    Disk.full = True
    record(kept, message(1, 5))
    kept.close("Halted")
    Disk.full = False
    following = journal_in(tmp_path)
    assert following.left().triggers == ()
    assert following.read(5, 0, 10) == [data_of(message(1, 5))]
    following.begin(6, 6)
    caught_up(following)
    assert following._store is not None
    rows = following._store._reader.execute("SELECT epoch, ending FROM epochs ORDER BY epoch").fetchall()
    assert rows == [(5, "ended"), (6, None)]
    following.close("Halted")


def test_a_journal_that_was_never_begun_leaves_what_was_left(tmp_path: Path) -> None:
    Disk.full = False
    kept = journal_in(tmp_path)
    kept.begin(5, 5)
    kept.describe(fake_job())
    kept.opened(entry(1))
    kept.close("killed")
    for _ in range(2):
        idle = journal_in(tmp_path)
        left = idle.left()
        idle.close("not started")
        assert [trigger.seq for trigger in left.triggers] == [1]
        assert left.provenance == fake_provenance()


def test_a_place_is_free_again_after_its_verdict(journal: Journal) -> None:
    for seq in range(1, 5 * PLACES):
        assert journal.opened(entry(seq))
        record(journal, message(seq, 5))
    assert journal._tail.held().slots == ()


def test_a_trigger_whose_verdict_overtakes_its_place_keeps_none(journal: Journal) -> None:
    # The deadline may pass, and its verdict be given, between the ledger's entry and the journal's.
    for seq in range(1, 5 * PLACES):
        record(journal, message(seq, 5))
        journal.opened(entry(seq))
    assert journal._tail.held().slots == ()
    assert journal.opened(entry(1000))


def test_a_verdict_without_a_place_does_not_make_room_for_another(journal: Journal) -> None:
    opened = [journal.opened(entry(seq)) for seq in range(1, PLACES + 3)]
    assert opened == [True] * PLACES + [False] * 2
    record(journal, message(1, 5, trigger_seq=PLACES + 1))
    assert not journal.opened(entry(PLACES + 3))
    record(journal, message(2, 5, trigger_seq=1))
    assert journal.opened(entry(PLACES + 4))


@pytest.mark.parametrize("letter", ["a", "\N{GREEK SMALL LETTER PI}", "\N{SMILING FACE WITH SUNGLASSES}"])
def test_of_a_long_part_id_the_beginning_is_kept(tmp_path: Path, letter: str) -> None:
    Disk.full = False
    kept = journal_in(tmp_path)
    kept.begin(5, 5)
    assert kept.opened(entry(1, "plc-1", letter * 5_000))
    kept.close("killed")
    following = journal_in(tmp_path)
    (trigger,) = following.left().triggers
    following.close("not started")
    assert trigger.trigger_id == "plc-1"
    assert (letter * 5_000).startswith(trigger.part_id)
    assert len(trigger.part_id) > 50


def test_a_trigger_that_no_place_can_hold_is_not_kept(journal: Journal) -> None:
    assert not journal.opened(entry(1, "x" * 5_000))
    record(journal, message(1, 5))
    assert [journal.opened(entry(seq)) for seq in range(2, PLACES + 3)] == [True] * PLACES + [False]


def test_facts_outlive_the_process(tmp_path: Path) -> None:
    Disk.full = False
    kept = journal_in(tmp_path)
    assert kept.fact("active") is None
    kept.begin(5, 5)
    assert kept.remember("active", "a")
    assert kept.remember("active", "b")
    kept.close("Halted")
    following = journal_in(tmp_path)
    assert following.fact("active") == "b"
    following.close("not started")


def test_a_fact_that_the_disk_does_not_take_is_told_and_forgotten(journal: Journal, tmp_path: Path) -> None:
    assert journal.remember("active", "a")
    Disk.full = True
    assert not journal.remember("active", "b")
    assert not journal.remember("another", "c")
    assert (journal.fact("active"), journal.fact("another")) == ("a", None)
    Disk.full = False
    journal.close("Halted")
    following = journal_in(tmp_path)
    assert (following.fact("active"), following.fact("another")) == ("a", None)
    assert following.remember("active", "b")
    following.close("not started")


def test_facts_outlive_a_journal_that_is_damaged(tmp_path: Path) -> None:
    Disk.full = False
    kept = journal_in(tmp_path)
    assert kept.remember("active", "a")
    kept.close("not started")
    (tmp_path / "journal" / FILE_NAME).write_bytes(b"not a database" * 1000)
    following = journal_in(tmp_path)
    assert len(following.set_aside) == 1
    assert following.fact("active") == "a"
    following.close("not started")


def test_damaged_facts_leave_the_folder_free(tmp_path: Path) -> None:
    Disk.full = False
    file = tmp_path / "journal" / facts_module.FILE_NAME
    journal_in(tmp_path).close("not started")
    file.write_bytes(b"{}")
    for _ in range(2):
        with pytest.raises(JournalError, match=r"facts\.json"):
            journal_in(tmp_path)
    file.unlink()
    journal_in(tmp_path).close("not started")


def test_pages_are_whole_where_disk_and_tail_meet(journal: Journal) -> None:
    record(journal, *(message(seq, 5) for seq in range(1, 11)))
    caught_up(journal)
    with Disk.lock:
        Disk.full = True
    record(journal, *(message(seq, 5) for seq in range(11, 21)))
    for from_seq in range(1, 22):
        found = journal.read(5, from_seq, 4)
        assert found == [data_of(message(seq, 5)) for seq in range(from_seq, min(from_seq + 4, 21))]

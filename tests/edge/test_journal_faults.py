"""Whatever happens to the disk or the process, a recorded verdict is told again, or counted as lost; and nobody waits."""

from __future__ import annotations

import contextlib
import errno
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import pytest

from edge.bus.compose import Judged
from edge.bus.messages import JournalState, VerdictMessage
from edge.bus.requests import EpochInfo
from edge.errors import JournalError
from edge.intake import Intake
from edge.journal import backlog as backlog_module
from edge.journal import journal as journal_module
from edge.journal import store as store_module
from edge.journal.journal import LONGEST_WAIT_NS, Journal
from edge.journal.pictures import PictureNotKept, PictureStore
from edge.journal.store import DiskFull, Row, Store
from edge.journal.tail import HEADER_BYTES, SLOT_BYTES, SLOT_COUNT, tail_path
from edge.ledger import Entry, Ledger
from edge.outlet import missed
from edge.restart import settle
from edge.station import JournalSettings
from edge.types import Trigger
from tests.conftest import PATIENCE_S
from tests.edge.fakes import fake_job, fake_provenance, normal_part
from tests.edge.journals import data_of, message, on_a_small_disk, python, rejected
from tests.edge.line import running_line

EVERYTHING = 2**53
EPOCH = 5
RING_BYTES = 16_384


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "DRAIN_S", 0.001)
    monkeypatch.setattr(journal_module, "RETRY_S", 0.005)


class Disk:
    """Stands between the journal and its file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full = False
        self.free = threading.Event()
        self.entered = threading.Event()
        self.free.set()
        append = Store.append

        def through_disk(store: Store, rows: Sequence[Row]) -> None:
            self.entered.set()
            assert self.free.wait(PATIENCE_S), "nobody freed the disk"
            if self.full:
                raise DiskFull("the disk is full", "Free some space.")
            append(store, rows)

        monkeypatch.setattr(Store, "append", through_disk)

    def hang(self) -> None:
        """From now on nothing returns."""
        self.free.clear()
        self.entered.clear()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk that fills and hangs when the test says so."""
    between = Disk(monkeypatch)
    yield between
    between.free.set()


def wait_for(condition: Callable[[], bool]) -> None:
    """Return as soon as it holds."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.001)


def caught_up(journal: Journal) -> None:
    wait_for(lambda: journal.waiting == 0 and journal.state is JournalState.OK and journal._begun is None)


def state_of(journal: Journal) -> JournalState:
    return journal.state


def settings_in(folder: Path, pictures_every: int = 0) -> JournalSettings:
    return JournalSettings(
        folder=str(folder / "journal"), tail_folder=str(folder), tail_mb=1, keep_accepts_every=pictures_every
    )


@pytest.fixture
def journal(tmp_path: Path, disk: Disk) -> Iterator[Journal]:
    """A journal in an epoch of its own, on that disk."""
    kept = Journal(settings_in(tmp_path, pictures_every=1))
    kept.begin(EPOCH, EPOCH)
    caught_up(kept)
    yield kept
    disk.full = False
    disk.free.set()
    # The test may have closed it itself.
    with contextlib.suppress(ValueError):
        kept.close("over")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail with room for about fifteen verdicts."""
    monkeypatch.setattr(journal_module, "MEGABYTE", RING_BYTES)


def record(journal: Journal, first: int, last: int) -> None:
    for seq in range(first, last + 1):
        verdict = message(seq, EPOCH)
        journal.record(verdict, data_of(verdict))


def seqs(journal: Journal, epoch: int = EPOCH) -> list[int]:
    return [msgspec.json.decode(data)["seq"] for data in journal.read(epoch, 0, EVERYTHING)]


def entry(seq: int) -> Entry:
    return Entry(seq, Trigger(seq, seq, f"part-{seq}"), 10**9, fake_job())


# A full disk.


def test_while_the_disk_is_full_verdicts_are_told_and_later_stored(journal: Journal, disk: Disk) -> None:
    record(journal, 1, 10)
    caught_up(journal)
    disk.full = True
    record(journal, 11, 600)
    wait_for(lambda: journal.state is JournalState.BEHIND)
    assert seqs(journal) == list(range(1, 601))
    assert journal.epochs(0) == [EpochInfo(EPOCH, 1, 600, False)]
    disk.full = False
    caught_up(journal)
    assert journal._store is not None
    assert len(journal._store.read(EPOCH, 0, EVERYTHING)) == 600
    assert journal.lost == 0


def test_verdicts_that_the_disk_never_took_are_told_by_the_next_process(
    journal: Journal, disk: Disk, tmp_path: Path
) -> None:
    disk.full = True
    record(journal, 1, 300)
    journal.close("Halted")
    following = Journal(settings_in(tmp_path))
    assert seqs(following) == list(range(1, 301))
    disk.full = False
    following.begin(EPOCH + 1, 6)
    caught_up(following)
    assert seqs(following) == list(range(1, 301))
    assert following.epochs(0) == [EpochInfo(EPOCH, 1, 300, True), EpochInfo(EPOCH + 1, 1, 0, False)]
    following.close("Halted")


@pytest.mark.usefixtures("small")
def test_where_even_the_tail_is_full_the_oldest_are_lost_and_counted(journal: Journal, disk: Disk) -> None:
    disk.full = True
    record(journal, 1, 100)
    kept = seqs(journal)
    assert 10 < len(kept) < 20
    assert kept == list(range(101 - len(kept), 101))
    wait_for(lambda: journal.state is JournalState.BEHIND)
    assert journal.lost == 100 - len(kept)
    assert journal.epochs(0) == [EpochInfo(EPOCH, kept[0], 100, False)]
    disk.full = False
    caught_up(journal)
    assert seqs(journal) == kept
    assert journal.lost == 100 - len(kept)


@pytest.mark.usefixtures("small")
def test_what_the_disk_took_after_all_is_not_lost(journal: Journal, disk: Disk) -> None:
    disk.hang()
    record(journal, 1, 5)
    assert disk.entered.wait(PATIENCE_S)
    with journal._backlog._lock:
        in_hand = len(journal._backlog._pending)
    record(journal, 6, 100)
    assert journal.lost > 60
    disk.free.set()
    caught_up(journal)
    kept = seqs(journal)
    assert kept[0] == 1
    assert in_hand <= 5
    assert journal.lost == 100 - len(kept)


REALLY_FULL = """
import sys, tempfile, time
from pathlib import Path
from edge.bus.messages import JournalState
from edge.journal import journal as module
from edge.journal.journal import Journal
from edge.station import JournalSettings
from tests.edge.journals import data_of, message
module.RETRY_S = 0.02
folder = Path(sys.argv[1])

def wait_for(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)

with tempfile.TemporaryDirectory() as tail:
    ballast = (folder / "ballast").open("wb")
    journal = Journal(JournalSettings(folder=str(folder / "journal"), tail_folder=tail, tail_mb=8))
    journal.begin(5, 5)
    try:
        while True:
            ballast.write(b"x" * 65536)
            ballast.flush()
    except OSError:
        pass
    for seq in range(1, 2001):
        verdict = message(seq, 5)
        journal.record(verdict, data_of(verdict))
    wait_for(lambda: journal.state is JournalState.BEHIND)
    print(len(journal.read(5, 0, 1 << 53)), 0 < journal.waiting <= 2000, journal.lost)
    (folder / "ballast").unlink()
    ballast.raw.close()
    wait_for(lambda: journal.state is JournalState.OK and journal.waiting == 0)
    print(len(journal.read(5, 0, 1 << 53)), journal.waiting, journal.lost)
    journal.close("Halted")
    again = Journal(JournalSettings(folder=str(folder / "journal"), tail_folder=tail, tail_mb=8))
    print(len(again.read(5, 0, 1 << 53)), again.waiting, again.set_aside)
    again.close("not started")
"""


def test_a_disk_that_is_really_full_loses_nothing(tmp_path: Path) -> None:
    lines = on_a_small_disk(REALLY_FULL, 6, tmp_path).splitlines()
    assert lines == ["2000 True 0", "2000 0 0", "2000 0 ()"]


# A disk that hangs.


def test_while_the_disk_hangs_nobody_waits(journal: Journal, disk: Disk) -> None:
    disk.hang()
    record(journal, 1, 1)
    assert disk.entered.wait(PATIENCE_S)
    for seq in range(2, 4_001):
        assert journal.opened(entry(seq))
        verdict = message(seq, EPOCH)
        journal.record(verdict, data_of(verdict))
        journal.picture(verdict, normal_part())
    assert not disk.free.is_set()
    newest = seqs(journal)
    assert newest == list(range(4_001 - len(newest), 4_001))
    assert journal.lost == 4_000 - len(newest)
    assert journal.pictures_lost > 3_000
    assert journal.epochs(0)[-1].head_seq == 4_000


class Clock:
    """Shows what the test sets."""

    now_ns = 0

    def monotonic_ns(self) -> int:
        """See `time`."""
        return self.now_ns


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What the journal and its verdicts take for the time."""
    shown = Clock()
    monkeypatch.setattr(journal_module, "time", shown)
    # A dataclass keeps its default factory: to change the module's clock would not reach it.
    real = backlog_module.Waiting
    monkeypatch.setattr(backlog_module, "Waiting", lambda row, end: real(row, end, shown.now_ns))
    return shown


def test_a_disk_that_hangs_is_told_after_two_seconds_and_no_longer_when_it_answers(
    journal: Journal, disk: Disk, clock: Clock
) -> None:
    assert LONGEST_WAIT_NS == 2 * 10**9
    clock.now_ns = 10**12
    assert state_of(journal) is JournalState.OK, "nothing waits, however late it is"
    disk.hang()
    record(journal, 1, 1)
    assert disk.entered.wait(PATIENCE_S)
    clock.now_ns += LONGEST_WAIT_NS
    record(journal, 2, 2)
    assert state_of(journal) is JournalState.OK
    clock.now_ns += 1
    assert state_of(journal) is JournalState.BEHIND
    disk.free.set()
    caught_up(journal)
    assert journal.lost == 0


@pytest.mark.usefixtures("small")
def test_a_disk_that_hangs_is_told_though_the_tail_overflows_sooner(journal: Journal, disk: Disk, clock: Clock) -> None:
    clock.now_ns = 10**12
    disk.hang()
    record(journal, 1, 1)
    assert disk.entered.wait(PATIENCE_S)
    for seq in range(2, 202):
        clock.now_ns += LONGEST_WAIT_NS // 200
        assert state_of(journal) is JournalState.OK
        record(journal, seq, seq)
    assert journal.lost > 150
    clock.now_ns += LONGEST_WAIT_NS // 200
    assert state_of(journal) is JournalState.BEHIND
    disk.free.set()
    caught_up(journal)
    assert state_of(journal) is JournalState.OK


def test_a_station_tells_that_its_disk_hangs_and_goes_on(
    disk: Disk, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "LONGEST_WAIT_NS", 50_000_000)
    with running_line(endpoint, tmp_path / "journal") as line:
        line.read_until(lambda: bool(line.heartbeats))
        assert line.heartbeats[-1].journal is JournalState.OK
        disk.hang()
        line.camera.show(normal_part())
        line.read_until(lambda: line.heartbeats[-1].journal is JournalState.BEHIND)
        line.camera.show(normal_part())
        assert all(verdict.accept for verdict in line.read_verdicts(2))
        disk.free.set()
        line.read_until(lambda: line.heartbeats[-1].journal is JournalState.OK)


def test_an_end_does_not_wait_for_a_reader_that_hangs(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(store_module, "READER_S", 0.05)
    record(journal, 1, 5)
    caught_up(journal)
    reads, freed = threading.Event(), threading.Event()
    assert journal._store is not None
    reading = journal._store._reading

    def hang() -> None:
        with reading:
            reads.set()
            freed.wait(PATIENCE_S)

    reader = threading.Thread(target=hang)
    reader.start()
    assert reads.wait(PATIENCE_S)
    closer = threading.Thread(target=journal.close, args=("Halted",), daemon=True)
    closer.start()
    closer.join(PATIENCE_S / 10)
    freed.set()
    reader.join()
    assert not closer.is_alive()
    assert not journal._thread.is_alive()
    journal._store.close()
    following = Journal(settings_in(tmp_path))
    assert following.left().triggers == ()
    assert seqs(following) == [1, 2, 3, 4, 5]
    following.close("not started")


def test_an_end_does_not_wait_for_a_disk_that_hangs_and_loses_nothing(
    journal: Journal, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "CLOSE_S", 0.2)
    disk.hang()
    record(journal, 1, 50)
    assert disk.entered.wait(PATIENCE_S)
    began = time.monotonic()
    journal.close("Halted")
    assert time.monotonic() - began < PATIENCE_S / 10
    beside = tmp_path / "beside"
    beside.mkdir()
    shutil.copy(tail_path(tmp_path, tmp_path / "journal"), tail_path(beside, beside / "journal"))
    disk.free.set()
    journal._thread.join(PATIENCE_S)
    following = Journal(settings_in(beside))
    assert seqs(following) == list(range(1, 51))
    assert following.left().triggers == ()
    following.close("not started")


# Folders.


READ_ONLY = """
import subprocess, sys, tempfile
from edge.errors import JournalError
from edge.journal.journal import Journal
from edge.station import JournalSettings
subprocess.run(["mount", "-o", "remount,ro", sys.argv[1]], check=True)
with tempfile.TemporaryDirectory() as tail:
    for folder in (sys.argv[1], sys.argv[1] + "/journal"):
        try:
            Journal(JournalSettings(folder=folder, tail_folder=tail))
        except JournalError as error:
            print(str(error).count("\\n"), "cannot be opened" in error.what, "journal.folder" in error.remedy)
"""


def test_a_read_only_folder_is_told_in_one_line(tmp_path: Path) -> None:
    assert on_a_small_disk(READ_ONLY, 2, tmp_path).splitlines() == ["0 True True"] * 2


def test_a_disk_that_becomes_read_only_is_behind_and_loses_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_store: Store, _rows: Sequence[Row]) -> None:
        raise read_only_fault()

    with monkeypatch.context() as patch:
        patch.setattr(Store, "append", refuse)
        record(journal, 1, 20)
        wait_for(lambda: journal.state is JournalState.BEHIND)
        assert seqs(journal) == list(range(1, 21))
    caught_up(journal)
    assert seqs(journal) == list(range(1, 21))
    assert journal.lost == 0


def read_only_fault() -> JournalError:
    return JournalError("the journal cannot be used (attempt to write a readonly database)", "Mend the disk.")


def test_a_folder_that_is_removed_while_running_loses_nothing_new(journal: Journal, disk: Disk, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "journal")
    record(journal, 1, 30)
    wait_for(lambda: journal.state is JournalState.BEHIND)
    assert seqs(journal) == list(range(1, 31))
    journal.close("Halted")
    assert not disk.full
    following = Journal(settings_in(tmp_path))
    following.begin(EPOCH + 1, 6)
    caught_up(following)
    assert seqs(following) == list(range(1, 31))
    assert following.lost == 0
    following.close("Halted")


def test_two_stations_do_not_share_a_journal(journal: Journal, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="in use"):
        Journal(settings_in(tmp_path))
    record(journal, 1, 1)
    caught_up(journal)


def test_a_tail_in_use_leaves_the_folder_free(tmp_path: Path, journal: Journal) -> None:
    other = msgspec.structs.replace(settings_in(tmp_path), folder=str(tmp_path / "other"))
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    (tmp_path / "other").mkdir()
    tail = tail_path(tmp_path, tmp_path / "other")
    tail.symlink_to(tail_path(tmp_path, tmp_path / "journal"))
    with pytest.raises(JournalError, match="cannot be opened"):
        Journal(other)
    tail.unlink()
    Journal(other).close("not started")
    assert journal.lost == 0


# Pictures.


@pytest.fixture
def quiet(tmp_path: Path) -> Iterator[Journal]:
    """A journal whose thread takes no picture yet."""
    kept = Journal(settings_in(tmp_path, pictures_every=1))
    yield kept
    with contextlib.suppress(ValueError):
        kept.close("over")


def kept_pictures(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "journal" / "pictures").rglob("*.png"))


def test_a_rejects_picture_displaces_an_accepts_and_what_is_not_kept_is_counted(quiet: Journal, tmp_path: Path) -> None:
    for seq in range(1, 19):
        quiet.picture(message(seq, EPOCH), normal_part())
    assert quiet.pictures_lost == 2
    for seq in range(101, 105):
        quiet.picture(rejected(seq, EPOCH), normal_part())
    assert quiet.pictures_lost == 6
    quiet.begin(EPOCH, EPOCH)
    wait_for(lambda: quiet._album.empty)
    quiet.close("Halted")
    # Of two that are worth the same, the newer is kept.
    accepts = [f"{seq}-accept.png" for seq in range(5, 17)]
    assert kept_pictures(tmp_path) == sorted([*accepts, *(f"{seq}-reject.png" for seq in range(101, 105))])


def test_only_each_nth_accept_and_each_reject_is_kept(tmp_path: Path) -> None:
    kept = Journal(settings_in(tmp_path, pictures_every=3))
    for seq in range(1, 10):
        kept.picture(message(seq, EPOCH), normal_part())
    kept.picture(rejected(10, EPOCH), normal_part())
    kept.begin(EPOCH, EPOCH)
    wait_for(lambda: kept._album.empty)
    kept.close("Halted")
    assert kept_pictures(tmp_path) == sorted(["3-accept.png", "6-accept.png", "9-accept.png", "10-reject.png"])
    assert kept.pictures_lost == 0


def test_a_picture_that_cannot_be_written_is_counted_and_holds_up_no_verdict(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PictureNotKept("the disk is full", "Free some space.")

    monkeypatch.setattr(PictureStore, "keep", refuse)
    for seq in range(1, 6):
        journal.picture(rejected(seq, EPOCH), normal_part())
    record(journal, 1, 5)
    caught_up(journal)
    wait_for(lambda: journal.pictures_lost == 5)
    assert journal.state is JournalState.OK
    assert seqs(journal) == [1, 2, 3, 4, 5]


# Damage.


@pytest.mark.usefixtures("small")
def test_a_damaged_tail_that_was_full_still_takes_verdicts(journal: Journal, disk: Disk, tmp_path: Path) -> None:
    disk.full = True
    record(journal, 1, 100)
    assert journal.opened(entry(101))
    oldest = journal._backlog._pending[0]
    kept = len(journal._backlog._pending)
    journal.close("killed")
    path = tail_path(tmp_path, tmp_path / "journal")
    image = bytearray(path.read_bytes())
    start = oldest.end - (8 + -(-len(oldest.row.message) // 8) * 8)
    at = HEADER_BYTES + SLOT_COUNT * SLOT_BYTES + start % RING_BYTES
    # Its length is no longer what it was, so that nobody knows where the next one begins.
    image[at + 7] ^= 0x7F
    path.write_bytes(image)
    following = Journal(settings_in(tmp_path))
    assert following.lost >= 1
    assert following.waiting < kept
    (data,) = settle(following.left(), following, fake_provenance(), 10**9)
    following.begin(EPOCH + 1, 6)
    disk.full = False
    caught_up(following)
    assert msgspec.json.decode(following.read(EPOCH, 101, 1)[0]) == msgspec.json.decode(data)
    following.close("Halted")


def test_a_verdict_that_overtakes_its_trigger_leaves_nothing_behind(journal: Journal) -> None:
    """A deadline that has passed already may be told while the trigger is still being entered."""
    ledger = Ledger(1)
    given: list[Judged] = []

    class Overtaken:
        def opened(self, opened: Entry) -> bool:
            """See `OpenTriggers`."""
            (expired,) = ledger.expired(opened.deadline_ns)
            assert expired is opened
            given.append(missed(expired))
            verdict = message(opened.seq, EPOCH)
            assert ledger.close(expired, given[-1].verdict)
            journal.record(verdict, data_of(verdict))
            return journal.opened(opened)

    intake = Intake(ledger, Overtaken(), fake_job())
    for time_ns in range(100):
        intake.open(Trigger(time_ns, time_ns))
    assert ledger.counts().in_flight == 0
    assert journal._tail.held().slots == ()


# kill -9.

DIES = """
import itertools, sys
from pathlib import Path
import msgspec
from edge.bus.messages import VerdictMessage, encode
from edge.journal.journal import Journal
from edge.ledger import Entry
from edge.station import JournalSettings
from edge.types import Trigger
from tests.edge.fakes import fake_job
folder, epoch = Path(sys.argv[1]), int(sys.argv[2])
template = msgspec.json.decode((folder / "verdict.json").read_bytes(), type=VerdictMessage)
journal = Journal(JournalSettings(folder=str(folder / "journal"), tail_folder=str(folder), tail_mb=8))
assert journal.left().triggers == ()
journal.begin(epoch, epoch * 1000)
head, job = 0, fake_job()
for trigger_seq in itertools.count(1):
    entry = Entry(trigger_seq, Trigger(trigger_seq, trigger_seq, "part-%d" % trigger_seq), 10**9, job)
    assert journal.opened(entry)
    print("opened", trigger_seq, 0, flush=True)
    if trigger_seq % 5 == 0 and trigger_seq < 5000:
        continue
    head += 1
    verdict = msgspec.structs.replace(template, epoch=epoch, seq=head, trigger_seq=trigger_seq)
    journal.record(verdict, encode(verdict))
    print("judged", trigger_seq, head, flush=True)
"""


def printed_before_death(folder: Path, epoch: int, lines: int) -> tuple[set[int], dict[int, int]]:
    """Triggers and verdicts (number by trigger) of which a process told before it was killed."""
    child = python(DIES, folder, str(epoch))
    assert child.stdout is not None
    assert child.stderr is not None
    with child:
        told = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.readlines()
        err = child.stderr.read()
    assert child.returncode == -signal.SIGKILL, err
    words = [line.split() for line in told if line.endswith("\n")]
    assert len(words) >= lines, err
    opened = {int(trigger_seq) for what, trigger_seq, _ in words if what == "opened"}
    return opened, {int(trigger_seq): int(seq) for what, trigger_seq, seq in words if what == "judged"}


def test_whatever_a_process_told_is_there_after_kill_9(tmp_path: Path) -> None:
    (tmp_path / "verdict.json").write_bytes(data_of(message(1)))
    for epoch, lines in ((10, 1), (20, 2), (30, 137), (40, 2_500)):
        opened, judged = printed_before_death(tmp_path, epoch, lines)
        journal = Journal(settings_in(tmp_path))
        assert journal.set_aside == ()
        found = decoded(journal.read(epoch, 0, EVERYTHING))
        left = journal.left()
        verdict_of = {verdict.trigger_seq: verdict.seq for verdict in found}
        assert judged.items() <= verdict_of.items()
        assert [verdict.seq for verdict in found] == list(range(1, len(found) + 1))
        open_seqs = {trigger.seq for trigger in left.triggers}
        assert opened - verdict_of.keys() <= open_seqs
        assert not open_seqs & verdict_of.keys()
        assert (left.epoch, left.head_seq) == (epoch, len(found))
        settle(left, journal, fake_provenance(), 10**9)
        journal.begin(epoch + 1, epoch + 1)
        caught_up(journal)
        everything = decoded(journal.read(epoch, 0, EVERYTHING))
        assert sorted(verdict.trigger_seq for verdict in everything) == sorted(open_seqs | verdict_of.keys())
        assert [verdict.seq for verdict in everything] == list(range(1, len(everything) + 1))
        assert journal.lost == 0
        journal.close("Halted")


def decoded(data: list[bytes]) -> list[VerdictMessage]:
    return [msgspec.json.decode(each, type=VerdictMessage) for each in data]


def test_what_a_full_memory_says_at_the_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.posix_fallocate", refuse)
        with pytest.raises(JournalError, match="MB long"):
            Journal(settings_in(tmp_path))
    Journal(settings_in(tmp_path)).close("not started")

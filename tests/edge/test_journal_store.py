"""The journal's store keeps what it was given through kills, full disks and damage, and forgets only the oldest."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.bus.messages import VerdictMessage
from edge.bus.requests import EpochInfo
from edge.errors import JournalError
from edge.journal import database, query, store
from edge.journal.database import FILE_NAME, SCHEMA_VERSION, connect
from edge.journal.query import Query, search, summarise_epochs, tally
from edge.journal.store import DiskFull, Row, Store, StoreFault
from edge.types import Judgement, Reason
from tests.conftest import PATIENCE_S
from tests.edge.journals import NOON_US, data_of, journal_of, message, on_a_small_disk, python, rejected, row

EVERYTHING = 2**53
SMALL = Row(1, 1, 1, NOON_US, "", "", "", "OK", b"{}")


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Store]:
    """A store with room for a thousand verdicts."""
    kept = Store.open(tmp_path / "journal", 1_000)
    yield kept
    kept.close()


def small_rows(first: int, last: int) -> list[Row]:
    return [SMALL._replace(seq=seq, trigger_seq=seq, wall_us=NOON_US + seq) for seq in range(first, last + 1)]


def sizes_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def test_a_row_tells_what_the_verdict_tells() -> None:
    verdict = rejected(3, 5, trigger_id="t-3", trigger_seq=9)
    data = data_of(verdict)
    wall_us = NOON_US + 3_000_000
    assert store.row_of(verdict, data) == Row(5, 3, 9, wall_us, "part-3", "t-3", "bracket", "NOT_OK", data, "defect")


def test_verdicts_are_read_as_they_were_published(opened: Store) -> None:
    verdicts = [message(seq, epoch) for epoch in (1, 2) for seq in range(1, 6)]
    opened.append([row(verdict) for verdict in verdicts])
    assert opened.read(2, 3, 2) == [data_of(message(3, 2)), data_of(message(4, 2))]
    assert opened.read(3, 1, 10) == []


def test_a_verdict_that_is_there_already_stays_as_it_is(opened: Store) -> None:
    opened.append([row(message(1))])
    opened.append([row(message(1, detail="again")), row(message(2))])
    assert opened.read(1, 0, 10) == [data_of(message(1)), data_of(message(2))]


def test_one_unfit_row_stores_nothing_of_its_batch(opened: Store) -> None:
    with pytest.raises(StoreFault):
        opened.append([row(message(1)), row(message(2))._replace(part_id=None)])  # type: ignore[arg-type]
    assert opened.read(1, 0, 10) == []
    opened.append([row(message(1))])
    assert opened.epochs() == [EpochInfo(1, 1, 1, False)]


def test_an_epoch_is_known_from_its_beginning_to_its_end(opened: Store) -> None:
    assert opened.newest_epoch() == 0
    opened.begin_epoch(7, NOON_US)
    assert opened.epochs() == [EpochInfo(7, 1, 0, False)]
    opened.append([row(message(seq, 7)) for seq in (1, 2)])
    opened.end_epoch(7, "Halted", 3)
    opened.begin_epoch(9, NOON_US)
    assert opened.epochs() == [EpochInfo(7, 1, 3, True), EpochInfo(9, 1, 0, False)]
    assert opened.epochs(after=7) == [EpochInfo(9, 1, 0, False)]
    assert opened.newest_epoch() == 9


def test_old_epochs_are_forgotten_when_nothing_of_them_is_kept(opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EPOCHS_KEPT", 3)
    opened.append([row(message(1, 1))])
    for epoch in range(1, 8):
        opened.begin_epoch(epoch, NOON_US)
    assert [info.epoch for info in opened.epochs()] == [1, 5, 6, 7]


def test_only_triggers_with_an_id_are_recent(opened: Store) -> None:
    opened.append(
        [row(message(seq, trigger_id="" if seq % 2 else f"t{seq}", trigger_seq=seq + 100)) for seq in range(9)]
    )
    assert opened.recent_triggers(3) == [("t8", 1, 108), ("t6", 1, 106), ("t4", 1, 104)]


def test_the_oldest_go_first_and_the_file_stays_flat(tmp_path: Path) -> None:
    kept = Store.open(tmp_path, 5_000)
    sizes, logs = [], []
    for first in range(1, 30_001, 500):
        kept.append(small_rows(first, first + 499))
        sizes.append(sizes_of(tmp_path)[FILE_NAME])
        logs.append(sizes_of(tmp_path)[f"{FILE_NAME}-wal"])
    assert kept.epochs() == [EpochInfo(1, 25_001, 30_000, False)]
    assert len(kept.read(1, 0, EVERYTHING)) == 5_000
    assert max(sizes[30:]) <= 1.02 * max(sizes[:30])
    assert max(logs) < 5 * 2**20
    kept.close()


def test_a_smaller_quota_is_reached_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Store.open(tmp_path, 1_000)
    kept.append(small_rows(1, 1_000))
    kept.close()
    monkeypatch.setattr(store, "LARGEST_PRUNE", 300)
    kept = Store.open(tmp_path, 10)
    counts = []
    for seq in range(1_001, 1_006):
        kept.append(small_rows(seq, seq))
        counts.append(len(kept.read(1, 0, EVERYTHING)))
    kept.close()
    assert counts == [699, 398, 97, 10, 10]


def test_the_log_stays_small_while_readers_come_and_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LARGEST_WAL_BYTES", 2**20)
    monkeypatch.setattr(database, "BUSY_S", 0.2)
    kept = Store.open(tmp_path, 1_000)
    kept.append(small_rows(1, 10))
    ended, left = threading.Event(), threading.Event()

    def read() -> None:
        """Always in a snapshot, but for the moment of changing it: what keeps SQLite from starting its log anew."""
        with contextlib.closing(connect(tmp_path / FILE_NAME, "mode=ro")) as connection:
            while not ended.is_set():
                connection.execute("BEGIN")
                connection.execute("SELECT COUNT(*) FROM verdicts").fetchone()
                left.wait(0.01)
                connection.execute("COMMIT")

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    largest = 0
    for first in range(11, 20_000, 50):
        kept.append(small_rows(first, first + 49))
        largest = max(largest, sizes_of(tmp_path)[f"{FILE_NAME}-wal"])
    ended.set()
    for reader in readers:
        reader.join()
    kept.close()
    assert largest < 6 * 2**20


def test_an_end_does_not_wait_for_a_reader_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "READER_S", 0.05)
    kept = Store.open(tmp_path, 1_000)
    kept.append([row(message(1))])
    reads, freed = threading.Event(), threading.Event()

    def hang() -> None:
        with kept._reading:
            reads.set()
            freed.wait(PATIENCE_S)

    reader = threading.Thread(target=hang)
    reader.start()
    assert reads.wait(PATIENCE_S)
    closer = threading.Thread(target=kept.close, daemon=True)
    closer.start()
    closer.join(PATIENCE_S / 10)
    assert not closer.is_alive()
    # Nothing was taken away from the reader, so that it does not crash when the disk answers.
    freed.set()
    reader.join()
    assert kept.read(1, 0, 10) == [data_of(message(1))]
    kept.close()
    again = Store.open(tmp_path, 1_000)
    assert again.read(1, 0, 10) == [data_of(message(1))]
    again.close()


def test_two_stations_cannot_share_a_journal(opened: Store, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="in use"):
        Store.open(tmp_path / "journal", 1_000)
    opened.close()
    Store.open(tmp_path / "journal", 1_000).close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match=r"Set journal\.folder"):
        Store.open(tmp_path / "file" / "journal", 1_000)


def test_newer_software_s_journal_is_left_alone(tmp_path: Path) -> None:
    folder = journal_of(tmp_path / "journal", message(1))
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(JournalError, match=f"version {SCHEMA_VERSION + 1}, this software reads {SCHEMA_VERSION}"):
        Store.open(folder, 1_000)
    with pytest.raises(JournalError, match=f"version {SCHEMA_VERSION + 1}, this software reads {SCHEMA_VERSION}"):
        search(folder, Query())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_damage_is_set_aside_with_its_log(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"not a database" * 1000)
    (tmp_path / f"{FILE_NAME}-wal").write_bytes(b"its log")
    kept = Store.open(tmp_path, 1_000)
    assert kept.set_aside is not None and re.fullmatch(rf"{FILE_NAME}\.corrupt-\d+T\d+\.\d+Z", kept.set_aside.name)
    assert kept.set_aside.read_bytes() == b"not a database" * 1000
    assert Path(f"{kept.set_aside}-wal").read_bytes() == b"its log"
    kept.append([row(message(1))])
    kept.close()
    again = Store.open(tmp_path, 1_000)
    assert again.set_aside is None and again.read(1, 1, 9) == [data_of(message(1))]
    again.close()


def test_a_log_without_its_journal_is_not_taken_for_the_new_one_s(tmp_path: Path) -> None:
    """SQLite would write any whole log into the file beside it."""
    old = Store.open(tmp_path / "old", 1_000)
    old.append([row(message(1))])
    (tmp_path / "new").mkdir()
    shutil.copy(tmp_path / "old" / f"{FILE_NAME}-wal", tmp_path / "new")
    old.close()
    kept = Store.open(tmp_path / "new", 1_000)
    assert kept.set_aside is not None and kept.epochs() == []
    kept.close()


@pytest.mark.parametrize("change", ["DROP TABLE epochs", "ALTER TABLE epochs RENAME COLUMN ending TO finish"])
def test_an_altered_schema_is_set_aside(tmp_path: Path, change: str) -> None:
    folder = journal_of(tmp_path / "journal", message(1))
    with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute(change)
    kept = Store.open(folder, 1_000)
    assert kept.set_aside is not None and kept.read(1, 1, 9) == []
    kept.close()


def test_a_schema_that_is_no_text_is_set_aside(sound: bytes) -> None:
    """SQLite quotes it in its error, which Python then cannot read."""
    damaged = sound.replace(b"tableepochsepochs", b"tableep\xd0\xd0hsepochs")
    damaged = damaged.replace(b"TABLE epochs (", b"TABLE epochs X")
    with pytest.raises(UnicodeDecodeError), tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE_NAME).write_bytes(damaged)
        with contextlib.closing(connect(Path(folder) / FILE_NAME, "mode=ro&immutable=1")) as connection:
            connection.execute("SELECT name FROM sqlite_master")
    open_damaged(damaged)


def test_what_the_log_makes_good_is_no_damage(tmp_path: Path) -> None:
    """Who is killed while SQLite moves pages from the log may leave a torn one."""
    old = Store.open(tmp_path / "old", 1_000)
    old.append([row(message(1))])
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    old.close()
    with (tmp_path / "new" / FILE_NAME).open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)
    kept = Store.open(tmp_path / "new", 1_000)
    assert kept.set_aside is None and kept.read(1, 1, 9) == [data_of(message(1))]
    kept.close()


def test_damage_met_while_running_is_looked_for_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a journal that is too large to be read through at each start."""
    monkeypatch.setattr(database, "CHECKED_BYTES", 0)
    folder = journal_of(tmp_path / "journal", *(message(seq) for seq in range(1, 200)))
    with (folder / FILE_NAME).open("r+b") as file:
        file.seek(os.path.getsize(folder / FILE_NAME) // 2 // 4096 * 4096)  # noqa: PTH202
        file.write(b"\xff" * 40_960)
    kept = Store.open(folder, 100)
    with pytest.raises(StoreFault, match="is damaged"):
        for seq in range(200, 400):
            kept.append([row(message(seq))])
    kept.close()
    assert kept.set_aside is None
    kept = Store.open(folder, 100)
    assert kept.set_aside is not None
    kept.close()


def test_a_journal_that_is_replaced_while_in_use_is_told(opened: Store, tmp_path: Path) -> None:
    (tmp_path / "journal" / FILE_NAME).rename(tmp_path / "moved")
    with pytest.raises(StoreFault):
        opened.append([row(message(1))])
    (tmp_path / "journal" / FILE_NAME).touch()
    with pytest.raises(StoreFault, match="replaced"):
        opened.append([row(message(1))])


FILLS_THE_DISK = """
import sys
from pathlib import Path
from edge.journal.store import DiskFull, Row, Store

folder = Path(sys.argv[1])
kept = Store.open(folder / "journal", 1_000_000)
ballast = folder / "ballast"
ballast.write_bytes(bytes(1 << 20))
seq = refused = 0
while not refused:
    rows = [Row(1, seq + n, seq + n, 0, "", "", "", "OK", bytes(1000)) for n in range(1, 51)]
    try:
        kept.append(rows)
        seq += 50
    except DiskFull as error:
        refused += 1
        print(error)
print(len(kept.read(1, 0, 1 << 53)) == seq > 0)
ballast.unlink()
kept.append(rows)
kept.close()
(folder / "rest").write_bytes(b"")
try:
    with (folder / "rest").open("wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096:
            pass
except OSError:
    pass
try:
    Store.open(folder / "journal", 1_000_000)
except DiskFull as error:
    print("at open:", error)
try:
    Store.open(folder / "another", 1_000_000)
except DiskFull as error:
    print("anew:", error)
(folder / "rest").unlink()
kept = Store.open(folder / "journal", 1_000_000)
print(kept.set_aside, len(kept.read(1, 0, 1 << 53)) == seq + 50)
"""


def test_a_full_disk_is_told_and_the_same_rows_are_taken_later(tmp_path: Path) -> None:
    told, all_there, at_open, anew, later = on_a_small_disk(FILLS_THE_DISK, 12, tmp_path).splitlines()
    assert "is full" in told and all_there == "True"
    assert at_open.startswith("at open:") and anew.startswith("anew:")
    assert later == "None True"


def test_a_store_without_room_is_usable_again(opened: Store) -> None:
    pages = opened._writer.execute("PRAGMA page_count").fetchone()[0]
    opened._writer.execute(f"PRAGMA max_page_count = {pages + 4}")
    rows = [row(message(seq)) for seq in range(1, 100)]
    with pytest.raises(DiskFull, match="Free some space"):
        opened.append(rows)
    assert opened.read(1, 0, 10) == []
    opened._writer.execute("PRAGMA max_page_count = 1000000")
    opened.append(rows)
    assert len(opened.read(1, 0, 1_000)) == 99


APPENDS = """
import sys
from pathlib import Path
from edge.journal.store import Row, Store

kept = Store.open(Path(sys.argv[1]), 100_000)
seq = 0
while True:
    kept.append([Row(1, seq + n, seq + n, 0, f"p{seq}", "t", "", "OK", b"x" * 500) for n in range(1, 8)])
    seq += 7
    print(seq, flush=True)
"""


@pytest.mark.parametrize("commits", [1, 40, 300])
def test_what_was_stored_survives_kill_9(tmp_path: Path, commits: int) -> None:
    child = python(APPENDS, tmp_path)
    assert child.stdout is not None
    stored = [child.stdout.readline() for _ in range(commits)]
    child.send_signal(signal.SIGKILL)
    stored += child.communicate(timeout=PATIENCE_S)[0].splitlines(keepends=True)
    last = max(int(line) for line in stored if line.endswith("\n"))
    kept = Store.open(tmp_path, 100_000)
    assert kept.set_aside is None
    assert len(kept.read(1, 0, EVERYTHING)) >= last
    assert kept._reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    kept.close()


# Searching.


def found(folder: Path, wanted: Query) -> list[int]:
    return [msgspec.json.decode(data)["seq"] for data in search(folder, wanted)]


@pytest.mark.parametrize(
    ("wanted", "seqs"),
    [
        (Query(), [6, 5, 4, 3, 2, 1]),
        (Query(oldest_first=True, limit=2), [1, 2]),
        (Query(part="part-2"), [2]),
        (Query(part="part-*", limit=2), [6, 4]),
        (Query(part="*[?]"), [5]),
        (Query(part="lot ?"), []),
        (Query(part="*t-?"), []),
        (Query(part="[lp]*"), []),
        (Query(part=""), [3]),
        (Query(since_us=NOON_US + 2_000_000, until_us=NOON_US + 4_000_000), [3, 2]),
        (Query(until_us=NOON_US), []),
        (Query(judgement=Judgement.NOT_OK), [4]),
        (Query(reason=Reason.DEFECT), [4]),
        (Query(product="plate"), [6]),
        (Query(epoch=2), [6, 5]),
        (Query(epoch=2, since_us=NOON_US + 6_000_000), [6]),
        (Query(epoch=1, since_us=NOON_US + 6_000_000), []),
        (Query(limit=0), []),
    ],
)
def test_a_search_finds_what_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Query, seqs: list[int]
) -> None:
    monkeypatch.setattr(query, "WINDOW", 2)
    first = [message(1), message(2), message(3, part_id=""), rejected(4)]
    second = [message(5, 2, part_id="lot [?]"), message(6, 2, product="plate")]
    folder = journal_of(tmp_path / "journal", *first, *second)
    assert found(folder, wanted) == seqs
    if wanted.limit is None:
        assert sum(tally(folder, wanted).values()) == len(seqs)


def test_a_search_leaves_no_trace_in_a_journal_at_rest(tmp_path: Path) -> None:
    folder = journal_of(tmp_path / "journal", message(1), message(2))
    before = sizes_of(folder)
    assert found(folder, Query()) == [2, 1]
    assert sizes_of(folder) == before


def test_a_search_sees_what_a_running_station_has_just_stored(opened: Store, tmp_path: Path) -> None:
    opened.append([row(message(1))])
    assert found(tmp_path / "journal", Query()) == [1]
    opened.append([row(message(2))])
    assert found(tmp_path / "journal", Query()) == [2, 1]


def test_a_station_that_starts_during_a_search_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "WINDOW", 1)
    folder = journal_of(tmp_path / "journal", *(message(seq) for seq in range(1, 4)))
    reading = search(folder, Query(oldest_first=True))
    seqs = [msgspec.json.decode(next(reading))["seq"]]
    kept = Store.open(folder, 1_000)
    kept.append([row(message(seq)) for seq in range(4, 300)])
    kept._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
    seqs += [msgspec.json.decode(data)["seq"] for data in reading]
    kept.close()
    assert seqs == list(range(1, 300))


SEARCHES = """
import os, sys
from pathlib import Path
from edge.errors import JournalError
from edge.journal.query import Query, search
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
folder = Path(sys.argv[1])
assert not os.access(folder, os.W_OK)
try:
    print(sum(1 for _ in search(folder, Query())))
except JournalError as error:
    print(error)
"""


@pytest.mark.parametrize("state", ["running", "stopped", "killed"])
def test_who_may_not_write_the_folder_may_search_it(state: str) -> None:
    with tempfile.TemporaryDirectory() as base:
        Path(base).chmod(0o755)
        folder = Path(base) / "journal"
        kept = Store.open(folder, 1_000)
        kept.append([row(message(1)), row(message(2))])
        if state == "stopped":
            kept.close()
        if state == "killed":
            copy = Path(base) / "copy"
            shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*-shm"))
            kept.close()
            folder = copy
        for path in (*folder.iterdir(), folder):
            path.chmod(0o555 if path == folder else 0o444)
        try:
            out, err = python(SEARCHES, folder).communicate(timeout=PATIENCE_S)
        finally:
            folder.chmod(0o755)
        # The newest verdicts are in a log that this reader cannot use: it says so, and leaves out none in silence.
        expected = "cannot be read" if state == "killed" else "2\n"
        assert expected in out, out + err
        kept.close()


def test_a_folder_without_a_journal_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal"):
        search(tmp_path, Query())


@pytest.mark.parametrize("wanted", [Query(part="\ud800"), Query(epoch=2**64), Query(part="*" * 60_000)])
def test_an_impossible_search_is_told(tmp_path: Path, wanted: Query) -> None:
    folder = journal_of(tmp_path / "journal", message(1))
    with pytest.raises(JournalError):
        list(search(folder, wanted))


def test_epochs_are_summarised(tmp_path: Path) -> None:
    folder = journal_of(tmp_path / "journal", message(1, 1), message(1, 2), message(2, 2))
    kept = Store.open(folder, 1_000)
    kept.end_epoch(1, "Halted", 5)
    kept.close()
    assert summarise_epochs(folder) == [
        query.EpochSummary(1, NOON_US, 1, 5, "Halted"),
        query.EpochSummary(2, NOON_US, 2, 2, None),
    ]


# Against a model.

PARTS = st.sampled_from(["", "a", "ab", "b[1]", "ü?*"])
PATTERNS = st.sampled_from(["*", "a*", "*b*", "*?*", "b[*", "?*", "*[1]"])
TIMES = st.integers(0, 20)
FILTERS = st.one_of(
    st.builds(Query, part=PARTS | PATTERNS),
    st.builds(Query, since_us=st.none() | TIMES, until_us=st.none() | TIMES),
    st.builds(Query, judgement=st.sampled_from(Judgement)),
    st.builds(Query, reason=st.just(Reason.DEFECT)),
    st.builds(Query, epoch=st.integers(1, 3)),
)


class Journal(RuleBasedStateMachine):
    """The store beside a dictionary."""

    entries = 12

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.kept = Store.open(self.folder, self.entries)
        self.verdicts: dict[tuple[int, int], VerdictMessage] = {}
        self.heads: dict[int, int] = {}
        self.endings: dict[int, str] = {}

    def teardown(self) -> None:
        self.kept.close()
        shutil.rmtree(self.folder)

    @rule(
        keys=st.lists(st.tuples(st.integers(1, 3), st.integers(1, 12)), max_size=8),
        part=PARTS,
        wall_us=TIMES,
        trigger=st.sampled_from(["", "t1", "t2"]),
        bad=st.booleans(),
    )
    def append(self, keys: list[tuple[int, int]], part: str, wall_us: int, trigger: str, bad: bool) -> None:
        changes = {"part_id": part, "trigger_wall_us": wall_us, "trigger_id": trigger}
        batch = [(rejected if bad else message)(seq, epoch, **changes) for epoch, seq in keys]
        self.kept.append([row(verdict) for verdict in batch])
        for verdict in batch:
            self.verdicts.setdefault((verdict.epoch, verdict.seq), verdict)
            self.heads[verdict.epoch] = max(self.heads.get(verdict.epoch, 0), verdict.seq)
        self.verdicts = dict(sorted(self.verdicts.items())[-self.entries :])

    @rule(epoch=st.integers(1, 4))
    def begin(self, epoch: int) -> None:
        self.kept.begin_epoch(epoch, epoch)
        self.heads.setdefault(epoch, 0)

    @rule(epoch=st.integers(1, 4), head=st.integers(0, 15), ending=st.sampled_from(["", "Halted"]))
    def end(self, epoch: int, head: int, ending: str) -> None:
        self.kept.end_epoch(epoch, ending, head)
        self.heads[epoch] = max(self.heads.get(epoch, 0), head)
        self.endings[epoch] = ending

    @rule()
    def reopen(self) -> None:
        self.kept.close()
        self.kept = Store.open(self.folder, self.entries)
        assert self.kept.set_aside is None

    @rule(epoch=st.integers(1, 3), seq=st.integers(0, 13), limit=st.integers(0, 13))
    def read(self, epoch: int, seq: int, limit: int) -> None:
        expected = [data_of(v) for (e, s), v in sorted(self.verdicts.items()) if e == epoch and s >= seq]
        assert self.kept.read(epoch, seq, limit) == expected[:limit]

    @rule(limit=st.integers(0, 13))
    def triggers(self, limit: int) -> None:
        newest = [v for _, v in sorted(self.verdicts.items(), reverse=True) if v.trigger_id]
        assert self.kept.recent_triggers(limit) == [(v.trigger_id, v.epoch, v.trigger_seq) for v in newest][:limit]

    @precondition(lambda self: self.verdicts)
    @rule(
        filters=st.lists(FILTERS, max_size=2),
        limit=st.none() | st.integers(0, 13),
        oldest_first=st.booleans(),
        at_rest=st.booleans(),
    )
    def look_for(self, filters: list[Query], limit: int | None, oldest_first: bool, at_rest: bool) -> None:
        wanted = Query(limit=limit, oldest_first=oldest_first)
        for each in filters:
            given = {f.name: value for f in fields(each) if (value := getattr(each, f.name)) is not None}
            wanted = replace(wanted, **{name: value for name, value in given.items() if name != "oldest_first"})
        if at_rest:
            self.kept.close()
        matching = [v for _, v in sorted(self.verdicts.items(), reverse=not wanted.oldest_first) if matches(v, wanted)]
        assert list(search(self.folder, wanted)) == [data_of(v) for v in matching][: wanted.limit]
        counts = tally(self.folder, wanted)
        assert counts == {j.value: n for j in Judgement if (n := sum(v.judgement is j for v in matching))}
        if at_rest:
            self.kept = Store.open(self.folder, self.entries)

    @invariant()
    def epochs_agree(self) -> None:
        expected = []
        for epoch, head in sorted(self.heads.items()):
            seqs = [s for e, s in self.verdicts if e == epoch]
            expected.append(EpochInfo(epoch, min(seqs, default=head + 1), head, epoch in self.endings))
        assert self.kept.epochs() == expected
        assert self.kept.newest_epoch() == max(self.heads, default=0)


def matches(verdict: VerdictMessage, wanted: Query) -> bool:
    pattern = None if wanted.part is None else ".*".join(map(re.escape, wanted.part.split("*")))
    return (
        (pattern is None or re.fullmatch(pattern, verdict.part_id, re.DOTALL) is not None)
        and (wanted.since_us is None or verdict.trigger_wall_us >= wanted.since_us)
        and (wanted.until_us is None or verdict.trigger_wall_us < wanted.until_us)
        and (wanted.judgement is None or verdict.judgement is wanted.judgement)
        and (wanted.reason is None or verdict.reason is wanted.reason)
        and (wanted.epoch is None or verdict.epoch == wanted.epoch)
    )


TestJournal = Journal.TestCase
TestJournal.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)


@pytest.fixture(autouse=True)
def small_windows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model holds few verdicts; searching them must still take several steps."""
    if request.cls is TestJournal:
        monkeypatch.setattr(query, "WINDOW", 3)


# Damage.


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a journal."""
    folder = tmp_path_factory.mktemp("sound")
    journal_of(folder, *(message(seq, trigger_id=f"t{seq}") for seq in range(1, 30)))
    return (folder / FILE_NAME).read_bytes()


def open_damaged(damaged: bytes) -> None:
    """Opens, sets aside or refuses, and loses no byte; what opens can be used, or says why not."""
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base)
        (folder / FILE_NAME).write_bytes(damaged)
        with contextlib.suppress(JournalError):
            list(search(folder, Query()))
        assert (folder / FILE_NAME).read_bytes() == damaged
        try:
            kept = Store.open(folder, 20)
        except JournalError:
            assert (folder / FILE_NAME).read_bytes() == damaged
            return
        if kept.set_aside is not None:
            assert kept.set_aside.read_bytes() == damaged
            assert kept.read(1, 0, 100) == []
        with contextlib.suppress(JournalError):
            kept.epochs()
            kept.recent_triggers(10)
            kept.read(1, 0, 100)
            kept.append([row(message(40))])
            list(search(folder, Query(part="part*")))
            tally(folder, Query(since_us=0))
        kept.close()


@given(data=st.binary(max_size=300), header=st.booleans())
@settings(max_examples=40)
def test_any_bytes_open_or_are_set_aside(data: bytes, header: bool) -> None:
    open_damaged((b"SQLite format 3\0" if header else b"") + data)


@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=64)), max_size=4),
    early=st.booleans(),
    kept=st.just(1.0) | st.floats(0, 1),
)
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_mutated_journal_opens_or_is_set_aside(
    sound: bytes, changes: list[tuple[float, bytes]], early: bool, kept: float
) -> None:
    damaged = bytearray(sound)
    for place, new in changes:
        # Half of the changes hit the header and the first page, where the schema is.
        start = int(place * (300 if early else len(damaged)))
        damaged[start : start + len(new)] = new
    open_damaged(bytes(damaged[: int(kept * len(damaged))]))

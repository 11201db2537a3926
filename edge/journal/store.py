"""The verdicts on disk: one SQLite file, written by one thread of one station."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from edge.bus.messages import VerdictMessage
from edge.bus.requests import EpochInfo
from edge.errors import JournalError
from edge.journal.database import FILE_NAME, beside, connect, is_damage, is_full, locked, prepare, spoken, suspicion

EPOCHS_KEPT = 10_000
LARGEST_PRUNE = 2_000
"""A quota that became much smaller is reached in steps: no append waits long."""
LARGEST_WAL_BYTES = 16 * 2**20
REMEDY = "Set journal.folder in the station file to a folder that can be written."

_INSERT = (
    "INSERT INTO verdicts (epoch, seq, trigger_seq, wall_us, part_id, trigger_id, product, judgement, message, reason)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (epoch, seq) DO NOTHING"
)
_PRUNE = "DELETE FROM verdicts WHERE id IN (SELECT id FROM verdicts ORDER BY epoch, seq LIMIT ?)"
_REACH = (
    "INSERT INTO epochs (epoch, wall_us, head_seq) VALUES (?, ?, ?)"
    " ON CONFLICT (epoch) DO UPDATE SET head_seq = MAX(head_seq, excluded.head_seq)"
)
_FORGET = (
    "DELETE FROM epochs WHERE epoch < (SELECT epoch FROM epochs ORDER BY epoch DESC LIMIT 1 OFFSET ?)"
    " AND NOT EXISTS (SELECT 1 FROM verdicts WHERE verdicts.epoch = epochs.epoch)"
)
_EPOCHS = (
    "SELECT epoch, (SELECT MIN(seq) FROM verdicts WHERE verdicts.epoch = epochs.epoch), head_seq, ending IS NOT NULL"
    " FROM epochs WHERE epoch > ? ORDER BY epoch"
)


READER_S = 1.0


class DiskFull(JournalError):  # noqa: N818 - what is the case, as the other errors
    """The disk that holds the journal is full."""


class StoreFault(JournalError):  # noqa: N818
    """The disk refuses what the journal asks of it; the same rows can be handed in again later."""


class Row(NamedTuple):
    """One verdict. `message` is its JSON exactly as published, `wall_us` the trigger's time in microseconds since 1970."""

    epoch: int
    seq: int
    trigger_seq: int
    wall_us: int
    part_id: str
    trigger_id: str
    product: str
    judgement: str
    message: bytes
    reason: str = ""


def row_of(message: VerdictMessage, data: bytes) -> Row:
    """The row for a verdict that was published as `data`."""
    return Row(
        message.epoch,
        message.seq,
        message.trigger_seq,
        message.trigger_wall_us,
        message.part_id,
        message.trigger_id,
        message.product,
        message.judgement.value,
        data,
        "" if message.reason is None else message.reason.value,
    )


class Store:
    """The newest `entries` verdicts and what is known of their epochs.

    One thread at a time appends, begins, ends and sets; all reading may be done from any thread. `set_aside` is where a
    damaged journal lies now that was found at the start.
    """

    def __init__(self, folder: Path, entries: int, lock: IO[bytes], set_aside: Path | None) -> None:
        self.set_aside = set_aside
        self._path = folder / FILE_NAME
        self._entries = entries
        self._lock = lock
        self._reading = threading.Lock()
        self._wal_alarm_bytes = LARGEST_WAL_BYTES
        with contextlib.ExitStack() as stack:
            self._writer = stack.enter_context(contextlib.closing(connect(self._path, "mode=rw")))
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._writer.execute("PRAGMA synchronous = NORMAL")
            self._reader = stack.enter_context(contextlib.closing(connect(self._path, "mode=ro")))
            self._count = int(self._reader.execute("SELECT COUNT(*) FROM verdicts").fetchone()[0])
            self._place = _place(self._path)
            stack.pop_all()

    @classmethod
    def open(cls, folder: Path, entries: int) -> Store:
        """Open the journal in `folder`, or begin one; a damaged one is set aside, never deleted.

        Raises:
            DiskFull: there is no room to open it.
            JournalError: it is in use, made by newer software, or the folder cannot be made or written.
        """
        try:
            with contextlib.ExitStack() as stack:
                lock = stack.enter_context(locked(folder))
                store = cls(folder, entries, lock, prepare(folder))
                stack.pop_all()
                return store
        except (OSError, sqlite3.Error) as error:
            full = is_full(error, folder)
            kind, remedy = (DiskFull, "Free some space.") if full else (JournalError, REMEDY)
            raise kind(f"the journal in {folder} cannot be opened ({spoken(error)})", remedy) from error

    def append(self, rows: Sequence[Row]) -> None:
        """Store verdicts, all or none, and forget the oldest beyond the quota. One that is there already stays as it is.

        Raises:
            DiskFull: the disk is full.
            StoreFault: the disk refuses for another reason.
        """
        heads: dict[int, int] = {}
        for row in rows:
            heads[row.epoch] = max(row.seq, heads.get(row.epoch, 0))
        with self._transaction() as writer:
            count = self._count + max(0, writer.executemany(_INSERT, rows).rowcount)
            # An epoch is named by the millisecond in which it began.
            writer.executemany(_REACH, [(epoch, epoch * 1000, head) for epoch, head in heads.items()])
            if count > self._entries:
                most = LARGEST_PRUNE + 2 * len(rows)
                count -= writer.execute(_PRUNE, (min(count - self._entries, most),)).rowcount
        self._count = count
        self._bound_wal()

    def begin_epoch(self, epoch: int, wall_us: int) -> None:
        """Note that an epoch begins; the oldest epochs of which nothing is kept are forgotten.

        Raises:
            DiskFull, StoreFault: as for `append`.
        """
        with self._transaction() as writer:
            writer.execute(_REACH, (epoch, wall_us, 0))
            writer.execute("UPDATE epochs SET wall_us = ? WHERE epoch = ?", (wall_us, epoch))
            writer.execute(_FORGET, (EPOCHS_KEPT - 1,))

    def end_epoch(self, epoch: int, ending: str, head_seq: int) -> None:
        """Note how an epoch ended and that `head_seq` was its last verdict.

        Raises:
            DiskFull, StoreFault: as for `append`.
        """
        with self._transaction() as writer:
            writer.execute(_REACH, (epoch, epoch * 1000, head_seq))
            writer.execute("UPDATE epochs SET ending = ? WHERE epoch = ?", (ending, epoch))

    def epochs(self, after: int = 0) -> list[EpochInfo]:
        """What is kept of each epoch beyond `after`, oldest first.

        Raises:
            StoreFault: the disk refuses.
        """
        return [
            EpochInfo(epoch, head + 1 if first is None else first, head, bool(ended))
            for epoch, first, head, ended in self._fetch(_EPOCHS, (after,))
        ]

    def newest_epoch(self) -> int:
        """The last epoch that is known, 0 if none is.

        Raises:
            StoreFault: the disk refuses.
        """
        return int(self._fetch("SELECT COALESCE(MAX(epoch), 0) FROM epochs")[0][0])

    def recent_triggers(self, limit: int) -> list[tuple[str, int, int]]:
        """The newest `limit` triggers that had an id, newest first: (trigger_id, epoch, trigger_seq).

        Raises:
            StoreFault: the disk refuses.
        """
        found = self._fetch(
            "SELECT trigger_id, epoch, trigger_seq FROM verdicts INDEXED BY verdicts_by_trigger WHERE trigger_id <> ''"
            " ORDER BY epoch DESC, seq DESC LIMIT ?",
            (limit,),
        )
        return [(str(name), int(epoch), int(trigger_seq)) for name, epoch, trigger_seq in found]

    def read(self, epoch: int, from_seq: int, limit: int) -> list[bytes]:
        """At most `limit` verdicts of an epoch from a sequence number on, in order, as published.

        Raises:
            StoreFault: the disk refuses.
        """
        sql = "SELECT message FROM verdicts WHERE epoch = ? AND seq >= ? ORDER BY seq LIMIT ?"
        return [bytes(row[0]) for row in self._fetch(sql, (epoch, from_seq, limit))]

    def close(self) -> None:
        """Bring everything into the one file and let others have the folder. May be called twice."""
        if not self._reading.acquire(timeout=READER_S):
            # Somebody's read hangs in the disk: what is written is safe, and more can't be done.
            return
        self._reader.close()
        self._reading.release()
        with contextlib.suppress(sqlite3.Error):
            self._writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
        self._writer.close()
        self._lock.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            if _place(self._path) != self._place:
                raise StoreFault(f"{self._path} was replaced while in use", "Restart the station.")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            finally:
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
        except (OSError, sqlite3.Error) as error:
            raise self._fault(error) from error

    def _fetch(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._reading:
            try:
                return self._reader.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise self._fault(error) from error

    def _fault(self, error: OSError | sqlite3.Error) -> JournalError:
        if isinstance(error, sqlite3.Error) and is_damage(error):
            with contextlib.suppress(OSError):
                suspicion(self._path).touch()
            return StoreFault(f"{self._path} is damaged ({error})", "Restart the station: it begins a new journal.")
        if is_full(error, self._path.parent):
            return DiskFull(f"the disk of {self._path} is full", "Free some space.")
        return StoreFault(f"{self._path} cannot be used ({spoken(error)})", "Mend the disk, or set journal.folder.")

    def _bound_wal(self) -> None:
        """Readers that never leave a gap keep SQLite from starting its log anew; wait for one before it grows large."""
        with contextlib.suppress(OSError, sqlite3.Error):
            size = beside(self._path, "-wal").stat().st_size
            if size >= self._wal_alarm_bytes:
                busy = self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
                self._wal_alarm_bytes = LARGEST_WAL_BYTES + (size if busy else 0)


def _place(path: Path) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - called for each transaction
    return status.st_dev, status.st_ino

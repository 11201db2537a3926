"""What was judged: at once in memory that outlives the process, soon after on the disk.

The publishing thread hands in every verdict before it is sent and never waits; a thread of the journal's own takes it to
the disk. While the disk takes nothing the verdicts wait in the tail; if even that is full the oldest are lost, and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge.bus.messages import JournalState, VerdictMessage
from edge.bus.requests import EpochInfo
from edge.errors import JournalError
from edge.job import Job
from edge.journal.album import Album
from edge.journal.backlog import Backlog, Waiting
from edge.journal.facts import Facts
from edge.journal.left import Left
from edge.journal.recipes import keep_recipe
from edge.journal.store import DiskFull, Store
from edge.journal.tail import MEGABYTE, Tail, tail_path
from edge.ledger import Entry
from edge.logs import log_event
from edge.station import JournalSettings
from edge.types import Picture

DRAIN_S = 0.05
RETRY_S = 0.5
BATCH = 256
CLOSE_S = 10.0
LONGEST_WAIT_NS = 2_000_000_000
"""A verdict that waits longer for the disk says that the disk hangs."""
RECENT_TRIGGERS = 20_000
_LOG = logging.getLogger("linegate.journal")


@dataclass
class _Health:
    """Whether the disk takes what it is given, and if not why."""

    behind: bool = False
    why: str = ""


@dataclass(frozen=True)
class _Begun:
    """What the disk is still to be told of epochs."""

    last: int
    last_head: int
    ending: str
    epoch: int
    wall_us: int


class Journal:
    """See the module. `opened`, `record` and `picture` are for the hot path; `epochs` and `read` for replay."""

    def __init__(self, settings: JournalSettings) -> None:
        """Open, or make, the journal of a station.

        Raises:
            JournalError: the folder cannot be written, is in use, or was written by a newer version.
        """
        self.folder = Path(settings.folder)
        self._settings = settings
        self._store: Store | None = None
        self._health = _Health()
        try:
            self._store = Store.open(self.folder, settings.entries)
        except DiskFull as error:
            self._note_behind(error)
        try:
            self._facts = Facts(self.folder)
            self._tail = Tail(tail_path(Path(settings.tail_folder), self.folder), settings.tail_mb * MEGABYTE)
        except BaseException:
            if self._store is not None:
                self._store.close()
            raise
        self._album = Album(self.folder, settings.pictures_mb * MEGABYTE, settings.keep_accepts_every)
        self._backlog = Backlog(self._tail)
        self._epoch = 0
        self._begun: _Begun | None = None
        self._work = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._drain_until_closed, name="journal", daemon=True)

    # What was left.

    @property
    def set_aside(self) -> tuple[Path, ...]:
        """Damaged files that were put aside; nothing of them was used."""
        store = None if self._store is None else self._store.set_aside
        return tuple(p for p in (store, self._tail.set_aside) if p is not None)

    def left(self) -> Left:
        """Triggers that were open when the last process ended."""
        return self._backlog.left()

    def newest_epoch(self) -> int:
        """The last epoch that this journal or its tail knows of."""
        return max(self._backlog.held.epoch, 0 if self._store is None else self._store.newest_epoch())

    def recent_triggers(self) -> dict[str, tuple[int, int]]:
        """Epoch and number of the newest triggers that had an id."""
        stored = [] if self._store is None else self._store.recent_triggers(RECENT_TRIGGERS)
        found = {trigger_id: (epoch, seq) for trigger_id, epoch, seq in reversed(stored)}
        for row in self._backlog.waiting:
            if row.trigger_id:
                found[row.trigger_id] = (row.epoch, row.trigger_seq)
        return found

    @property
    def readable(self) -> bool:
        """Whether the disk can be read; else only what still waits for it is known."""
        return self._store is not None

    def catch_up(self) -> None:
        """Before `begin`: what the last process left goes to the disk, if it can, and needs no room in the tail any more."""
        while len(self._backlog):
            self._drain()
            if self._health.behind:
                return

    # An epoch.

    def begin(self, epoch: int, wall_us: int) -> None:
        """Close the account of the last epoch and begin a new one; the disk is written to from now on."""
        held = self._backlog.held
        head = self._backlog.begin(epoch)
        self._epoch = epoch
        self._begun = _Begun(held.epoch, head, "ended" if held.ended else "restart", epoch, wall_us)
        self._thread.start()

    def describe(self, job: Job) -> None:
        """Keep what the verdicts of triggers that now open are given with: for another process, and to judge again."""
        self._tail.note(msgspec.json.encode(job.provenance))
        if job.recipe is not None:
            try:
                keep_recipe(self.folder, job.recipe)
            except JournalError as error:
                log_event(_LOG, "recipe_not_kept", level="warning", error=error)

    # The hot path.

    def opened(self, entry: Entry) -> bool:
        """A trigger was entered; False if no more of them can be kept."""
        return self._backlog.opened(entry)

    def record(self, message: VerdictMessage, data: bytes) -> None:
        """A verdict is about to be sent: from now on it can be replayed, whatever happens to this process."""
        self._backlog.record(message, data)
        self._work.set()

    def picture(self, message: VerdictMessage, pixels: Picture) -> None:
        """Keep a picture: every reject's, and each n-th accepted one's."""
        self._album.offer(message, pixels)
        self._work.set()

    # What others ask.

    @property
    def state(self) -> JournalState:
        """Whether the disk keeps up."""
        stands = bool(self._epoch) and not self._thread.is_alive()
        hangs = self._backlog.oldest_ns(time.monotonic_ns()) > LONGEST_WAIT_NS
        return JournalState.BEHIND if self._health.behind or stands or hangs else JournalState.OK

    @property
    def waiting(self) -> int:
        """Verdicts that the disk has not taken yet."""
        return len(self._backlog)

    @property
    def lost(self) -> int:
        """Verdicts that can no longer be replayed although the quota would have kept them."""
        return self._backlog.lost

    @property
    def pictures_lost(self) -> int:
        """Pictures that should have been kept and were not."""
        return self._album.lost

    def epochs(self, after: int) -> list[EpochInfo]:
        """All epochs later than `after`, oldest first.

        Raises:
            JournalError: the disk, which may know of more, cannot be read now.
        """
        present, heads, firsts = self._backlog.extent()
        # The disk afterwards: what it takes in between is then seen twice, not never.
        for info in self._readable().epochs(after):
            heads[info.epoch] = max(info.head_seq, heads.get(info.epoch, 0))
            if info.first_seq <= info.head_seq:
                firsts[info.epoch] = min(info.first_seq, firsts.get(info.epoch, info.first_seq))
        return [
            EpochInfo(epoch, firsts.get(epoch, heads[epoch] + 1), heads[epoch], epoch != present)
            for epoch in sorted(heads)
            if epoch > after
        ]

    def read(self, epoch: int, from_seq: int, limit: int) -> list[bytes]:
        """Verdicts of an epoch as they were published, in order; those lost or pruned are not among them.

        Raises:
            JournalError: the disk, which may hold some, cannot be read now.
        """
        # The pending ones first: what the disk takes in between is then seen twice, not never.
        waiting = {r.seq: r.message for r in self._backlog.waiting if r.epoch == epoch and r.seq >= from_seq}
        stored = self._readable().read(epoch, from_seq, limit)
        if not waiting:
            return stored
        found = {seq: data for data in stored if (seq := _seq_of(data)) is not None}
        found.update(waiting)
        return [found[seq] for seq in sorted(found)[:limit]]

    def _readable(self) -> Store:
        if self._store is None:
            raise JournalError(f"{self.folder} cannot be read now ({self._health.why})", "Free some space.")
        return self._store

    def fact(self, key: str) -> str | None:
        """What was remembered under a key."""
        return self._facts.get(key)

    def remember(self, key: str, value: str) -> bool:
        """Keep a fact over restarts; False if the disk does not take it."""
        return self._facts.set(key, value)

    # The journal's own thread.

    def _drain_until_closed(self) -> None:
        while True:
            closing = self._closing.is_set()
            idle = self._drain()
            if closing and (idle or self._health.behind):
                return
            if self._health.behind:
                self._closing.wait(RETRY_S)
            elif idle:
                self._work.wait(RETRY_S)
                self._work.clear()
                self._closing.wait(DRAIN_S)

    def _drain(self) -> bool:
        """Take one batch, or else one picture, to the disk; True if nothing waits."""
        batch = self._backlog.batch(BATCH)
        try:
            self._require_store(batch)
        except JournalError as error:
            if isinstance(error, DiskFull) and not self._health.behind:
                self._album.make_room()
            self._note_behind(error)
            return False
        if self._health.behind:
            self._health.behind = False
            log_event(_LOG, "journal_caught_up", level="warning", waiting=len(self._backlog))
        if not batch:
            self._album.keep_one()
        return not len(self._backlog) and self._album.empty

    def _require_store(self, batch: list[Waiting]) -> None:
        if self._store is None:
            self._store = Store.open(self.folder, self._settings.entries)
        if self._begun is not None:
            begun, last = self._begun, self._begun.last
            if last and not any(info.ended for info in self._store.epochs(last - 1) if info.epoch == last):
                self._store.end_epoch(last, begun.ending, begun.last_head)
            self._store.begin_epoch(begun.epoch, begun.wall_us)
            self._begun = None
        if batch:
            self._store.append([waiting.row for waiting in batch])
            self._backlog.taken(batch)

    def _note_behind(self, error: JournalError) -> None:
        if not self._health.behind:
            log_event(_LOG, "journal_behind", level="error", error=error)
        self._health.behind, self._health.why = True, error.what

    def close(self, ending: str) -> None:
        """Take what waits to the disk; what it does not take stays in the tail for the next start."""
        self._closing.set()
        self._work.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)
        if self._epoch:
            self._tail.end()
        if self._thread.is_alive():
            # It hangs in the disk; to take its files away would only make it crash.
            return
        if self._store is not None:
            if self._epoch and not len(self._backlog):
                self._end_in_store(ending)
            self._store.close()
        self._tail.close()

    def _end_in_store(self, ending: str) -> None:
        try:
            if self._store is not None:
                self._store.end_epoch(self._epoch, ending, self._backlog.head(self._epoch))
        except JournalError as error:
            log_event(_LOG, "journal_behind", level="error", error=error)


class _Numbered(msgspec.Struct):
    seq: int


_NUMBERED = msgspec.json.Decoder(_Numbered)


def _seq_of(data: bytes) -> int | None:
    try:
        return _NUMBERED.decode(data).seq
    except msgspec.DecodeError:
        return None

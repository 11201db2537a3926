"""Verdicts that the disk has not taken yet, and triggers that have no verdict yet: all of it in the tail as well."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

import msgspec

from edge.bus.messages import VerdictMessage
from edge.journal.left import Left, decode_provenance, decode_trigger, encode_trigger
from edge.journal.store import Row, row_of
from edge.journal.tail import LONGEST_SLOT, Held, Tail
from edge.ledger import Entry


@dataclass(eq=False, slots=True)
class Waiting:
    """A verdict on its way to the disk. `end` is its place in the tail; `dropped`: that had to be given to a newer one."""

    row: Row
    end: int
    since_ns: int = field(default_factory=time.monotonic_ns)
    dropped: bool = False


class Backlog:
    """Filled by the hot path, which never waits for the disk, and emptied by the journal's thread.

    `lost` counts verdicts that had to make room for newer ones before the disk took them.
    """

    def __init__(self, tail: Tail) -> None:
        """Take up what an earlier process left."""
        self.held: Held = tail.held()
        self.lost = self.held.damaged
        self._tail = tail
        self._pending: deque[Waiting] = deque()
        self._slots: dict[int, int | None] = {}
        self._overtaken: set[int] = set()
        self._heads: dict[int, int] = {}
        self._epoch = 0
        self._lock = threading.Lock()
        self._take_up()

    def _take_up(self) -> None:
        """What the disk never took waits again, at its old place in the ring."""
        decoder = msgspec.json.Decoder(VerdictMessage)
        for end, data in self.held.records:
            try:
                message = decoder.decode(data)
            except msgspec.DecodeError:
                self.lost += 1
                continue
            self._pending.append(Waiting(row_of(message, data), end))

    def left(self) -> Left:
        """Triggers that were open when the last process ended. To be asked for before anything else is done."""
        held = self.held
        judged = {w.row.trigger_seq for w in self._pending if w.row.epoch == held.epoch}
        open_triggers = []
        for number, data in held.slots:
            trigger = decode_trigger(data)
            if trigger is None or trigger.seq in judged:
                self._tail.clear_slot(number)
                continue
            self._slots[trigger.seq] = number
            open_triggers.append(trigger)
        open_triggers.sort(key=lambda t: t.seq)
        head = max(held.head_seq, self._head_of(held.epoch))
        return Left(held.epoch, head, tuple(open_triggers), decode_provenance(held.note))

    def begin(self, epoch: int) -> int:
        """What is recorded from now on belongs to this epoch; returns the head of the last one."""
        last = self.held.epoch
        with self._lock:
            if last:
                self._heads[last] = max(self.held.head_seq, self._head_of(last))
            self._heads[epoch] = 0
            self._epoch = epoch
            self._overtaken.clear()
            self._tail.begin(epoch)
            return self._heads.get(last, 0)

    def _head_of(self, epoch: int) -> int:
        return max((w.row.seq for w in self._pending if w.row.epoch == epoch), default=0)

    # The hot path.

    def opened(self, entry: Entry) -> bool:
        """A trigger was entered; False if no more of them can be kept."""
        data = encode_trigger(entry, LONGEST_SLOT)
        with self._lock:
            if entry.seq in self._overtaken:
                # Its deadline had passed when it came, and its verdict is here before it.
                self._overtaken.remove(entry.seq)
                return True
            number = self._tail.take_slot(data) if len(data) <= LONGEST_SLOT else None
            self._slots[entry.seq] = number
        return number is not None

    def record(self, message: VerdictMessage, data: bytes) -> None:
        """A verdict is about to be sent."""
        row = row_of(message, data)
        with self._lock:
            while not self._tail.fits(len(data)) and self._pending:
                oldest = self._pending.popleft()
                oldest.dropped = True
                self.lost += 1
                self._tail.free(oldest.end)
                if self._pending:
                    # Or a fast line would never see that the disk hangs: whatever waits is then young.
                    self._pending[0].since_ns = oldest.since_ns
            if not self._tail.fits(len(data)):
                # All that is left there is damaged.
                self._tail.free_all()
            end = self._tail.append(data, message.seq)
            self._close_slot(message.trigger_seq)
            self._pending.append(Waiting(row, end))
            if message.epoch in self._heads:
                self._heads[message.epoch] = message.seq

    def _close_slot(self, trigger_seq: int) -> None:
        if trigger_seq not in self._slots:
            self._overtaken.add(trigger_seq)
            return
        number = self._slots.pop(trigger_seq)
        if number is not None:
            self._tail.clear_slot(number)

    # The journal's thread.

    def batch(self, most: int) -> list[Waiting]:
        """The oldest that wait. They go on waiting until they are `taken`."""
        with self._lock:
            return [self._pending[n] for n in range(min(most, len(self._pending)))]

    def taken(self, batch: list[Waiting]) -> None:
        """The disk has them."""
        with self._lock:
            self._tail.free(batch[-1].end)
            while self._pending and self._pending[0].end <= batch[-1].end:
                self._pending.popleft()
            self.lost -= sum(waiting.dropped for waiting in batch)

    # What others ask.

    def __len__(self) -> int:
        return len(self._pending)

    def oldest_ns(self, now_ns: int) -> int:
        """How long the oldest has waited; 0 if none waits."""
        try:
            return now_ns - self._pending[0].since_ns
        except IndexError:
            return 0

    @property
    def waiting(self) -> list[Row]:
        """All that wait, oldest first."""
        with self._lock:
            return [w.row for w in self._pending]

    def head(self, epoch: int) -> int:
        """The last verdict of an epoch that is known here."""
        with self._lock:
            return self._heads[epoch]

    def extent(self) -> tuple[int, dict[int, int], dict[int, int]]:
        """The present epoch, and of each epoch the last verdict and the first that waits."""
        with self._lock:
            heads, firsts = dict(self._heads), dict[int, int]()
            for waiting in reversed(self._pending):
                heads.setdefault(waiting.row.epoch, waiting.row.seq)
                firsts[waiting.row.epoch] = waiting.row.seq
            return self._epoch, heads, firsts

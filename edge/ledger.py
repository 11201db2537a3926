"""One verdict per trigger. Opens an entry when a part is seen, closes it exactly once."""

from __future__ import annotations

import heapq
import threading
from dataclasses import dataclass, field

from edge.job import Job
from edge.types import Judgement, Reason, Trigger, Verdict


@dataclass(frozen=True, slots=True)
class Counts:
    """A consistent snapshot: `triggers_seen = ok + not_ok + not_decidable + in_flight` always holds.

    `missed` are deadlines that passed, `late` are results that came after their verdict, `overruns` are triggers that
    found no room.
    """

    triggers_seen: int
    ok: int
    not_ok: int
    not_decidable: int
    in_flight: int
    missed: int
    late: int
    overruns: int


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """A trigger that is owed one verdict. `seq` counts the triggers of an epoch from 1; the deadline is monotonic."""

    seq: int
    trigger: Trigger
    deadline_ns: int
    job: Job


@dataclass
class Ledger:
    """All triggers that wait for their verdict, in order. Safe to use from several threads.

    `deadline_ns` counts from each trigger's time.
    """

    deadline_ns: int
    _open: dict[int, Entry] = field(default_factory=dict)
    _due: list[tuple[int, int]] = field(default_factory=list)
    _judged: dict[Judgement, int] = field(default_factory=lambda: dict.fromkeys(Judgement, 0))
    _seen: int = 0
    _missed: int = 0
    _late: int = 0
    _overruns: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, trigger: Trigger, job: Job) -> Entry:
        """Enter a trigger, which gets the next number and the job that is its own from now on."""
        with self._lock:
            self._seen += 1
            entry = Entry(self._seen, trigger, trigger.time_ns + self.deadline_ns, job)
            self._open[entry.seq] = entry
            heapq.heappush(self._due, (entry.deadline_ns, entry.seq))
            return entry

    def is_open(self, entry: Entry) -> bool:
        """Whether its verdict is still to be given."""
        with self._lock:
            return entry.seq in self._open

    def close(self, entry: Entry, verdict: Verdict) -> bool:
        """Close an entry with its terminal verdict; False (and counted late) if it has one already."""
        with self._lock:
            if self._open.pop(entry.seq, None) is None:
                self._late += 1
                return False
            self._forget_closed()
            self._judged[verdict.judgement] += 1
            self._missed += verdict.reason is Reason.DEADLINE_MISSED
            self._overruns += verdict.reason is Reason.OVERLOAD
            return True

    def note_late(self) -> None:
        """Count a result that came after its verdict."""
        with self._lock:
            self._late += 1

    def expired(self, now_ns: int) -> list[Entry]:
        """Open entries whose deadline has passed, most urgent first. They stay open until closed."""
        with self._lock:
            self._forget_closed()
            if not self._due or self._due[0][0] > now_ns:
                return []
            return sorted(
                (e for e in self._open.values() if e.deadline_ns <= now_ns), key=lambda e: (e.deadline_ns, e.seq)
            )

    def next_deadline_ns(self) -> int | None:
        """When the next open entry expires; None when none is open."""
        with self._lock:
            self._forget_closed()
            return self._due[0][0] if self._due else None

    def all_open(self) -> list[Entry]:
        """Every entry that waits for its verdict, in order."""
        with self._lock:
            return list(self._open.values())

    def _forget_closed(self) -> None:
        while self._due and self._due[0][1] not in self._open:
            heapq.heappop(self._due)

    def counts(self) -> Counts:
        """A snapshot of all counters."""
        with self._lock:
            judged = self._judged
            return Counts(
                triggers_seen=self._seen,
                ok=judged[Judgement.OK],
                not_ok=judged[Judgement.NOT_OK],
                not_decidable=judged[Judgement.NOT_DECIDABLE],
                in_flight=len(self._open),
                missed=self._missed,
                late=self._late,
                overruns=self._overruns,
            )

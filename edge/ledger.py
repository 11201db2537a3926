"""One verdict per trigger. Opens an entry when a part is seen, closes it exactly once."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

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


@dataclass
class Ledger:
    """All triggers that wait for their verdict, in order. Safe to use from several threads.

    `deadline_ns` counts from each trigger's time.
    """

    deadline_ns: int
    _open: dict[int, Trigger] = field(default_factory=dict)
    _judged: dict[Judgement, int] = field(default_factory=lambda: dict.fromkeys(Judgement, 0))
    _seen: int = 0
    _last_seq: int = 0
    _missed: int = 0
    _late: int = 0
    _overruns: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, trigger: Trigger) -> None:
        """Enter a trigger.

        Raises:
            ValueError: its sequence number is not above all earlier ones.
        """
        with self._lock:
            if trigger.seq <= self._last_seq:
                raise ValueError(f"trigger {trigger.seq} after trigger {self._last_seq}")
            self._last_seq = trigger.seq
            self._seen += 1
            self._open[trigger.seq] = trigger

    def close(self, trigger: Trigger, verdict: Verdict) -> bool:
        """Close an entry with its terminal verdict; False (and counted late) if it has one already."""
        with self._lock:
            if self._open.pop(trigger.seq, None) is None:
                self._late += 1
                return False
            self._judged[verdict.judgement] += 1
            self._missed += verdict.reason is Reason.DEADLINE_MISSED
            self._overruns += verdict.reason is Reason.OVERLOAD
            return True

    def expired(self, now_ns: int) -> list[Trigger]:
        """Open triggers whose deadline has passed, oldest first. They stay open until closed."""
        with self._lock:
            return [t for t in self._open.values() if t.time_ns + self.deadline_ns <= now_ns]

    def next_deadline_ns(self) -> int | None:
        """When the next open trigger expires; None when none is open."""
        with self._lock:
            first = min((t.time_ns for t in self._open.values()), default=None)
        return None if first is None else first + self.deadline_ns

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

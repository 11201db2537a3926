"""Where a trigger becomes an entry of the ledger: numbered, bound to a job, kept in the journal's tail, or refused.

Every trigger gets its number and its verdict here or further on; only one that was sent twice gets no second one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from edge.errors import ControlError
from edge.job import Job
from edge.ledger import Entry, Ledger
from edge.types import Reason, Trigger, Verdict
from edge.verdict import undecided

REMEMBERED_TRIGGERS = 20_000


class OpenTriggers(Protocol):
    """Keeps what is known of open triggers in case this process dies."""

    def opened(self, entry: Entry) -> bool:
        """False if there is no more room."""
        ...


@dataclass(frozen=True, slots=True)
class Opened:
    """What became of a trigger. `entry` is None if it is a duplicate; `refusal` is its verdict if it is not to be judged."""

    epoch: int
    seq: int
    entry: Entry | None
    refusal: Verdict | None = None


class StationEnding(ControlError):  # noqa: N818 - what is the case
    """The station takes no more triggers."""


class Intake:
    """Takes triggers from every source, one at a time. The job changes only between two of them."""

    def __init__(
        self,
        ledger: Ledger,
        journal: OpenTriggers,
        job: Job,
        *,
        min_interval_ns: int = 0,
        recent: Mapping[str, tuple[int, int]] | None = None,
    ) -> None:
        self._ledger, self._journal, self._job = ledger, journal, job
        self._epoch = job.provenance.epoch
        self._min_interval_ns = min_interval_ns
        self._recent = OrderedDict(recent or {})
        self._last_ns: int | None = None
        self._lock = threading.Lock()
        self._closed = False
        self.first_seq = 1
        self.duplicates = 0
        self.camera_fault = ""

    @property
    def job(self) -> Job:
        """What the next trigger will be judged with."""
        return self._job

    def change(self, job: Job) -> int:
        """Judge with another job from the next trigger on; returns that trigger's number."""
        with self._lock:
            self._job = job
            self.first_seq = self._ledger.counts().triggers_seen + 1
            return self.first_seq

    def learn(self, earlier: Mapping[str, tuple[int, int]]) -> None:
        """Triggers that came before any that this process has seen: their ids can be known late, when the disk was away."""
        with self._lock:
            self._recent = OrderedDict({**earlier, **self._recent})

    def open(self, trigger: Trigger) -> Opened:
        """Enter a trigger.

        Raises:
            StationEnding: the intake is closed.
        """
        with self._lock:
            if self._closed:
                raise StationEnding("the station is ending", "Start it again.")
            known = self._recent.get(trigger.trigger_id) if trigger.trigger_id else None
            if known is not None:
                self.duplicates += 1
                return Opened(*known, None)
            entry = self._ledger.open(trigger, self._job)
            kept = self._journal.opened(entry)
            if trigger.trigger_id:
                self._recent[trigger.trigger_id] = (self._epoch, entry.seq)
                if len(self._recent) > REMEMBERED_TRIGGERS:
                    self._recent.popitem(last=False)
            return Opened(self._epoch, entry.seq, entry, self._refusal(entry, kept))

    def close(self) -> None:
        """Take no more triggers. Afterwards the open ones are all that are owed a verdict."""
        with self._lock:
            self._closed = True

    def _refusal(self, entry: Entry, kept: bool) -> Verdict | None:
        """Why this trigger can't be judged; None if it can."""
        since_ns = None if self._last_ns is None else entry.trigger.time_ns - self._last_ns
        if self._min_interval_ns and since_ns is not None and since_ns < self._min_interval_ns:
            return undecided(
                Reason.OVERLOAD, f"{since_ns / 1e6:.1f} ms after the trigger before: faster than the line allows"
            )
        self._last_ns = entry.trigger.time_ns
        if entry.job.recipe is None:
            return undecided(Reason.NO_RECIPE, "no recipe is active")
        if self.camera_fault:
            return undecided(Reason.CAMERA_LOST, self.camera_fault)
        if not kept:
            return undecided(Reason.OVERLOAD, "too many triggers wait for their verdicts")
        return None

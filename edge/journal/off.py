"""A station whose file says that nothing is to be kept."""

from __future__ import annotations

from pathlib import Path

from edge.bus.messages import JournalState, VerdictMessage
from edge.bus.requests import EpochInfo
from edge.job import Job
from edge.journal.left import Left
from edge.ledger import Entry
from edge.types import Picture


class NoJournal:
    """Takes everything and keeps nothing. Verdicts can't be replayed, and a crash leaves open triggers without one."""

    state = JournalState.OFF
    lost = 0
    pictures_lost = 0
    set_aside: tuple[Path, ...] = ()
    readable = True

    def __init__(self) -> None:
        self._epoch = self._head_seq = 0

    def left(self) -> Left:
        """Nothing."""
        return Left(0, 0, (), None)

    def newest_epoch(self) -> int:
        """None is known."""
        return 0

    def catch_up(self) -> None:
        """Nothing to do."""

    def recent_triggers(self) -> dict[str, tuple[int, int]]:
        """None is known."""
        return {}

    def begin(self, epoch: int, wall_us: int) -> None:
        """Count from here."""
        self._epoch = epoch

    def describe(self, job: Job) -> None:
        """Nothing to do."""

    def opened(self, _entry: Entry) -> bool:
        """There is always room for nothing."""
        return True

    def record(self, message: VerdictMessage, data: bytes) -> None:
        """Only count."""
        self._head_seq = message.seq

    def picture(self, message: VerdictMessage, pixels: Picture) -> None:
        """Nothing to do."""

    def epochs(self, after: int) -> list[EpochInfo]:
        """See `History`: this epoch, of which nothing is kept, so that a reader knows what it has lost."""
        return [EpochInfo(self._epoch, self._head_seq + 1, self._head_seq, False)] if self._epoch > after else []

    def read(self, epoch: int, from_seq: int, limit: int) -> list[bytes]:
        """See `History`: nothing."""
        return []

    def fact(self, key: str) -> str | None:
        """None is known."""

    def remember(self, key: str, value: str) -> bool:
        """It is not, and nobody expects it."""
        return True

    def close(self, ending: str) -> None:
        """Nothing to do."""

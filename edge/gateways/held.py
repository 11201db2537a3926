"""The results that a PLC has not acknowledged yet."""

from __future__ import annotations

from collections import deque

from edge.gateways.codes import ReasonCode
from edge.gateways.results import Result, after


class HeldResults:
    """A queue in which nothing is ever overwritten. Every result gets a number, also one that finds no room.

    An acceptance can be taken back while a result is held; it never comes back.
    """

    def __init__(self, room: int, number: int) -> None:
        """Empty; the first result follows `number`."""
        self._room, self._number, self._released = room, number, number
        self._queue: deque[Result] = deque()
        self.withdrawn = 0
        """Acceptances that were taken back."""

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def first(self) -> Result | None:
        """The one that waits for its acknowledgement."""
        return self._queue[0] if self._queue else None

    @property
    def has_room(self) -> bool:
        """Whether another one would be held."""
        return len(self._queue) < self._room

    @property
    def next_number(self) -> int:
        """The number of the next result."""
        return after(self._number)

    def begin_after(self, number: int) -> None:
        """Nothing was shown yet: the next result follows this number."""
        self._number = self._released = number

    def put(self, result: Result) -> bool:
        """Hold a result with the next number; False if there is no room, but the number is gone."""
        self._number = result.number
        if not self.has_room:
            return False
        self._queue.append(result)
        return True

    def skip(self, count: int = 1) -> None:
        """So many numbers are never seen."""
        if count:
            self._number = after(self._number, count)

    def release(self, number: int) -> bool:
        """Let go of the first one if that is its number; False if it is not, nor that of the one before."""
        if self._queue and self._queue[0].number == number:
            self._released = self._queue.popleft().number
            return True
        return number == self._released

    def withdraw(self, why: ReasonCode, older_than_ns: int | None = None) -> bool:
        """Take back the acceptance of all that came before a time, or of all; returns whether there were any such."""
        count = sum(older_than_ns is None or result.arrived_ns < older_than_ns for result in self._queue)
        for place in range(count):
            result = self._queue[place]
            if result.accept:
                self.withdrawn += 1
                self._queue[place] = result.withdrawn(why)
        return count > 0

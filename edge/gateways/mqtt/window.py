"""What the broker was given and has not taken yet. The position goes on only behind what it has taken without a gap."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from edge.bus.position import Position


@dataclass
class _Sent:
    mid: int
    after: Position | None
    taken: bool = False


class Window:
    """Messages in flight, oldest first."""

    def __init__(self) -> None:
        self._sent: deque[_Sent] = deque()

    def __len__(self) -> int:
        return len(self._sent)

    def send(self, mid: int, after: Position | None) -> None:
        """A message went out under this id; `after` is where a reader stands that has had it, None if it is no item."""
        self._sent.append(_Sent(mid, after))

    def take(self, mid: int) -> list[Position]:
        """The broker has taken a message; returns the positions behind the items that the account goes past with it."""
        for sent in self._sent:
            if sent.mid == mid:
                sent.taken = True
                break
        reached = []
        while self._sent and self._sent[0].taken:
            after = self._sent.popleft().after
            if after is not None:
                reached.append(after)
        return reached

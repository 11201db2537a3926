"""How often something may fail before it has failed for good."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass
class Budget:
    """At most `most` restarts within any `within_ns`."""

    most: int
    within_ns: int
    _spent_ns: deque[int] = field(default_factory=deque)

    def spend(self, now_ns: int) -> bool:
        """Take one restart; False if none is left."""
        if self.left(now_ns) <= 0:
            return False
        self._spent_ns.append(now_ns)
        return True

    def left(self, now_ns: int) -> int:
        """Restarts that may still be taken now."""
        while self._spent_ns and self._spent_ns[0] <= now_ns - self.within_ns:
            self._spent_ns.popleft()
        return self.most - len(self._spent_ns)

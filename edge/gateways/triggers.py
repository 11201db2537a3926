"""What a PLC triggered, until each part has its result."""

from __future__ import annotations

from collections import OrderedDict

from edge.gateways.codes import TriggerStatus
from edge.gateways.wishes import TriggerWish
from edge.sealed import digest

REMEMBERED = 1_000


class Triggers:
    """Triggers by the id that the station knows them by. A number that is written again is no trigger."""

    def __init__(self, name: str, boot_id: str) -> None:
        """No trigger yet.

        Args:
            name: the gateway's; begins the ids of all its runs.
            boot_id: of this run.
        """
        self._family, self._boot_id = f"gw-{digest(name)[:8]}-", boot_id
        self._count, self._written = 0, 0
        self._pending: OrderedDict[str, TriggerWish] = OrderedDict()
        self._disowned: OrderedDict[str, TriggerWish] = OrderedDict()
        self.acked = 0
        """The last number that was answered."""
        self.status = TriggerStatus.NONE
        """What became of the number that was written last."""
        self.missed = 0

    @property
    def pending(self) -> tuple[TriggerWish, ...]:
        """Those that wait for their results, oldest first."""
        return tuple(self._pending.values())

    @property
    def is_answered(self) -> bool:
        """Whether what was written last has its answer."""
        return self.acked == self._written

    def is_new(self, number: int) -> bool:
        """Whether this number would be a trigger, or the end of one."""
        return number != self._written

    def rest(self, number: int) -> None:
        """The PLC has written a number that is no trigger: 0, or one of which nobody knows whether it is new."""
        self._written = self.acked = number
        self.status = TriggerStatus.NOT_READY if number else TriggerStatus.NONE

    def ask(self, number: int, part_id: str, encoder_count: int | None, now_ns: int) -> TriggerWish:
        """The PLC has triggered."""
        self._count += 1
        wish = TriggerWish(f"{self._family}{self._boot_id}-{self._count}", number, part_id, encoder_count, now_ns)
        self._written, self.status = number, TriggerStatus.PENDING
        self._pending[wish.trigger_id] = wish
        return wish

    def ask_beside(self, part_id: str, encoder_count: int | None, now_ns: int) -> TriggerWish:
        """Somebody else has triggered, without a number: what the PLC writes stays what it is."""
        self._count += 1
        wish = TriggerWish(f"{self._family}{self._boot_id}-{self._count}", 0, part_id, encoder_count, now_ns)
        self._pending[wish.trigger_id] = wish
        return wish

    def awaits(self, wish: TriggerWish) -> bool:
        """Whether it waits for its result."""
        return wish.trigger_id in self._pending

    def take(self, wish: TriggerWish) -> None:
        """The station has taken it."""
        self._answer(wish, TriggerStatus.TAKEN)

    def refuse(self, wish: TriggerWish, status: TriggerStatus) -> bool:
        """It was not taken; False if its result was faster than this answer."""
        if wish.trigger_id not in self._pending:
            return False
        self.disown(wish, status)
        self.missed += 1
        return True

    def disown(self, wish: TriggerWish, status: TriggerStatus) -> None:
        """The PLC is told to reject this part: a verdict that comes yet changes nothing."""
        self._pending.pop(wish.trigger_id, None)
        self._disowned[wish.trigger_id] = wish
        if len(self._disowned) > REMEMBERED:
            self._disowned.popitem(last=False)
        self._answer(wish, status)

    def judged(self, trigger_id: str) -> TriggerWish | None:
        """A verdict has come; returns the trigger of the PLC that it belongs to."""
        wish = self._pending.pop(trigger_id, None)
        if wish is not None:
            self._answer(wish, TriggerStatus.TAKEN)
        return wish

    def disowned(self, trigger_id: str) -> TriggerWish | None:
        """The trigger, if the PLC was told to reject its part."""
        return self._disowned.get(trigger_id)

    def is_forgotten(self, trigger_id: str) -> bool:
        """Whether it is one of this gateway's that nobody waits for: from before its start, or from long ago."""
        known = trigger_id in self._pending or trigger_id in self._disowned
        return trigger_id.startswith(self._family) and not known

    def _answer(self, wish: TriggerWish, status: TriggerStatus) -> None:
        """Answer a trigger, if the PLC has not gone on to another one."""
        if wish.number and wish.number == self._written and not self.is_answered:
            self.acked, self.status = wish.number, status

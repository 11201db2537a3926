"""What the PLC writes: checked, in the order of the table, and from one session at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from asyncua import ua

from edge.gateways.link import Link
from edge.gateways.opcua.names import node_name, variant_type
from edge.gateways.signals import COMMANDS, TEXT_BYTES, Command, Kind

SHORTEST_OWNERSHIP_MS = 2_000.0
RESET, STOP = 1, 2
_codes = ua.StatusCodes
CommandValue = int | str


class Ownership:
    """One session writes; another one may when that has closed, or has written nothing for a while."""

    def __init__(self, idle_ms: float, new_owner: Callable[[], None] = lambda: None) -> None:
        """Nobody has written; `new_owner` is called before another session than before does."""
        self._idle_s, self._new_owner = max(idle_ms, SHORTEST_OWNERSHIP_MS) / 1000, new_owner
        self._owner: ua.NodeId | None = None
        self._wrote_s = 0.0

    def claim(self, caller: ua.NodeId) -> bool:
        """Whether the caller may write now; if so, it is the one that does from now on."""
        now = time.monotonic()
        if self._owner not in (None, caller) and now - self._wrote_s <= self._idle_s:
            return False
        if self._owner != caller:
            self._new_owner()
        self._owner, self._wrote_s = caller, now
        return True

    def release(self, caller: ua.NodeId) -> None:
        """The caller has gone."""
        if self._owner == caller:
            self._owner = None


@dataclass(frozen=True)
class _Written:
    """One checked write."""

    command: Command
    value: CommandValue


class Commands:
    """Drives the link with what is written."""

    def __init__(
        self, link: Link, ownership: Ownership, namespace: int, kept: Callable[[str, CommandValue], None]
    ) -> None:
        """Make it.

        Args:
            link: to the station.
            ownership: who may write.
            namespace: index of our own.
            kept: is given every value that was taken, by the name of its command.
        """
        self._link, self._ownership, self._kept = link, ownership, kept
        self._rows = {
            ua.NodeId(node_name(command.name), namespace): (place, command) for place, command in enumerate(COMMANDS)
        }
        self._part_id = ""
        self._encoder_count: int | None = None

    def write(self, caller: ua.NodeId, wanted: list[ua.WriteValue]) -> list[ua.StatusCode | None]:
        """Take what one request writes; whatever order it has, the trigger's number counts last.

        Returns a status for each; None for a node that is no command. Nothing of a trigger is taken if any part of it is wrong.
        """
        done: list[ua.StatusCode | None] = [None] * len(wanted)
        ours = sorted(
            (place for place, each in enumerate(wanted) if each.NodeId in self._rows),
            key=lambda place: self._rows[wanted[place].NodeId][0],
        )
        is_good = True
        for place in ours:
            checked = self._check(wanted[place])
            if isinstance(checked, _Written) and not self._ownership.claim(caller):
                checked = ua.StatusCode(_codes.BadUserAccessDenied)
            if isinstance(checked, _Written) and checked.command.name == "trigger_number" and not is_good:
                checked = ua.StatusCode(_codes.BadInvalidState)
            if isinstance(checked, _Written):
                self._apply(checked)
                done[place] = ua.StatusCode(_codes.Good)
            else:
                done[place], is_good = checked, False
        return done

    def _check(self, wanted: ua.WriteValue) -> _Written | ua.StatusCode:
        _, command = self._rows[wanted.NodeId]
        if wanted.AttributeId != ua.AttributeIds.Value:
            return ua.StatusCode(_codes.BadNotWritable)
        data = wanted.Value
        if wanted.IndexRange or (data.StatusCode is not None and not data.StatusCode.is_good()):
            return ua.StatusCode(_codes.BadWriteNotSupported)
        variant = data.Value
        if variant is None or variant.VariantType != variant_type(command.kind) or variant.is_array:
            return ua.StatusCode(_codes.BadTypeMismatch)
        value = variant.Value
        if command.kind is Kind.TEXT:
            value = value or ""
            if not is_part_id(value):
                return ua.StatusCode(_codes.BadOutOfRange)
        elif command.name == "command" and value & ~(RESET | STOP):
            return ua.StatusCode(_codes.BadOutOfRange)
        return _Written(command, value)

    def _apply(self, written: _Written) -> None:
        value, link = written.value, self._link
        self._kept(written.command.name, value)
        if isinstance(value, str):
            self._part_id = value
            return
        name = written.command.name
        if name == "plc_heartbeat":
            link.plc_heartbeat(value)
        elif name == "ack_number":
            link.acknowledge(value)
        elif name == "command":
            link.command(reset=bool(value & RESET), stop=bool(value & STOP))
        elif name == "recipe_wanted":
            link.want_recipe(value)
        elif name == "encoder_count":
            self._encoder_count = value
        elif name == "trigger_number":
            link.trigger(value, self._part_id, self._encoder_count)


def is_part_id(text: str) -> bool:
    """Whether a PLC may name a part so: it must come back whole in every protocol."""
    return len(text.encode("utf-8", "surrogatepass")) <= TEXT_BYTES and (text.isprintable() or not text)

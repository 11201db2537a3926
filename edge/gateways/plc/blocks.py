"""The two blocks as a PLC has them: what it reads, and what it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from edge.errors import GatewayError
from edge.gateways.codes import Code
from edge.gateways.signals import BITS, MAP_VERSION, STATUS, Kind, Value

LARGEST_NUMBER = 65_535
RESET = 1
WHOLE = tuple(row.name for row in STATUS if row.kind not in (Kind.SCALED, Kind.TEXT))
"""Values that are whole numbers."""


def after(number: int) -> int:
    """The number that follows: 65,535 is followed by 1."""
    return number % LARGEST_NUMBER + 1


def distance(earlier: int, later: int) -> int:
    """How many numbers `later` is ahead of `earlier`, 0 to 65,534."""
    return (later - earlier) % LARGEST_NUMBER


def name_of(codes: type[Code], number: int) -> str:
    """The name of a code; its number, if only a newer gateway knows it."""
    return codes(number).name if number in list(codes) else str(number)


def meaning_of(codes: type[Code], number: int) -> str:
    """What a code means."""
    return codes(number).meaning if number in list(codes) else f"code {number}, which this program does not know"


@dataclass(frozen=True, slots=True)
class Status:
    """One read of the status block. Only `whole` ones may be believed.

    Codes stay numbers: a newer gateway may have more of them than this program knows.
    """

    values: Mapping[str, Value]
    bits: Mapping[str, bool]

    @property
    def whole(self) -> bool:
        """Whether both ends of the block are of the same result."""
        return self.number("result_number") == self.number("result_number_end")

    def number(self, name: str) -> int:
        """A whole number of the block."""
        value = self.values[name]
        assert isinstance(value, int)  # noqa: S101 - status_of has looked
        return value


def status_of(values: Mapping[str, Value]) -> Status:
    """The status block with its status word taken apart.

    Raises:
        GatewayError: this is not a Linegate gateway's block, or one of another version.
    """
    version, word = values["map_version"], values["status"]
    if version != MAP_VERSION or not isinstance(word, int):
        raise GatewayError(
            f"the gateway's map_version reads {version}, not {MAP_VERSION}",
            "Check the address, and that the gateway is of the same version as this program.",
        )
    if strange := [name for name in WHOLE if not isinstance(values.get(name), int)]:
        raise GatewayError(f"the gateway's {strange[0]} is no whole number", "Is this a Linegate gateway? See its log.")
    return Status(values, {bit.name: bool(word >> place & 1) for place, bit in enumerate(BITS)})


@dataclass(frozen=True, slots=True)
class Commands:
    """All that the PLC writes, in the order of the command block: the trigger number comes last."""

    plc_heartbeat: int = 0
    ack_number: int = 0
    command: int = 0
    recipe_wanted: int = 0
    encoder_count: int = 0
    trigger_part_id: str = ""
    trigger_number: int = 0

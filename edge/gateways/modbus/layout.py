"""Where the values of the signal tables are in the registers, and how they are written there.

Addresses are 0-based holding registers; input registers show the same. Both blocks are contiguous, and each is short enough for
one request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from edge.gateways.image import Image
from edge.gateways.signals import BITS, COMMANDS, STATUS, TEXT_BYTES, Bit, Command, Kind, Signal, Value

REGISTERS = {Kind.U16: 1, Kind.U32: 2, Kind.U64: 4, Kind.I32: 2, Kind.SCALED: 2, Kind.TEXT: TEXT_BYTES // 2}
"""How many registers a value fills."""
LARGEST_READ = 125
"""Registers that one request can read, by the Modbus specification."""
STATUS_START = 0
COMMAND_START = 200
SCALE = 10_000
SCALED_NONE, SCALED_LARGEST = 0xFFFF_FFFF, 0xFFFF_FFFE
End = Literal["big", "little"]
Row = TypeVar("Row", Signal, Command)


@dataclass(frozen=True, slots=True)
class Order:
    """Of values that fill more than one register; "big" is what Modbus does with single ones.

    `byte`: which byte of a register comes first, also in text. `word`: which register of a number comes first; text is never
    turned round.
    """

    byte: End = "big"
    word: End = "big"


@dataclass(frozen=True, slots=True)
class Field(Generic[Row]):
    """A row of a table in the registers `address` to `address + size - 1`."""

    name: str
    address: int
    size: int
    row: Row

    @property
    def end(self) -> int:
        """The first register after it."""
        return self.address + self.size


def _lay_out(start: int, rows: Iterable[Row]) -> tuple[Field[Row], ...]:
    """One field after the other, without a hole."""
    fields: list[Field[Row]] = []
    for row in rows:
        size = REGISTERS[row.kind]
        fields.append(Field(row.name, start, size, row))
        start += size
    return tuple(fields)


STATUS_FIELDS: tuple[Field[Signal], ...] = _lay_out(STATUS_START, STATUS)
COMMAND_FIELDS: tuple[Field[Command], ...] = _lay_out(COMMAND_START, COMMANDS)
STATUS_SIZE = STATUS_FIELDS[-1].end - STATUS_START
COMMAND_SIZE = COMMAND_FIELDS[-1].end - COMMAND_START
STATUS_FIELD = {field.name: field for field in STATUS_FIELDS}
COMMAND_FIELD = {field.name: field for field in COMMAND_FIELDS}


def bit_name(bit: Bit) -> str:
    """The name of a status bit among those of the values: its own, unless a value has it."""
    return f"{bit.name}_bit" if bit.name in STATUS_FIELD else bit.name


def is_readable(address: int, count: int) -> bool:
    """Whether all of these registers are in one block."""
    blocks = ((STATUS_START, STATUS_SIZE), (COMMAND_START, COMMAND_SIZE))
    return any(start <= address and address + count <= start + size for start, size in blocks)


def encode_status(image: Image, order: Order) -> list[int]:
    """The status block, `STATUS_SIZE` registers."""
    return [word for field in STATUS_FIELDS for word in to_registers(field.row.kind, field.row.read(image), order)]


def decode_status(registers: Sequence[int], order: Order) -> dict[str, Value]:
    """The values of a status block by name, and those of the bits in its status word (see `bit_name`).

    Raises:
        ValueError: not `STATUS_SIZE` registers.
    """
    values = _decode(STATUS_FIELDS, registers, order)
    word = registers[STATUS_FIELD["status"].address - STATUS_START]
    return values | {bit_name(bit): bool(word >> place & 1) for place, bit in enumerate(BITS)}


def encode_command(name: str, value: Value, order: Order) -> list[int]:
    """A value of the command block as its registers, to be written from `COMMAND_FIELD[name].address` on.

    Raises:
        ValueError: it cannot be written exactly: of another type, too large, or a text too long or with control characters.
    """
    registers = to_registers(COMMAND_FIELD[name].row.kind, value, order)
    if from_registers(COMMAND_FIELD[name].row.kind, registers, order) != value:
        raise ValueError(f"{value!r} does not fit into {name}")
    return registers


def decode_command(registers: Sequence[int], order: Order) -> dict[str, Value]:
    """The values of a command block by name.

    Raises:
        ValueError: not `COMMAND_SIZE` registers.
    """
    return _decode(COMMAND_FIELDS, registers, order)


def _decode(fields: tuple[Field[Row], ...], registers: Sequence[int], order: Order) -> dict[str, Value]:
    start, size = fields[0].address, fields[-1].end - fields[0].address
    if len(registers) != size:
        raise ValueError(f"{len(registers)} registers instead of {size}")
    return {
        field.name: from_registers(field.row.kind, registers[field.address - start : field.end - start], order)
        for field in fields
    }


def to_registers(kind: Kind, value: Value, order: Order) -> list[int]:
    """A value as it is in the registers.

    Counters wrap. Single registers stop at their ends, because they hold sizes. Text is cut to whole characters.

    Raises:
        ValueError: a text for a number, or the other way round.
    """
    if kind is Kind.TEXT:
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is no text")
        data = _text_bytes(value)
        return [int.from_bytes(data[at : at + 2], order.byte) for at in range(0, TEXT_BYTES, 2)]
    if kind is Kind.SCALED:
        value = _scaled(value)
    if not isinstance(value, int):
        raise ValueError(f"{value!r} is no whole number")
    if kind is Kind.U16:
        return [min(max(value, 0), 0xFFFF)]
    size = REGISTERS[kind]
    data = (value % (1 << 16 * size)).to_bytes(2 * size, "big")
    registers = [int.from_bytes(data[at : at + 2], order.byte) for at in range(0, 2 * size, 2)]
    return registers if order.word == "big" else registers[::-1]


def from_registers(kind: Kind, registers: Sequence[int], order: Order) -> Value:
    r"""The value that registers hold. In text, what is not UTF-8 or not printable shows as `\xNN`, so that two stay two."""
    if kind is Kind.TEXT:
        data = b"".join(register.to_bytes(2, order.byte) for register in registers)
        text = data.split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if kind is Kind.U16:
        return registers[0]
    in_order = registers if order.word == "big" else registers[::-1]
    data = b"".join(register.to_bytes(2, order.byte) for register in in_order)
    number = int.from_bytes(data, "big", signed=kind is Kind.I32)
    if kind is Kind.SCALED:
        return None if number == SCALED_NONE else number / SCALE
    return number


def _scaled(value: Value) -> int:
    """In 1/10,000. What is no number, or below zero, which no score is, must not look like a small one."""
    if value is None or isinstance(value, str) or math.isnan(value) or value < 0:
        return SCALED_NONE
    # Before it is multiplied: that may be too much for a float, and infinity is no whole number.
    return SCALED_LARGEST if value >= SCALED_LARGEST / SCALE else round(value * SCALE)


def _text_bytes(text: str) -> bytes:
    shown = "".join(character if character.isprintable() else "?" for character in text)
    cut = shown.encode()[:TEXT_BYTES].decode("utf-8", "ignore").encode()
    return cut.ljust(TEXT_BYTES, b"\0")

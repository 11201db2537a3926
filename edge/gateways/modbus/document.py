"""The register map for people and for PLC tools, from the same tables as the server."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from edge.gateways.codes import Code
from edge.gateways.modbus.layout import (
    COMMAND_FIELDS,
    COMMAND_SIZE,
    COMMAND_START,
    SCALE,
    SCALED_NONE,
    STATUS_FIELD,
    STATUS_FIELDS,
    STATUS_SIZE,
    STATUS_START,
    Field,
    bit_name,
)
from edge.gateways.signals import BITS, MAP_VERSION, Bit, Command, Kind, Signal

COLUMNS = (
    "name",
    "direction",
    "register",
    "modicon_address",
    "iec_type",
    "length_registers",
    "unit",
    "access",
    "comment",
)
FIRST_HOLDING = 40_001
"""What Modicon calls holding register 0."""
IEC_TYPES = {
    Kind.U16: "UINT",
    Kind.U32: "UDINT",
    Kind.U64: "ULINT",
    Kind.I32: "DINT",
    Kind.SCALED: "UDINT",
    Kind.TEXT: Kind.TEXT.value,
}
SCALED_NOTE = f"in 1/{SCALE:,}; {SCALED_NONE}: none"
PADDED = "UTF-8, padded with zeros"


def map_markdown() -> str:
    """The register map as Markdown tables, without a title."""
    status_end, command_end = STATUS_START + STATUS_SIZE - 1, COMMAND_START + COMMAND_SIZE - 1
    codes = [field for field in STATUS_FIELDS if field.row.codes is not None]
    parts = [
        f"Map version {MAP_VERSION}. Register numbers count from 0; add {FIRST_HOLDING:,} for Modicon addresses.",
        f"### Status block: registers {STATUS_START} to {status_end}, read with function 3 or 4, all {STATUS_SIZE} at once",
        _table(("register", "size", "type", "name", "meaning"), (_row(field) for field in STATUS_FIELDS)),
        f"### Bits of `status` (register {STATUS_FIELD['status'].address})",
        _table(("bit", "name", "meaning"), ((place, f"`{bit_name(bit)}`", bit.meaning) for place, bit in _bits())),
        f"### Command block: registers {COMMAND_START} to {command_end}, written with function 6, 16 or 23",
        _table(("register", "size", "type", "name", "meaning"), (_row(field) for field in COMMAND_FIELDS)),
    ]
    for field in codes:
        parts.append(f"### Codes of `{field.name}` (register {field.address})")
        parts.append(_table(("code", "name", "meaning"), _codes(field.row.codes or ())))
    return "\n\n".join(parts) + "\n"


def map_csv() -> str:
    """The register map as CSV with a heading, one line a value, the bits of a word after it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for field in STATUS_FIELDS:
        writer.writerow(_line(field, "status", "R"))
        if field.name == "status":
            for place, bit in _bits():
                where = (field.address, f"{FIRST_HOLDING + field.address}.{place}")
                writer.writerow((bit_name(bit), "status", *where, "BOOL", 1, "", "R", f"bit {place}: {bit.meaning}"))
    for command in COMMAND_FIELDS:
        writer.writerow(_line(command, "command", "RW"))
    return text.getvalue()


def _bits() -> Iterator[tuple[int, Bit]]:
    return iter(enumerate(BITS))


def _codes(codes: Iterable[Code]) -> Iterator[tuple[int, str, str]]:
    return ((int(code), code.name, code.meaning) for code in codes)


def _row(field: Field[Signal] | Field[Command]) -> tuple[object, ...]:
    last = field.address + field.size - 1
    where = str(field.address) if field.size == 1 else f"{field.address} to {last}"
    return where, field.size, IEC_TYPES[field.row.kind], f"`{field.name}`", _meaning(field)


def _line(field: Field[Signal] | Field[Command], direction: str, access: str) -> tuple[object, ...]:
    codes = (field.row.codes if isinstance(field.row, Signal) else None) or ()
    comment = _meaning(field) + "".join(f"; {int(code)} {code.name}" for code in codes)
    return (
        field.name,
        direction,
        field.address,
        FIRST_HOLDING + field.address,
        IEC_TYPES[field.row.kind],
        field.size,
        _unit(field),
        access,
        comment,
    )


def _meaning(field: Field[Signal] | Field[Command]) -> str:
    notes = {Kind.SCALED: SCALED_NOTE, Kind.TEXT: PADDED}
    unit = f" ({_unit(field)})" if _unit(field) else ""
    note = notes.get(field.row.kind)
    return f"{field.row.meaning}{unit}" + (f"; {note}" if note else "")


def _unit(field: Field[Signal] | Field[Command]) -> str:
    return field.row.unit if isinstance(field.row, Signal) else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)

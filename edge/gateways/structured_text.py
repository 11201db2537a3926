"""The signal tables as IEC 61131-3 structured text: types for the PLC's program, and the way from registers to them."""

from __future__ import annotations

from edge.gateways.codes import (
    Code,
    FaultCode,
    JudgementCode,
    OnlineReason,
    ReasonCode,
    RecipeStatus,
    TriggerStatus,
)
from edge.gateways.modbus.layout import (
    COMMAND_FIELDS,
    COMMAND_SIZE,
    COMMAND_START,
    STATUS_FIELDS,
    STATUS_SIZE,
    STATUS_START,
)
from edge.gateways.signals import BITS, COMMANDS, MAP_VERSION, STATUS, TEXT_BYTES, Command, Kind, Signal

ENUMS: tuple[tuple[str, type[Code]], ...] = (
    ("Judgement", JudgementCode),
    ("Reason", ReasonCode),
    ("Online", OnlineReason),
    ("Fault", FaultCode),
    ("Trigger", TriggerStatus),
    ("Recipe", RecipeStatus),
)
TYPES = {
    Kind.U16: "UINT",
    Kind.U32: "UDINT",
    Kind.U64: "ULINT",
    Kind.I32: "DINT",
    Kind.SCALED: "UDINT",
    Kind.TEXT: f"STRING[{TEXT_BYTES}]",
}
BIT_FIELDS = frozenset({"status", "fault_bits", "command"})
GENERATED = "(* Generated from the signal table of Linegate, map version {version}. Do not edit. *)\n"


def types() -> str:
    """Linegate_Types.st."""
    return GENERATED.format(version=MAP_VERSION) + "\n" + enumerations() + "\n" + structures()


def enumerations() -> str:
    """The codes as enumerations with their values, as CODESYS, TwinCAT and the third edition of the standard have them."""
    return "\n".join(_enumeration(name, codes) for name, codes in ENUMS)


def structures() -> str:
    """The two blocks as structures."""
    return (
        _structure("ST_LinegateStatus", STATUS, "what the PLC reads")
        + "\n"
        + _structure("ST_LinegateCommand", COMMANDS, "what the PLC writes")
    )


def registers() -> str:
    """Linegate_Registers.st: holding registers to the structures and back."""
    return GENERATED.format(version=MAP_VERSION) + "\n" + _arrays() + "\n" + _reading() + "\n" + _writing()


def _enumeration(name: str, codes: type[Code]) -> str:
    lines = [
        f"    LG_{name.upper()}_{code.name} := {code.value}{'' if last else ','} (* {code.meaning} *)"
        for last, code in ((code is list(codes)[-1], code) for code in codes)
    ]
    return "\n".join(["TYPE", f"E_Linegate{name} : (", *lines, ") UINT;", "END_TYPE", ""])


def _structure(name: str, rows: tuple[Signal, ...] | tuple[Command, ...], what: str) -> str:
    lines = [f"    {row.name} : {type_of(row)}; (* {_meaning(row)} *)" for row in rows]
    return "\n".join([f"(* {what} *)", "TYPE", f"{name} : STRUCT", *lines, "END_STRUCT;", "END_TYPE", ""])


def type_of(row: Signal | Command) -> str:
    """The type of a value in structured text."""
    return "WORD" if row.name in BIT_FIELDS else TYPES[row.kind]


def _meaning(row: Signal | Command) -> str:
    scaled = "; in 1/10,000, 16#FFFFFFFF: none" if row.kind is Kind.SCALED else ""
    unit = f"; {row.unit}" if isinstance(row, Signal) and row.unit else ""
    bits = "; " + ", ".join(f"{place}: {bit.name}" for place, bit in enumerate(BITS)) if row.name == "status" else ""
    return f"{row.meaning}{bits}{scaled}{unit}"


def _arrays() -> str:
    """The types of the registers and of a text; named, because some compilers tell arrays apart by their names."""
    arrays = (
        f"T_LinegateStatusWords : ARRAY[0..{STATUS_SIZE - 1}] OF WORD;",
        f"T_LinegateCommandWords : ARRAY[0..{COMMAND_SIZE - 1}] OF WORD;",
        f"T_LinegateText : ARRAY[0..{TEXT_BYTES - 1}] OF BYTE; (* ends at the first 0 *)",
    )
    return "".join(f"TYPE\n{array}\nEND_TYPE\n" for array in arrays)


def _reading() -> str:
    """A function block: registers to ST_LinegateStatus."""
    lines = [
        f"(* Holding registers {STATUS_START} to {STATUS_START + STATUS_SIZE - 1}, read in ONE request. *)",
        "FUNCTION_BLOCK FB_LinegateFromRegisters",
        "VAR_INPUT",
        "    Registers : T_LinegateStatusWords;",
        "    LowWordFirst : BOOL; (* as modbus.word_order = little *)",
        "END_VAR",
        "VAR_OUTPUT",
        "    Status : ST_LinegateStatus; (* texts are in the outputs that follow *)",
        *(f"    {field.name}_bytes : T_LinegateText;" for field in STATUS_FIELDS if _is_text(field.row)),
        "END_VAR",
        "VAR",
        "    i : INT;",
        "END_VAR",
        "",
    ]
    for field in STATUS_FIELDS:
        at = field.address - STATUS_START
        if _is_text(field.row):
            lines += _text_out(field.name, at, field.size)
        elif field.row.name in BIT_FIELDS:
            lines.append(f"Status.{field.name} := Registers[{at}];")
        elif field.size == 1:
            lines.append(f"Status.{field.name} := WORD_TO_UINT(Registers[{at}]);")
    lines.append("IF LowWordFirst THEN")
    lines += [f"    {line}" for field in STATUS_FIELDS for line in _wide_out(field.name, field.row, field.address, -1)]
    lines.append("ELSE")
    lines += [f"    {line}" for field in STATUS_FIELDS for line in _wide_out(field.name, field.row, field.address, 1)]
    lines += ["END_IF;", "END_FUNCTION_BLOCK", ""]
    return "\n".join(lines)


def _wide_out(name: str, row: Signal | Command, address: int, step: int) -> list[str]:
    """A value of several registers, the high one first (step 1) or last (-1)."""
    size = {Kind.U32: 2, Kind.SCALED: 2, Kind.I32: 2, Kind.U64: 4}.get(row.kind)
    if size is None:
        return []
    wide = "LWORD" if size == 4 else "DWORD"
    at = [address - STATUS_START + place for place in range(size)][::step]
    parts = [
        f"SHL(WORD_TO_{wide}(Registers[{register}]), {16 * (size - 1 - place)})"
        if place < size - 1
        else f"WORD_TO_{wide}(Registers[{register}])"
        for place, register in enumerate(at)
    ]
    return [f"Status.{name} := {wide}_TO_{type_of(row)}({' OR '.join(parts)});"]


def _text_out(name: str, at: int, size: int) -> list[str]:
    """The bytes of a text, high byte of each register first."""
    return [
        f"FOR i := 0 TO {size - 1} DO",
        f"    {name}_bytes[2 * i] := WORD_TO_BYTE(SHR(Registers[{at} + i], 8));",
        f"    {name}_bytes[2 * i + 1] := WORD_TO_BYTE(Registers[{at} + i] AND WORD#16#00FF);",
        "END_FOR;",
    ]


def _writing() -> str:
    """A function block: ST_LinegateCommand to registers."""
    lines = [
        f"(* Holding registers {COMMAND_START} to {COMMAND_START + COMMAND_SIZE - 1}, written in ONE request. *)",
        "FUNCTION_BLOCK FB_LinegateToRegisters",
        "VAR_INPUT",
        "    Command : ST_LinegateCommand; (* the text is in the input that follows *)",
        *(f"    {field.name}_bytes : T_LinegateText;" for field in COMMAND_FIELDS if _is_text(field.row)),
        "    LowWordFirst : BOOL; (* as modbus.word_order = little *)",
        "END_VAR",
        "VAR_OUTPUT",
        "    Registers : T_LinegateCommandWords;",
        "END_VAR",
        "VAR",
        "    i : INT;",
        "    wide : DWORD;",
        "END_VAR",
        "",
    ]
    for field in COMMAND_FIELDS:
        at = field.address - COMMAND_START
        if _is_text(field.row):
            lines += _text_in(field.name, at, field.size)
        elif field.row.kind is Kind.I32:
            lines += _wide_in(field.name, at)
        elif field.row.name in BIT_FIELDS:
            lines.append(f"Registers[{at}] := Command.{field.name};")
        else:
            lines.append(f"Registers[{at}] := UINT_TO_WORD(Command.{field.name});")
    return "\n".join([*lines, "END_FUNCTION_BLOCK", ""])


def _wide_in(name: str, at: int) -> list[str]:
    high, low = "DWORD_TO_WORD(SHR(wide, 16))", "DWORD_TO_WORD(wide AND DWORD#16#0000FFFF)"
    return [
        f"wide := DINT_TO_DWORD(Command.{name});",
        "IF LowWordFirst THEN",
        f"    Registers[{at}] := {low};",
        f"    Registers[{at + 1}] := {high};",
        "ELSE",
        f"    Registers[{at}] := {high};",
        f"    Registers[{at + 1}] := {low};",
        "END_IF;",
    ]


def _text_in(name: str, at: int, size: int) -> list[str]:
    return [
        f"FOR i := 0 TO {size - 1} DO",
        f"    Registers[{at} + i] := SHL(BYTE_TO_WORD({name}_bytes[2 * i]), 8) OR BYTE_TO_WORD({name}_bytes[2 * i + 1]);",
        "END_FOR;",
    ]


def _is_text(row: Signal | Command) -> bool:
    return row.kind is Kind.TEXT

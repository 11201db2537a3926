"""Names and types of the handshake's nodes, from the one table of signals."""

from __future__ import annotations

from asyncua import ua

from edge.gateways.codes import Code
from edge.gateways.signals import BITS, STATUS, Kind

FOLDER = "Handshake"
_SIGNALS = frozenset(signal.name for signal in STATUS)
_TYPES = {
    Kind.U16: ua.VariantType.UInt16,
    Kind.U32: ua.VariantType.UInt32,
    Kind.U64: ua.VariantType.UInt64,
    Kind.I32: ua.VariantType.Int32,
    Kind.SCALED: ua.VariantType.Double,
    Kind.TEXT: ua.VariantType.String,
}


def variant_type(kind: Kind) -> ua.VariantType:
    """How a value of the table goes over OPC UA; a scaled one as the number that it is."""
    return _TYPES[kind]


def browse_name(name: str, *, is_bit: bool = False) -> str:
    """`result_number` as `ResultNumber`. A bit that is named like a number is a `...Bit`."""
    pascal = "".join(word.capitalize() for word in name.split("_"))
    return f"{pascal}Bit" if is_bit and name in _SIGNALS else pascal


def node_name(name: str, *, is_bit: bool = False) -> str:
    """The string of the node id: `Handshake.ResultNumber`."""
    return f"{FOLDER}.{browse_name(name, is_bit=is_bit)}"


def describe(meaning: str, codes: type[Code] | None = None, unit: str = "") -> str:
    """A node's description, with every code in words."""
    listed = "" if codes is None else "; ".join(f"{code.value}: {code.meaning}" for code in codes)
    return f"{meaning}{f' [{unit}]' if unit else ''}{f' - {listed}' if listed else ''}"


BIT_NAMES = {bit.name: browse_name(bit.name, is_bit=True) for bit in BITS}

"""The registers as pymodbus serves them: each read shows the handshake of now, each write is told to it."""

from __future__ import annotations

from pymodbus.constants import ExcCodes
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.gateways.link import Link
from edge.gateways.modbus.layout import (
    COMMAND_FIELDS,
    COMMAND_SIZE,
    COMMAND_START,
    STATUS_SIZE,
    STATUS_START,
    Order,
    decode_command,
    encode_status,
)
from edge.gateways.signals import Value

RESET, STOP = 1, 2
"""Bits of the command word."""


class Registers:
    """Both blocks. Nothing here waits, so that no request sees half of another one."""

    def __init__(self, link: Link, order: Order) -> None:
        self._link, self._order = link, order
        self._has_encoder = False

    def device(self) -> SimDevice:
        """What pymodbus serves for every unit; the registers between the blocks are illegal."""
        status = SimData(STATUS_START, count=STATUS_SIZE, datatype=DataType.REGISTERS, readonly=True)
        command = SimData(COMMAND_START, count=COMMAND_SIZE, datatype=DataType.REGISTERS)
        return SimDevice(0, simdata=[status, command], action=self._act)

    async def _act(
        self,
        _function: int,
        start: int,
        address: int,
        count: int,
        block: list[int],
        written: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """See `SimDevice.action`. pymodbus keeps what is written when this returns None."""
        if written is not None:
            at = COMMAND_START - start
            return self._write(address, block[at : at + COMMAND_SIZE], [int(value) for value in written])
        at = STATUS_START - start
        block[at : at + STATUS_SIZE] = encode_status(self._link.image(), self._order)
        return None

    def _write(self, address: int, block: list[int], written: list[int]) -> ExcCodes | None:
        """Tell the handshake, in the order of the table, so that the trigger number comes after what belongs to it."""
        end = address + len(written)
        whole = [field for field in COMMAND_FIELDS if address <= field.address and field.end <= end]
        if sum(field.size for field in whole) != len(written):
            # Outside of the block, or a part of a value: half a part id would be another part's.
            return ExcCodes.ILLEGAL_ADDRESS
        block[address - COMMAND_START : end - COMMAND_START] = written
        values = decode_command(block, self._order)
        for field in whole:
            self._tell(field.name, values)
        return None

    def _tell(self, name: str, values: dict[str, Value]) -> None:
        link = self._link
        if name == "encoder_count":
            self._has_encoder = True
        elif name == "trigger_number":
            encoder = _whole(values["encoder_count"]) if self._has_encoder else None
            link.trigger(_whole(values[name]), str(values["trigger_part_id"]), encoder)
        elif name == "plc_heartbeat":
            link.plc_heartbeat(_whole(values[name]))
        elif name == "ack_number":
            link.acknowledge(_whole(values[name]))
        elif name == "recipe_wanted":
            link.want_recipe(_whole(values[name]))
        elif name == "command":
            word = _whole(values[name])
            link.command(reset=bool(word & RESET), stop=bool(word & STOP))


def _whole(value: Value) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no whole number")
    return value

"""A Modbus TCP master that reads and writes the two blocks, each in one request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, fields

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from edge.errors import GatewayError
from edge.gateways.modbus.layout import (
    COMMAND_START,
    STATUS_SIZE,
    STATUS_START,
    Order,
    decode_status,
    encode_command,
)
from edge.gateways.plc.blocks import Commands
from edge.gateways.signals import Value

ANSWER_S = 2.0
READ, WRITE = 3, 16
NAMES = tuple(field.name for field in fields(Commands))


@dataclass(frozen=True, slots=True)
class ModbusPeer:
    """Where the gateway listens, and how its registers are to be read."""

    host: str
    port: int
    unit_id: int
    order: Order
    client: AsyncModbusTcpClient

    @property
    def where(self) -> str:
        """For messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    async def connect(self) -> None:
        """Connect.

        Raises:
            GatewayError: nobody listens there, or the address is not allowed.
        """
        try:
            is_connected = await self.client.connect()
        except (ModbusException, OSError, ValueError) as error:
            # A name with an empty part ends in a UnicodeError.
            raise GatewayError(
                f"{self.where} is no address ({' '.join(str(error).split())})",
                "Write HOST:PORT, e.g. 192.168.0.20:502.",
            ) from error
        if not is_connected:
            raise GatewayError(f"nothing accepts a connection at {self.where}", "Start the gateway, or name its port.")

    async def read(self) -> Mapping[str, Value]:
        """The status block.

        Raises:
            GatewayError: no answer, or a refusal.
        """
        try:
            answer = await self.client.read_holding_registers(STATUS_START, count=STATUS_SIZE, device_id=self.unit_id)
        except (ModbusException, asyncio.TimeoutError, OSError) as error:
            raise self._lost(error) from error
        self._check(answer, "reading the status block")
        if answer.function_code != READ or len(answer.registers) != STATUS_SIZE:
            raise self._strange(f"function {answer.function_code} and {len(answer.registers)} registers")
        return decode_status(answer.registers, self.order)

    async def write(self, commands: Commands) -> None:
        """The command block.

        Raises:
            GatewayError: no answer, or a refusal.
        """
        registers = [
            register for name in NAMES for register in encode_command(name, getattr(commands, name), self.order)
        ]
        try:
            answer = await self.client.write_registers(COMMAND_START, registers, device_id=self.unit_id)
        except (ModbusException, asyncio.TimeoutError, OSError) as error:
            raise self._lost(error) from error
        self._check(answer, "writing the command block")
        if answer.function_code != WRITE:
            raise self._strange(f"function {answer.function_code}")

    async def close(self) -> None:
        """Let go."""
        self.client.close()

    def _lost(self, error: Exception) -> GatewayError:
        return GatewayError(
            f"{self.where} does not answer any more ({' '.join(str(error).split()) or type(error).__name__})",
            "A PLC rejects every part now. See the gateway's log.",
        )

    def _strange(self, answered: str) -> GatewayError:
        return GatewayError(
            f"{self.where} answered something else than it was asked ({answered})",
            "Is this a Linegate gateway of the same version?",
        )

    def _check(self, answer: ModbusPDU, what: str) -> None:
        if answer.isError():
            raise GatewayError(
                f"{self.where} refused {what} with exception {answer.exception_code}",
                "Check the unit id, and that no other master writes.",
            )


def modbus_peer(host: str, port: int, unit_id: int, order: Order) -> ModbusPeer:
    """A peer that is not connected yet. It never reconnects by itself: a lost connection is a finding."""
    client = AsyncModbusTcpClient(host, port=port, timeout=ANSWER_S, retries=0, reconnect_delay=0)
    return ModbusPeer(host, port, unit_id, order, client)

"""`linegate gateway modbus`: the Modbus TCP server of one gateway."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import logging
import socket
from typing import TYPE_CHECKING

from edge.errors import GatewayError
from edge.gateways import service
from edge.gateways.link import Link
from edge.gateways.modbus.admission import Admission
from edge.gateways.modbus.layout import Order
from edge.gateways.settings import GatewaySettings

if TYPE_CHECKING:
    from edge.gateways.modbus.connections import Listener

REMEDIES = {
    errno.EADDRINUSE: "Stop the program that holds the port (`ss -ltnp`), or choose another modbus.port.",
    errno.EACCES: "Ports below 1024 need a right: choose a higher modbus.port, or give it to the gateway "
    "(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE).",
}
NOT_OURS = 'modbus.host must be an address of this machine; "0.0.0.0" is all of them.'


def serve(settings: GatewaySettings) -> int:
    """Run the gateway until it is told to end; see `edge.gateways.service.serve`."""
    return service.serve(settings, ModbusServer, "Modbus TCP")


class ModbusServer:
    """Shows the handshake of a link in registers."""

    def __init__(self, link: Link, settings: GatewaySettings) -> None:
        self._link, self._settings = link, settings
        self.listener: Listener | None = None

    async def start(self) -> str:
        """Listen; returns the address.

        Raises:
            GatewayError: pymodbus is missing, `modbus.allow` is wrong, or nobody can listen at this host and port.
        """
        if importlib.util.find_spec("pymodbus") is None:
            raise GatewayError("Modbus needs pymodbus, which is not installed", "pip install 'linegate[modbus]'")
        from edge.gateways.modbus.connections import Listener
        from edge.gateways.modbus.registers import Registers

        settings = self._settings.modbus
        admission = Admission(self._settings)
        registers = Registers(self._link, Order(settings.byte_order, settings.word_order))
        # It would write whatever a client gets wrong to standard error, with the last twenty frames.
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
        bound = _bind(settings.host, settings.port)
        where = _told(bound)
        self.listener = Listener(registers.device(), bound, admission, settings.unit_id, self._link.new_plc)
        if not await self.listener.listen():
            bound.close()
            raise GatewayError(f"Modbus cannot listen at {where}", NOT_OURS)
        return where

    async def close(self) -> None:
        """Let every connection go."""
        if self.listener is not None:
            await self.listener.stop()


def _bind(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Raises:
        GatewayError: it cannot be had.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost has two addresses; PLCs speak IPv4.
        family, _type, _protocol, _name, address = min(found, key=lambda one: one[0] is not socket.AF_INET)
        bound = socket.socket(family, socket.SOCK_STREAM)
        with contextlib.ExitStack() as failing:
            failing.callback(bound.close)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setblocking(False)
            bound.bind(address)
            # Two could bind it, but only one listen.
            bound.listen()
            failing.pop_all()
    except (OSError, UnicodeError) as error:
        number = error.errno if isinstance(error, OSError) else None
        said = error.strerror if isinstance(error, OSError) else "no name of a machine"
        raise GatewayError(
            f"Modbus cannot listen at {host}:{port} ({said})", REMEDIES.get(number or 0, NOT_OURS)
        ) from error
    return bound


def _told(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

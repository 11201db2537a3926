"""Modbus TCP, with a PLC in C on libmodbus."""

from __future__ import annotations

from pathlib import Path

from tests.bench.gateways.rig import Event
from tests.gateways.modbus_peer import build_plc, parse


class Modbus:
    """See `rig.Protocol_`."""

    name, peer = "modbus", "libmodbus (C), polls every 5 ms"

    def __init__(self, folder: Path) -> None:
        """Compile the PLC.

        Raises:
            MissingError: libmodbus or a compiler is missing.
        """
        self._program = build_plc(folder)

    def section(self, port: int, _folder: Path) -> str:
        """See `rig.Protocol_`."""
        return f"[modbus]\nport = {port}\n"

    def words(self, port: int, _folder: Path, options: dict[str, float | bool]) -> list[str]:
        """See `rig.Protocol_`."""
        words = [str(self._program), "127.0.0.1", str(port), "--poll-ms", "5"]
        for key, value in options.items():
            words += [f"--{key.replace('_', '-')}"] if value is True else [f"--{key.replace('_', '-')}", str(value)]
        return words

    def event(self, line: str) -> Event | None:
        """See `rig.Protocol_`."""
        return Event(*parse(line)) if line else None

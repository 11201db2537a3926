"""OPC UA, encrypted and with a user, with a PLC on npm's node-opcua-client."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

from edge.gateways.opcua.user import add_user
from tests.bench.chaos.places import NODE
from tests.bench.gateways.rig import Event
from tests.gateways.modbus_peer import MissingError, parse
from tests.gateways.opcua_peer import Identity, make_identity

USER, PASSWORD = "plc", "not in the open"
OWN_NAMES = {"timeout_ms": "timeoutMs", "stall_after": "stallAfter"}
"""Of options that the PLC calls otherwise."""


class OpcUa:
    """See `rig.Protocol_`."""

    name, peer = "opcua", "node-opcua-client (Node.js), events; block read every 15 ms"

    def __init__(self, folder: Path) -> None:
        """Make the PLC's certificate.

        Raises:
            MissingError: Node.js or the package is missing.
        """
        node = shutil.which("node")
        if node is None or not (NODE / "node_modules" / "node-opcua-client").is_dir():
            raise MissingError("node-opcua-client is not installed: npm install --prefix tests/peers/node")
        self._node = node
        self._identity: Identity = make_identity(folder, "plc")
        self._folder = folder

    def section(self, port: int, folder: Path) -> str:
        """See `rig.Protocol_`."""
        (folder / "pki" / "trusted").mkdir(parents=True)
        shutil.copy(self._identity.certificate, folder / "pki" / "trusted")
        password = folder / "password"
        password.write_text(f"{PASSWORD}\n")
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            add_user(folder / "users", USER, password)
        return f'[opcua]\nport = {port}\nusers = "users"\n'

    def words(self, port: int, folder: Path, options: dict[str, float | bool]) -> list[str]:
        """See `rig.Protocol_`."""
        told: dict[str, object] = {
            "endpoint": f"opc.tcp://127.0.0.1:{port}/linegate",
            "certificate": str(self._identity.certificate),
            "key": str(self._identity.key),
            "applicationUri": self._identity.uri,
            "pki": str(self._folder / "peer-pki"),
            "pollMs": 15,
            "user": USER,
            "password": PASSWORD,
        }
        told |= {OWN_NAMES.get(key, key): value for key, value in options.items()}
        if "stall_s" in options:
            told["stallMs"] = 1000 * options["stall_s"]
        return [self._node, str(NODE / "opcua_cyclic_plc.mjs"), json.dumps(told)]

    def event(self, line: str) -> Event | None:
        """See `rig.Protocol_`."""
        return Event(*parse(line)) if line.startswith(("state ", "result ", "done ")) else None

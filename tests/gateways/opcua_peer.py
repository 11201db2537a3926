"""The OPC UA tests' other side: a gateway in a thread, client certificates, and Node.js' node-opcua-client as the PLC."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from edge.errors import GatewayError
from edge.gateways.link import Link
from edge.gateways.opcua.server import OpcUaServer
from edge.gateways.opcua.user import add_user
from edge.gateways.settings import GatewaySettings, OpcUaSettings
from tests.gateways.station import FakeStation, settings_for
from tests.packages import REPOSITORY

PEER = REPOSITORY / "tests" / "peers" / "node"
INSTALL = f"npm install --prefix {PEER.relative_to(REPOSITORY)}"
PATIENCE_S = 30.0
USER, PASSWORD = "cell-7", "correct horse battery"
Message = dict[str, Any]


def node_program() -> str:
    """Node.js, with the peer's package installed."""
    program = shutil.which("node")
    if program is None:
        pytest.skip(f"Node.js is not installed: apt-get install nodejs npm && {INSTALL}")
    if not (PEER / "node_modules" / "node-opcua-client" / "package.json").is_file():
        pytest.skip(f"the peer's OPC UA client is not installed: {INSTALL}")
    return program


@dataclass(frozen=True)
class Identity:
    """A client's certificate and key, as files."""

    certificate: Path
    key: Path
    uri: str


_KEY = rsa.generate_private_key(public_exponent=65_537, key_size=2048)


def make_identity(
    folder: Path, name: str, *, days: tuple[int, int] = (-1, 30), private_key: rsa.RSAPrivateKey = _KEY
) -> Identity:
    """A self-signed client certificate, valid in these days from now."""
    folder.mkdir(parents=True, exist_ok=True)
    uri = f"urn:test:{name}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.timezone.utc)
    usage = x509.KeyUsage(True, True, True, True, False, False, False, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        .add_extension(usage, critical=True)
        .sign(private_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    key = private_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    identity = Identity(folder / f"{name}.pem", folder / f"{name}.key", uri)
    identity.certificate.write_bytes(certificate.public_bytes(pem))
    identity.key.write_bytes(key)
    return identity


@dataclass
class Gateway:
    """A running gateway, and where it is."""

    endpoint: str
    pki: Path
    settings: GatewaySettings
    peers: Path
    faults: list[str] = field(default_factory=list)

    def trust(self, identity: Identity) -> None:
        """Do what an engineer does: put a certificate among the trusted ones."""
        shutil.copy(identity.certificate, self.pki / "trusted" / identity.certificate.name)


@contextmanager
def running_gateway(
    station: FakeStation, folder: Path, opcua: OpcUaSettings | None = None, **sections: object
) -> Iterator[Gateway]:
    """A gateway of this station in a thread of its own; encrypted, with one user, unless told otherwise."""
    password = folder / "password"
    password.write_text(PASSWORD + "\n", encoding="utf-8")
    users = folder / "users"
    add_user(users, USER, password)
    base = opcua or OpcUaSettings(users=str(users))
    settings = settings_for(station, opcua=msgspec.structs.replace(base, port=0, pki=str(folder / "pki")), **sections)
    started: queue.Queue[str | BaseException] = queue.Queue()
    loops: queue.Queue[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = queue.Queue()
    gateway = Gateway("", folder / "pki", settings, folder / "peers")

    async def run() -> None:
        end = asyncio.Event()
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: gateway.faults.append(str(context)))
        loops.put((asyncio.get_running_loop(), end))
        async with Link(settings) as link:
            server = OpcUaServer(link, settings)
            try:
                started.put(await server.start())
                await end.wait()
            except GatewayError as error:
                started.put(error)
            finally:
                await server.close()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    loop, end = loops.get(timeout=PATIENCE_S)
    where = started.get(timeout=PATIENCE_S)
    try:
        if isinstance(where, BaseException):
            raise where
        gateway.endpoint = where
        yield gateway
    finally:
        loop.call_soon_threadsafe(end.set) if loop.is_running() else None
        thread.join()
    assert not gateway.faults


class NodePlc:
    """One node-opcua client."""

    def __init__(self, gateway: Gateway, identity: Identity | None = None, **options: object) -> None:
        base: dict[str, object] = {
            "endpoint": gateway.endpoint,
            "security": "encrypted" if identity else "open",
            "pki": str(gateway.peers / "pki"),
            "heartbeatMs": 50,
            "events": [],
        }
        if identity is not None:
            base |= {"certificate": str(identity.certificate), "key": str(identity.key), "applicationUri": identity.uri}
            base |= {"user": USER, "password": PASSWORD}
        command = [node_program(), "opcua_plc.mjs", json.dumps({**base, **options})]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=PEER, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True
        )
        self._queue: queue.Queue[Message | None] = queue.Queue()
        self.heard: list[Message] = []
        self._asked = 0
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                self._queue.put(json.loads(line))
        self._queue.put(None)

    def until(self, suits: Callable[[Message], bool], seconds: float = PATIENCE_S) -> Message:
        """The first message that suits, heard before or yet to come."""
        for message in self.heard:
            if suits(message):
                return message
        end = time.monotonic() + seconds
        while True:
            found = self._queue.get(timeout=max(end - time.monotonic(), 0.01))
            if found is None:
                self._queue.put(None)
                raise AssertionError(f"the peer ended; it said {self.heard[-3:]}")
            self.heard.append(found)
            if suits(found):
                return found

    def ready(self) -> NodePlc:
        """Wait until it is connected."""
        self.until(lambda message: message["what"] == "ready")
        return self

    def outcome(self) -> str:
        """What became of the connection: `ready`, or what the server said."""
        return str(next(m.get("error", m["what"]) for m in [self.until(lambda m: m["what"] in ("ready", "failed"))]))

    def do(self, name: str, **rest: object) -> Message:
        """Have it do something, and wait for the answer."""
        self._asked += 1
        asked = self._asked
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": asked, "do": name, **rest}) + "\n")
        self._process.stdin.flush()
        return self.until(lambda message: message["what"] == "answer" and message["id"] == asked)

    def read(self, *names: str) -> list[Any]:
        """Values of the handshake, in one request."""
        return list(self.do("read", nodes=[f"Handshake.{name}" for name in names])["values"])

    def wait_for(self, name: str, value: object) -> None:
        """Wait until a value of the handshake is this."""
        end = time.monotonic() + PATIENCE_S
        while (found := self.read(name)[0]) != value:
            assert time.monotonic() < end, f"{name} is {found}, not {value}"
            time.sleep(0.01)

    def take_over(self) -> None:
        """Become the master, and clear what another PLC left behind."""
        end = time.monotonic() + PATIENCE_S
        while self.call("Handshake.Reset")["status"] != "Good":
            assert time.monotonic() < end, "another PLC does not let go"
            time.sleep(0.05)
        while (held := self.read("ResultNumber")[0]) != 0:
            self.call("Handshake.Acknowledge", {"type": "UInt16", "value": held})
        self.wait_for("Online", True)

    def write(self, **values: tuple[str, object]) -> list[str]:
        """Write handshake variables in one request; returns the status of each."""
        wanted = [{"node": f"Handshake.{name}", "type": kind, "value": value} for name, (kind, value) in values.items()]
        return list(self.do("write", values=wanted)["status"])

    def call(self, method: str, *args: Message) -> Message:
        """Call a method of the vision system or of the handshake."""
        return self.do("call", object=method.rpartition(".")[0], method=method, args=list(args))

    def events(self, source: str = "server") -> list[Message]:
        """The result events so far."""
        return [m for m in self.heard if m["what"] == "event" and m["source"] == source and m["ResultNumber"]]

    def collect(self, count: int, source: str = "server") -> list[Message]:
        """Wait for so many result events."""
        while len(self.events(source)) < count:
            known = len(self.heard)
            self.until(lambda message, known=known: self.heard.index(message) >= known)  # type: ignore[misc]
        return self.events(source)

    def close(self) -> None:
        """End it as a PLC that is switched off in order."""
        assert self._process.stdin is not None
        try:
            if self._process.poll() is None:
                self._process.stdin.write('{"do": "end"}\n')
                self._process.stdin.flush()
            self._process.wait(timeout=PATIENCE_S)
        except (OSError, subprocess.TimeoutExpired):
            self._process.kill()
        finally:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
            self._reader.join()
            assert self._process.stdout is not None
            self._process.stdout.close()


@contextmanager
def node_plc(gateway: Gateway, identity: Identity | None = None, **options: object) -> Iterator[NodePlc]:
    """A PLC for the length of a block."""
    plc = NodePlc(gateway, identity, **options)
    try:
        yield plc
    finally:
        plc.close()

"""A running gateway, and what talks to it: a client of bare sockets, `mbpoll`, and a PLC in C on libmodbus."""

from __future__ import annotations

import asyncio
import csv
import io
import queue
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from edge.gateways.link import Link
from edge.gateways.modbus.document import map_csv
from edge.gateways.modbus.layout import COMMAND_FIELD, STATUS_SIZE, Order, decode_status, encode_command
from edge.gateways.modbus.server import ModbusServer
from edge.gateways.settings import GatewaySettings
from edge.gateways.signals import Value

PATIENCE_S = 60.0
HOST = "127.0.0.1"
SOURCE = Path(__file__).resolve().parents[1] / "peers" / "libmodbus" / "plc.c"
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, BUSY, NO_TARGET = 1, 2, 3, 6, 11
BIG = Order()
T = TypeVar("T")


class Gateway:
    """A gateway in a thread with an event loop of its own."""

    def __init__(self, settings: GatewaySettings) -> None:
        self.settings = settings
        self.link: Link
        self._ready: Future[str] = Future()
        self._broke: list[str] = []
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self._thread.start()
        try:
            self.port = int(self._ready.result(PATIENCE_S).rpartition(":")[2])
        except BaseException:
            self._thread.join(PATIENCE_S)
            raise

    async def _run(self) -> None:
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._loop.set_exception_handler(lambda _loop, context: self._broke.append(repr(context)))
        try:
            async with Link(self.settings) as self.link:
                self.server = ModbusServer(self.link, self.settings)
                self._ready.set_result(await self.server.start())
                await self._end.wait()
                await self.server.close()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    def clients(self) -> list[tuple[int, int]]:
        """Of each client how many requests it has made, and how many bytes wait here because it does not read."""
        listener = self.server.listener
        assert listener is not None
        found = self.do(lambda: [(connection.asked, connection.transport) for connection in listener.open])
        transports = ((asked, transport) for asked, transport in found if isinstance(transport, asyncio.WriteTransport))
        return [(asked, transport.get_write_buffer_size()) for asked, transport in transports]

    def do(self, work: Callable[[], T]) -> T:
        """Call it where the gateway lives."""

        async def call() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(PATIENCE_S)

    def close(self) -> None:
        """End it, unless that was done. Nothing in it may have broken."""
        if not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the gateway did not end"
        assert self._broke == []


@contextmanager
def running_gateway(settings: GatewaySettings) -> Iterator[Gateway]:
    """A gateway for the length of a test."""
    gateway = Gateway(settings)
    try:
        yield gateway
    finally:
        gateway.close()


class Refused(Exception):  # noqa: N818 - what it is
    """The answer is an exception with this code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


def frame(transaction: int, data: bytes, unit: int = 1) -> bytes:
    """A request as it goes over the wire."""
    return struct.pack(">HHHB", transaction, 0, len(data) + 1, unit) + data


def read_request(address: int, count: int, function: int = 3) -> bytes:
    """The data of a request to read registers."""
    return struct.pack(">BHH", function, address, count)


def write_request(address: int, registers: list[int]) -> bytes:
    """The data of a request to write registers."""
    return struct.pack(f">BHHB{len(registers)}H", 16, address, len(registers), 2 * len(registers), *registers)


class Client:
    """Modbus over a bare socket, one request after the other; it believes nothing."""

    def __init__(self, port: int, order: Order = BIG, unit: int = 1, host: str = HOST) -> None:
        self.socket = socket.create_connection((host, port), PATIENCE_S)
        self._order, self._unit, self._transaction = order, unit, 0
        self._beat = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Disconnect."""
        self.socket.close()

    def receive(self, size: int) -> bytes:
        """So many bytes; fewer if the gateway closes the connection."""
        data = b""
        while len(data) < size:
            try:
                more = self.socket.recv(size - len(data))
            except ConnectionResetError:
                return data
            if not more:
                return data
            data += more
        return data

    def answer(self) -> tuple[int, int, bytes]:
        """The next answer: transaction, unit, data.

        Raises:
            EOFError: the gateway has closed the connection.
        """
        head = self.receive(7)
        if len(head) < 7:
            raise EOFError
        transaction, protocol, length, unit = struct.unpack(">HHHB", head)
        assert protocol == 0
        return transaction, unit, self.receive(length - 1)

    def ask(self, data: bytes) -> bytes:
        """The data of the answer to a request.

        Raises:
            Refused: an exception came.
        """
        self._transaction = self._transaction % 0xFFFF + 1
        self.socket.sendall(frame(self._transaction, data, self._unit))
        transaction, unit, answer = self.answer()
        assert (transaction, unit, answer[0] & 0x7F) == (self._transaction, self._unit, data[0] & 0x7F)
        if answer[0] & 0x80:
            raise Refused(answer[1])
        return answer

    def read(self, address: int, count: int, function: int = 3) -> list[int]:
        """Registers."""
        answer = self.ask(read_request(address, count, function))
        assert answer[1] == 2 * count == len(answer) - 2
        return list(struct.unpack(f">{count}H", answer[2:]))

    def write(self, address: int, registers: list[int]) -> None:
        """Write registers."""
        assert self.ask(write_request(address, registers)) == struct.pack(">BHH", 16, address, len(registers))

    def set(self, **values: Value) -> None:
        """Write values of the command block by name, in the order in which they are given."""
        for name, value in values.items():
            self.write(COMMAND_FIELD[name].address, encode_command(name, value, self._order))

    def status(self) -> dict[str, Value]:
        """The status block, read in one request."""
        return decode_status(self.read(0, STATUS_SIZE), self._order)

    def beat(self) -> None:
        """Change the heartbeat."""
        self._beat = (self._beat + 1) & 0xFFFF
        self.set(plc_heartbeat=self._beat)

    def until(self, beats: bool = True, **wanted: Value) -> dict[str, Value]:
        """Read, with a heartbeat each time if it beats, until these values are there."""
        return self.wait(
            lambda status: all(status[name] == value for name, value in wanted.items()), str(wanted), beats=beats
        )

    def wait(
        self, reached: Callable[[Mapping[str, Value]], bool], what: str = "", *, beats: bool = True
    ) -> dict[str, Value]:
        """Read, with a heartbeat each time if it beats, until it is so."""
        end_s = time.monotonic() + PATIENCE_S
        while True:
            if beats:
                self.beat()
            status = self.status()
            if reached(status):
                return status
            assert time.monotonic() < end_s, f"never came: {what}; last {status}"
            time.sleep(0.005)


@contextmanager
def online_plc(gateway: Gateway, order: Order = BIG) -> Iterator[Client]:
    """A PLC that the gateway takes for alive, with a station that lives."""
    with Client(gateway.port, order) as plc:
        plc.until(online=True)
        yield plc


# mbpoll


def mbpoll(port: int, *words: str) -> tuple[int, str]:
    """Run it once with addresses from 0; returns its exit code and all it said."""
    if shutil.which("mbpoll") is None:
        pytest.skip("mbpoll is not installed: apt-get install mbpoll")
    command = ["mbpoll", "-m", "tcp", "-p", str(port), "-0", "-1", "-q", "-o", "10", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    return done.returncode, done.stdout + done.stderr


def registers_in(said: str) -> dict[int, int]:
    """What mbpoll read: register to value."""
    lines = (line for line in said.splitlines() if line.startswith("["))
    pairs = (line[1:].split("]:", 1) for line in lines)
    return {int(register): int(value.split()[0]) for register, value in pairs}


# The PLC in C


def map_header(table: str) -> str:
    """The CSV of the register map as C definitions."""
    lines = []
    for row in csv.DictReader(io.StringIO(table)):
        name, place = row["name"].upper(), row["modicon_address"].partition(".")[2]
        if row["iec_type"] == "BOOL":
            lines.append(f"#define LG_BIT_{name} {place}")
        else:
            lines += [
                f"#define LG_{name} {row['register']}",
                f"#define LG_{name}_LENGTH {row['length_registers']}",
            ]
    return "\n".join(lines) + "\n"


class MissingError(Exception):
    """What the PLC in C needs is not installed."""


def build_plc(folder: Path) -> Path:
    """Compile the PLC in C, with the map that the gateway prints.

    Raises:
        MissingError: it says what is to be installed.
    """
    if shutil.which("gcc") is None or shutil.which("pkg-config") is None:
        raise MissingError("a C compiler is missing: apt-get install gcc pkg-config")
    asked = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "libmodbus"], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        raise MissingError("libmodbus is not installed: apt-get install libmodbus-dev")
    (folder / "map.h").write_text(map_header(map_csv()))
    program = folder / "plc"
    strict = ["-std=c11", "-D_DEFAULT_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror"]
    command = ["gcc", *strict, f"-I{folder}", str(SOURCE), "-o", str(program), *asked.stdout.split()]
    subprocess.run(command, check=True, timeout=PATIENCE_S)
    return program


class PlcProcess:
    """A running PLC in C. What it says is taken from it at once: a PLC does not wait for a test."""

    def __init__(self, program: Path, port: int, *words: str) -> None:
        command = [str(program), HOST, str(port), *words]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()
        self.said: list[tuple[str, dict[str, str]]] = []

    def __enter__(self) -> PlcProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._listening.join()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put(None)

    def next(self, event: str, **wanted: str) -> dict[str, str]:
        """Read on until it says this event with these values."""
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            name, told = parse(line)
            self.said.append((name, told))
            if name == event and all(told[key] == value for key, value in wanted.items()):
                return told
        raise AssertionError(f"it ended and never said {event} {wanted}, but last {self.said[-10:]}")

    def all(self, event: str) -> list[dict[str, str]]:
        """What it has said of this event up to now."""
        return [told for name, told in self.said if name == event]

    def stop(self) -> dict[str, str]:
        """Tell it to end; returns its sums."""
        self._process.terminate()
        return self.next("done")


def parse(line: str) -> tuple[str, dict[str, str]]:
    """A line as the event and its values; `part` is the rest of the line."""
    line, found, part = line.rstrip("\n").partition(" part=")
    event, *pairs = line.split(" ")
    told = dict(pair.split("=", 1) for pair in pairs)
    return event, {**told, "part": part} if found else told

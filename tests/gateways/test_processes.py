"""A station, a gateway and a PLC as processes of their own: whichever of them dies, nothing is accepted any more."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ConnectionException, ModbusIOException

from edge.gateways.codes import OnlineReason
from edge.gateways.modbus.layout import (
    COMMAND_START,
    STATUS_SIZE,
    STATUS_START,
    Order,
    decode_status,
    encode_command,
)
from edge.gateways.signals import COMMANDS, Value
from tests.conftest import (
    PATIENCE_S,
    Process,
    RunLinegate,
    StartLinegate,
    WriteStation,
    free_port,
    one_line,
    section,
)

ORDER = Order("big", "big")
SILENCE_MS = 400.0
PLC_MS = 2_000.0


def addresses() -> dict[str, int]:
    found, address = {}, COMMAND_START
    for command in COMMANDS:
        found[command.name] = address
        address += len(encode_command(command.name, "" if command.kind.name == "TEXT" else 0, ORDER))
    return found


class Plc:
    """A PLC that beats in a thread of its own, over a connection that it opens again when it breaks."""

    def __init__(self, port: int) -> None:
        self._port, self._at = port, addresses()
        self._ending, self._lock = threading.Event(), threading.Lock()
        self._client = ModbusTcpClient("127.0.0.1", port=port, timeout=2, retries=0)
        self._count = 0
        self._thread = threading.Thread(target=self._beat)
        self._thread.start()

    def read(self) -> dict[str, Value] | None:
        """The whole block; None if nobody answers."""
        with self._lock:
            try:
                if not self._client.connected and not self._client.connect():  # type: ignore[no-untyped-call]
                    return None
                answer = self._client.read_holding_registers(STATUS_START, count=STATUS_SIZE)
            except (ConnectionException, ModbusIOException, OSError):
                self._client.close()  # type: ignore[no-untyped-call]
                return None
        return None if answer.isError() else decode_status(answer.registers, ORDER)

    def write(self, name: str, value: Value) -> None:
        with self._lock:
            try:
                if self._client.connected or self._client.connect():  # type: ignore[no-untyped-call]
                    self._client.write_registers(self._at[name], encode_command(name, value, ORDER))
            except (ConnectionException, ModbusIOException, OSError):
                self._client.close()  # type: ignore[no-untyped-call]

    def until(self, there: Callable[[dict[str, Value]], bool]) -> dict[str, Value]:
        """Wait until the block says so."""
        end, never = time.monotonic() + PATIENCE_S, threading.Event()
        while True:
            seen = self.read()
            if seen is not None and there(seen):
                return seen
            assert time.monotonic() < end, f"waited in vain: {seen}"
            never.wait(0.005)

    def take(self, count: int) -> list[dict[str, Value]]:
        """So many results, each acknowledged."""
        taken: list[dict[str, Value]] = []
        while len(taken) < count:
            done = {0, taken[-1]["result_number"] if taken else 0}
            seen = self.until(lambda block, done=done: block["result_number"] not in done)  # type: ignore[misc]
            taken.append(seen)
            self.write("ack_number", seen["result_number"])
        return taken

    def _beat(self) -> None:
        while not self._ending.wait(0.1):
            self._count = (self._count + 1) % 65_536
            self.write("plc_heartbeat", self._count)

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self._client.close()  # type: ignore[no-untyped-call]


@contextmanager
def plc_at(port: int) -> Iterator[Plc]:
    plc = Plc(port)
    try:
        yield plc
    finally:
        plc.close()


def gateway_file(folder: Path, endpoint: str, port: int, **plc: object) -> Path:
    path = folder / "gateway.toml"
    sections: dict[str, Mapping[str, object]] = {
        "bus": {"endpoint": endpoint, "silence_ms": SILENCE_MS},
        "plc": {"heartbeat_ms": PLC_MS, "queue": 64, "ack_ms": 60_000.0, "allow_simulated": True, **plc},
        "modbus": {"port": port},
    }
    path.write_text("".join(section(name, keys) for name, keys in sections.items()))
    return path


def ready_line(process: Process) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


class Line:
    """A station that replays pictures for ever, and its gateway."""

    def __init__(self, start: StartLinegate, station: Path, gateway: Path, port: int) -> None:
        self._start, self._station, self._gateway, self.port = start, station, gateway, port
        self.station, self.gateway = self.start_station(), self.start_gateway()

    def start_station(self) -> Process:
        self.station = self._start("run", self._station)
        return self.station

    def start_gateway(self) -> Process:
        self.gateway = self._start("gateway", "modbus", self._gateway)
        assert "serves Modbus TCP" in ready_line(self.gateway)
        return self.gateway


@pytest.fixture
def line(
    start_linegate: StartLinegate, station_file: WriteStation, tmp_path: Path, endpoint: str, shots_folder: Path
) -> Line:
    port = free_port()
    station = station_file(
        shots_folder,
        camera={"rate_hz": 10.0, "loop": True},
        bus={"wait_for_subscriber_s": 0.0, "heartbeat_ms": 50.0},
        pipeline={"deadline_ms": 5_000.0},
    )
    return Line(start_linegate, station, gateway_file(tmp_path, endpoint, port), port)


def is_online(block: dict[str, Value]) -> bool:
    return block["online"] is True


def test_a_plc_gets_every_verdict_of_a_station_once_and_in_order(line: Line) -> None:
    with plc_at(line.port) as plc:
        plc.until(is_online)
        taken = plc.take(20)
    numbers = [int(block["station_seq"] or 0) for block in taken]
    assert numbers == list(range(numbers[0], numbers[0] + 20))
    assert any(block["accept"] for block in taken), "shots of the recipe itself are accepted"
    assert {block["result_number"] for block in taken} == {block["result_number_end"] for block in taken}
    line.gateway.send_signal(signal.SIGTERM)
    assert line.gateway.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
def test_a_station_that_dies_or_stands_still_takes_the_gateway_offline_and_comes_back(
    line: Line, sign: signal.Signals
) -> None:
    with plc_at(line.port) as plc:
        plc.until(is_online)
        plc.take(2)
        line.station.send_signal(sign)
        gone = plc.until(lambda block: not block["online"])
        assert not gone["accept"] and not gone["ready"]
        assert gone["online_reason"] == OnlineReason.BUS_SILENT
        # What was held is a reject now, and stays one.
        while (held := plc.read()) is not None and held["result_number"]:
            assert not held["accept"]
            plc.write("ack_number", held["result_number"])
        if sign is signal.SIGKILL:
            line.start_station()
        else:
            line.station.send_signal(signal.SIGCONT)
        plc.until(is_online)
        # The first ones may have come before it was online again.
        accepted = [block["accept"] for block in plc.take(30)]
        assert any(accepted)


def test_a_gateway_that_is_killed_says_nothing_and_begins_at_reject(line: Line) -> None:
    with plc_at(line.port) as plc:
        session = plc.until(is_online)["session"]
        line.gateway.kill()
        line.gateway.wait(PATIENCE_S)
        assert plc.read() is None
        line.start_gateway()
        first = plc.until(lambda _block: True)
        assert not first["online"] and not first["accept"] and first["session"] != session
        plc.until(is_online)
        assert plc.take(2)[0]["session"] == first["session"]


def test_without_its_plc_a_gateway_goes_offline_and_latches_the_overrun(
    line: Line, tmp_path: Path, endpoint: str
) -> None:
    gateway_file(tmp_path, endpoint, line.port, heartbeat_ms=500.0, queue=4)
    line.gateway.kill()
    line.gateway.wait(PATIENCE_S)
    line.start_gateway()
    with plc_at(line.port) as plc:
        plc.until(is_online)
        plc.take(2)
    with plc_at(line.port) as plc:
        seen = plc.until(lambda block: block["overrun"] is True)
        assert not seen["online"] and not seen["accept"]
        held = [block["accept"] for block in plc.take(4)]
        assert held == [False] * 4
        plc.write("command", 1)
        plc.until(is_online)


def test_the_station_does_not_feel_its_gateway(line: Line) -> None:
    with plc_at(line.port) as plc:
        before = plc.until(is_online)
        line.gateway.send_signal(signal.SIGSTOP)
    with plc_at(line.port) as plc:
        assert plc.read() is None, "it stands still"
        line.gateway.send_signal(signal.SIGCONT)
        after = plc.until(lambda block: block["online"] is True and block["triggers_seen"] != before["triggers_seen"])
    assert after["missed_count"] == 0
    assert after["triggers_seen"] == sum(
        int(after[name] or 0) for name in ("ok_count", "not_ok_count", "unjudged_count", "in_flight")
    )


# What the command line says.


def test_a_port_in_use_is_one_line(line: Line, linegate: RunLinegate, tmp_path: Path, endpoint: str) -> None:
    said = one_line(linegate("gateway", "modbus", gateway_file(tmp_path, endpoint, line.port)))
    assert re.search(r"Modbus cannot listen at 127\.0\.0\.1:\d+ \(Address already in use\)", said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[modbus]\nprot = 5", "Did you mean `port`?"),
        ('[bus]\nendpoint = "nonsense"', "nonsense is not an endpoint"),
        ('[modbus]\nport = 0\nallow = ["plc"]', "'plc' is no address"),
        ('[modbus]\nport = 0\nhost = "203.0.113.9"', "modbus.host"),
        ('[bus]\nkey = "no.key_secret"\nserver_key = "no.key"', "no.key"),
    ],
)
def test_a_file_that_cannot_be_served_is_one_line(linegate: RunLinegate, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    done = linegate("gateway", "modbus", path)
    assert done.returncode == 2 and said in one_line(done)


def test_a_gateway_without_a_station_serves_and_says_why_it_is_not_online(
    start_linegate: StartLinegate, tmp_path: Path, endpoint: str
) -> None:
    port = free_port()
    gateway = start_linegate("gateway", "modbus", gateway_file(tmp_path, endpoint, port))
    ready_line(gateway)
    with plc_at(port) as plc:
        seen = plc.until(lambda block: block["plc_alive"] is True)
        assert not seen["online"] and seen["online_reason"] == OnlineReason.WAITING and not seen["ready"]
    gateway.send_signal(signal.SIGINT)
    assert gateway.wait(PATIENCE_S) == 0


def test_a_gateway_loads_neither_the_engine_nor_the_calibration() -> None:
    script = "import sys, edge.gateways.modbus.server, edge.gateways.modbus.connections; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, encoding="utf-8", timeout=PATIENCE_S, check=True
    )
    assert not {"onnxruntime", "cv2", "torch", "matplotlib"} & set(done.stdout.split())

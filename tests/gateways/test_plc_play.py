"""`linegate gateway test` at a real gateway and a station on a real bus: it says what was well and what was not."""

from __future__ import annotations

import argparse
import json
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.errors import GatewayError
from edge.gateways.image import Image
from edge.gateways.modbus.layout import STATUS_SIZE
from edge.gateways.plc import cli
from edge.gateways.settings import ModbusSettings, PlcSettings
from edge.types import Judgement
from tests.gateways.modbus_peer import Gateway, running_gateway
from tests.gateways.station import FakeStation, settings_for

PATIENCE_S = 60.0
REPOSITORY = Path(__file__).parents[2]


Play = Callable[..., "Played"]


class Played:
    """The command in a process of its own."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "linegate", "gateway", "test", *words]
        self.process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.out: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def close(self) -> None:
        """End it, if it still runs."""
        assert self.process.stderr is not None and self.process.stdout is not None
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()
        self.process.stdout.close()
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.out.extend(self.process.stdout)

    def wait(self) -> tuple[int, str]:
        """The exit code and what it said on standard error."""
        assert self.process.stderr is not None
        # It says little: the pipe has room for it.
        code = self.process.wait(PATIENCE_S)
        self._reader.join()
        return code, self.process.stderr.read()

    def findings(self) -> dict[str, object]:
        """The last line of `--json -`."""
        found = json.loads(self.out[-1])["findings"]
        assert isinstance(found, dict)
        return found

    def results(self) -> list[dict[str, object]]:
        """The results that it wrote with `--json -`."""
        return [line["result"] for line in map(json.loads, self.out) if "result" in line]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that must come."""
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def gateway(station: FakeStation) -> Iterator[Gateway]:
    with running_gateway(settings_for(station)) as running:
        yield running


def image(gateway: Gateway) -> Image:
    """What the gateway shows."""
    return gateway.do(gateway.link.image)


def until_met(gateway: Gateway) -> None:
    """Until the gateway is online, and whoever it is that plays the PLC has seen its heartbeat move."""
    until(lambda: image(gateway).online)
    before = image(gateway).heartbeat
    until(lambda: image(gateway).heartbeat > before + 1)


def until_taken(gateway: Gateway, results: int) -> None:
    """Until so many results have come, and none waits any more."""
    until(lambda: image(gateway).counts.results >= results and image(gateway).queue_depth == 0)


@pytest.fixture
def play() -> Iterator[Play]:
    """Start the command; whatever happens, it does not outlive the test."""
    started: list[Played] = []

    def start(*words: str) -> Played:
        started.append(Played(*words))
        return started[-1]

    yield start
    for played in started:
        played.close()


@pytest.fixture
def modbus(play: Play) -> Play:
    """Play at a gateway, results as JSON lines."""
    return lambda gateway, *words: play("modbus", f"127.0.0.1:{gateway.port}", "--json", "-", *words)


def test_a_line_that_is_triggered_runs_and_all_is_well(gateway: Gateway, station: FakeStation, modbus: Play) -> None:
    played = modbus(gateway, "--trigger", "20", "--count", "10", "--part", "bolt")
    code, said = played.wait()
    assert (code, said) == (0, "linegate: all well: 10 results, 10 accepted\n")
    assert [command.part_id for command in station.triggers] == [f"bolt-{number}" for number in range(1, 11)]
    assert [result["part_id"] for result in played.results()] == [f"bolt-{number}" for number in range(1, 11)]
    assert all(result["accept"] for result in played.results())


def test_each_verdict_of_a_line_that_triggers_itself_is_taken(
    gateway: Gateway, station: FakeStation, modbus: Play
) -> None:
    played = modbus(gateway, "--count", "20")
    until_met(gateway)
    for part in range(20):
        station.judge(Judgement.NOT_OK if part % 4 == 3 else Judgement.OK)
        until_taken(gateway, part + 1)
    code, said = played.wait()
    assert (code, said) == (0, "linegate: all well: 20 results, 15 accepted\n")
    assert played.findings()["rejected"] == {"DEFECT": 5}


def test_a_changeover_comes_first_and_the_parts_are_judged_with_the_new_recipe(gateway: Gateway, modbus: Play) -> None:
    played = modbus(gateway, "--recipe", "2", "--trigger", "10", "--count", "3")
    assert played.wait()[0] == 0
    assert played.findings()["recipe_number"] == 2


def test_a_recipe_that_is_not_there_ends_it_and_is_said(gateway: Gateway, modbus: Play) -> None:
    code, said = modbus(gateway, "--recipe", "7").wait()
    assert code == 1
    assert "recipe 7: no such number; nothing has changed; the wish was withdrawn, recipe_wanted is 0 again" in said
    assert image(gateway).recipe_wanted == 0
    assert modbus(gateway, "--trigger", "10", "--count", "2").wait()[0] == 0, "the gateway goes on"


def test_a_recording_that_opens_no_gate_is_said(station: FakeStation, modbus: Play) -> None:
    with running_gateway(settings_for(station, plc=PlcSettings(allow_simulated=False))) as gateway:
        played = modbus(gateway, "--count", "1")
        until_met(gateway)
        station.judge(is_simulated=True)
        code, said = played.wait()
    assert code == 0
    assert "none of the 1 parts judged OK was accepted: 1 SIMULATED (" in said
    assert "plc.allow_simulated" in said


def test_a_stall_shows_the_overrun_and_after_the_reset_parts_pass_again(station: FakeStation, modbus: Play) -> None:
    with running_gateway(settings_for(station, plc=PlcSettings(queue=2, heartbeat_ms=60_000.0))) as gateway:
        played = modbus(gateway, "--count", "4", "--stall-after", "1", "--stall-s", "1", "--reset")
        until_met(gateway)
        for _ in range(5):
            station.judge()
        until(lambda: image(gateway).counts.overruns == 3)
        until(lambda: not image(gateway).overrun and image(gateway).queue_depth == 0)
        station.judge()
        until_taken(gateway, 6)
        station.judge()
        code, said = played.wait()
    assert code == 1
    assert "1 overruns: results were not acknowledged fast enough" in said
    assert "3 results were never shown (1 gaps in their numbers)" in said
    assert [result["accept"] for result in played.results()][1:] == [False, True, True]


def test_a_station_that_refuses_a_trigger_is_a_finding(gateway: Gateway, station: FakeStation, modbus: Play) -> None:
    station.refuses = "the camera triggers itself"
    code, said = modbus(gateway, "--trigger", "10", "--count", "1").wait()
    assert code == 1
    assert "1 triggers were not taken" in said


def test_a_gateway_that_dies_is_noticed_at_once(station: FakeStation, play: Play) -> None:
    with running_gateway(settings_for(station)) as gateway:
        played = play("modbus", f"127.0.0.1:{gateway.port}")
        until(lambda: image(gateway).online)
    code, said = played.wait()
    assert code == 1
    assert "does not answer any more" in said
    assert len(said.splitlines()) == 1


def test_the_orders_of_bytes_and_words_are_those_of_the_gateway(station: FakeStation, modbus: Play) -> None:
    settings = settings_for(station, modbus=ModbusSettings(port=0, word_order="little"))
    with running_gateway(settings) as gateway:
        right = modbus(gateway, "--word-order", "little", "--trigger", "10", "--count", "2")
        assert right.wait()[0] == 0
        assert right.findings()["settings_checksum"] == f"{image(gateway).settings_checksum:08x}"


def test_an_interrupt_ends_it_in_good_order(gateway: Gateway, modbus: Play) -> None:
    played = modbus(gateway, "--trigger", "10")
    until(lambda: image(gateway).counts.results >= 3)
    played.process.send_signal(signal.SIGINT)
    code, said = played.wait()
    assert code == 0
    assert said.startswith("linegate: all well: ")
    assert played.findings()["online"]


def test_an_ipv6_address_is_written_as_the_gateway_says_it(station: FakeStation, play: Play) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with running_gateway(settings_for(station, modbus=ModbusSettings(host="::1", port=0))) as gateway:
        code, said = play("modbus", f"[::1]:{gateway.port}", "--trigger", "10", "--count", "1").wait()
        assert (code, said) == (0, "linegate: all well: 1 results, 1 accepted\n")
        bare = play("modbus", f"::1:{gateway.port}").wait()
    assert bare == (2, f"linegate: ::1:{gateway.port} has no brackets. Write an IPv6 address as [::1]:502.\n")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(struct.pack(">BB10H", 3, 20, *range(10)), id="too few registers"),
        pytest.param(struct.pack(">BHH", 16, 0, 1), id="another function's"),
        pytest.param(struct.pack(f">BB{STATUS_SIZE}H", 3, 2 * STATUS_SIZE, *[0] * STATUS_SIZE), id="all zeros"),
    ],
)
def test_an_answer_that_is_not_a_gateways_is_one_line(answer: bytes, play: Play) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        played = play("modbus", f"127.0.0.1:{listening.getsockname()[1]}")
        connection, _peer = listening.accept()
        with connection:
            asked = connection.recv(260)
            connection.sendall(asked[:4] + struct.pack(">HB", len(answer) + 1, asked[6]) + answer)
            code, said = played.wait()
    assert (code, len(said.splitlines())) == (2, 1)
    assert "Traceback" not in said


def test_an_answer_to_a_write_that_is_another_functions_is_one_line(play: Play) -> None:
    read = struct.pack(f">BB{STATUS_SIZE}H", 3, 2 * STATUS_SIZE, *[0] * (STATUS_SIZE - 2), 1, 0)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        played = play("modbus", f"127.0.0.1:{listening.getsockname()[1]}")
        connection, _peer = listening.accept()
        with connection:
            for _ in range(2):
                asked = connection.recv(260)
                connection.sendall(asked[:4] + struct.pack(">HB", len(read) + 1, asked[6]) + read)
            code, said = played.wait()
    assert (code, len(said.splitlines())) == (1, 1)
    assert "answered something else than it was asked (function 3)" in said


@pytest.mark.parametrize(
    ("words", "module", "said"),
    [
        (
            ["modbus", "host"],
            "pymodbus",
            "Modbus needs pymodbus, which is not installed. pip install 'linegate[modbus]'",
        ),
        (
            ["opcua", "opc.tcp://host:4840"],
            "asyncua",
            "OPC UA needs asyncua, which is not installed. pip install 'linegate[opcua]'",
        ),
    ],
)
def test_a_library_that_is_missing_is_named_with_what_installs_it(
    words: list[str], module: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(GatewayError) as raised:
        cli.run(parser.parse_args(words))
    assert str(raised.value) == said


def test_nobody_listening_is_one_line(play: Play) -> None:
    code, said = play("modbus", "127.0.0.1:1").wait()
    assert code == 2
    assert said == "linegate: nothing accepts a connection at 127.0.0.1:1. Start the gateway, or name its port.\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("modbus", "host:99999"), "host:99999 is no address"),
        (("modbus", "a..b:502"), "a..b:502 is no address"),
        (("modbus", "::1"), "::1 has no brackets. Write an IPv6 address as [::1]:502."),
        (("modbus", "[host]:502"), "[host]:502 is no address"),
        (("opcua", "opc.tcp://a..b:4840"), "opc.tcp://a..b:4840 is no address"),
        (("opcua", "opc.tcp://[::1"), "opc.tcp://[::1 is no OPC UA address"),
        (("opcua", "opc.tcp://host:99999"), "opc.tcp://host:99999 is no OPC UA address"),
        (("modbus", "host", "--poll-ms", "0"), "--poll-ms 0 is out of range"),
        (("modbus", "host", "--part", "a b"), "--part is no part prefix"),
        (("modbus", "host", "--unit", "900"), "--unit 900 is no unit id"),
        (("opcua", "host:4840"), "host:4840 is no OPC UA address"),
        (("opcua", "opc.tcp://host:4840", "--user", "plc"), "--user and --password-file belong together"),
        (("opcua", "opc.tcp://host:4840", "--key", "k"), "--certificate and --key belong together"),
    ],
)
def test_a_wrong_option_is_one_line(words: tuple[str, ...], said: str, play: Play) -> None:
    code, told = play(*words).wait()
    assert code == 2
    assert told.startswith(f"linegate: {said}")
    assert len(told.splitlines()) == 1


def test_over_an_encrypted_session_it_is_the_same_handshake(station: FakeStation, play: Play, tmp_path: Path) -> None:
    opcua = pytest.importorskip(
        "tests.gateways.opcua_peer", reason="asyncua is not installed (pip install 'linegate[opcua]')"
    )
    with opcua.running_gateway(station, tmp_path) as gateway:
        identity = opcua.make_identity(tmp_path / "peers", "plc")
        who: tuple[str, ...] = ("--certificate", str(identity.certificate), "--key", str(identity.key))
        who += ("--user", opcua.USER, "--password-file", str(tmp_path / "password"))
        stranger = play("opcua", gateway.endpoint, *who)
        code, said = stranger.wait()
        assert (code, len(said.splitlines())) == (2, 1)
        gateway.trust(identity)
        played = play(
            "opcua",
            gateway.endpoint,
            "--json",
            "-",
            "--trigger",
            "20",
            "--count",
            "5",
            "--recipe",
            "2",
            "--reset",
            *who,
        )
        assert played.wait() == (0, "linegate: all well: 5 results, 5 accepted\n")
        assert [result["score"] for result in played.results()] == [station.judge().score] * 5
        stalled = play("opcua", gateway.endpoint, "--json", "-", "--seconds", "0.5", *who[:4])
        assert stalled.wait()[0] == 2, "a certificate without a user is not enough here"

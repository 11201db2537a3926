"""Connections: two masters, floods, and those that are not to be let in."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from edge.gateways.modbus.layout import STATUS_SIZE
from edge.gateways.settings import ModbusSettings, PlcSettings
from tests.gateways.modbus_peer import (
    BUSY,
    HOST,
    PATIENCE_S,
    Client,
    Gateway,
    Refused,
    frame,
    online_plc,
    read_request,
    running_gateway,
)
from tests.gateways.station import FakeStation, settings_for


@pytest.fixture
def gateway(station: FakeStation) -> Iterator[Gateway]:
    with running_gateway(settings_for(station)) as running:
        yield running


def logged(caplog: pytest.LogCaptureFixture, event: str) -> int:
    return sum(record.getMessage() == event for record in caplog.records)


# Two masters


def test_only_the_one_that_writes_first_may_write_and_everybody_may_read(gateway: Gateway) -> None:
    with Client(gateway.port) as master, Client(gateway.port) as other:
        master.beat()
        with pytest.raises(Refused) as refused:
            other.set(plc_heartbeat=500)
        assert refused.value.code == BUSY
        assert other.status()["plc_heartbeat_echo"] == 1
        master.beat()
        assert other.status()["plc_heartbeat_echo"] == 2


def test_when_the_master_disconnects_another_one_may_take_over(gateway: Gateway) -> None:
    with Client(gateway.port) as other:
        with Client(gateway.port) as master:
            master.beat()
            with pytest.raises(Refused):
                other.beat()
        end_s = time.monotonic() + 1.0
        while True:
            try:
                other.set(plc_heartbeat=500)
                break
            except Refused as refused:
                # Far sooner than a master that is only silent would lose the block.
                assert refused.code == BUSY
                assert time.monotonic() < end_s
        assert other.status()["plc_heartbeat_echo"] == 500


def test_a_write_that_is_refused_makes_nobody_master(gateway: Gateway) -> None:
    with Client(gateway.port) as one, Client(gateway.port) as other:
        with pytest.raises(Refused):
            one.write(0, [1])
        other.beat()
        with pytest.raises(Refused) as refused:
            one.beat()
        assert refused.value.code == BUSY


def test_a_master_that_writes_nothing_for_long_loses_the_block(station: FakeStation) -> None:
    without_heartbeat = settings_for(station, plc=PlcSettings(heartbeat_ms=0))
    with running_gateway(without_heartbeat) as gateway, Client(gateway.port) as silent, Client(gateway.port) as other:
        silent.beat()
        end_s = time.monotonic() + PATIENCE_S
        while True:
            silent.status()
            try:
                other.set(plc_heartbeat=500)
                break
            except Refused as refused:
                assert refused.code == BUSY
                assert time.monotonic() < end_s
                time.sleep(0.05)
        with pytest.raises(Refused):
            silent.beat()


def test_a_second_master_is_logged_once_and_not_with_each_write(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO), Client(gateway.port) as master, Client(gateway.port) as other:
        master.beat()
        for _ in range(10):
            with pytest.raises(Refused):
                other.beat()
    assert (logged(caplog, "master"), logged(caplog, "second_master")) == (1, 1)


# Floods


def test_a_flood_of_connections_never_keeps_the_master_from_being_served(
    station: FakeStation, caplog: pytest.LogCaptureFixture
) -> None:
    modbus = ModbusSettings(port=0, connections=4)
    ending = threading.Event()

    def flood(port: int) -> None:
        opened: list[socket.socket] = []
        while not ending.is_set():
            opened.append(socket.create_connection((HOST, port), PATIENCE_S))
            if len(opened) > 50:
                opened.pop(0).close()
        for left in opened:
            left.close()

    with caplog.at_level(logging.INFO), running_gateway(settings_for(station, modbus=modbus)) as gateway:
        with online_plc(gateway) as plc, Client(gateway.port) as screen:
            assert screen.status()["online"] is True
            flooding = threading.Thread(target=flood, args=(gateway.port,))
            start_s = time.monotonic()
            flooding.start()
            try:
                for number in range(50):
                    station.judge(part_id=f"in the flood {number}")
                    status = plc.until(result_valid=True, online=True)
                    assert (status["part_id"], status["accept"]) == (f"in the flood {number}", True)
                    plc.set(ack_number=status["result_number"])
                    # It only reads, but it asked for something, which those that flood do not.
                    assert screen.status()["online"] is True
            finally:
                ending.set()
                flooding.join()
            seconds = time.monotonic() - start_s
        end_s = time.monotonic() + PATIENCE_S
        while len(gateway.clients()) > 4:
            assert time.monotonic() < end_s
    assert 1 <= logged(caplog, "connection_gave_way") <= seconds + 2


def test_when_it_is_full_a_new_connection_replaces_the_one_that_was_silent_longest(station: FakeStation) -> None:
    modbus = ModbusSettings(port=0, connections=2)
    with running_gateway(settings_for(station, modbus=modbus)) as gateway, Client(gateway.port) as master:
        master.beat()
        with Client(gateway.port) as idle, Client(gateway.port) as new:
            assert idle.receive(1) == b""
            assert new.status()["map_version"] == 1
            with Client(gateway.port) as newest:
                assert newest.status()["map_version"] == 1
                assert new.receive(1) == b""
                master.beat()


def test_those_that_are_not_on_the_list_are_not_let_in(station: FakeStation, caplog: pytest.LogCaptureFixture) -> None:
    modbus = ModbusSettings(port=0, allow=("192.0.2.0/24",))
    with running_gateway(settings_for(station, modbus=modbus)) as gateway, Client(gateway.port) as client:
        assert client.receive(1) == b""
    assert logged(caplog, "connection_refused") == 1


def test_one_that_asks_and_asks_and_reads_no_answer_is_let_go(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    requests = frame(1, read_request(0, STATUS_SIZE)) * 1_000
    with online_plc(gateway) as plc, socket.socket() as greedy:
        greedy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        greedy.connect((HOST, gateway.port))
        greedy.settimeout(0.1)
        end_s = time.monotonic() + PATIENCE_S
        with pytest.raises(ConnectionError):
            while time.monotonic() < end_s:
                with suppress(TimeoutError):
                    greedy.sendall(requests)
        assert plc.status()["online"] is True
    assert logged(caplog, "answers_not_read") == 1


def test_a_gateway_ends_also_while_somebody_does_not_read_its_answers(station: FakeStation) -> None:
    with socket.socket() as slow, running_gateway(settings_for(station)) as gateway:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        slow.connect((HOST, gateway.port))
        end_s = time.monotonic() + PATIENCE_S
        sent = asked = unsent_bytes = 0
        while not unsent_bytes:
            slow.sendall(frame(1, read_request(0, STATUS_SIZE)) * 10)
            sent += 10
            while asked < sent:
                assert time.monotonic() < end_s
                for client in gateway.clients():
                    asked, unsent_bytes = client


def test_a_client_that_resets_its_connection_in_the_middle_is_no_fault(gateway: Gateway) -> None:
    with online_plc(gateway) as plc:
        for cut in range(0, 240, 5):
            with Client(gateway.port) as client:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.socket.sendall((frame(1, read_request(0, 85)) * 20)[:cut])
        assert plc.status()["online"] is True


def test_a_request_that_fails_inside_ends_its_connection_without_an_answer(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Client(gateway.port) as client, Client(gateway.port) as other:
        assert other.status()["map_version"] == 1
        with monkeypatch.context() as patched:
            patched.setattr(gateway.link, "image", lambda: 1 / 0)
            client.socket.sendall(frame(1, read_request(0, 1)))
            assert client.receive(1) == b""
        assert other.status()["map_version"] == 1
    assert logged(caplog, "request_failed") == 1

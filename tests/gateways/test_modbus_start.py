"""A server that cannot start says why on one line."""

from __future__ import annotations

import errno
import importlib.util
import socket
from collections.abc import Iterator

import pytest

from edge.errors import GatewayError
from edge.gateways.settings import ModbusSettings
from tests.gateways.modbus_peer import (
    Client,
    Gateway,
    running_gateway,
)
from tests.gateways.station import FakeStation, settings_for


@pytest.fixture
def gateway(station: FakeStation) -> Iterator[Gateway]:
    with running_gateway(settings_for(station)) as running:
        yield running


def refused_start(station: FakeStation, **modbus: object) -> GatewayError:
    with pytest.raises(GatewayError) as refused:
        Gateway(settings_for(station, modbus=ModbusSettings(**{"port": 0, **modbus})))  # type: ignore[arg-type]
    return refused.value


def test_a_port_that_somebody_has_is_one_line_that_says_what_to_do(station: FakeStation, gateway: Gateway) -> None:
    error = refused_start(station, port=gateway.port)
    assert error.what == f"Modbus cannot listen at 127.0.0.1:{gateway.port} (Address already in use)"
    assert "modbus.port" in error.remedy


def test_a_port_without_the_right_to_it_is_one_line_that_says_what_to_do(
    station: FakeStation, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forbidden(socket.socket):
        def bind(self, _address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("edge.gateways.modbus.server.socket.socket", Forbidden)
    error = refused_start(station, port=502)
    assert error.what == "Modbus cannot listen at 127.0.0.1:502 (Permission denied)"
    assert "CAP_NET_BIND_SERVICE" in error.remedy


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.machine.invalid", "a" * 70])
def test_a_host_that_is_not_this_machine_is_one_line(
    station: FakeStation, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    if "invalid" in host:

        def nobody(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        # Without asking a name server.
        monkeypatch.setattr("edge.gateways.modbus.server.socket.getaddrinfo", nobody)
    error = refused_start(station, host=host)
    assert error.what.startswith(f"Modbus cannot listen at {host}:0 (")
    assert "modbus.host" in error.remedy
    assert "\n" not in str(error)


def test_a_list_with_a_name_in_it_does_not_start(station: FakeStation) -> None:
    assert "'plc-1' is no address" in refused_start(station, allow=("192.0.2.1", "plc-1")).what


def test_without_pymodbus_the_error_says_what_to_install(station: FakeStation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    error = refused_start(station)
    assert error.what == "Modbus needs pymodbus, which is not installed"
    assert "linegate[modbus]" in error.remedy


def test_the_port_is_free_again_after_the_end(station: FakeStation) -> None:
    with running_gateway(settings_for(station)) as gateway, Client(gateway.port) as client:
        client.status()
        port = gateway.port
    with running_gateway(settings_for(station, modbus=ModbusSettings(port=port))) as again:
        assert again.port == port

"""Several requests at once, pieces of them, wrong ones, and garbage."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.gateways.modbus.connections import split
from edge.gateways.modbus.layout import COMMAND_START
from edge.gateways.settings import ModbusSettings
from tests.gateways.modbus_peer import (
    ILLEGAL_FUNCTION,
    ILLEGAL_VALUE,
    NO_TARGET,
    Client,
    Gateway,
    Refused,
    frame,
    online_plc,
    read_request,
    running_gateway,
    write_request,
)
from tests.gateways.station import FakeStation, settings_for


@pytest.fixture
def gateway(station: FakeStation) -> Iterator[Gateway]:
    with running_gateway(settings_for(station)) as running:
        yield running


def test_each_of_several_requests_in_one_segment_gets_its_own_answer(gateway: Gateway) -> None:
    with Client(gateway.port) as client:
        requests = [read_request(0, 1 + number % 85) for number in range(200)]
        requests[7] = write_request(COMMAND_START, [4_711])
        requests[8] = read_request(COMMAND_START, 1)
        requests[9] = b"\x01\0\0\0\1"
        client.socket.sendall(b"".join(frame(1_000 + number, data) for number, data in enumerate(requests)))
        for number, data in enumerate(requests):
            transaction, unit, answer = client.answer()
            assert (transaction, unit) == (1_000 + number, 1)
            if data[0] == 3:
                assert len(answer) == 2 + 2 * int.from_bytes(data[3:], "big")
            if number == 8:
                assert answer[2:] == struct.pack(">H", 4_711)
            if number == 9:
                assert answer == bytes([0x81, ILLEGAL_FUNCTION])


@pytest.mark.parametrize("cut", [1, 5, 6, 7, 11])
def test_a_request_that_comes_in_pieces_is_answered_when_it_is_whole(gateway: Gateway, cut: int) -> None:
    request = frame(5, read_request(7, 1))
    with Client(gateway.port) as client, Client(gateway.port) as other:
        client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.socket.sendall(request[:cut])
        # By the time that this is answered, the first piece is there.
        assert other.status() == other.status()
        client.socket.sendall(request[cut:])
        assert client.answer()[:2] == (5, 1)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">HHH", 1, 1, 6) + b"\1" + read_request(0, 1),
        struct.pack(">HHH", 1, 0, 65_535),
        struct.pack(">HHH", 1, 0, 255),
        struct.pack(">HHHB", 1, 0, 1, 1),
        struct.pack(">HHH", 1, 0, 0),
    ],
)
def test_what_is_not_modbus_ends_the_connection_and_no_other(gateway: Gateway, garbage: bytes) -> None:
    with online_plc(gateway) as plc, Client(gateway.port) as client:
        client.socket.sendall(garbage)
        assert client.receive(1) == b""
        assert plc.status()["online"] is True


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x01\0\0\0\1", ILLEGAL_FUNCTION),
        (b"\x05\0\0\xff\0", ILLEGAL_FUNCTION),
        (b"\x08\0\1\0\0", ILLEGAL_FUNCTION),
        (b"\x16\0\xc8\0\0\0\1", ILLEGAL_FUNCTION),
        (b"\x2b\x0e\1\0", ILLEGAL_FUNCTION),
        (b"\0", ILLEGAL_FUNCTION),
        (b"\x7f", ILLEGAL_FUNCTION),
        (read_request(0, 0), ILLEGAL_VALUE),
        (read_request(0, 126), ILLEGAL_VALUE),
        (b"\x03\0\0", ILLEGAL_VALUE),
        (read_request(0, 1) + b"\0", ILLEGAL_VALUE),
        (b"\x06\0\xc8\0", ILLEGAL_VALUE),
        (b"\x10\0\xc8\0\2\2\0\1", ILLEGAL_VALUE),
        (b"\x10\0\xc8\0\1\2\0\1\0", ILLEGAL_VALUE),
        (b"\x10\0\xc8\0\0\0", ILLEGAL_VALUE),
    ],
)
def test_a_request_that_is_wrong_is_answered_as_the_specification_says(
    gateway: Gateway, data: bytes, code: int
) -> None:
    with Client(gateway.port) as client:
        with pytest.raises(Refused) as refused:
            client.ask(data)
        assert refused.value.code == code
        assert client.read(COMMAND_START, 4) == [0] * 4


def test_another_unit_is_told_that_it_is_not_here(station: FakeStation, caplog: pytest.LogCaptureFixture) -> None:
    with running_gateway(settings_for(station, modbus=ModbusSettings(port=0, unit_id=17))) as gateway:
        for unit in (0, 1, 255):
            with Client(gateway.port, unit=unit) as client, pytest.raises(Refused) as refused:
                client.status()
            assert refused.value.code == NO_TARGET
        with Client(gateway.port, unit=17) as client:
            client.until(online=True)
    assert [record for record in caplog.records if record.name.startswith("pymodbus")] == []


@pytest.mark.parametrize("unit", [0, 1, 17, 255])
def test_without_a_unit_id_any_is_answered(gateway: Gateway, unit: int) -> None:
    with Client(gateway.port, unit=unit) as client:
        assert client.status()["map_version"] == 1


def test_one_that_asks_without_a_pause_does_not_keep_the_others_waiting(gateway: Gateway) -> None:
    count, answer_bytes = 5_000, 11
    with Client(gateway.port) as eager, Client(gateway.port) as other:
        eager.socket.sendall(frame(1, read_request(0, 1)) * count)
        assert other.status()["map_version"] == 1
        eager.socket.setblocking(False)
        received = 0
        with suppress(BlockingIOError):
            while more := eager.socket.recv(1_000_000):
                received += len(more)
        # It is still being answered.
        assert received < count * answer_bytes


@given(frames=st.lists(st.binary(min_size=1, max_size=253), max_size=8), cuts=st.lists(st.integers(1, 300)))
def test_frames_are_told_apart_wherever_the_stream_is_cut(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frame(number, data) for number, data in enumerate(frames))
    received, found = bytearray(), []
    for size in [*cuts, len(stream)]:
        received += stream[:size]
        stream = stream[size:]
        found += list(split(received))
    assert found == [frame(number, data) for number, data in enumerate(frames)]
    assert not received


def test_random_requests_each_get_one_answer_and_harm_nobody(gateway: Gateway) -> None:
    codes = st.sampled_from([1, 2, 3, 4, 5, 6, 8, 15, 16, 20, 22, 23, 24, 43])
    data = st.builds(lambda code, rest: bytes([code]) + rest, codes, st.binary(max_size=40)) | st.binary(
        min_size=1, max_size=253
    )

    with online_plc(gateway) as plc, ExitStack() as stack:
        client = stack.enter_context(Client(gateway.port))

        @settings(max_examples=80, deadline=None)
        @given(requests=st.lists(data, min_size=1, max_size=4))
        def fuzz(requests: list[bytes]) -> None:
            client.socket.sendall(b"".join(frame(number, request) for number, request in enumerate(requests)))
            for number, request in enumerate(requests):
                transaction, _unit, answer = client.answer()
                assert (transaction, answer[0] & 0x7F) == (number, request[0] & 0x7F)

        fuzz()
        assert plc.status()["online"] is True


def test_random_bytes_harm_nobody(gateway: Gateway) -> None:
    with online_plc(gateway) as plc:

        @settings(max_examples=100, deadline=None)
        @given(data=st.binary(min_size=1, max_size=600))
        def fuzz(data: bytes) -> None:
            with Client(gateway.port) as client:
                client.socket.sendall(data)
                assert plc.status()["online"] is True

        fuzz()

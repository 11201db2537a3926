"""Each of a station's three sockets is bound, or it is told in one line which setting has to change; nobody is displaced."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from edge.bus.binding import bind
from edge.errors import BusError, SecurityError
from edge.supervisor import Supervisor
from tests.conftest import PATIENCE_S, free_port
from tests.edge.fakes import FakeCamera, FakeEngine
from tests.edge.journals import python
from tests.edge.line import LONG_MS, fake_makers, fake_station

SETTING = "bus.replay_endpoint"


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    """Ended at once."""
    made: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sockets: list[zmq.Socket[bytes]] = []
    real = made.socket

    def kept(kind: int) -> zmq.Socket[bytes]:
        sockets.append(real(kind))
        return sockets[-1]

    monkeypatch.setattr(made, "socket", kept)
    yield made
    for each in sockets:
        each.close(linger=0)
    made.term()


def unguarded(_socket: zmq.Socket[Any]) -> None:
    """Anybody may connect."""


def bound(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> tuple[zmq.Socket[bytes], str]:
    server = context.socket(zmq.ROUTER)
    return server, bind(server, endpoint, unguarded, "replay", SETTING)


def assert_refused(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> BusError:
    server = context.socket(zmq.ROUTER)
    with pytest.raises(BusError) as caught:
        bind(server, endpoint, unguarded, "replay", SETTING)
    assert f"replay cannot be bound to {endpoint}" in caught.value.what
    assert SETTING in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert server.closed
    return caught.value


def answers(context: zmq.Context[zmq.Socket[bytes]], server: zmq.Socket[bytes], endpoint: str) -> bool:
    client = context.socket(zmq.DEALER)
    client.connect(endpoint)
    client.send(b"are you there?")
    return bool(server.poll(int(PATIENCE_S * 1000))) and server.recv_multipart()[1] == b"are you there?"


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_an_endpoint_in_use_is_told_and_who_has_it_keeps_it(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, transport: str
) -> None:
    wanted = endpoint if transport == "ipc" else f"tcp://127.0.0.1:{free_port()}"
    first, _ = bound(context, wanted)
    assert "Address already in use" in assert_refused(context, wanted).what
    assert answers(context, first, wanted)


def test_an_ipc_path_of_another_program_is_told_and_left_to_it(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str
) -> None:
    path = endpoint.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(path)
        other.listen(0)
        # It takes nobody: for the first who looks there is room in its queue, then there is none.
        for _ in range(3):
            assert_refused(context, endpoint)
        other.settimeout(PATIENCE_S)
        other.accept()[0].close()
        client.settimeout(PATIENCE_S)
        client.connect(path)
        other.accept()[0].close()


DIES = """
import sys, zmq
server = zmq.Context().socket(zmq.ROUTER)
server.bind(sys.argv[1])
print("bound", flush=True)
sys.stdin.read()
"""


def test_an_ipc_path_that_a_dead_process_left_is_free(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
    child = python(DIES + "import time; time.sleep(1000)", endpoint)
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "bound\n"
        assert_refused(context, endpoint)
        child.kill()
    assert Path(endpoint.removeprefix("ipc://")).is_socket(), "the dead process left it"
    server, there = bound(context, endpoint)
    assert there == endpoint
    assert answers(context, server, endpoint)


def test_the_port_that_was_taken_is_told(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    server, there = bound(context, "tcp://127.0.0.1:*")
    assert int(there.removeprefix("tcp://127.0.0.1:")) > 0
    assert answers(context, server, there)


@pytest.mark.parametrize("wrong", ["", "nonsense", "tcp://nowhere.invalid:1", "ipc:///no/such/folder/bus"])
def test_what_is_no_endpoint_here_is_told(context: zmq.Context[zmq.Socket[bytes]], wrong: str) -> None:
    assert_refused(context, wrong)


def test_what_cannot_be_guarded_is_not_bound(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> None:
    def refuse(_socket: zmq.Socket[Any]) -> None:
        raise SecurityError("no key", "Make one.")

    server = context.socket(zmq.ROUTER)
    with pytest.raises(SecurityError):
        bind(server, endpoint, refuse, "replay", SETTING)
    assert server.closed
    assert not Path(endpoint.removeprefix("ipc://")).exists()
    bound(context, endpoint)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@pytest.mark.parametrize("setting", ["bus.endpoint", "bus.replay_endpoint", "bus.control_endpoint"])
def test_a_station_names_the_setting_and_leaves_the_others_free(
    context: zmq.Context[zmq.Socket[bytes]], endpoint: str, tmp_path: Path, setting: str, transport: str
) -> None:
    bus = endpoint if transport == "ipc" else f"tcp://127.0.0.1:{free_port()}"
    station = fake_station(bus, tmp_path / "journal", LONG_MS, 8, 20.0)
    makers = fake_makers(FakeCamera(), FakeEngine())
    free = Supervisor(station, makers)
    taken = {
        "bus.endpoint": free.endpoint,
        "bus.replay_endpoint": free.replay_endpoint,
        "bus.control_endpoint": free.control_endpoint,
    }[setting]
    free.pipeline.stop()
    free.run()
    holder, _ = bound(context, taken)
    with pytest.raises(BusError) as caught:
        Supervisor(station, makers)
    assert taken in caught.value.what and f" {setting} " in caught.value.remedy
    assert answers(context, holder, taken)
    holder.close(linger=0)

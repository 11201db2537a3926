"""A user names one endpoint; the other two lie beside it, and none is open to the network by accident."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.endpoints import LARGEST_PORT, is_remote, sibling
from edge.station import BusSettings, endpoints

HOSTS = st.sampled_from(["127.0.0.1", "localhost", "*", "0.0.0.0", "192.168.1.7", "eth0", "[::1]", "[::]", "plc-3.lan"])  # noqa: S104
PORTS = st.one_of(st.just("*"), st.integers(1, LARGEST_PORT - 2).map(str))
TCP = st.builds("tcp://{}:{}".format, HOSTS, PORTS)
IPC = st.text("abc/.-_@", min_size=1, max_size=20).map("ipc://{}".format)


@pytest.mark.parametrize(
    ("endpoint", "replay", "control"),
    [
        ("tcp://127.0.0.1:5556", "tcp://127.0.0.1:5557", "tcp://127.0.0.1:5558"),
        ("tcp://[::1]:5556", "tcp://[::1]:5557", "tcp://[::1]:5558"),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:*", "tcp://127.0.0.1:*"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("ipc:///run/linegate/bus", "ipc:///run/linegate/bus-replay", "ipc:///run/linegate/bus-control"),
    ],
)
def test_the_other_two_lie_beside_the_first(endpoint: str, replay: str, control: str) -> None:
    assert endpoints(BusSettings(endpoint)) == (endpoint, replay, control)


@given(endpoint=st.one_of(TCP, IPC))
def test_the_three_differ_unless_the_system_chooses_and_are_as_open_as_the_first(endpoint: str) -> None:
    three = endpoints(BusSettings(endpoint))
    assert len(set(three)) == (1 if endpoint.endswith(":*") else 3)
    assert len({is_remote(one) for one in three}) == 1


@given(endpoint=st.one_of(TCP, IPC), step=st.sampled_from([1, 2]))
def test_a_sibling_stays_on_its_machine_and_scheme(endpoint: str, step: int) -> None:
    beside = sibling(endpoint, step)
    if endpoint.startswith("ipc://"):
        assert beside.startswith(endpoint)
    else:
        assert beside.rpartition(":")[0] == endpoint.rpartition(":")[0]


@given(text=st.text(max_size=30), step=st.sampled_from([1, 2]))
def test_what_is_no_endpoint_has_no_endpoint_beside_it(text: str, step: int) -> None:
    def known(endpoint: str) -> bool:
        try:
            is_remote(endpoint)
        except ValueError:
            return False
        return True

    assert not known(sibling(text, step)) or known(text)


@pytest.mark.parametrize("step", [1, 2])
def test_the_last_port_has_no_sibling(step: int) -> None:
    with pytest.raises(ValueError, match="65"):
        is_remote(sibling(f"tcp://127.0.0.1:{LARGEST_PORT}", step))


def test_what_the_user_names_is_taken_as_it_is() -> None:
    bus = BusSettings("ipc:///a", replay_endpoint="tcp://127.0.0.1:1", control_endpoint="ipc:///b")
    assert endpoints(bus) == ("ipc:///a", "tcp://127.0.0.1:1", "ipc:///b")


@pytest.mark.parametrize(
    ("endpoint", "remote"),
    [
        ("tcp://127.0.0.1:1", False),
        ("tcp://127.255.255.254:1", False),
        ("tcp://[::1]:1", False),
        ("tcp://localhost:1", False),
        ("tcp://lo:1", False),
        ("ipc:///x", False),
        ("ipc://@abstract", False),
        ("tcp://*:1", True),
        ("tcp://0.0.0.0:1", True),
        ("tcp://[::]:1", True),
        ("tcp://[::ffff:10.0.0.1]:1", True),
        ("tcp://127.0.0.1.example.org:1", True),
        ("tcp://localhost.example.org:1", True),
        ("tcp://128.0.0.1:1", True),
    ],
)
def test_what_others_can_reach_is_told_from_what_they_cannot(endpoint: str, remote: bool) -> None:
    assert is_remote(endpoint) is remote


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ipc://",
        "tcp://",
        "tcp://:1",
        "tcp://a",
        "tcp://a:",
        "tcp://a:b",
        "tcp://a:65536",
        "tcp://a:1\n",
        "udp://a:1",
    ],
)
def test_what_is_no_endpoint_is_told(text: str) -> None:
    with pytest.raises(ValueError):
        is_remote(text)

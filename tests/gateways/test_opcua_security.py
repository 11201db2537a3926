"""Who gets in, with a client that we did not write; and what is kept of those who do not."""

from __future__ import annotations

import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import GatewayError
from edge.gateways.opcua.channel import PENDING_CONNECTIONS
from edge.gateways.settings import OpcUaSettings
from tests.conftest import free_port
from tests.gateways.opcua_peer import Gateway, Identity, make_identity, node_plc, running_gateway
from tests.gateways.station import FakeStation, running_station


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """An encrypted gateway with one user."""
    with (
        running_station(f"tcp://127.0.0.1:{free_port()}") as station,
        running_gateway(station, tmp_path_factory.mktemp("gateway")) as running,
    ):
        yield running


@pytest.fixture
def identity(gateway: Gateway, tmp_path: Path) -> Identity:
    """A trusted client."""
    made = make_identity(tmp_path / "client", "plc")
    gateway.trust(made)
    return made


def outcome(gateway: Gateway, identity: Identity | None, **options: object) -> str:
    """What becomes of a connection."""
    with node_plc(gateway, identity, **options) as plc:
        return plc.outcome()


def test_an_unknown_certificate_is_kept_for_an_engineer_who_can_let_it_in(gateway: Gateway, tmp_path: Path) -> None:
    stranger = make_identity(tmp_path / "client", "stranger")
    assert outcome(gateway, stranger) != "ready"
    kept = list((gateway.pki / "rejected").glob("*.der"))
    assert len(kept) == 1, "the test begins with none"
    kept[0].rename(gateway.pki / "trusted" / kept[0].name)
    assert outcome(gateway, stranger) == "ready"


@pytest.mark.parametrize("days", [(-10, -1), (1, 10)], ids=["expired", "not yet valid"])
def test_a_trusted_certificate_counts_only_in_its_time(gateway: Gateway, tmp_path: Path, days: tuple[int, int]) -> None:
    old = make_identity(tmp_path / "client", "old", days=days)
    gateway.trust(old)
    assert outcome(gateway, old) != "ready"


def test_only_the_right_password_over_encryption_gets_in(gateway: Gateway, identity: Identity) -> None:
    assert outcome(gateway, identity) == "ready"
    assert "BadUserAccessDenied" in outcome(gateway, identity, password="wrong horse battery")  # noqa: S106
    assert "BadUserAccessDenied" in outcome(gateway, identity, user="somebody")
    assert outcome(gateway, identity, user="") != "ready"
    assert outcome(gateway, None) != "ready"
    assert outcome(gateway, identity, policy="Aes128_Sha256_RsaOaep") == "ready"


def test_a_flood_of_connections_keeps_nobody_out(gateway: Gateway, identity: Identity) -> None:
    with node_plc(gateway, identity) as before:
        before.ready()
        host, port = gateway.endpoint.split("/")[2].split(":")
        flood = [socket.create_connection((host, int(port))) for _ in range(4 * PENDING_CONNECTIONS)]
        try:
            assert outcome(gateway, identity) == "ready"
            assert before.read("MapVersion") == [1]
        finally:
            for each in flood:
                each.close()


def test_so_many_sessions_and_no_more(station: FakeStation, tmp_path: Path) -> None:
    settings = OpcUaSettings(security="open", anonymous=True, sessions=1)
    with running_gateway(station, tmp_path, settings) as gateway, node_plc(gateway) as first:
        first.ready()
        assert "BadTooManySessions" in outcome(gateway, None)
        assert first.read("MapVersion") == [1]


def test_the_private_key_is_made_once_and_is_its_owners_alone(station: FakeStation, tmp_path: Path) -> None:
    with running_gateway(station, tmp_path) as gateway:
        key = gateway.pki / "own" / "private_key.pem"
        first = key.read_bytes()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    with running_gateway(station, tmp_path):
        assert key.read_bytes() == first


def test_a_gateway_that_nobody_could_log_in_to_does_not_start(station: FakeStation, tmp_path: Path) -> None:
    with (
        pytest.raises(GatewayError, match="nobody could log in"),
        running_gateway(station, tmp_path, OpcUaSettings(port=0)),
    ):
        pass

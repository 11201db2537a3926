"""The OPC UA gateway's parts by themselves, and what a hostile client tries."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
from pathlib import Path

import pytest
from asyncua import Client, ua
from asyncua.common.utils import ServiceError
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256, SecurityPolicyFactory
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding

from edge.bus.messages import State
from edge.errors import GatewayError
from edge.gateways.codes import OnlineReason
from edge.gateways.handshake import Handshake
from edge.gateways.image import Image
from edge.gateways.opcua.channel import TrustedPolicyFactory
from edge.gateways.opcua.filters import is_sound
from edge.gateways.opcua.names import node_name
from edge.gateways.opcua.pki import KEPT_REJECTED, CertificateRefused, TrustFolder, own_pair
from edge.gateways.opcua.states import Method, Mode, Now, Top, may, state_of
from edge.gateways.opcua.user import Users, add_user, check_password, hash_password, load_users
from edge.gateways.settings import GatewaySettings, OpcUaSettings
from edge.gateways.signals import BITS, COMMANDS, STATUS
from tests.gateways.opcua_peer import make_identity, node_plc, running_gateway
from tests.gateways.station import FakeStation

BLANK = Handshake(GatewaySettings(), "test", 1).image(0)


def image(reason: OnlineReason, state: State | None = State.CONTINUOUS_EXECUTION, *, busy: bool = False) -> Image:
    return dataclasses.replace(BLANK, online_reason=reason, station_state=state, busy=busy)


@pytest.mark.parametrize(
    ("reason", "station", "busy", "expected"),
    [
        (OnlineReason.ONLINE, State.CONTINUOUS_EXECUTION, False, Now(Top.OPERATIONAL, Mode.CONTINUOUS)),
        (OnlineReason.ONLINE, State.READY, False, Now(Top.OPERATIONAL, Mode.READY)),
        (OnlineReason.ONLINE, State.READY, True, Now(Top.OPERATIONAL, Mode.SINGLE)),
        (OnlineReason.STOPPED, State.CONTINUOUS_EXECUTION, False, Now(Top.OPERATIONAL, Mode.READY)),
        (OnlineReason.CHANGEOVER, State.CONTINUOUS_EXECUTION, True, Now(Top.OPERATIONAL, Mode.INITIALIZED)),
        (OnlineReason.NO_RECIPE, State.INITIALIZED, False, Now(Top.OPERATIONAL, Mode.INITIALIZED)),
        (OnlineReason.WAITING, None, False, Now(Top.PREOPERATIONAL)),
        (OnlineReason.BUS_SILENT, None, False, Now(Top.ERROR)),
        (OnlineReason.OVERRUN, State.CONTINUOUS_EXECUTION, False, Now(Top.ERROR)),
        (OnlineReason.NOT_RUNNING, State.HALTED, False, Now(Top.HALTED)),
        (OnlineReason.STATION_ERROR, State.ERROR, False, Now(Top.ERROR)),
        (OnlineReason.WRONG_STATION, State.CONTINUOUS_EXECUTION, False, Now(Top.ERROR)),
    ],
)
def test_each_state_of_the_station_has_its_place(
    reason: OnlineReason, station: State | None, busy: bool, expected: Now
) -> None:
    assert state_of(image(reason, station, busy=busy), is_halted=False) == expected
    assert state_of(image(reason, station, busy=busy), is_halted=True) == Now(Top.HALTED)


def test_nothing_is_started_outside_operational() -> None:
    for top in (Top.PREOPERATIONAL, Top.HALTED, Top.ERROR):
        for method in (Method.START_SINGLE, Method.START_CONTINUOUS, Method.PREPARE, Method.SELECT):
            assert not may(method, Now(top))
        for method in (Method.STOP, Method.ABORT, Method.RESET):
            assert may(method, Now(top))
    assert not may(Method.START_SINGLE, Now(Top.OPERATIONAL, Mode.INITIALIZED))


def test_every_row_has_a_name_of_its_own() -> None:
    names = [node_name(bit.name, is_bit=True) for bit in BITS]
    names += [node_name(signal.name) for signal in STATUS]
    names += [node_name(command.name) for command in COMMANDS]
    assert len(set(names)) == len(names)


def test_a_password_is_known_by_its_hash_alone() -> None:
    hashed = hash_password("correct horse")
    assert hashed != hash_password("correct horse")
    assert check_password("correct horse", hashed)
    assert not check_password("correct horsE", hashed)
    assert not check_password("correct horse", "scrypt$nonsense")
    users = Users({"a": hashed})
    assert not users.is_known("a", "correct horse")
    assert users.check("a", "correct horse")
    assert users.is_known("a", "correct horse")
    assert not users.check("b", "correct horse")
    assert not users.is_known("b", "correct horse")


def test_a_users_file_is_its_owners_alone_and_says_which_line_is_wrong(tmp_path: Path) -> None:
    password, file = tmp_path / "password", tmp_path / "users"
    password.write_text("long enough\n", encoding="utf-8")
    add_user(file, "cell-7", password)
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_users(file).check("cell-7", "long enough")
    with file.open("a", encoding="utf-8") as text:
        text.write("nonsense\n")
    with pytest.raises(GatewayError, match=":2 is no user"):
        load_users(file)
    file.chmod(0o644)
    with pytest.raises(GatewayError, match="others can read"):
        load_users(file)
    password.write_text("short\n", encoding="utf-8")
    with pytest.raises(GatewayError, match="too short"):
        add_user(file, "b", password)


@pytest.mark.parametrize(
    ("hashed", "said"),
    [("", "has no user"), ("scrypt$hello", "malformed"), ("scrypt$16384$8$1$AA==$A", "malformed")],
)
def test_a_users_file_that_would_let_nobody_in_is_refused(tmp_path: Path, hashed: str, said: str) -> None:
    file = tmp_path / "users"
    file.write_text(f'plc = "{hashed}"\n' if hashed else "# nobody\n", encoding="utf-8")
    file.chmod(0o600)
    with pytest.raises(GatewayError, match=said):
        load_users(file)
    assert not check_password("anything", hashed)


def own_settings(folder: Path, *, bits: int = 2048, days: tuple[int, int] = (-1, 30)) -> OpcUaSettings:
    """An own certificate like that."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
    identity = make_identity(folder, "own", days=days, private_key=key)
    identity.key.chmod(0o600)
    return OpcUaSettings(certificate=str(identity.certificate), private_key=str(identity.key))


def test_an_own_certificate_that_no_client_would_take_is_refused(tmp_path: Path) -> None:
    own_pair(own_settings(tmp_path), "cell")
    with pytest.raises(GatewayError, match="not valid before"):
        own_pair(own_settings(tmp_path, days=(1, 2)), "cell")
    with pytest.raises(GatewayError, match="expired"):
        own_pair(own_settings(tmp_path, days=(-2, -1)), "cell")
    with pytest.raises(GatewayError, match="1024 bits"):
        own_pair(own_settings(tmp_path, bits=1024), "cell")


def test_a_client_may_send_its_cas_certificate_behind_its_own(tmp_path: Path) -> None:
    leaf, ca = (
        x509.load_pem_x509_certificate(make_identity(tmp_path, name).certificate.read_bytes())
        for name in ("leaf", "ca")
    )
    own = own_pair(OpcUaSettings(pki=str(tmp_path / "pki")), "cell")
    trust = TrustFolder(tmp_path / "pki")
    first, second = leaf.public_bytes(Encoding.DER), ca.public_bytes(Encoding.DER)
    (tmp_path / "pki" / "trusted" / "leaf.der").write_bytes(first)
    mode = ua.MessageSecurityMode.SignAndEncrypt
    made = SecurityPolicyFactory(SecurityPolicyBasic256Sha256, mode, own.certificate, own.private_key)
    factory = TrustedPolicyFactory(made, trust)
    assert factory.create(first + second).peer_certificate == first
    for refused in (second + first, b"", b"\x30", b"\x30\x84"):
        with pytest.raises(ServiceError):
            factory.create(refused)


def test_only_so_many_refused_certificates_are_kept(tmp_path: Path) -> None:
    trust = TrustFolder(tmp_path)
    for number in range(KEPT_REJECTED + 3):
        with pytest.raises(CertificateRefused):
            trust.check(b"nonsense %d" % number)
    assert len(list((tmp_path / "rejected").iterdir())) == KEPT_REJECTED


def test_the_own_certificate_names_the_application_and_the_machine(tmp_path: Path) -> None:
    pair = own_pair(OpcUaSettings(pki=str(tmp_path)), "cell")
    names = pair.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [pair.application_uri]
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert pair.certificate.not_valid_after_utc > datetime.datetime.now(datetime.timezone.utc)
    key = tmp_path / "own" / "private_key.pem"
    key.chmod(0o640)
    with pytest.raises(GatewayError, match="others can read"):
        own_pair(OpcUaSettings(pki=str(tmp_path)), "cell")


def test_plaintext_gets_endpoints_and_nothing_else(station: FakeStation, tmp_path: Path) -> None:
    async def probe(endpoint: str) -> None:
        endpoints = await Client(endpoint).connect_and_get_server_endpoints()
        assert {found.SecurityMode for found in endpoints} == {ua.MessageSecurityMode.SignAndEncrypt}
        client = Client(endpoint)
        await client.connect_socket()
        await client.send_hello()
        await client.open_secure_channel()
        with pytest.raises(ua.uaerrors.BadSecurityModeInsufficient):
            await client.create_session()
        with pytest.raises(ua.uaerrors.BadSecurityModeInsufficient):
            await client.activate_session()
        with pytest.raises(ua.UaError):
            await client.nodes.server_state.read_value()
        await client.close_secure_channel()
        client.disconnect_socket()

    with running_gateway(station, tmp_path) as gateway:
        asyncio.run(probe(gateway.endpoint))


@pytest.mark.parametrize("name", ["data_types", "emitting_node", "__class__", ""])
def test_a_filter_that_would_break_the_server_is_refused(name: str) -> None:
    def clause(field: str) -> ua.SimpleAttributeOperand:
        path = [ua.QualifiedName(field)]
        return ua.SimpleAttributeOperand(BrowsePath=path, AttributeId=ua.AttributeIds.Value)

    assert is_sound(ua.EventFilter(SelectClauses=[clause("ResultId")]))
    assert not is_sound(ua.EventFilter(SelectClauses=[clause("ResultId"), clause(name)]))
    twice = [ua.ElementOperand(1), ua.ElementOperand(1)]
    elements = [ua.ContentFilterElement(ua.FilterOperator.And, twice)] * 40
    assert not is_sound(ua.EventFilter(WhereClause=ua.ContentFilter(elements)))
    assert not is_sound(None)


def test_a_filter_for_the_standards_type_of_result_passes_ours(station: FakeStation, tmp_path: Path) -> None:
    settings = OpcUaSettings(security="open", anonymous=True)
    with (
        running_gateway(station, tmp_path, settings) as gateway,
        node_plc(gateway, events=["server"], onlyResults=True, ack="call") as plc,
    ):
        plc.ready().wait_for("Online", True)
        station.hush()
        plc.wait_for("Online", False)
        station.speak()
        plc.wait_for("Online", True)
        station.judge()
        plc.collect(1)
        assert all(message["ResultNumber"] for message in plc.heard if message["what"] == "event")


def test_the_certificate_of_another_does_not_open_a_session(tmp_path: Path) -> None:
    known, stranger = make_identity(tmp_path, "known"), make_identity(tmp_path, "stranger")
    trust = TrustFolder(tmp_path / "pki")
    (tmp_path / "pki" / "trusted" / "known.pem").write_bytes(known.certificate.read_bytes())
    trust.check(x509.load_pem_x509_certificate(known.certificate.read_bytes()).public_bytes(Encoding.DER))
    with pytest.raises(CertificateRefused, match="unknown"):
        trust.check(x509.load_pem_x509_certificate(stranger.certificate.read_bytes()).public_bytes(Encoding.DER))

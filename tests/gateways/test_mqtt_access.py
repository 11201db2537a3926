"""A broker that refuses is told of and tried again; what cannot work is said before anything is connected."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import logging
import os
import signal
import subprocess
from pathlib import Path

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.errors import GatewayError
from edge.gateways.mqtt import broker as broker_module
from edge.gateways.mqtt import telemetry as telemetry_module
from edge.gateways.mqtt.payloads import topic_of
from edge.gateways.mqtt.telemetry import MqttTelemetry
from edge.gateways.settings import GatewaySettings, MqttSettings
from tests.gateways.mosquitto import Scene, needs_mosquitto, running_scene, telemetry


class Authority:
    """A throw-away CA and what it signed, in one folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
        self.ca = self._write("ca.pem", self._sign(self._name, self._key, is_ca=True))

    def issue(self, name: str) -> tuple[str, str]:
        """Certificate and private key of somebody at 127.0.0.1."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._write(f"{name}.pem", self._sign(subject, key, is_ca=False))
        data = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return certificate, self._write(f"{name}.key", data)

    def _write(self, name: str, data: bytes) -> str:
        path = self.folder / name
        path.write_bytes(data)
        path.chmod(0o600)
        return str(path)

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, is_ca: bool) -> bytes:
        now = datetime.datetime.now(datetime.timezone.utc)
        here = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        builder = x509.CertificateBuilder(self._name, subject, key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=1))
        builder = builder.add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([here]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def password_file(folder: Path, password: str, mode: int = 0o600) -> str:
    path = folder / f"password-{password}"
    path.write_text(f"{password}\n")
    path.chmod(mode)
    return str(path)


def users(folder: Path) -> str:
    """Configuration of a broker that knows one writer, and one reader."""
    file = folder / "users"
    file.write_text("")
    file.chmod(0o600)
    for name in ("writer", "reader"):
        subprocess.run(["mosquitto_passwd", "-b", str(file), name, "right"], check=True)
    return f"allow_anonymous false\npassword_file {file}\n"


READER = ("-u", "reader", "-P", "right")


def refusals(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [str(r.exc_info[1]) for r in caplog.records if r.message == "mqtt_refused" and r.exc_info]


@needs_mosquitto
def test_the_right_password_is_let_in(tmp_path: Path) -> None:
    async def work(scene: Scene) -> None:
        scene.feed.give(1)
        async with telemetry(scene.settings):
            await scene.listener.until(lambda: len(scene.listener.texts("verdict")) == 1)

    own = {"user": "writer", "password_file": password_file(tmp_path, "right")}
    with running_scene(tmp_path, users(tmp_path), READER, **own) as scene:
        asyncio.run(work(scene))


@needs_mosquitto
def test_a_wrong_password_is_told_once_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_module, "LONGEST_BACK_OFF_S", 0.05)
    monkeypatch.setattr(telemetry_module, "BACK_OFF_S", 0.05)

    async def work(scene: Scene) -> None:
        async with telemetry(scene.settings):
            await scene.listener.until(lambda: scene.broker.log().count("not authorised") >= 3)
        assert len(refusals(caplog)) == 1
        assert "Not authorized" in refusals(caplog)[0] and "password" in refusals(caplog)[0]
        assert not scene.listener.topics()

    caplog.set_level(logging.INFO, "linegate.gateway")
    own = {"user": "writer", "password_file": password_file(tmp_path, "wrong")}
    with running_scene(tmp_path, users(tmp_path), READER, **own) as scene:
        asyncio.run(work(scene))


@needs_mosquitto
def test_a_broker_that_throws_verdicts_away_has_not_taken_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its access rules let the gateway write what it says of itself, and no verdict."""
    rules = tmp_path / "rules"
    rules.write_text("topic write plant/hall/gate/#\ntopic read #\ntopic write mark\n")
    rules.chmod(0o600)
    config = f"allow_anonymous true\nacl_file {rules}\n"

    async def work(scene: Scene) -> None:
        scene.feed.give(1, 2)
        async with telemetry(scene.settings) as gateway:
            await scene.listener.until(lambda: bool(refusals(caplog)))
            assert gateway.delivered == 0
            rules.write_text("topic readwrite #\n")
            scene.broker.reload()
            await scene.listener.until(lambda: len(scene.listener.texts("verdict")) >= 2)
            assert [v["seq"] for v in scene.listener.payloads("verdict")] == [1, 2]

    caplog.set_level(logging.INFO, "linegate.gateway")
    with running_scene(tmp_path, config) as scene:
        asyncio.run(work(scene))


@needs_mosquitto
def test_over_tls_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    (server, server_key), (client, client_key) = authority.issue("server"), authority.issue("client")
    config = f"allow_anonymous true\ncafile {authority.ca}\ncertfile {server}\nkeyfile {server_key}\nrequire_certificate true\n"
    subscriber = ("--cafile", authority.ca, "--cert", client, "--key", client_key)

    async def work(scene: Scene) -> None:
        scene.feed.give(*range(1, 51))
        async with telemetry(scene.settings):
            await scene.listener.until(lambda: len(scene.listener.texts("verdict")) >= 50)

    own = {"ca_file": authority.ca, "certificate": client, "private_key": client_key}
    with running_scene(tmp_path, config, subscriber, **own) as scene:
        asyncio.run(work(scene))


@needs_mosquitto
def test_a_broker_that_another_authority_vouches_for_gets_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, stranger = Authority(tmp_path / "authority"), Authority(tmp_path / "stranger")
    server, server_key = authority.issue("server")
    config = f"allow_anonymous true\ncafile {authority.ca}\ncertfile {server}\nkeyfile {server_key}\n"

    async def work(scene: Scene) -> None:
        scene.feed.give(1)
        async with telemetry(scene.settings):
            await scene.listener.until(lambda: any(r.message == "mqtt_away" for r in caplog.records))
        assert not scene.listener.topics()
        assert "certificate verify failed" in str([r.exc_info for r in caplog.records])

    caplog.set_level(logging.INFO, "linegate.gateway")
    with running_scene(tmp_path, config, ("--cafile", authority.ca), ca_file=stranger.ca) as scene:
        asyncio.run(work(scene))


@needs_mosquitto
def test_a_broker_that_hangs_does_not_stop_the_loop_and_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "KEEPALIVE_S", 1)

    async def work(scene: Scene) -> None:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0.01)
                turns += 1

        turning = asyncio.ensure_future(turn())
        async with telemetry(scene.settings):
            scene.feed.give(1)
            await scene.listener.until(lambda: len(scene.listener.texts("verdict")) == 1)
            os.kill(scene.broker.pid, signal.SIGSTOP)
            scene.feed.give(*range(2, 101))
            before = turns
            await scene.listener.until(lambda: any(r.message == "mqtt_away" for r in caplog.records))
            assert turns - before > 20
            os.kill(scene.broker.pid, signal.SIGCONT)
            await scene.listener.until(lambda: 100 in [v["seq"] for v in scene.listener.payloads("verdict")])
            seqs = [v["seq"] for v in scene.listener.payloads("verdict")]
            assert list(dict.fromkeys(seqs)) == list(range(1, 101))
        turning.cancel()

    caplog.set_level(logging.INFO, "linegate.gateway")
    with running_scene(tmp_path) as scene:
        asyncio.run(work(scene))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"topic": "plant/+/x"}, "no beginning of a topic"),
        ({"topic": "plant/"}, "no beginning of a topic"),
        ({"topic": "$SYS"}, "no beginning of a topic"),
        ({"port": 0}, "mqtt.port is 0"),
        ({"password_file": "x"}, "without mqtt.user"),
        ({"user": "u", "password_file": "/nonexistent/x"}, "cannot be read"),
        ({"ca_file": "/nonexistent/ca"}, "cannot be used"),
        ({"certificate": "c"}, "belong together"),
        ({"certificate": "c", "private_key": "k"}, "needs TLS"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_connected(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(GatewayError, match=said):
        start_with(tmp_path, **changes)


def test_a_password_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="can be read by others"):
        start_with(tmp_path, user="u", password_file=password_file(tmp_path, "open", 0o644))


@pytest.mark.parametrize("text", [b"", b"\n", b"one\ntwo\n", b"\xff"])
def test_a_password_file_without_one_password_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "password"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(GatewayError, match="the password file"):
        start_with(tmp_path, user="u", password_file=str(path))


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    certificate, key = authority.issue("client")
    Path(key).chmod(0o644)
    with pytest.raises(GatewayError, match="can be read by others"):
        start_with(tmp_path, ca_file=authority.ca, certificate=certificate, private_key=key)


@pytest.mark.parametrize("station_id", ["", "a/b", "a+", "#", "a\0"])
def test_a_station_whose_id_is_no_part_of_a_topic_is_refused(station_id: str) -> None:
    with pytest.raises(GatewayError, match="station_id"):
        topic_of("plant", station_id, "verdict")


def start_with(folder: Path, **changes: object) -> None:
    own = {"position_file": str(folder / "position"), **changes}
    settings = GatewaySettings(mqtt=msgspec.structs.replace(MqttSettings(), **own))
    asyncio.run(MqttTelemetry(settings).start())

"""How the gateway shows itself to the broker: user, password, certificates. Read once, before anything is connected."""

from __future__ import annotations

import os
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path

from edge.errors import GatewayError
from edge.gateways.mqtt.payloads import check_topic
from edge.gateways.settings import MqttSettings


@dataclass(frozen=True, slots=True)
class Access:
    """What a connection is made with; `password` and `tls` are None without."""

    user: str | None
    password: str | None
    tls: ssl.SSLContext | None


def load_access(settings: MqttSettings) -> Access:
    """Read the files that the settings name.

    Raises:
        GatewayError: settings contradict each other, or a file is missing, malformed, or can be read by others.
    """
    check_topic(settings.topic)
    if not settings.port:
        raise GatewayError("mqtt.port is 0", "Name the broker's port: 1883, or 8883 with TLS.")
    if settings.password_file and not settings.user:
        raise GatewayError("mqtt.password_file is there without mqtt.user", "Name the user, or remove it.")
    if bool(settings.certificate) != bool(settings.private_key):
        raise GatewayError("mqtt.certificate and mqtt.private_key belong together", "Name both, or neither.")
    if settings.certificate and not settings.ca_file:
        raise GatewayError("mqtt.certificate needs TLS", "Name the broker's authority in mqtt.ca_file.")
    password = _password(Path(settings.password_file)) if settings.password_file else None
    return Access(settings.user or None, password, _tls(settings) if settings.ca_file else None)


def _password(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
        _keep_private(path)
    except OSError as error:
        raise GatewayError(
            f"the password file {path} cannot be read ({error.strerror})", "Name the file that holds the password."
        ) from error
    except UnicodeDecodeError as error:
        raise GatewayError(f"the password file {path} is not UTF-8", "Write the password on one line.") from error
    password = text.removesuffix("\n").removesuffix("\r")
    if not password or "\n" in password:
        raise GatewayError(f"the password file {path} has no password on one line", "Write it there, and no more.")
    return password


def _keep_private(path: Path) -> None:
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise GatewayError(f"{path} can be read by others than its owner", f"Run `chmod 600 {path}`.")


class _TlsSocket(ssl.SSLSocket):
    """Closes itself when the other end is not who it should be: paho leaves it open."""

    def do_handshake(self, block: bool = False) -> None:
        """See `ssl.SSLSocket`."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _tls(settings: MqttSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise GatewayError(
            f"mqtt.ca_file {settings.ca_file} cannot be used ({error})", "Name the authority's certificate in PEM."
        ) from error
    context.sslsocket_class = _TlsSocket
    if settings.certificate:
        try:
            _keep_private(Path(settings.private_key))
            # An encrypted key would ask for its password on the terminal, and wait there.
            context.load_cert_chain(settings.certificate, settings.private_key, password=_no_password)
        except OSError as error:
            raise GatewayError(
                f"mqtt.certificate and mqtt.private_key cannot be used ({error})",
                "Name a certificate and its unencrypted key in PEM.",
            ) from error
    return context


def _no_password() -> str:
    return ""

"""An OPC UA client that reads and writes the variables of the handshake, each block in one request."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from asyncua import ua
from asyncua.client.client import Client
from asyncua.common.node import Node
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import CertProperties
from asyncua.ua.uaerrors import UaError
from cryptography import x509

from edge.errors import GatewayError
from edge.gateways.plc.blocks import Commands
from edge.gateways.signals import COMMANDS, STATUS, Kind, Value

NAMESPACE = "urn:linegate:gateway"
ANSWER_S = 4.0
PEM_MARK = b"-----BEGIN"
TYPES = {Kind.U16: ua.VariantType.UInt16, Kind.I32: ua.VariantType.Int32, Kind.TEXT: ua.VariantType.String}
NAMES = tuple(field.name for field in fields(Commands))
FAULTS = (UaError, asyncio.TimeoutError, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who the PLC says it is. With a certificate the channel is signed and encrypted."""

    user: str = ""
    password: str = field(default="", repr=False)
    certificate: Path | None = None
    key: Path | None = None
    server_certificate: Path | None = None


def camel(name: str) -> str:
    """The variable of a signal: `result_number` is `ResultNumber`."""
    return "".join(word.capitalize() for word in name.split("_"))


class OpcUaPeer:
    """A session with the gateway."""

    def __init__(self, url: str, credentials: Credentials) -> None:
        self.where = url
        self._credentials = credentials
        self._client = Client(url, timeout=ANSWER_S)
        self._read: list[Node] = []
        self._write: list[Node] = []

    async def connect(self) -> None:
        """Open the channel and the session, and find the variables.

        Raises:
            GatewayError: nobody listens, the gateway does not know who this is, or it is no Linegate gateway.
        """
        try:
            await self._secure()
            await self._client.connect()
        except UaError as error:
            raise GatewayError(
                f"{self.where} refused the session ({said(error)})",
                "Check user and password, and that the client's certificate is in the gateway's pki/trusted.",
            ) from error
        except UnicodeError as error:
            # A name with an empty part.
            raise GatewayError(
                f"{self.where} is no address ({said(error)})", "Write opc.tcp://HOST:PORT/linegate."
            ) from error
        except ValueError as error:
            raise GatewayError(
                f"the certificate or its key cannot be used ({said(error)})", "Give RSA keys as PEM or DER."
            ) from error
        except FAULTS as error:
            raise GatewayError(
                f"no OPC UA server at {self.where} ({said(error)})", "Start the gateway, or name its address."
            ) from error
        try:
            space = await self._client.get_namespace_index(NAMESPACE)
        except FAULTS as error:
            raise GatewayError(f"{self.where} is not a Linegate gateway ({said(error)})", "Name another.") from error
        self._read = [self._client.get_node(f"ns={space};s=Handshake.{camel(row.name)}") for row in STATUS]
        self._write = [self._client.get_node(f"ns={space};s=Handshake.{camel(row.name)}") for row in COMMANDS]

    async def read(self) -> Mapping[str, Value]:
        """The status variables, in one request.

        Raises:
            GatewayError: no answer, or a variable is missing.
        """
        try:
            values = await self._client.read_values(self._read)
        except FAULTS as error:
            raise self._lost(error) from error
        return {row.name: value for row, value in zip(STATUS, values, strict=True)}

    async def write(self, commands: Commands) -> None:
        """The command variables, in one request and in their order.

        Raises:
            GatewayError: no answer, or a refusal.
        """
        values = [ua.Variant(getattr(commands, row.name), TYPES[row.kind]) for row in COMMANDS]
        try:
            await self._client.write_values(self._write, values)
        except FAULTS as error:
            raise self._lost(error) from error

    async def close(self) -> None:
        """End the session."""
        with contextlib.suppress(*FAULTS):
            await self._client.disconnect()

    async def _secure(self) -> None:
        who = self._credentials
        if who.user:
            self._client.set_user(who.user)
            self._client.set_password(who.password)
        if who.certificate is None or who.key is None:
            return
        # The server compares it with the name in the certificate.
        self._client.application_uri = application_uri(who.certificate)
        await self._client.set_security(
            security_policies.SecurityPolicyBasic256Sha256,
            properties(who.certificate),
            properties(who.key),
            server_certificate=None if who.server_certificate is None else properties(who.server_certificate),
        )

    def _lost(self, error: BaseException) -> GatewayError:
        return GatewayError(
            f"{self.where} does not answer as it should ({said(error)})",
            "A PLC rejects every part now. See the gateway's log.",
        )


def said(error: BaseException) -> str:
    """An error on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def properties(path: Path) -> CertProperties:
    """A file with what it is, by its content: whoever made it may have called it anything.

    Raises:
        GatewayError: it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise GatewayError(f"{path} cannot be read ({error.strerror})", "Name a certificate or key.") from error
    return CertProperties(data, extension="pem" if data.startswith(PEM_MARK) else "der")


def application_uri(path: Path) -> str:
    """The application's URI in a certificate.

    Raises:
        GatewayError: it cannot be read, or names none.
    """
    try:
        data = path.read_bytes()
        is_pem = data.startswith(PEM_MARK)
        certificate = x509.load_pem_x509_certificate(data) if is_pem else x509.load_der_x509_certificate(data)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return str(names.get_values_for_type(x509.UniformResourceIdentifier)[0])
    except (OSError, ValueError, x509.ExtensionNotFound, IndexError) as error:
        raise GatewayError(
            f"{path} is no certificate of an OPC UA client ({said(error)})",
            "It needs a URI among its subject alternative names.",
        ) from error

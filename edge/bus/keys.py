"""CURVE key files, and the keys of a client.

The files are those of ZeroMQ's certificate format: NAME.key is public, NAME.key_secret holds both halves.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from edge.errors import SecurityError

PUBLIC_SUFFIX = ".key"
SECRET_SUFFIX = ".key_secret"  # noqa: S105 - a file name
MOST_BYTES = 16 * 1024
"""No key file is larger."""
MAKE = "Make keys with `linegate keys curve`."
_LINE = re.compile(rb"[ \t]*(public|secret)-key[ \t]*=[ \t]*(['\"])([0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40})\2[ \t]*")


@dataclass(frozen=True, slots=True)
class ClientKeys:
    """What a client needs: the station's public key, and its own two halves (Z85 text of 40 bytes each)."""

    server_public: bytes
    public: bytes
    secret: bytes = field(repr=False)

    def apply(self, socket: zmq.Socket[Any]) -> None:
        """Encrypt what this socket connects to from now on; the station must prove that it has its secret key."""
        socket.setsockopt(zmq.CURVE_SERVERKEY, self.server_public)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self.public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self.secret)


def load_client_keys(secret: Path, server_public: Path) -> ClientKeys:
    """Read a client's own NAME.key_secret and the station's NAME.key.

    Raises:
        SecurityError: a file is missing or malformed, or others can read the secret one.
    """
    require_curve()
    public, own = load_secret(secret)
    return ClientKeys(load_public(server_public), public, own)


def load_public(path: Path) -> bytes:
    """The key in a NAME.key (Z85 text of 40 bytes).

    Raises:
        SecurityError: missing, malformed, or it holds a secret key too.
    """
    halves = _read_halves(path)
    if "secret" in halves:
        raise SecurityError(
            f"{path} holds a secret key",
            f"Only public keys (NAME{PUBLIC_SUFFIX}) belong here: replace it, and the key with it.",
        )
    if not path.name.isprintable():
        raise SecurityError(f"{str(path)!r} has a name that cannot be shown", "Rename it.")
    return halves["public"]


def load_secret(path: Path) -> tuple[bytes, bytes]:
    """Public and secret half of a NAME.key_secret.

    Raises:
        SecurityError: missing, malformed, or others can read it.
    """
    halves = _read_halves(path)
    if "secret" not in halves:
        raise SecurityError(f"{path} holds no secret key", f"Name a NAME{SECRET_SUFFIX}. {MAKE}")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SecurityError(f"{path} can be read by others than its owner", f"Run `chmod 600 {path}`.")
    if zmq.curve_public(halves["secret"]) != halves["public"]:
        raise SecurityError(f"the two halves in {path} do not belong together", MAKE)
    return halves["public"], halves["secret"]


def _read_halves(path: Path) -> dict[str, bytes]:
    """The keys that a certificate file holds, as Z85 text; the public one is always among them."""
    try:
        if path.exists() and not path.is_file():
            raise SecurityError(f"{path} is no regular file", MAKE)
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as cause:
        raise SecurityError(f"{path} cannot be read ({why(cause)})", MAKE) from cause
    malformed = SecurityError(f"{path} is not a CURVE key file, or is damaged", MAKE)
    if len(data) > MOST_BYTES:
        raise malformed
    halves: dict[str, bytes] = {}
    for line in data.splitlines():
        if b"-key" not in line or line.lstrip().startswith(b"#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None or found[1].decode() in halves or not _is_key(found[3]):
            raise malformed
        halves[found[1].decode()] = found[3]
    if "public" not in halves:
        raise malformed
    return halves


def _is_key(text: bytes) -> bool:
    """Some texts of 40 characters stand for more than 32 bytes hold."""
    return all(
        sum(z85.Z85MAP[c] * 85**p for p, c in enumerate(reversed(text[i : i + 5]))) < 2**32 for i in range(0, 40, 5)
    )


def require_curve() -> None:
    """See that this ZeroMQ can encrypt.

    Raises:
        SecurityError: it cannot.
    """
    if not zmq.has("curve"):
        raise SecurityError(f"ZeroMQ {zmq.zmq_version()} was built without CURVE", "Install pyzmq from its wheel.")


def why(cause: OSError | ValueError) -> str:
    """A system's or a path's error in words."""
    return str(getattr(cause, "strerror", None) or cause)

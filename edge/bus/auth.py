"""Who may read verdicts and who may command: CURVE keys, and the allow-lists that are asked at every handshake.

`Guard` is the station's half, `ClientKeys` the other. Key files are those of ZeroMQ's certificate format: NAME.key is public,
NAME.key_secret holds both halves. Allow-lists are read once, at the start.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import zmq
from zmq.utils import z85

from edge.errors import SecurityError

if TYPE_CHECKING:
    from edge.station import SecuritySettings

Domain = Literal["subscribers", "operators"]
PUBLIC_SUFFIX = ".key"
SECRET_SUFFIX = ".key_secret"  # noqa: S105 - a file name
MOST_BYTES = 16 * 1024
"""No key file is larger."""

_ZAP = "inproc://zeromq.zap.01"
_ZAP_VERSION = b"1.0"
_LINE = re.compile(rb"[ \t]*(public|secret)-key[ \t]*=[ \t]*(['\"])([0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40})\2[ \t]*")
_MAKE = "Make keys with `linegate keys curve`."


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
    _require_curve()
    public, own = _load_secret(secret)
    return ClientKeys(_load_public(server_public), public, own)


class Guard:
    """Admits to a station's sockets only clients whose public keys are in the allow-list of the socket's domain.

    Off, and without any effect, if the settings name no secret key. One at a time in a ZeroMQ context. The name of an
    admitted key file, without its suffix, is in the `User-Id` of every frame that its owner sends.
    """

    def __init__(self, context: zmq.Context[Any], settings: SecuritySettings) -> None:
        """Read the keys and begin to answer handshakes.

        Raises:
            SecurityError: a key or an allow-list is missing or malformed, the secret key can be read by others, or
                allow-lists are named without a secret key.
        """
        self.enabled = bool(settings.secret_key)
        self._handler: _Handler | None = None
        if not self.enabled:
            _refuse_idle_lists(settings)
            return
        _require_curve()
        self._public, self._secret = _load_secret(Path(settings.secret_key))
        folders: dict[Domain, str] = {"subscribers": settings.subscribers, "operators": settings.operators}
        allowed = {domain.encode(): _load_allowed(domain, folder) for domain, folder in folders.items()}
        self._handler = _Handler(context, allowed)

    @property
    def refused(self) -> int:
        """How many handshakes with a key that is not allowed were refused so far."""
        return 0 if self._handler is None else self._handler.answers[False]

    def apply(self, socket: zmq.Socket[Any], domain: Domain) -> None:
        """Guard a socket; to be called before it is bound.

        Raises:
            SecurityError: this ZeroMQ cannot refuse clients while nobody answers for the allow-lists.
        """
        if not self.enabled:
            return
        if domain not in get_args(Domain):
            raise ValueError(domain)
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        try:
            # Without it ZeroMQ admits every key when no handler answers, e.g. after `close`.
            socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
        except zmq.ZMQError as cause:
            raise SecurityError(
                f"ZeroMQ {zmq.zmq_version()} cannot enforce an allow-list",
                "Install pyzmq from its wheel (ZeroMQ 4.3.5).",
            ) from cause

    def close(self) -> None:
        """Stop answering: nobody new is admitted, connections that exist stay. May be called more than once."""
        if self._handler is not None:
            self._handler.close()


class _Handler:
    """Answers ZeroMQ's questions whether a key may connect (ZAP, RFC 27), on a thread of its own.

    pyzmq has such a thread too; it admits plaintext, runs an event loop, and goes on without an allow-list it cannot read.
    """

    def __init__(self, context: zmq.Context[Any], allowed: Mapping[bytes, Mapping[bytes, bytes]]) -> None:
        self.answers: Counter[bool] = Counter()
        self._allowed = allowed
        self._context = context
        self._end = f"inproc://linegate-guard-{id(self)}"
        self._questions = context.socket(zmq.REP, socket_class=zmq.Socket)
        self._ender = context.socket(zmq.PAIR, socket_class=zmq.Socket)
        try:
            self._questions.bind(_ZAP)
            self._ender.bind(self._end)
        except zmq.ZMQError as cause:
            self._close_sockets()
            raise SecurityError("the bus is guarded already in this process", "Use one guard.") from cause
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread and its sockets."""
        # The context may have been terminated, which ends the thread too.
        with contextlib.suppress(zmq.ZMQError):
            if self._thread.is_alive():
                with self._context.socket(zmq.PAIR, socket_class=zmq.Socket) as ender:
                    ender.connect(self._end)
                    ender.send(b"", zmq.NOBLOCK)
                    self._thread.join()
        self._thread.join()

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._ender, zmq.POLLIN)
        poller.register(self._questions, zmq.POLLIN)
        try:
            while self._ender not in (ready := dict(poller.poll())):
                if self._questions in ready:
                    reply = answer(self._questions.recv_multipart(), self._allowed)
                    self.answers[reply[2] == b"200"] += 1
                    self._questions.send_multipart(reply)
        except zmq.ContextTerminated:
            return
        finally:
            self._close_sockets()

    def _close_sockets(self) -> None:
        for socket, address in ((self._questions, _ZAP), (self._ender, self._end)):
            # A closed socket keeps its address for a while: questions would wait there, and the next guard could not bind.
            with contextlib.suppress(zmq.ZMQError):
                socket.unbind(address)
            socket.close(linger=0)


def answer(request: Sequence[bytes], allowed: Mapping[bytes, Mapping[bytes, bytes]]) -> list[bytes]:
    """The reply to one ZAP request: 200 and the name of the key, if the domain allows it; else 400.

    Args:
        request: version, request id, domain, address, identity, mechanism, and the client's key (32 bytes).
        allowed: by domain, the names of the allowed keys.
    """
    request_id = request[1] if len(request) > 1 else b""
    if len(request) == 7 and request[0] == _ZAP_VERSION and request[5] == b"CURVE":
        name = allowed.get(request[2], {}).get(request[6])
        if name is not None:
            return [_ZAP_VERSION, request_id, b"200", b"OK", name, b""]
    return [_ZAP_VERSION, request_id, b"400", b"not allowed", b"", b""]


def _refuse_idle_lists(settings: SecuritySettings) -> None:
    for name, folder in (("subscribers", settings.subscribers), ("operators", settings.operators)):
        if folder:
            raise SecurityError(
                f"security.{name} is set, but no security.secret_key: nothing would be encrypted and anybody admitted",
                f"{_MAKE[:-1]} and name the station's NAME.key_secret, or remove security.{name}.",
            )


def _load_allowed(domain: Domain, folder: str) -> dict[bytes, bytes]:
    """The names of a folder's keys, by key (32 bytes)."""
    remedy = f"Name a folder that holds the NAME{PUBLIC_SUFFIX} of each of the {domain}. {_MAKE}"
    if not folder:
        raise SecurityError(
            f"security.{domain} is not set: whoever has the station's public key would be admitted", remedy
        )
    try:
        paths = sorted(p for p in Path(folder).iterdir() if p.name.endswith(PUBLIC_SUFFIX))
    except (OSError, ValueError) as cause:
        raise SecurityError(f"security.{domain}: {folder} cannot be read ({_why(cause)})", remedy) from cause
    if not paths:
        raise SecurityError(f"security.{domain}: {folder} holds no *{PUBLIC_SUFFIX}", remedy)
    found: dict[bytes, bytes] = {}
    for path in paths:
        key = z85.decode(_load_public(path))
        if key in found:
            raise SecurityError(
                f"{path} holds the same key as {found[key].decode()}{PUBLIC_SUFFIX}", "Remove one of them."
            )
        found[key] = path.name.removesuffix(PUBLIC_SUFFIX).encode()
    return found


def _load_public(path: Path) -> bytes:
    halves = _read_halves(path)
    if "secret" in halves:
        raise SecurityError(
            f"{path} holds a secret key",
            f"Only public keys (NAME{PUBLIC_SUFFIX}) belong here: replace it, and the key with it.",
        )
    if not path.name.isprintable():
        raise SecurityError(f"{str(path)!r} has a name that cannot be shown", "Rename it.")
    return halves["public"]


def _load_secret(path: Path) -> tuple[bytes, bytes]:
    """Public and secret half of a NAME.key_secret."""
    halves = _read_halves(path)
    if "secret" not in halves:
        raise SecurityError(f"{path} holds no secret key", f"Name a NAME{SECRET_SUFFIX}. {_MAKE}")
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SecurityError(f"{path} can be read by others than its owner", f"Run `chmod 600 {path}`.")
    if zmq.curve_public(halves["secret"]) != halves["public"]:
        raise SecurityError(f"the two halves in {path} do not belong together", _MAKE)
    return halves["public"], halves["secret"]


def _read_halves(path: Path) -> dict[str, bytes]:
    """The keys that a certificate file holds, as Z85 text; the public one is always among them."""
    try:
        if path.exists() and not path.is_file():
            raise SecurityError(f"{path} is no regular file", _MAKE)
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as cause:
        raise SecurityError(f"{path} cannot be read ({_why(cause)})", _MAKE) from cause
    malformed = SecurityError(f"{path} is not a CURVE key file, or is damaged", _MAKE)
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


def _require_curve() -> None:
    if not zmq.has("curve"):
        raise SecurityError(f"ZeroMQ {zmq.zmq_version()} was built without CURVE", "Install pyzmq from its wheel.")


def _why(cause: OSError | ValueError) -> str:
    return str(getattr(cause, "strerror", None) or cause)

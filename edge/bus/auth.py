"""Who may read verdicts and who may command: CURVE keys, and the allow-lists that are asked at every handshake.

`Guard` is the station's half, `edge.bus.keys.ClientKeys` the other. Allow-lists are read once, at the start.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import zmq
from zmq.utils import z85

from edge.bus.keys import MAKE, PUBLIC_SUFFIX, load_public, load_secret, require_curve, why
from edge.errors import SecurityError

if TYPE_CHECKING:
    from edge.station import SecuritySettings

Domain = Literal["subscribers", "operators"]

_ZAP = "inproc://zeromq.zap.01"
_ZAP_VERSION = b"1.0"


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
        require_curve()
        self._public, self._secret = load_secret(Path(settings.secret_key))
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
                f"{MAKE[:-1]} and name the station's NAME.key_secret, or remove security.{name}.",
            )


def _load_allowed(domain: Domain, folder: str) -> dict[bytes, bytes]:
    """The names of a folder's keys, by key (32 bytes)."""
    remedy = f"Name a folder that holds the NAME{PUBLIC_SUFFIX} of each of the {domain}. {MAKE}"
    if not folder:
        raise SecurityError(
            f"security.{domain} is not set: whoever has the station's public key would be admitted", remedy
        )
    try:
        paths = sorted(p for p in Path(folder).iterdir() if p.name.endswith(PUBLIC_SUFFIX))
    except (OSError, ValueError) as cause:
        raise SecurityError(f"security.{domain}: {folder} cannot be read ({why(cause)})", remedy) from cause
    if not paths:
        raise SecurityError(f"security.{domain}: {folder} holds no *{PUBLIC_SUFFIX}", remedy)
    found: dict[bytes, bytes] = {}
    for path in paths:
        key = z85.decode(load_public(path))
        if key in found:
            raise SecurityError(
                f"{path} holds the same key as {found[key].decode()}{PUBLIC_SUFFIX}", "Remove one of them."
            )
        found[key] = path.name.removesuffix(PUBLIC_SUFFIX).encode()
    return found

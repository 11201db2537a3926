"""Only listed keys get in, each only where it is listed, and never in plain text."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.auth
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85
from zmq.utils.monitor import recv_monitor_message

from edge.bus.auth import Domain, Guard, answer
from edge.bus.keys import ClientKeys, load_client_keys
from edge.errors import SecurityError
from edge.station import SecuritySettings

PATIENCE_MS = 20_000
REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
ADMITTED = zmq.EVENT_HANDSHAKE_SUCCEEDED
Socket = zmq.Socket[Any]


@dataclass(frozen=True)
class Keyring:
    """A folder with a key pair for everybody, and the two allow-lists."""

    folder: Path

    def make(self, name: str, allowed: str = "") -> None:
        zmq.auth.create_certificates(self.folder, name)
        self.secret(name).chmod(0o600)
        if allowed:
            shutil.copyfile(self.public(name), self.list(allowed) / f"{name}.key")

    def list(self, domain: str) -> Path:
        folder = self.folder / domain
        folder.mkdir(exist_ok=True)
        return folder

    def secret(self, name: str) -> Path:
        return self.folder / f"{name}.key_secret"

    def public(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def client(self, name: str) -> ClientKeys:
        return load_client_keys(self.secret(name), self.public("station"))

    @property
    def settings(self) -> SecuritySettings:
        return SecuritySettings(
            secret_key=str(self.secret("station")),
            subscribers=str(self.list("subscribers")),
            operators=str(self.list("operators")),
        )


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    ring = Keyring(tmp_path)
    ring.make("station")
    ring.make("plc", "subscribers")
    ring.make("hmi", "operators")
    ring.make("stranger")
    return ring


@pytest.fixture
def context() -> Iterator[zmq.Context[Socket]]:
    with zmq.Context() as made:
        yield made


@contextmanager
def open_socket(context: zmq.Context[Socket], kind: int) -> Iterator[Socket]:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
    try:
        yield socket
    finally:
        socket.close()


@dataclass(frozen=True)
class Served:
    """A guarded socket, where it is bound, and what happens to handshakes there."""

    socket: Socket
    endpoint: str
    events: Socket
    guard: Guard

    def handshake(self) -> int:
        """Waits for the next handshake to succeed or fail."""
        assert self.events.poll(PATIENCE_MS), "no handshake was seen"
        return int(recv_monitor_message(self.events)["event"])


@contextmanager
def serving(
    context: zmq.Context[Socket], settings: SecuritySettings, kind: int = zmq.XPUB, domain: Domain = "subscribers"
) -> Iterator[Served]:
    guard = Guard(context, settings)
    try:
        with open_socket(context, kind) as socket:
            guard.apply(socket, domain)
            events = socket.get_monitor_socket(REFUSED | ADMITTED)
            try:
                yield Served(socket, bound(socket), events, guard)
            finally:
                socket.disable_monitor()
                events.close()
    finally:
        guard.close()


def bound(socket: Socket) -> str:
    socket.bind("tcp://127.0.0.1:*")
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.rstrip(b"\0").decode()


def subscribe(socket: Socket, endpoint: str) -> None:
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(endpoint)


def test_a_listed_key_gets_messages(context: zmq.Context[Socket], keyring: Keyring) -> None:
    with serving(context, keyring.settings) as served, open_socket(context, zmq.SUB) as client:
        assert served.guard.enabled
        keyring.client("plc").apply(client)
        subscribe(client, served.endpoint)
        assert served.handshake() == ADMITTED
        assert served.socket.recv() == b"\x01"
        served.socket.send_multipart([b"verdict", b"{}"])
        assert client.recv_multipart() == [b"verdict", b"{}"]
        assert served.guard.refused == 0


def check_gets_nothing(context: zmq.Context[Socket], served: Served, keys: ClientKeys | None, why: int) -> None:
    """Its handshake is refused; then a listed subscriber gets what is sent, and it does not."""
    with open_socket(context, zmq.SUB) as client:
        if keys is not None:
            keys.apply(client)
        subscribe(client, served.endpoint)
        assert served.handshake() == why
        assert not served.socket.poll(0), "no subscription has come"
        served.socket.send_multipart([b"verdict", b"{}"])
        assert not client.poll(0)


def test_an_unknown_key_gets_nothing_and_is_counted(context: zmq.Context[Socket], keyring: Keyring) -> None:
    with serving(context, keyring.settings) as served:
        check_gets_nothing(context, served, keyring.client("stranger"), zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        assert served.guard.refused >= 1
        with open_socket(context, zmq.SUB) as listed:
            keyring.client("plc").apply(listed)
            subscribe(listed, served.endpoint)
            assert served.socket.recv() == b"\x01", "who is listed still gets in"


def test_plain_text_gets_nothing(context: zmq.Context[Socket], keyring: Keyring) -> None:
    with serving(context, keyring.settings) as served:
        check_gets_nothing(context, served, None, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)


def test_a_client_that_expects_another_station_gets_nothing(context: zmq.Context[Socket], keyring: Keyring) -> None:
    keyring.make("impostor")
    keys = load_client_keys(keyring.secret("plc"), keyring.public("impostor"))
    with serving(context, keyring.settings) as served:
        check_gets_nothing(context, served, keys, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)


@pytest.mark.parametrize(("name", "event"), [("hmi", ADMITTED), ("plc", zmq.EVENT_HANDSHAKE_FAILED_AUTH)])
def test_a_subscriber_may_not_command(context: zmq.Context[Socket], keyring: Keyring, name: str, event: int) -> None:
    with (
        serving(context, keyring.settings, zmq.ROUTER, "operators") as served,
        open_socket(context, zmq.DEALER) as client,
    ):
        keyring.client(name).apply(client)
        client.connect(served.endpoint)
        client.send(b"activate")
        assert served.handshake() == event
        if event == ADMITTED:
            _, body = served.socket.recv_multipart(copy=False)
            assert (body.bytes, body.get("User-Id")) == (b"activate", "hmi")
        else:
            assert not served.socket.poll(0)


def test_an_operator_does_not_read_verdicts_unless_listed(context: zmq.Context[Socket], keyring: Keyring) -> None:
    with serving(context, keyring.settings) as served:
        check_gets_nothing(context, served, keyring.client("hmi"), zmq.EVENT_HANDSHAKE_FAILED_AUTH)


def test_after_close_nobody_new_is_admitted(context: zmq.Context[Socket], keyring: Keyring) -> None:
    with serving(context, keyring.settings) as served:
        served.guard.close()
        served.guard.close()
        with open_socket(context, zmq.SUB) as client:
            keyring.client("plc").apply(client)
            subscribe(client, served.endpoint)
            assert served.handshake() != ADMITTED


def test_a_guard_follows_another_but_never_beside_it(context: zmq.Context[Socket], keyring: Keyring) -> None:
    first = Guard(context, keyring.settings)
    with pytest.raises(SecurityError, match="guarded already"):
        Guard(context, keyring.settings)
    first.close()
    for _ in range(100):
        Guard(context, keyring.settings).close()


def test_a_context_that_ends_first_ends_the_guard(keyring: Keyring) -> None:
    context: zmq.Context[Socket] = zmq.Context()
    guard = Guard(context, keyring.settings)
    context.term()
    guard.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "guard"]


def test_without_a_secret_key_it_is_off(context: zmq.Context[Socket]) -> None:
    with serving(context, SecuritySettings()) as served, open_socket(context, zmq.SUB) as client:
        assert not served.guard.enabled
        subscribe(client, served.endpoint)
        assert served.socket.recv() == b"\x01"
        assert served.guard.refused == 0


@pytest.mark.parametrize("name", ["subscribers", "operators"])
def test_allow_lists_without_a_secret_key_are_refused(
    context: zmq.Context[Socket], keyring: Keyring, name: str
) -> None:
    with pytest.raises(SecurityError, match=f"security.{name} is set, but no security.secret_key"):
        Guard(context, SecuritySettings(**{name: str(keyring.list(name))}))


@pytest.mark.parametrize("domain", ["subscribers", "operators"])
@pytest.mark.parametrize("fault", ["unnamed", "missing", "empty", "a file", "malformed", "secret", "twice"])
def test_an_allow_list_must_be_there_and_whole(
    context: zmq.Context[Socket], keyring: Keyring, domain: str, fault: str
) -> None:
    folder, named, said = keyring.list(domain), str(keyring.list(domain)), domain
    if fault == "unnamed":
        named, said = "", f"security.{domain} is not set"
    elif fault == "missing":
        shutil.rmtree(folder)
    elif fault == "empty":
        for path in folder.iterdir():
            path.rename(path.with_suffix(".txt"))
    elif fault == "a file":
        named = str(keyring.public("plc"))
    elif fault == "malformed":
        said = "broken.key"
        (folder / said).write_text('public-key = "short"\n')
    elif fault == "secret":
        said = "stranger.key"
        shutil.copyfile(keyring.secret("stranger"), folder / said)
    else:
        said = "zoe.key"
        shutil.copyfile(next(folder.iterdir()), folder / said)
    settings = {"subscribers": keyring.settings.subscribers, "operators": keyring.settings.operators, domain: named}
    with pytest.raises(SecurityError, match=said) as caught:
        Guard(context, SecuritySettings(secret_key=keyring.settings.secret_key, **settings))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_secret_key_that_others_can_reach_is_refused(
    context: zmq.Context[Socket], keyring: Keyring, mode: int
) -> None:
    keyring.secret("station").chmod(mode)
    with pytest.raises(SecurityError, match="others than its owner") as caught:
        Guard(context, keyring.settings)
    assert "chmod 600" in caught.value.remedy
    keyring.secret("plc").chmod(mode)
    with pytest.raises(SecurityError, match="others than its owner"):
        keyring.client("plc")


def test_a_secret_key_must_hold_two_halves_that_belong_together(keyring: Keyring) -> None:
    public, _ = zmq.auth.load_certificate(keyring.public("stranger"))
    own = keyring.secret("plc")
    halves = own.read_text()
    mine, _ = zmq.auth.load_certificate(keyring.public("plc"))
    own.write_text(halves.replace(mine.decode(), public.decode()))
    with pytest.raises(SecurityError, match="do not belong together"):
        keyring.client("plc")
    shutil.copyfile(keyring.public("plc"), own)
    with pytest.raises(SecurityError, match="holds no secret key"):
        keyring.client("plc")
    own.unlink()
    with pytest.raises(SecurityError, match="cannot be read"):
        keyring.client("plc")


def test_a_client_is_not_given_the_stations_secret_key(keyring: Keyring) -> None:
    with pytest.raises(SecurityError, match="holds a secret key"):
        load_client_keys(keyring.secret("plc"), keyring.secret("station"))


def test_the_secret_half_is_not_printed(keyring: Keyring) -> None:
    keys = keyring.client("plc")
    assert keys.secret.decode() not in repr(keys)


@given(
    data=st.binary(max_size=300)
    | st.binary(min_size=40, max_size=40).map(lambda b: b'public-key = "' + b + b'"\n')
    | st.text(z85.Z85CHARS.decode(), min_size=38, max_size=42).map(lambda t: f'curve\n public-key = "{t}"\n'.encode())
)
def test_arbitrary_bytes_as_a_key_are_refused_or_a_key(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    ring = Keyring(tmp_path_factory.getbasetemp() / "fuzzed")
    ring.folder.mkdir(exist_ok=True)
    if not ring.secret("plc").exists():
        ring.make("plc")
    ring.public("station").write_bytes(data)
    try:
        keys = ring.client("plc")
    except SecurityError:
        pass
    else:
        assert len(z85.decode(keys.server_public)) == 32
    ring.secret("x").write_bytes(data)
    ring.secret("x").chmod(0o600)
    with pytest.raises(SecurityError):
        load_client_keys(ring.secret("x"), ring.public("plc"))


KEY = b"k" * 32
ALLOWED = {b"subscribers": {KEY: b"plc"}, b"operators": {b"o" * 32: b"hmi"}}
FRAMES = (
    st.sampled_from([b"1.0", b"7", b"subscribers", b"operators", b"CURVE", b"NULL", b"PLAIN", KEY, b""]) | st.binary()
)


@given(request=st.lists(FRAMES, max_size=9))
def test_every_question_has_one_answer_and_only_a_listed_key_is_let_in(request: list[bytes]) -> None:
    reply = answer(request, ALLOWED)
    assert len(reply) == 6 and reply[0] == b"1.0"
    assert reply[1] == (request[1] if len(request) > 1 else b"")
    assert reply[2] in (b"200", b"400")
    if reply[2] == b"200":
        assert len(request) == 7 and request[0] == b"1.0" and request[5] == b"CURVE"
        assert reply[4] == ALLOWED[request[2]][request[6]]


@pytest.mark.parametrize("mechanism", [b"NULL", b"PLAIN", b"GSSAPI", b"curve", b""])
def test_no_other_mechanism_is_let_in(mechanism: bytes) -> None:
    request = [b"1.0", b"1", b"subscribers", b"127.0.0.1", b"", mechanism, KEY]
    assert answer(request, ALLOWED)[2] == b"400"
    request[5] = b"CURVE"
    assert answer(request, ALLOWED)[2] == b"200"
    assert answer([*request, b""], ALLOWED)[2] == b"400"
    assert answer([b"2.0", *request[1:]], ALLOWED)[2] == b"400"


@pytest.mark.parametrize("domain", [b"subscribers", b"operators", b"", b"*", b"other"])
@pytest.mark.parametrize("key", [KEY, b"o" * 32, b"x" * 32])
def test_a_key_is_let_into_its_own_domain_only(domain: bytes, key: bytes) -> None:
    reply = answer([b"1.0", b"1", domain, b"127.0.0.1", b"", b"CURVE", key], ALLOWED)
    assert (reply[2] == b"200") is (key in ALLOWED.get(domain, {}))

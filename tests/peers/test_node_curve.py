"""A CURVE client that we did not write: Node.js with npm's `zeromq` is admitted with a listed key and with no other."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

import linegate
from edge.bus.auth import Guard
from edge.station import SecuritySettings
from tests.packages import REPOSITORY

PEER = Path(__file__).resolve().parent / "node"
INSTALL = f"npm install --prefix {PEER.relative_to(REPOSITORY)}"
PATIENCE_S = 60
PERIOD_MS = 20
COUNT = 3
Socket = zmq.Socket[Any]


@dataclass(frozen=True)
class Feed:
    """A guarded socket that publishes."""

    socket: Socket
    endpoint: str
    events: Socket
    guard: Guard


@pytest.fixture(scope="module")
def node() -> str:
    """Node.js, with the peer's package installed."""
    program = shutil.which("node")
    if program is None:
        pytest.skip(f"Node.js is not installed: apt-get install nodejs npm && {INSTALL}")
    if not (PEER / "node_modules" / "zeromq" / "package.json").is_file():
        pytest.skip(f"the peer's ZeroMQ binding is not installed: {INSTALL}")
    return program


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Keys as a user makes them: `plc` may read verdicts, `stranger` may not."""
    for name in ("station", "plc", "hmi", "stranger"):
        assert linegate.main(["keys", "curve", name, "--out", str(tmp_path)]) == 0
    for domain, name in (("subscribers", "plc"), ("operators", "hmi")):
        (tmp_path / domain).mkdir()
        shutil.copy(tmp_path / f"{name}.key", tmp_path / domain)
    return tmp_path


@pytest.fixture
def feed(keys: Path) -> Iterator[Feed]:
    """Bound to a free port of the loopback interface."""
    settings = SecuritySettings(
        secret_key=str(keys / "station.key_secret"),
        subscribers=str(keys / "subscribers"),
        operators=str(keys / "operators"),
    )
    with zmq.Context() as context:
        guard = Guard(context, settings)
        socket = context.socket(zmq.XPUB)
        socket.setsockopt(zmq.LINGER, 0)
        guard.apply(socket, "subscribers")
        events = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        try:
            socket.bind("tcp://127.0.0.1:*")
            yield Feed(socket, socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"), events, guard)
        finally:
            socket.disable_monitor()
            events.close()
            socket.close()
            guard.close()


@contextmanager
def peer(node: str, feed: Feed, keys: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    """Connects with the keys of `name`, and knows the station's public key."""
    script = PEER / "curve_subscriber.mjs"
    words = [node, script, feed.endpoint, keys / "station.key", keys / f"{name}.key_secret", COUNT]
    with subprocess.Popen(
        [str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def verdict(seq: int) -> list[bytes]:
    return [b"verdict", json.dumps({"seq": seq, "judgement": "OK", "accept": True}).encode()]


def handshake(feed: Feed) -> int:
    assert feed.events.poll(PATIENCE_S * 1000), "the peer has not come"
    return int(recv_monitor_message(feed.events)["event"])


def test_a_listed_key_receives(node: str, feed: Feed, keys: Path) -> None:
    with peer(node, feed, keys, "plc") as process:
        assert handshake(feed) == zmq.EVENT_HANDSHAKE_SUCCEEDED
        end, seq = time.monotonic() + PATIENCE_S, 0
        while process.poll() is None and time.monotonic() < end:
            seq += 1
            feed.socket.send_multipart(verdict(seq))
            feed.socket.poll(PERIOD_MS)
            while feed.socket.poll(0):
                assert feed.socket.recv() in (b"\x01verdict", b"\x01heartbeat", b"\x00verdict", b"\x00heartbeat")
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    heard = [line for line in map(json.loads, out.splitlines()) if "topic" in line]
    assert len(heard) == COUNT
    first = heard[0]["body"]["seq"]
    assert [(h["topic"], h["body"]["seq"]) for h in heard] == [("verdict", first + n) for n in range(COUNT)]
    assert feed.guard.refused == 0


@pytest.mark.parametrize("name", ["stranger", "hmi"])
def test_another_key_is_refused_and_receives_nothing(node: str, feed: Feed, keys: Path, name: str) -> None:
    with peer(node, feed, keys, name) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline()) == {"connecting": True}
        assert handshake(feed) == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        assert json.loads(process.stdout.readline()) == {"handshake": False}, "the peer is told"
        for seq in range(1, 11):
            feed.socket.send_multipart(verdict(seq))
        assert not feed.socket.poll(0), "no subscription has come"
        process.kill()
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert "topic" not in out and "true" not in out
    assert feed.guard.refused >= 1

"""systemd hears what the station says; nobody listening costs nothing."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.notify import Notifier

PATIENCE_S = 60.0


@dataclass
class Manager:
    """Stands for systemd: the socket that NOTIFY_SOCKET names."""

    address: str
    socket: socket.socket

    def hear(self) -> dict[str, str]:
        """The next message, assignment by assignment."""
        text = self.socket.recv(65536).decode("utf-8")
        return dict(line.split("=", 1) for line in text.splitlines())

    def hears_nothing(self) -> bool:
        """Whether no message waits: a datagram on this machine has arrived when sending it returns."""
        self.socket.setblocking(False)
        try:
            self.socket.recv(65536)
        except BlockingIOError:
            return True
        finally:
            self.socket.settimeout(PATIENCE_S)
        return False


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest) -> Iterator[Manager]:
    with tempfile.TemporaryDirectory(prefix="linegate-") as folder:
        path = f"{folder}/notify"
        address = path if request.param == "path" else f"@{path}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
            listening.bind(path if request.param == "path" else f"\0{path}")
            listening.settimeout(PATIENCE_S)
            yield Manager(address, listening)


@dataclass
class Clock:
    now_ns: int = 10**18

    def __call__(self) -> int:
        return self.now_ns


def test_the_manager_hears_each_change(manager: Manager) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address})
    notifier.ready("judges bracket 1")
    assert manager.hear() == {"READY": "1", "STATUS": "judges bracket 1"}
    notifier.status("Prüfung läuft")
    assert manager.hear() == {"STATUS": "Prüfung läuft"}
    notifier.stopping()
    assert manager.hear() == {"STOPPING": "1"}
    notifier.close()
    notifier.close()
    notifier.status("nobody hears this")
    assert manager.hears_nothing()


def test_systemds_own_program_says_the_same(manager: Manager) -> None:
    if shutil.which("systemd-notify") is None:
        pytest.skip("systemd-notify is not installed: apt-get install systemd")
    words = ["systemd-notify", "--no-block", "--ready", "--status=judges bracket 1"]
    subprocess.run(words, env={**os.environ, "NOTIFY_SOCKET": manager.address}, check=True)
    theirs = manager.hear()
    notifier = Notifier(manager.address)
    notifier.ready("judges bracket 1")
    ours = manager.hear()
    notifier.close()
    assert {name: theirs[name] for name in ("READY", "STATUS")} == ours


def test_progress_is_told_at_most_every_third_of_the_watchdogs_time(manager: Manager) -> None:
    clock = Clock()
    notifier = Notifier(manager.address, watchdog_us=9_000_000, now_ns=clock)
    told = []
    for _ in range(10):
        notifier.progress()
        told.append(not manager.hears_nothing())
        clock.now_ns += 1_000_000_000
    assert told == [True, False, False, True, False, False, True, False, False, True]
    notifier.close()


def test_without_progress_the_watchdog_hears_nothing(manager: Manager) -> None:
    clock = Clock()
    notifier = Notifier(manager.address, watchdog_us=9_000_000, now_ns=clock)
    notifier.progress()
    assert manager.hear() == {"WATCHDOG": "1"}
    clock.now_ns += 3_600 * 10**9
    notifier.status("hangs")
    assert manager.hear() == {"STATUS": "hangs"}
    assert manager.hears_nothing()
    notifier.close()


def test_a_manager_that_does_not_read_costs_messages_only(manager: Manager) -> None:
    clock = Clock()
    notifier = Notifier(manager.address, watchdog_us=9_000_000, now_ns=clock)
    for _ in range(5_000):
        notifier.status("x" * 400)
    notifier.progress()
    heard = 0
    while not manager.hears_nothing():
        heard += 1
    assert heard < 5_000
    # The lost watchdog message is made up for at once, not a third later.
    notifier.progress()
    assert manager.hear() == {"WATCHDOG": "1"}
    notifier.close()


@pytest.mark.parametrize(
    "address", ["", "relative", "vsock:2:1234", "/nowhere/at/all", "@nobody-is-here", "/" + "x" * 200]
)
def test_nobody_listening_is_no_failure(address: str) -> None:
    notifier = Notifier(address, watchdog_us=1)
    notifier.ready("x")
    notifier.progress()
    notifier.stopping()
    notifier.close()


def test_a_manager_that_was_restarted_is_found_again() -> None:
    with tempfile.TemporaryDirectory(prefix="linegate-") as folder:
        path = f"{folder}/notify"
        notifier = Notifier(path)
        for text in ("before", "after"):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
                listening.bind(path)
                listening.settimeout(PATIENCE_S)
                notifier.status(text)
                assert Manager(path, listening).hear() == {"STATUS": text}
            Path(path).unlink()
            notifier.status("lost")
        notifier.close()


@pytest.mark.parametrize(
    ("environment", "is_on"),
    [
        ({}, False),
        ({"WATCHDOG_USEC": "3"}, True),
        ({"WATCHDOG_USEC": "3", "WATCHDOG_PID": str(os.getpid())}, True),
        ({"WATCHDOG_USEC": "3", "WATCHDOG_PID": str(os.getpid() + 1)}, False),
        ({"WATCHDOG_USEC": "3", "WATCHDOG_PID": "?"}, False),
        ({"WATCHDOG_USEC": "0"}, False),
        ({"WATCHDOG_USEC": "-3"}, False),
        ({"WATCHDOG_USEC": "soon"}, False),
        ({"WATCHDOG_USEC": "9" * 5000}, False),
    ],
)
def test_the_watchdog_is_on_when_systemd_asks_this_process(
    manager: Manager, environment: dict[str, str], is_on: bool
) -> None:
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": manager.address, **environment})
    notifier.progress()
    assert manager.hears_nothing() is not is_on
    notifier.close()


@given(text=st.text(max_size=1000))
def test_no_text_can_say_more_than_a_status(text: str) -> None:
    folder = tempfile.TemporaryDirectory(prefix="linegate-")
    with folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"{folder.name}/notify")
        listening.settimeout(PATIENCE_S)
        notifier = Notifier(f"{folder.name}/notify")
        notifier.status(text)
        assert list(Manager("", listening).hear()) == ["STATUS"]
        notifier.close()

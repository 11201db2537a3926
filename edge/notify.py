"""Tells systemd how the station is: its notification protocol, one datagram a message.

Nothing here waits or raises: a message that cannot be sent is lost. A lost watchdog message is sent again with the next
progress, well before systemd's patience ends.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

N = TypeVar("N", bound="Notifier")
MOST_STATUS_CHARACTERS = 500


class Notifier:
    """Sends to the service manager that started this process; does nothing if none did."""

    def __init__(self, address: str, watchdog_us: int = 0, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        """Send to `address`: a path, or `@` and an abstract name; anything else is nowhere.

        Args:
            address: as in NOTIFY_SOCKET.
            watchdog_us: how long systemd waits for progress; 0 is no watchdog.
            now_ns: the monotonic clock.
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        if address.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        # A third: two messages in a row may be lost or late without the station being killed for it.
        self._interval_ns = watchdog_us * 1000 // 3
        self._now_ns = now_ns
        self._due_ns: int | None = now_ns() if watchdog_us > 0 else None

    @classmethod
    def from_environment(cls: type[N], environment: Mapping[str, str] = os.environ) -> N:
        """The notifier that NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID ask for."""
        for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "")
        is_number = microseconds.isascii() and microseconds.isdigit() and len(microseconds) < 20
        return cls(environment.get("NOTIFY_SOCKET", ""), int(microseconds) if for_us and is_number else 0)

    def ready(self, status: str) -> None:
        """The station judges from now on; the watchdog runs from now on."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(f"STATUS={_one_line(text)}")

    def progress(self) -> None:
        """Every stage has moved. Call it as often as that is known, from one thread; most calls send nothing."""
        if self._due_ns is None:
            return
        now = self._now_ns()
        if now >= self._due_ns and self._send("WATCHDOG=1"):
            self._due_ns = now + self._interval_ns

    def stopping(self) -> None:
        """The station ends as it should: systemd stops the watchdog, and waits TimeoutStopSec."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> bool:
        if self._socket is None:
            return False
        try:
            self._socket.sendto(message.encode("utf-8", "replace"), self._address)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Send nothing any more. May be called twice."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _one_line(text: str) -> str:
    """The first characters on one line: a newline would begin another message."""
    return "".join(c if c.isprintable() else " " for c in text[:MOST_STATUS_CHARACTERS])

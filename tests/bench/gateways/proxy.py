"""A network cable that can be pulled: TCP connections go through, until it is cut. Then nothing does, and nobody is told."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time

CHUNK = 65_536
HOST = "127.0.0.1"


class Cable:
    """Forwards each of its ports to another one, if it has any. Runs in a thread."""

    def __init__(self, ports: dict[int, int]) -> None:
        """`ports`: where to listen, and where that leads to."""
        self._selector = selectors.DefaultSelector()
        self._other: dict[socket.socket, socket.socket] = {}
        self._cut, self._ending = threading.Event(), threading.Event()
        self._listeners = {}
        for port, target in ports.items():
            listener = socket.create_server((HOST, port))
            self._listeners[listener] = target
            self._selector.register(listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def cut(self) -> int:
        """Forward nothing from now on; returns the microsecond."""
        self._cut.set()
        return time.time_ns() // 1000

    def close(self) -> None:
        """End it and all its connections."""
        self._ending.set()
        self._thread.join()
        for end in [*self._listeners, *self._other]:
            end.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._ending.is_set():
            for key, _ in self._selector.select(0.05):
                end = key.fileobj
                if self._cut.is_set() or not isinstance(end, socket.socket):
                    self._ending.wait(0.005)
                elif end in self._listeners:
                    self._accept(end)
                else:
                    self._forward(end)

    def _accept(self, listener: socket.socket) -> None:
        near, _ = listener.accept()
        try:
            far = socket.create_connection((HOST, self._listeners[listener]), 1)
        except OSError:
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._other[one] = other
            self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, end: socket.socket) -> None:
        other = self._other.get(end)
        if other is None:
            return
        data = b""
        with contextlib.suppress(OSError):
            data = end.recv(CHUNK)
            if data:
                other.sendall(data)
                return
        for gone in (end, other):
            self._selector.unregister(gone)
            self._other.pop(gone, None)
            gone.close()

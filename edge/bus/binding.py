"""Bind a station's socket, or say in one line why not."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import zmq

from edge.errors import BusError

LOOK_S = 0.2


def bind(
    server: zmq.Socket[Any], endpoint: str, guard: Callable[[zmq.Socket[Any]], None], name: str, setting: str
) -> str:
    """Guard a socket and bind it; returns the endpoint with the port that was taken. Closes the socket if it fails.

    Args:
        server: the socket.
        endpoint: where.
        guard: sets up the socket's security before.
        name: what the user calls it.
        setting: its key in the station file.

    Raises:
        BusError: in use, or not an endpoint.
        SecurityError: as `guard`.
    """
    server.setsockopt(zmq.IPV6, int("[" in endpoint))
    try:
        if _is_taken(endpoint):
            # ZeroMQ would take the path away from the program that has it, and neither would be told.
            raise zmq.ZMQError(zmq.EADDRINUSE)
        guard(server)
        server.bind(endpoint)
    except zmq.ZMQError as error:
        server.close()
        raise BusError(
            f"{name} cannot be bound to {endpoint} ({error.strerror})",
            f"Stop the program that holds it (`ss -lntxp`), or choose another {setting} in the station file.",
        ) from error
    except BaseException:
        server.close()
        raise
    return server.getsockopt_string(zmq.LAST_ENDPOINT)


def _is_taken(endpoint: str) -> bool:
    """Whether somebody listens at an ipc path; a path that a dead program left is free."""
    if not endpoint.startswith("ipc:///"):
        return False
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as probe:
        probe.settimeout(LOOK_S)
        try:
            probe.connect(endpoint.removeprefix("ipc://"))
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True

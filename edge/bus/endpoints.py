"""Where a station's sockets lie: three endpoints, of which the user need name only the first."""

from __future__ import annotations

import ipaddress
import re

LARGEST_PORT = 65_535
_TCP = re.compile(r"tcp://(?P<host>[^:\[\]]+|\[[0-9A-Fa-f:.%\w]+\]):(?P<port>\*|\d{1,5})")


def sibling(endpoint: str, step: int) -> str:
    """The endpoint of the replay (step 1) or control (step 2) socket beside a feed's endpoint.

    The next port, `*` and 0 for themselves; for an ipc path, the path with `-replay` or `-control` appended. What is no endpoint
    is returned as it is: whoever binds it says so.
    """
    tcp = _TCP.fullmatch(endpoint)
    if tcp is None:
        return endpoint + ("-replay", "-control")[step - 1]
    port = tcp["port"] if tcp["port"] in ("*", "0") else str(int(tcp["port"]) + step)
    return f"tcp://{tcp['host']}:{port}"


def is_remote(endpoint: str) -> bool:
    """Whether other machines can reach what is bound there.

    Raises:
        ValueError: not an endpoint that a station can bind.
    """
    if endpoint.startswith("ipc://") and len(endpoint) > len("ipc://"):
        return False
    tcp = _TCP.fullmatch(endpoint)
    if tcp is None or (tcp["port"] != "*" and int(tcp["port"]) > LARGEST_PORT):
        raise ValueError(endpoint)
    host = tcp["host"].strip("[]")
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host not in ("localhost", "lo")

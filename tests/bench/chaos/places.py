"""Ports, folders and station files of the runs."""

from __future__ import annotations

import socket
from pathlib import Path

NODE = Path(__file__).resolve().parents[2] / "peers" / "node"
FIRST_PORT, LAST_PORT = 20_000, 30_000


def free_ports(count: int) -> int:
    """The first of so many neighbouring TCP ports of the loopback interface that nobody uses now."""
    for first in range(FIRST_PORT, LAST_PORT, count):
        with socket.socket() as probe:
            if all(_is_free(first + step) for step in range(count)):
                return first
            probe.close()
    raise SystemExit("chaos: no free ports")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def station_text(feed: str, package: Path, recipes: Path, journal: Path, folder: Path) -> str:
    """The station file of the run with recorded scores."""
    return f"""station_id = "chaos"

[camera]
type = "replay"
source = "{folder}"
rate_hz = 1
trigger = "software"

[model]
package = "{package}"

[recipe]
path = "{recipes}/left"

[pipeline]
deadline_ms = 300
queue_frames = 64
min_interval_ms = 0.2

[bus]
endpoint = "{feed}"
heartbeat_ms = 100

[journal]
folder = "{journal}"
entries = 1000000
pictures_mb = 20
tail_folder = "{folder}"
tail_mb = 16

[supervisor]
restarts = 6
within_s = 30
hang_s = 0.5
"""

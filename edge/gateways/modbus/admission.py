"""Who may connect, and which of those who did may write."""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections.abc import Callable
from typing import Protocol

from edge.errors import GatewayError
from edge.gateways.settings import GatewaySettings
from edge.logs import Level, log_event

SHORTEST_OWNERSHIP_S = 2.0
LOG_EVERY_S = 1.0
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Peer(Protocol):
    """A connection."""

    asked: int
    """Requests that it has made."""
    heard_s: float
    """When the last one came."""


class Admission:
    """The connections that are open, and the one that owns the command block. All times are monotonic seconds."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Nobody is there yet.

        Raises:
            GatewayError: an entry of `modbus.allow` is no address.
        """
        self._networks = [_network(entry) for entry in settings.modbus.allow]
        self._most = settings.modbus.connections
        self._ownership_s = max(settings.plc.heartbeat_ms / 1000, SHORTEST_OWNERSHIP_S)
        self._peers: list[Peer] = []
        self._owner: Peer | None = None
        self._wrote_s = 0.0

    def admits(self, address: str) -> bool:
        """Whether somebody at this address may connect."""
        machine = _unmapped(address)
        return not self._networks or any(machine in network for network in self._networks)

    def enter(self, peer: Peer, now_s: float) -> Peer | None:
        """Let a connection in; returns the one that has to go: another, the same one if there is no room, or None.

        Those that never asked for anything go first, then those that were silent longest. Whoever owns the command block stays.
        """
        self._peers.append(peer)
        if len(self._peers) <= self._most:
            return None
        owner = self._owner_at(now_s)
        others = [other for other in self._peers[:-1] if other is not owner]
        goes = min(others, key=lambda other: (other.asked > 0, other.heard_s), default=peer)
        self.leave(goes)
        return goes

    def leave(self, peer: Peer) -> None:
        """A connection is closed."""
        if peer in self._peers:
            self._peers.remove(peer)
        if self._owner is peer:
            self._owner = None

    def may_write(self, peer: Peer, now_s: float) -> bool:
        """Whether nobody else owns the command block."""
        return self._owner_at(now_s) in (None, peer)

    def is_owner(self, peer: Peer) -> bool:
        """Whether this one wrote last."""
        return self._owner is peer

    def wrote(self, peer: Peer, now_s: float) -> bool:
        """A connection has written, and owns the command block from now on; returns whether it did not before."""
        is_new, self._owner, self._wrote_s = self._owner is not peer, peer, now_s
        return is_new

    def _owner_at(self, now_s: float) -> Peer | None:
        """One that has written nothing for long may be a dead PLC's connection that nobody closed."""
        return self._owner if now_s - self._wrote_s <= self._ownership_s else None


class PacedLog:
    """Logs each event at most once a second, and with the next one how many were left out."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger, self._clock = logger, clock
        self._last_s: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def note(self, event: str, *, address: str, what: str = "", level: Level = "warning") -> None:
        """Log what a client at this address did, unless the same was logged less than a second ago."""
        now_s = self._clock()
        if now_s - self._last_s.get(event, -math.inf) < LOG_EVERY_S:
            self._left_out[event] = self._left_out.get(event, 0) + 1
            return
        self._last_s[event] = now_s
        left_out = self._left_out.pop(event, 0)
        log_event(self._logger, event, level=level, address=address, what=what, left_out=left_out)


def _network(entry: str) -> Network:
    try:
        return ipaddress.ip_network(entry)
    except ValueError as error:
        raise GatewayError(
            f"modbus.allow: {entry!r} is no address of a machine or network",
            'Write addresses such as "192.168.0.10", or networks such as "192.168.0.0/24".',
        ) from error


def _unmapped(address: str) -> Address:
    """An address as it is written in `modbus.allow`: a socket for IPv6 shows IPv4 peers in its own way."""
    machine = ipaddress.ip_address(address.partition("%")[0])
    mapped = machine.ipv4_mapped if isinstance(machine, ipaddress.IPv6Address) else None
    return mapped or machine

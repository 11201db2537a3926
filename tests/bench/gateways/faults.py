"""What breaks on a shop floor, done to a running trio: how soon the PLC side knows, and is anything accepted after that."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.progress import Progress

from tests.bench.gateways.proxy import Cable
from tests.bench.gateways.rig import ANSWER_MS, PLC_MS, SILENCE_MS, UNHURRIED_MS, Event, Protocol_, Rig

RATE_HZ, WARM, MANY = 50.0, 50, 3_000
PAUSED_S = 3.0
SLACK_MS = 100.0
"""For the look at the clock (20 ms), the PLC's poll, and two cores that three processes share."""
NOT_HERE_S = 15.0
POLL_US = 50_000
"""An OPC UA event may be at the PLC before its next read shows online."""
Fault = Callable[[Protocol_, Path], dict[str, Any]]


def all_faults(protocol: Protocol_, folder: Path, progress: Progress) -> dict[str, dict[str, Any]]:
    """Each fault with a new trio: the reaction in milliseconds, and the configured time."""
    kinds: dict[str, Fault] = {
        "runtime: kill -9": lambda p, f: _station(p, f, signal.SIGKILL),
        "runtime: SIGSTOP": lambda p, f: _station(p, f, signal.SIGSTOP),
        "network cut, station to gateway": _cut_from_station,
        "gateway: kill -9": _gateway,
        "network cut, gateway to PLC": _cut_from_plc,
        "PLC: kill -9": _peer,
    }
    found = {}
    task = progress.add_task(f"{protocol.name}: faults", total=len(kinds))
    for number, (kind, fault) in enumerate(kinds.items()):
        found[kind] = fault(protocol, folder / f"fault-{number}")
        progress.advance(task)
    return found


@contextmanager
def _trio(
    protocol: Protocol_, folder: Path, *, cable: str = "", plc_ms: float = UNHURRIED_MS, parts: int = MANY
) -> Iterator[tuple[Rig, Cable]]:
    """Station, gateway and PLC with results passing; `cable` goes to the "station", or to the "plc"."""
    rig = Rig(protocol, folder, {"heartbeat_ms": plc_ms, "ack_ms": UNHURRIED_MS}, cable=cable)
    try:
        # It says that nobody answers, and goes on asking.
        rig.play(patient=True, timeout_ms=ANSWER_MS)
        rig.judge(parts, RATE_HZ)
        rig.plc.until(lambda: len(rig.events(rig.plc, "result")) >= WARM, "the first results")
        yield rig, rig.cable
    finally:
        rig.close()


def _station(protocol: Protocol_, folder: Path, number: signal.Signals) -> dict[str, Any]:
    with _trio(protocol, folder) as (rig, _):
        found = _reaction(rig, rig.station.send(number), SILENCE_MS)
        if number is signal.SIGSTOP:
            found |= _awake(rig)
        return found


def _awake(rig: Rig) -> dict[str, Any]:
    """What piled up in a station that stood still must not open the gate when it goes on."""
    time.sleep(PAUSED_S)
    awake_us = rig.station.send(signal.SIGCONT)
    rig.plc.until(lambda: _online(rig, awake_us) is not None, "online again")
    online = _online(rig, awake_us)
    early = [r for r in _accepted(rig, awake_us) if online is not None and r.us < online.us - POLL_US]
    return {
        "online_again_ms": None if online is None else round((online.us - awake_us) / 1000, 1),
        "accepted_before_online_again": len(early),
    }


def _cut_from_station(protocol: Protocol_, folder: Path) -> dict[str, Any]:
    with _trio(protocol, folder, cable="station") as (rig, cable):
        return _reaction(rig, cable.cut(), SILENCE_MS)


def _gateway(protocol: Protocol_, folder: Path) -> dict[str, Any]:
    with _trio(protocol, folder) as (rig, _):
        return _reaction(rig, rig.gateway.send(signal.SIGKILL), ANSWER_MS)


def _cut_from_plc(protocol: Protocol_, folder: Path) -> dict[str, Any]:
    with _trio(protocol, folder, cable="plc", plc_ms=PLC_MS, parts=WARM) as (rig, cable):
        cut_us = cable.cut()
        found, other = _reaction(rig, cut_us, ANSWER_MS), _logged(rig, cut_us)
        # Each end must know: the PLC by the answers that stop, the gateway by the PLC's heartbeat.
        also = _judged(other["gateway_offline_ms"], PLC_MS)["passed"]
        return found | other | {"passed": found["passed"] and also}


def _peer(protocol: Protocol_, folder: Path) -> dict[str, Any]:
    """Nobody sees the gateway any more, so what it logs must do. No part passes: an overrun would come first."""
    with _trio(protocol, folder, plc_ms=PLC_MS, parts=WARM) as (rig, _):
        return _judged(_logged(rig, rig.plc.send(signal.SIGKILL))["gateway_offline_ms"], PLC_MS) | {
            "seen_in": "gateway's log"
        }


def _reaction(rig: Rig, at_us: int, configured_ms: float) -> dict[str, Any]:
    """Until the PLC has seen that the gateway is not online; nothing may be accepted from then on."""
    rig.plc.until(lambda: _offline(rig, at_us) is not None, "not online", NOT_HERE_S)
    offline = _offline(rig, at_us)
    if offline is None:
        return _judged(None, configured_ms)
    time.sleep(1.0)
    later = [result for result in _accepted(rig, offline.us) if _online(rig, offline.us) is None]
    found = _judged((offline.us - at_us) / 1000, configured_ms)
    return found | {"reason": int(offline.told["reason"]), "accepted_after_that": len(later)}


def _judged(reaction_ms: float | None, configured_ms: float) -> dict[str, Any]:
    return {
        "reaction_ms": None if reaction_ms is None else round(reaction_ms, 1),
        "configured_ms": configured_ms,
        "bar_ms": configured_ms + SLACK_MS,
        "passed": reaction_ms is not None and reaction_ms <= configured_ms + SLACK_MS,
    }


def _logged(rig: Rig, at_us: int) -> dict[str, float | None]:
    """Until the gateway took the PLC for gone."""
    end_s = time.monotonic() + NOT_HERE_S
    while time.monotonic() < end_s:
        for record in rig.logged("offline"):
            moment_us = datetime.fromisoformat(record["time"].replace("Z", "+00:00")).timestamp() * 1e6
            if moment_us >= at_us and record["reason"] == "PLC_SILENT":
                return {"gateway_offline_ms": round((moment_us - at_us) / 1000, 1)}
        time.sleep(0.05)
    return {"gateway_offline_ms": None}


def _offline(rig: Rig, at_us: int) -> Event | None:
    return next((e for e in rig.events(rig.plc, "state") if e.us >= at_us and e.told["online"] == "0"), None)


def _online(rig: Rig, at_us: int) -> Event | None:
    return next((e for e in rig.events(rig.plc, "state") if e.us >= at_us and e.told["online"] == "1"), None)


def _accepted(rig: Rig, at_us: int) -> list[Event]:
    return [e for e in rig.events(rig.plc, "result") if e.us >= at_us and e.told["accept"] == "1"]

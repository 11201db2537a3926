"""Many verdicts at the line's rate to a PLC that acknowledges, and to one that stalls."""

from __future__ import annotations

import itertools
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from tests.bench.gateways.rig import UNHURRIED_MS, Event, Program, Protocol_, Rig

RATE_HZ = 50.0
SETTLE_S = 20.0
PART = re.compile(r"p(\d+)-(\d+)")
BEFORE, WHILE, AFTER, STALL_S = 100, 400, 50, 5.0


def soak(protocol: Protocol_, folder: Path, verdicts: int, progress: Progress) -> tuple[dict[str, Any], list[float]]:
    """The account of `verdicts` at 50 per second, and each one's milliseconds from publication to the PLC."""
    rig = Rig(protocol, folder, {"heartbeat_ms": 2_000.0, "ack_ms": 2_000.0})
    task = progress.add_task(f"{protocol.name}: {verdicts} verdicts at {RATE_HZ:g} per second", total=verdicts)
    try:
        plc = rig.play(results=verdicts, seconds=verdicts / RATE_HZ + 60.0)
        rig.judge(verdicts, RATE_HZ)
        end_s = time.monotonic() + verdicts / RATE_HZ + SETTLE_S
        while time.monotonic() < end_s and not rig.events(plc, "done", newest=3):
            progress.update(task, completed=len(plc.lines))
            time.sleep(1.0)
        progress.update(task, completed=verdicts)
        return account(rig, plc, verdicts)
    finally:
        rig.close()


def account(rig: Rig, plc: Program, verdicts: int) -> tuple[dict[str, Any], list[float]]:
    """Compare what the PLC saw with what was published."""
    results, done = rig.events(plc, "result"), rig.events(plc, "done")
    seqs = [int(result.told["seq"]) for result in results]
    # Parts of two results in one: the number inside the part id is not the one beside it.
    mixed = sum(_part(result)[0] != int(result.told["seq"]) for result in results)
    sums = done[0].told if done else {}
    latencies = [(result.us - _part(result)[1]) / 1000 for result in results]
    wrong = sum((result.told["accept"] == "1") != (int(result.told["seq"]) % 10 != 0) for result in results)
    found = {
        "verdicts": verdicts,
        "missed": verdicts - len(set(seqs)),
        "seen_twice": len(seqs) - len(set(seqs)),
        "out_of_order": sum(after <= before for before, after in itertools.pairwise(seqs)),
        "overwritten": int(sums.get("overwritten", -1)),
        "torn": int(sums.get("torn", -1)) + mixed,
        "overrun": any(state.told["overrun"] == "1" for state in rig.events(plc, "state")),
        "block_reads": int(sums.get("reads", 0)),
        "accepted_wrongly_or_not": wrong,
        "latency_ms_p50": round(float(np.percentile(latencies, 50)), 2) if latencies else None,
        "latency_ms_p99": round(float(np.percentile(latencies, 99)), 2) if latencies else None,
        "latency_ms_max": round(max(latencies), 2) if latencies else None,
        "peer": rig.protocol.peer,
    }
    return found, latencies


def _part(result: Event) -> tuple[int, int]:
    found = PART.fullmatch(result.told["part"])
    return (int(found[1]), int(found[2])) if found else (0, 0)


def stall(protocol: Protocol_, folder: Path) -> dict[str, Any]:
    """A PLC that stands still for 5 s while 50 results per second come, goes on without a reset, and then resets.

    The times for heartbeat and acknowledgement are long, so that the overrun alone must keep the gate shut.
    """
    rig = Rig(protocol, folder, {"heartbeat_ms": UNHURRIED_MS, "ack_ms": UNHURRIED_MS})
    try:
        plc = rig.play(stall_after=BEFORE, stall_s=STALL_S, seconds=30.0)
        rig.judge(BEFORE + WHILE, RATE_HZ)
        plc.until(lambda: _seen(rig, plc) >= BEFORE + WHILE, "the last result", 60.0)
        latched = [state for state in rig.events(plc, "state") if state.told["overrun"] == "1"]
        results = rig.events(plc, "result")
        late = [result for result in results if latched and result.us >= latched[0].us]
        plc.send(signal.SIGTERM)
        plc.until(lambda: bool(rig.events(plc, "done")), "the sums")
        sums = rig.events(plc, "done")[0].told
        again = rig.play(reset=True, seconds=30.0)
        again.until(lambda: _is_reset(rig, again), "the end of the overrun")
        rig.judge(AFTER, RATE_HZ)
        again.until(lambda: _seen(rig, again) >= BEFORE + WHILE + AFTER, "the results after the reset", 60.0)
        accepted = [r for r in rig.events(again, "result") if r.told["accept"] == "1"]
        return {
            "stall_s": STALL_S,
            "overrun_latched": bool(latched),
            "results_after_the_stall": len(late),
            "accepted_until_reset": sum(result.told["accept"] == "1" for result in late),
            "overwritten": int(sums["overwritten"]),
            "gaps_seen": int(sums["gaps"]),
            "accepted_after_reset": len(accepted),
        }
    finally:
        rig.close()


def _seen(rig: Rig, plc: Program) -> int:
    results = rig.events(plc, "result")
    return max((int(result.told["seq"]) for result in results), default=0)


def _is_reset(rig: Rig, plc: Program) -> bool:
    states = rig.events(plc, "state")
    return bool(states) and states[-1].told["overrun"] == "0" and states[-1].told["online"] == "1"

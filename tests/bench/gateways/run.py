"""`make bench-gateways`: both gateways as processes between a station and an independent PLC, one after the other.

10,000 verdicts at 50 per second, a PLC that stalls, everything that breaks, and a million verdicts simulated. Writes
`gateways.json` and a picture; ends with 1 if a bar is missed. Times need an idle machine with two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edge.sealed import write_whole
from tests.bench.gateways.faults import all_faults
from tests.bench.gateways.million import million
from tests.bench.gateways.modbus import Modbus
from tests.bench.gateways.opcua import OpcUa
from tests.bench.gateways.picture import draw
from tests.bench.gateways.rig import Protocol_
from tests.bench.gateways.soak import soak, stall
from tests.gateways.modbus_peer import MissingError

VERDICTS, SIMULATED = 10_000, 1_000_000
LATENCY_BAR_MS = 20.0
console = Console()


def main() -> int:
    """Measure, write, draw; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verdicts", type=int, default=VERDICTS)
    parser.add_argument("--simulated", type=int, default=SIMULATED)
    parser.add_argument("--out", type=Path, default=Path("build/bench/gateways.json"))
    parser.add_argument("--picture", type=Path, help="where to draw to; beside --out if left out")
    arguments = parser.parse_args()
    report: dict[str, Any] = {}
    latencies: dict[str, list[float]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory(prefix="linegate-gateways-") as name,
        Progress(*columns, console=console) as progress,
    ):
        for protocol in peers(Path(name)):
            report[protocol.name], latencies[protocol.name] = measure(
                protocol, Path(name) / protocol.name, arguments.verdicts, progress
            )
        report["simulated"] = million(arguments.simulated, progress)
    report["missed_bars"] = [bar for name, part in report.items() for bar in missed(name, part, arguments.verdicts)]
    write_whole(arguments.out, json.dumps(report, indent=2).encode() + b"\n")
    draw(arguments.picture or arguments.out.with_suffix(".png"), report, latencies, LATENCY_BAR_MS)
    console.print_json(json.dumps(report))
    for bar in report["missed_bars"]:
        console.print(f"missed: {bar}")
    return 1 if report["missed_bars"] else 0


def peers(folder: Path) -> list[Protocol_]:
    """Both protocols with their PLCs. A gateway that nobody looks at has passed nothing."""
    try:
        return [Modbus(folder), OpcUa(folder)]
    except MissingError as error:
        raise SystemExit(f"gateways: {error}") from error


def measure(protocol: Protocol_, folder: Path, verdicts: int, progress: Progress) -> tuple[dict[str, Any], list[float]]:
    """All that is measured of one gateway, and its latencies in milliseconds."""
    found, latencies = soak(protocol, folder / "soak", verdicts, progress)
    found["stall"] = stall(protocol, folder / "stall")
    found["faults"] = all_faults(protocol, folder / "faults", progress)
    return found, latencies


def missed(name: str, part: dict[str, Any], verdicts: int) -> list[str]:
    """Every bar that this part of the report does not reach, in words."""
    if name == "simulated":
        zero = ("wrong_numbers", "wrong_words", "not_accepted", "lost", "wrong_acks")
        bad = [key for key in zero if part[key]]
        bad += [] if part["memory_flat"] else ["memory_flat"]
        bad += [] if part["number_wraps"] == (part["verdicts"] + 1) // 65_535 else ["number_wraps"]
        return [f"simulated: {key} is {part[key]}" for key in bad]
    must_be_0 = ("missed", "seen_twice", "out_of_order", "overwritten", "torn", "overrun", "accepted_wrongly_or_not")
    bad_words = [f"{name}: {key} is {part[key]}" for key in must_be_0 if part[key]]
    if part["latency_ms_p99"] is None or part["latency_ms_p99"] >= LATENCY_BAR_MS:
        bad_words.append(f"{name}: latency_ms_p99 is {part['latency_ms_p99']}")
    if part["block_reads"] < verdicts:
        bad_words.append(f"{name}: only {part['block_reads']} block reads")
    stalled = part["stall"]
    kept = stalled["overrun_latched"] and stalled["results_after_the_stall"] and stalled["accepted_after_reset"]
    if not kept or stalled["accepted_until_reset"] or stalled["overwritten"]:
        bad_words.append(f"{name}: the PLC that stalled: {stalled}")
    for kind, fault in part["faults"].items():
        if not fault["passed"] or fault.get("accepted_after_that") or fault.get("accepted_before_online_again"):
            bad_words.append(f"{name}: {kind}: {fault}")
    return bad_words


if __name__ == "__main__":
    sys.exit(main())

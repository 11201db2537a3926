"""`linegate run`: judge what passes a station's camera and publish verdicts."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from edge.station import load_station
from edge.supervisor import Supervisor

EXIT_FAULT = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("station", metavar="STATION.toml", type=Path, help="station file")


def run(arguments: argparse.Namespace) -> int:
    """Run until the stream ends or SIGINT or SIGTERM comes; 1 if the station ended in state Error."""
    started = time.monotonic()
    station = load_station(arguments.station)
    supervisor = Supervisor(station)
    info = supervisor.recipe.info
    _say(
        f"station {station.station_id} is ready after {time.monotonic() - started:.1f} s: {info.product} revision "
        f"{info.revision}, {supervisor.engine.description}, verdicts on {supervisor.endpoint}"
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        supervisor.pipeline.stop()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        outcome = supervisor.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    counts = outcome.counts
    _say(
        f"{outcome.state.value}: {counts.triggers_seen} triggers, {counts.ok} OK, {counts.not_ok} NOT_OK, "
        f"{counts.not_decidable} NOT_DECIDABLE ({counts.missed} deadlines missed, {counts.overruns} overloads)"
    )
    if outcome.fault:
        _say(f"{outcome.fault}. Every open trigger was closed as NOT_DECIDABLE; restart the station.")
        return EXIT_FAULT
    return 0


def _say(text: str) -> None:
    print(f"linegate: {text}", file=sys.stderr, flush=True)

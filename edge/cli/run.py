"""`linegate run`: judge what passes a station's camera and publish verdicts."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from edge.logs import configure
from edge.station import load_station
from edge.supervisor import Outcome, Supervisor

EXIT_FAULT = 1
SWITCH_S = 0.0005
"""How long one thread may keep the others waiting for the interpreter; the default of 5 ms is longer than a whole verdict."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("station", metavar="STATION.toml", type=Path, help="station file")
    parser.add_argument(
        "--log", choices=("text", "json"), default="text", help="how to write the log on standard error"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run until the stream ends, SIGINT or SIGTERM comes or somebody commands it; 1 if it ended in state Error."""
    sys.setswitchinterval(SWITCH_S)
    station = load_station(arguments.station)
    logs = configure(arguments.log, sys.stderr)
    started_s = time.monotonic()
    try:
        return judge_until_ended(Supervisor(station), started_s)
    finally:
        logs.close()


def judge_until_ended(supervisor: Supervisor, started_s: float) -> int:
    """Run a station that is ready, and say how it was."""
    recipe = supervisor.recipe
    product = "no recipe" if recipe is None else f"{recipe.info.product} revision {recipe.info.revision}"
    _say(
        f"station {supervisor.station.station_id} is ready after {time.monotonic() - started_s:.1f} s: {product}, "
        f"{supervisor.engine.description}, verdicts on {supervisor.endpoint}, replay on {supervisor.replay_endpoint}, "
        f"control on {supervisor.control_endpoint}"
    )

    def stop(_signal: int, _frame: FrameType | None) -> None:
        supervisor.ask_to_stop()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        outcome = supervisor.run()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return _tell(outcome)


def _tell(outcome: Outcome) -> int:
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

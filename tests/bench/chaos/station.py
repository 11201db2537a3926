"""A station with recorded scores and a camera that can be made to fail: `linegate run` in all else.

usage: python -m tests.bench.chaos.station STATION.toml SWITCHES

SWITCHES is a folder; a file in it turns a fault on: `freeze-camera`, `lose-camera`, `hang-engine`; `clock` holds an offset in
seconds that the wall clock is stepped by. At the end `overhead.json` there tells what ledger, bus and journal cost.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.assembly import Makers
from edge.bus.compose import Judged
from edge.cameras.base import StreamEnded
from edge.cli.run import SWITCH_S, judge_until_ended
from edge.engines.package import Package
from edge.errors import CameraError
from edge.intake import Intake, Opened
from edge.logs import configure
from edge.outlet import Outlet
from edge.station import CameraSettings, load_station
from edge.supervisor import Supervisor
from edge.types import Bank, Frame, FrameStatus, Match, Tokens, Trigger
from tests.bench.chaos.world import kind_of, picture_of, recorded_scores

LONGEST_HANG_S = 60.0
POLL_S = 0.01


class RecordedEngine:
    """Looks up what a part scores against the bank that it meets."""

    description = "recorded scores"

    def __init__(self, package: Package, switches: Path) -> None:
        self.package = package
        self._scores = recorded_scores()
        self._hang = switches / "hang-engine"

    def encode(self, images: NDArray[np.uint8]) -> Tokens:
        """See `Engine.encode`: the only token is the part's kind."""
        end = time.monotonic() + LONGEST_HANG_S
        while self._hang.exists() and time.monotonic() < end:
            time.sleep(POLL_S)
        return (np.array([[[kind_of(image)]] for image in images], np.float32),)

    def match(self, tokens: Tokens, bank: Bank) -> tuple[Match, ...]:
        """See `Engine.match`."""
        product = int(bank["product"][0])
        found = []
        for kind in tokens[0].reshape(-1):
            score = float(self._scores[product, int(kind)])
            anomaly_map = np.zeros(self.package.info.encoder.input_size, np.float32)
            anomaly_map[8:16, 8:16] = score
            found.append(Match(anomaly_map, score, 0.0))
        return tuple(found)


class SwitchedCamera:
    """Shows the part that a trigger names by its id, `PRODUCT-KIND-NUMBER`, unless a switch is on."""

    is_simulated = True

    def __init__(self, settings: CameraSettings, switches: Path) -> None:
        self.camera_id = settings.id
        self._frozen, self._lost = switches / "freeze-camera", switches / "lose-camera"
        self._fired: queue.Queue[Trigger | None] = queue.Queue()
        self._count = 0
        self._require()

    def _require(self) -> None:
        if self._lost.exists():
            raise CameraError("the camera does not answer", "Plug it in.")

    def fire(self, trigger: Trigger) -> None:
        """See `Camera.fire`."""
        self._fired.put(trigger)

    def grab(self, timeout_s: float) -> Trigger | Frame | None:
        """See `Camera.grab`."""
        self._require()
        try:
            trigger = self._fired.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if trigger is None:
            raise StreamEnded
        if self._frozen.exists():
            return None
        self._count += 1
        kind = int(trigger.part_id.split("-")[1])
        return Frame(trigger, self._count, FrameStatus.COMPLETE, time.monotonic_ns(), picture_of(kind))

    def close(self) -> None:
        """See `Camera.close`."""
        self._fired.put(None)


class Overhead:
    """How long ledger, bus and journal take for a verdict: to open its entry, and from the judge to the last socket."""

    def __init__(self) -> None:
        self._open_ns: list[int] = []
        self._give_ns: list[int] = []

    def watch(self) -> None:
        """Time every call from now on."""
        open_entry: Callable[[Intake, Trigger], Opened] = Intake.open
        give: Callable[[Outlet, Judged], None] = Outlet.give

        def timed_open(intake: Intake, trigger: Trigger) -> Opened:
            began = time.perf_counter_ns()
            opened = open_entry(intake, trigger)
            self._open_ns.append(time.perf_counter_ns() - began)
            return opened

        def timed_give(outlet: Outlet, judged: Judged) -> None:
            give(outlet, judged)
            if judged.done_ns is not None:
                self._give_ns.append(time.monotonic_ns() - judged.done_ns)

        Intake.open = timed_open  # type: ignore[method-assign, assignment]
        Outlet.give = timed_give  # type: ignore[method-assign, assignment]

    def report(self) -> dict[str, object]:
        """Milliseconds."""
        table: dict[str, object] = {"count": len(self._give_ns)}
        for name, values in (("open", self._open_ns), ("give", self._give_ns)):
            if values:
                p50, p99 = np.percentile(np.array(values) / 1e6, (50, 99))
                table |= {f"{name}_p50": round(float(p50), 4), f"{name}_p99": round(float(p99), 4)}
        return table


def step_clock(switches: Path) -> None:
    """Let the wall clock follow the switch."""
    true_ns = time.time_ns
    switch = switches / "clock"

    def stepped_ns() -> int:
        try:
            return true_ns() + round(float(switch.read_text() or 0) * 1e9)
        except (OSError, ValueError):
            return true_ns()

    time.time_ns = stepped_ns


def main() -> int:
    """Run until told to stop."""
    station, switches = load_station(Path(sys.argv[1])), Path(sys.argv[2])
    sys.setswitchinterval(SWITCH_S)
    step_clock(switches)
    overhead = Overhead()
    if (switches / "measure").exists():
        overhead.watch()
    logs = configure("json", sys.stderr)
    makers = Makers(
        engine=lambda package, _threads: RecordedEngine(package, switches),
        camera=lambda settings: SwitchedCamera(settings, switches),
    )
    try:
        return judge_until_ended(Supervisor(station, makers), time.monotonic())
    finally:
        logs.close()
        (switches / "overhead.json").write_text(json.dumps(overhead.report()))


if __name__ == "__main__":
    sys.exit(main())

"""A million triggers through ledger, bus and journal with the quota on: memory and disk must stay flat.

In one process, as fast as the disk takes it, with a subscriber in another one. Writes figures and a curve.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
import zmq
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from edge.bus.compose import Judged
from edge.bus.publisher import Publisher
from edge.bus.replay import ReplayServer
from edge.intake import Intake
from edge.journal.journal import Journal
from edge.ledger import Ledger
from edge.outlet import Outlet
from edge.sealed import write_whole
from edge.station import JournalSettings
from edge.types import Frame, FrameStatus, Judgement, Reason, Region, Trigger, Verdict
from tests.bench.chaos.places import free_ports
from tests.edge.fakes import fake_job, normal_part

mpl.use("Agg")
from matplotlib import pyplot as plt

BATCH, MOST_WAITING, SAMPLES = 500, 2_000, 100
ENTRIES, PICTURES_MB = 50_000, 1
REJECTED = 20
"""Every so many-th part is rejected, with a mask and a kept picture."""
ALLOWED_GROWTH = 0.05
console = Console()


def main() -> int:
    """Measure, write, draw; 1 if memory or disk grew in the second half."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--triggers", type=int, default=1_000_000)
    parser.add_argument("--out", type=Path, default=Path("build/bench/endurance.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="linegate-endurance-") as name:
        table = run(Path(name), arguments.triggers)
    report = summary(table, arguments.triggers)
    write_whole(arguments.out, json.dumps(report, indent=2).encode() + b"\n")
    draw(arguments.out.with_suffix(".png"), table)
    console.print_json(json.dumps(report))
    return 0 if report["flat"] else 1


def run(folder: Path, triggers: int) -> NDArray[np.float64]:
    """Rows of: triggers so far, seconds, resident MB, disk MB, lost verdicts."""
    settings = JournalSettings(
        folder=str(folder / "journal"), entries=ENTRIES, pictures_mb=PICTURES_MB, tail_folder=str(folder), tail_mb=16
    )
    journal = Journal(settings)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    port = free_ports(2)
    publisher = Publisher(context, f"tcp://127.0.0.1:{port}", lambda _socket: None)
    replay = ReplayServer(context, f"tcp://127.0.0.1:{port + 1}", journal, lambda _socket: None)
    words = [sys.executable, "-m", "linegate", "watch", publisher.endpoint, "--json", str(folder / "watched.jsonl")]
    watcher = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ledger = Ledger(10**12)
    intake = Intake(ledger, journal, fake_job())
    outlet = Outlet(ledger, journal, publisher, lambda _us: None)
    journal.begin(1, 0)
    rows = []
    began = time.monotonic()
    try:
        for _ in track(range(SAMPLES), console=console, description="triggers"):
            for _ in range(triggers // SAMPLES // BATCH):
                for _ in range(BATCH):
                    pass_part(intake, outlet)
                publisher.answer_subscriptions()
                while journal.waiting > MOST_WAITING:
                    time.sleep(0.002)
            (folder / "watched.jsonl").unlink(missing_ok=True)
            size = sum(path.stat().st_size for path in (folder / "journal").rglob("*") if path.is_file())
            rows.append((outlet.head_seq, time.monotonic() - began, resident_mb(), size / 1e6, journal.lost))
    finally:
        watcher.kill()
        watcher.wait()
        publisher.close()
        replay.close()
        journal.close("Halted")
        context.term()
    return np.array(rows)


def pass_part(intake: Intake, outlet: Outlet) -> None:
    """One trigger and its verdict."""
    now = time.monotonic_ns()
    trigger = Trigger(now, time.time_ns() // 1000, f"part-{outlet.head_seq}", trigger_id=f"eye-{outlet.head_seq}")
    entry = intake.open(trigger).entry
    if entry is None:
        raise SystemExit("endurance: a trigger was taken for a duplicate")
    frame = Frame(trigger, entry.seq, FrameStatus.COMPLETE, now, normal_part() if entry.seq % REJECTED == 0 else None)
    outlet.give(Judged(entry, REJECT if entry.seq % REJECTED == 0 else ACCEPT, frame, time.monotonic_ns()))
    while outlet.send_mask():
        pass


def resident_mb() -> float:
    """What this process has in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def summary(table: NDArray[np.float64], triggers: int) -> dict[str, object]:
    """The second half against the first; the quota is reached long before."""
    middle = len(table) // 2
    growth = {}
    for column, name in ((2, "memory"), (3, "disk")):
        early, late = table[middle // 2 : middle, column].max(), table[middle:, column].max()
        growth[name] = {"before_mb": round(float(early), 1), "after_mb": round(float(late), 1)}
    flat = all(g["after_mb"] <= g["before_mb"] * (1 + ALLOWED_GROWTH) for g in growth.values())
    seconds = float(table[-1, 1])
    return {
        "triggers": int(table[-1, 0]),
        "rate_hz": round(triggers / seconds),
        "seconds": round(seconds),
        **growth,
        "lost": int(table[-1, 4]),
        "flat": bool(flat and not table[-1, 4]),
    }


def draw(path: Path, table: NDArray[np.float64]) -> None:
    """Memory and disk over the triggers."""
    figure, axes = plt.subplots(figsize=(9, 4))
    for column, name in ((2, "memory of the process"), (3, "journal on disk")):
        axes.plot(table[:, 0] / 1000, table[:, column], label=name)
    axes.set(xlabel="thousand triggers", ylabel="MB", ylim=(0, None), title="A million triggers with the quota on")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


MASK = np.zeros((64, 64), np.bool_)
MASK[10:20, 10:20] = True
ACCEPT = Verdict(Judgement.OK, None, 0.1, 1.0)
REJECT = Verdict(Judgement.NOT_OK, Reason.DEFECT, 2.0, 1.0, (Region(10, 10, 10, 10, 100, 2.0),), MASK)

if __name__ == "__main__":
    sys.exit(main())

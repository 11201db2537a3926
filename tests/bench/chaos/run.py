"""`make chaos`: 100,000 parts pass a station while everything goes wrong, and every one must have exactly one verdict.

Faults are drawn at random from a fixed seed. The scores are recorded ones, because no encoder keeps up with the rate on two
cores; a shorter run with the real encoder, over CURVE, follows. Writes `chaos.json` and a timeline.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from edge.sealed import write_whole
from tests.bench.chaos import real
from tests.bench.chaos.audit import Account, audit
from tests.bench.chaos.faults import Faults, Process
from tests.bench.chaos.line import Line
from tests.bench.chaos.places import NODE, free_ports, station_text
from tests.bench.chaos.timeline import draw
from tests.bench.chaos.world import World, build

DISK_MB = 400
READY_S = 20.0
CATCH_UP_S = 90.0
ENDING_S = 30.0
CALM_HZ, CALM_TRIGGERS = 200.0, 4_000
IN_NAMESPACE = "LINEGATE_CHAOS_NAMESPACE"
console = Console()


@dataclass(frozen=True)
class Places:
    """Where everything of a run lies."""

    folder: Path
    disk: Path
    switches: Path
    station: Path
    port: int

    @property
    def feed(self) -> str:
        """Where verdicts are published."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def control(self) -> str:
        """Where triggers go."""
        return f"tcp://127.0.0.1:{self.port + 2}"


def main() -> int:
    """Run both, write what was found; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/bench/chaos.json"))
    parser.add_argument("--triggers", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=320.0)
    parser.add_argument("--pause", type=float, default=2.5, help="seconds between faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--model", type=Path, help="package for the run with the real encoder; without it there is none"
    )
    parser.add_argument("--real-triggers", type=int, default=1_200)
    arguments = parser.parse_args()
    if IN_NAMESPACE not in os.environ:
        return enter_namespace()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="linegate-chaos-") as name:
        try:
            report = storm(Path(name), arguments)
        finally:
            unmount(Path(name))
        if arguments.model is not None:
            report["real"] = real.run(Path(name) / "real", arguments.model, arguments.real_triggers, arguments.seed)
            report["peers"] = {**report["peers"], **report["real"].pop("peers")}
    report["seconds"] = round(time.monotonic() - began)
    write_whole(arguments.out, json.dumps(report, indent=2).encode() + b"\n")
    console.print_json(json.dumps(report))
    console.print(f"{arguments.out} and {arguments.out.with_suffix('.png')}")
    return 0 if report["passed"] and report.get("real", {}).get("passed", True) else 1


def enter_namespace() -> int:
    """Run again where a small disk can be mounted without being root; elsewhere files are kept from growing instead."""
    environment = {**os.environ, IN_NAMESPACE: "1"}
    words = [sys.executable, "-m", "tests.bench.chaos.run", *sys.argv[1:]]
    probe = ["unshare", "-rm", "mount", "-t", "tmpfs", "none", tempfile.gettempdir()]
    if shutil.which("unshare") and subprocess.run(probe, capture_output=True, check=False).returncode == 0:
        words = ["unshare", "-rm", *words]
    else:
        console.print("no user namespaces here: a full disk is a limit on the size of files")
    return subprocess.run(words, env=environment, check=False).returncode


def lay_out(folder: Path, measure: bool) -> tuple[Places, World]:
    """A station's files."""
    places = Places(folder, folder / "disk", folder / "switches", folder / "station.toml", free_ports(3))
    places.disk.mkdir(parents=True)
    places.switches.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "none", str(places.disk)], capture_output=True, check=False
    )
    if measure:
        (places.switches / "measure").touch()
    world = build(folder)
    text = station_text(places.feed, world.package, world.recipes, places.disk / "journal", folder)
    write_whole(places.station, text.encode())
    return places, world


def unmount(folder: Path) -> None:
    """Give the small disks back."""
    for disk in folder.glob("*/disk"):
        subprocess.run(["umount", "-l", str(disk)], capture_output=True, check=False)


def storm(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """A calm run that measures what the books cost, then the one with faults."""
    with calm(folder / "calm") as overhead:
        console.print(f"calm: {overhead}")
    places, world = lay_out(folder / "storm", False)
    python = [sys.executable, "-m"]
    station = Process(
        [*python, "tests.bench.chaos.station", str(places.station), str(places.switches)], folder / "station.log"
    )
    outs = [folder / "steady.jsonl", folder / "troubled.jsonl"]
    reader = [*python, "tests.bench.chaos.reader", places.feed]
    steady = Process([*reader, str(outs[0]), "--position", str(folder / "position")], folder / "steady.log")
    troubled = Process([*reader, str(outs[1])], folder / "troubled.log")
    peer_out = folder / "peer.txt"
    peer = Process(["node", str(NODE / "listener.mjs"), places.feed, str(peer_out)], folder / "peer.log")
    processes = [station, steady, troubled] + ([peer] if (NODE / "node_modules" / "zeromq").is_dir() else [])
    for process in processes:
        process.start()
    line = Line(places.control, arguments.rate, arguments.seed)
    try:
        require_ready(line, folder / "station.log")
        faults = Faults(station, troubled, line, places.switches, places.disk, arguments.seed, arguments.pause)
        elapsed = drive(line, faults, station, arguments.triggers)
        settle(line, outs)
        station_ended(places.control, station)
        for out in outs:
            out.with_suffix(".stop").touch()
        codes = [process.wait(CATCH_UP_S) for process in processes[1:]]
    finally:
        line.close()
        for process in processes:
            process.kill()
    account = audit(outs, places.disk / "journal", line.passed, line.acknowledged, world)
    account.contradictions += line.contradictions
    draw(arguments.out.with_suffix(".png"), outs[0], faults.log)
    if not account.balanced or any(codes):
        keep = arguments.out.parent / "chaos-evidence"
        shutil.rmtree(keep, ignore_errors=True)
        shutil.copytree(folder, keep, ignore=shutil.ignore_patterns("real"))
    return summary(account, line, faults, elapsed, overhead, peer_counts(peer_out, outs[0]), codes)


@contextlib.contextmanager
def calm(folder: Path) -> Iterator[dict[str, float]]:
    """A station at 200 triggers a second with one subscriber, and what its books cost."""
    places, _ = lay_out(folder, True)
    python = [sys.executable, "-m"]
    station = Process(
        [*python, "tests.bench.chaos.station", str(places.station), str(places.switches)], folder / "station.log"
    )
    out = folder / "calm.jsonl"
    reader = Process([*python, "tests.bench.chaos.reader", places.feed, str(out)], folder / "reader.log")
    station.start()
    reader.start()
    line = Line(places.control, CALM_HZ, 0)
    try:
        require_ready(line, folder / "station.log")
        while line.passed < CALM_TRIGGERS or line.unanswered:
            line.step(CALM_TRIGGERS)
        settle(line, [out])
        station_ended(places.control, station)
        yield json.loads((places.switches / "overhead.json").read_text())
    finally:
        line.close()
        station.kill()
        reader.kill()


def require_ready(line: Line, log: Path) -> None:
    """Wait for the station's first answer."""
    if line.status(READY_S) is None:
        raise SystemExit(f"chaos: the station did not start: {log.read_text()[-2000:]}")


def drive(line: Line, faults: Faults, station: Process, triggers: int) -> float:
    """Let all parts pass while faults happen; returns the seconds that it took."""
    began = time.monotonic()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("parts", total=triggers)
        shown = began
        while line.passed < triggers or line.unanswered or line.changing:
            line.step(triggers)
            if line.passed < triggers:
                faults.step()
            elif faults.finish():
                pass
            if not station.running:
                # What a service manager does with a station that ended in Error.
                station.start()
            if time.monotonic() - shown > 1.0:
                shown = time.monotonic()
                progress.update(task, completed=line.passed, description=f"parts, {sum(faults.done.values())} faults")
        progress.update(task, completed=line.passed)
        elapsed = time.monotonic() - began
        while not faults.finish():
            line.step(triggers)
    return elapsed


def settle(line: Line, outs: list[Path]) -> None:
    """Wait until nothing is in flight and every reader has come to the head."""
    end = time.monotonic() + CATCH_UP_S
    while time.monotonic() < end:
        status = line.status(5.0)
        if status is None or status.in_flight or status.journal != "ok":
            continue
        head = (status.epoch, status.head_seq)
        if all(last_key(out) == head or (not status.head_seq and out.exists()) for out in outs):
            return
        time.sleep(0.2)
    console.print("a reader did not come to the head", style="red")


def last_key(out: Path) -> tuple[int, int]:
    """The last verdict that a reader wrote."""
    if not out.exists():
        return (0, 0)
    with out.open("rb") as file:
        file.seek(max(0, out.stat().st_size - 2000))
        lines = file.read().splitlines()
    try:
        last = json.loads(lines[-1])
        return (int(last["epoch"]), int(last.get("seq", 0)))
    except (IndexError, ValueError):
        return (0, 0)


def station_ended(control: str, station: Process) -> None:
    """Stop the station as an operator does."""
    words = [sys.executable, "-m", "linegate", "control", control, "stop"]
    subprocess.run(words, check=True, capture_output=True)
    try:
        station.wait(ENDING_S)
    except subprocess.TimeoutExpired:
        # With PYTHONFAULTHANDLER=1 its log then tells where every thread was.
        station.send(signal.SIGABRT)
        station.wait(ENDING_S)
        raise SystemExit(f"chaos: the station did not end within {ENDING_S:g} s:\n{station.said(6000)}") from None


def peer_counts(out: Path, reader: Path) -> dict[str, dict[str, int]]:
    """What the independent listener heard live, and how much of that the reader has too, word for word."""
    if not out.exists():
        return {}
    heard = [line.split(" ") for line in out.read_text().splitlines()]
    ours = {}
    for line in map(json.loads, reader.read_bytes().splitlines()):
        if "seq" in line:
            ours[(line["epoch"], line["seq"])] = (str(line["trigger"]), str(line["accept"]).lower(), line["part"])
    keys = [(int(epoch), int(seq)) for epoch, seq, *_ in heard]
    same = sum(ours.get(key) == tuple(rest) for key, (_, _, *rest) in zip(keys, heard, strict=True))
    return {"npm zeromq": {"heard": len(heard), "same": same, "twice": len(keys) - len(set(keys))}}


def summary(
    account: Account,
    line: Line,
    faults: Faults,
    elapsed: float,
    overhead: dict[str, float],
    peers: dict[str, dict[str, int]],
    codes: list[int],
) -> dict[str, Any]:
    """What `chaos.json` says."""
    agree = all(peer["heard"] == peer["same"] and not peer["twice"] for peer in peers.values())
    return {
        "passed": account.balanced and agree and not any(codes),
        "triggers": line.passed,
        "rate_hz": round(line.passed / elapsed, 1),
        "unjudged": account.unjudged,
        "double": account.double,
        "false_accepts": account.false_accepts,
        "wrong_rejects": account.wrong_rejects,
        "missing_after_replay": account.missing,
        "contradicting_acknowledgements": account.contradictions,
        "faults": dict(sorted(faults.done.items())),
        "overhead_ms_p99": round(overhead["open_p99"] + overhead["give_p99"], 3),
        "overhead_ms": overhead,
        "peers": peers,
        "judged": dict(sorted(account.judged.items())),
        "recovered_by_replay": account.recovered,
        "changeovers": line.changeovers,
    }


if __name__ == "__main__":
    sys.exit(main())

"""The shorter run: `linegate run` with the real encoder on real pictures, over CURVE, killed and stopped meanwhile."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from deploy.demo import elpv
from edge.bus.keys import load_client_keys
from edge.bus.requests import TriggerCommand
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.judge import judge_picture
from edge.pictures import list_pictures, read_picture
from edge.recipe import load_recipe
from edge.sealed import write_whole
from edge.types import Judgement
from tests.bench.chaos.audit import journal_keys, read_lines
from tests.bench.chaos.faults import Process
from tests.bench.chaos.line import Line
from tests.bench.chaos.places import NODE, free_ports

PICTURES, SHOTS = 80, 8
RATE_HZ = 20.0
PAUSE_S = 6.0
PRODUCT = "solar-cell"
KEYS = ("station", "reader", "peer", "plc")
WAIT_S = 60.0


class RealLine(Line):
    """Parts without a kind: what the camera shows next is what is judged."""

    def _ask(self, number: int) -> None:
        part = self._waiting[number]
        part.asked_s = time.monotonic()
        self._send(TriggerCommand(id=number, part_id=f"part-{number}", trigger_id=f"eye-{number}"))


def run(folder: Path, model: Path, triggers: int, seed: int) -> dict[str, Any]:
    """Lay out, calibrate, run, and compare every accept with what the pictures deserve."""
    port = free_ports(3)
    expected = lay_out(folder, model, port)
    feed, control = f"tcp://127.0.0.1:{port}", f"tcp://127.0.0.1:{port + 2}"
    keys = folder / "keys"
    reader_out, peer_out = folder / "reader.jsonl", folder / "peer.txt"
    station = Process([sys.executable, "-m", "linegate", "run", str(folder / "station.toml")], folder / "station.log")
    secure = ["--key", str(keys / "reader.key_secret"), "--server-key", str(keys / "station.key")]
    reader = Process(
        [sys.executable, "-m", "tests.bench.chaos.reader", feed, str(reader_out), *secure], folder / "reader.log"
    )
    listener = [
        str(NODE / "listener.mjs"),
        feed,
        str(peer_out),
        str(keys / "station.key"),
        str(keys / "peer.key_secret"),
    ]
    peers = [Process(["node", *listener], folder / "peer.log")] if (NODE / "node_modules" / "zeromq").is_dir() else []
    for process in (station, reader, *peers):
        process.start()
    line = RealLine(control, RATE_HZ, seed, load_client_keys(keys / "plc.key_secret", keys / "station.key"))
    try:
        faults = pass_parts(line, station, triggers, seed)
        head = settle(line, reader_out)
        stop(control, keys)
        station.wait(WAIT_S)
        reader_out.with_suffix(".stop").touch()
        codes = [process.wait(WAIT_S) for process in (reader, *peers)]
    finally:
        line.close()
        for process in (station, reader, *peers):
            process.kill()
    return report(line, faults, expected, folder, head, codes)


def lay_out(folder: Path, model: Path, port: int) -> list[Judgement]:
    """Pictures, recipe, keys, station file; what a judge without faults says of each picture."""
    data = elpv.load()
    parts = [*data.test_normal[: PICTURES // 2], *data.test_anomalous[: PICTURES // 2]]
    for name, paths in (("line", parts), ("shots", data.draw(SHOTS, 0))):
        (folder / name).mkdir(parents=True)
        for place, path in enumerate(paths):
            shutil.copyfile(path, folder / name / f"{place:03d}-{path.name}")
    words = ["calibrate", PRODUCT, "--model", model, "--shots", folder / "shots", "--recipes", folder / "recipes"]
    linegate(*words, "--no-sensitivity")
    for name in KEYS:
        linegate("keys", "curve", name, "--out", folder / "keys")
    for domain, names in (("subscribers", ("reader", "peer")), ("operators", ("plc",))):
        (folder / domain).mkdir()
        for name in names:
            shutil.copyfile(folder / "keys" / f"{name}.key", folder / domain / f"{name}.key")
    write_whole(folder / "station.toml", station_text(folder, model.resolve(), port).encode())
    package = load_package(model)
    engine, recipe = OnnxCpuEngine(package), load_recipe(folder / "recipes" / PRODUCT, package.info)
    pictures = list_pictures(folder / "line")
    return [judge_picture(read_picture(path), engine, recipe)[0].judgement for path in pictures]


def linegate(*words: object) -> None:
    """Run a command to its end."""
    subprocess.run([sys.executable, "-m", "linegate", *map(str, words)], check=True, stdout=subprocess.DEVNULL)


def station_text(folder: Path, model: Path, port: int) -> str:
    """The station file."""
    return f"""station_id = "real"

[camera]
type = "replay"
source = "line"
rate_hz = 1
loop = true
trigger = "software"

[model]
package = "{model}"

[recipe]
path = "recipes/{PRODUCT}"

[pipeline]
deadline_ms = 1000
queue_frames = 16

[bus]
endpoint = "tcp://127.0.0.1:{port}"
heartbeat_ms = 100

[journal]
tail_folder = "{folder}"

[security]
secret_key = "keys/station.key_secret"
subscribers = "subscribers"
operators = "operators"
"""


def pass_parts(line: Line, station: Process, triggers: int, seed: int) -> Counter[str]:
    """Let the parts pass; every few seconds kill or stop the station."""
    done: Counter[str] = Counter()
    random = np.random.default_rng(seed)
    if line.status(WAIT_S) is None:
        raise SystemExit("chaos: the real station did not start")
    due, resume = time.monotonic() + PAUSE_S, 0.0
    while line.passed < triggers or line.unanswered:
        line.step(triggers)
        now = time.monotonic()
        if resume and now >= resume:
            station.send(signal.SIGCONT)
            resume = 0.0
        if now >= due and line.passed < triggers:
            due = now + PAUSE_S
            if random.random() < 0.5:
                done["kill -9"] += 1
                station.kill()
                station.start()
            else:
                done["SIGSTOP and SIGCONT"] += 1
                station.send(signal.SIGSTOP)
                resume = now + 1.5
    station.send(signal.SIGCONT)
    return done


def settle(line: Line, out: Path) -> tuple[int, int]:
    """Wait until the reader has all; returns the head."""
    end = time.monotonic() + WAIT_S
    head = (0, 0)
    while time.monotonic() < end:
        status = line.status(5.0)
        if status is not None and not status.in_flight:
            head = (status.epoch, status.head_seq)
            lines = read_lines(out) if out.exists() else []
            if lines and (lines[-1]["epoch"], lines[-1].get("seq")) == head:
                break
        time.sleep(0.2)
    return head


def stop(control: str, keys: Path) -> None:
    """As an operator does."""
    linegate("control", control, "--key", keys / "plc.key_secret", "--server-key", keys / "station.key", "stop")


def report(
    line: Line, faults: Counter[str], expected: list[Judgement], folder: Path, head: tuple[int, int], codes: list[int]
) -> dict[str, Any]:
    """What was found."""
    lines = read_lines(folder / "reader.jsonl")
    verdicts = [found for found in lines if not found.get("lost")]
    parts = Counter(found["part"] for found in verdicts)
    published = journal_keys(folder / "journal")
    false_accepts = sum(
        found["accept"] and expected[(found["frame"] - 1) % len(expected)] is not Judgement.OK for found in verdicts
    )
    missing = len(published - {(found["epoch"], found["seq"]) for found in verdicts}) + len(lines) - len(verdicts)
    unjudged = sum(f"part-{number}" not in parts for number in range(1, line.passed + 1))
    double = sum(count - 1 for count in parts.values())
    peers = peer_report(folder, verdicts)
    heard_right = all(peer["heard"] == peer["same"] for peer in peers.values())
    passed = not (unjudged or double or false_accepts or missing or any(codes)) and heard_right and bool(head[0])
    return {
        "passed": passed,
        "triggers": line.passed,
        "unjudged": unjudged,
        "double": double,
        "false_accepts": false_accepts,
        "missing_after_replay": missing,
        "faults": dict(faults),
        "judged": dict(Counter(found["reason"] or "OK" for found in verdicts)),
        "peers": peers,
    }


def peer_report(folder: Path, verdicts: list[dict[str, object]]) -> dict[str, dict[str, int]]:
    """What the independent listener heard over CURVE, and how much of it we have too."""
    out = folder / "peer.txt"
    if not out.exists():
        return {}
    ours = {(str(v["epoch"]), str(v["seq"]), str(v["trigger"]), str(v["accept"]).lower(), v["part"]) for v in verdicts}
    heard = [tuple(text.split(" ")) for text in out.read_text().splitlines()]
    return {"npm zeromq, CURVE": {"heard": len(heard), "same": sum(found in ours for found in heard)}}

"""Latency of the runtime beside that of its encoder alone, in one process and with the same threads.

A camera holds real pictures in memory and fires at a rate that leaves the machine mostly idle; the verdicts are read from
the bus' own messages. Between the frames of the run, the bare encoder is timed on the same pictures before and after, so
that a machine that slows down slows both.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console

from calibration.calibrate import calibrate, encode_shots
from calibration.shots import Shot
from deploy.demo import elpv
from edge.assembly import Makers
from edge.bus.messages import HeartbeatMessage, State, VerdictMessage
from edge.bus.subscriber import Subscriber
from edge.cameras.base import StreamEnded
from edge.changeover import warm_up
from edge.cli.run import SWITCH_S
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.errors import CameraError, LinegateError
from edge.pictures import read_picture
from edge.preprocess import View, preprocess
from edge.recipe import SCHEMA_VERSION, Recipe, RecipeInfo
from edge.sealed import write_whole
from edge.station import (
    BusSettings,
    CameraSettings,
    JournalSettings,
    ModelSettings,
    PipelineSettings,
    RecipeSettings,
    Station,
)
from edge.supervisor import Supervisor
from edge.types import Frame, FrameStatus, Picture, Trigger

SHOTS, PICTURES = 8, 64
BUSY_SHARE = 0.4


class MemoryCamera:
    """Fires at a fixed rate with pictures that are in memory already: a frame arrives when its trigger fires."""

    camera_id = "memory"
    is_simulated = True

    def __init__(self, pictures: list[Picture], period_s: float, count: int) -> None:
        self._pictures, self._period_s, self._count = pictures, period_s, count
        self._fired = 0
        self._due = time.monotonic()
        self._seen: Trigger | None = None

    def fire(self, trigger: Trigger) -> None:
        """See `Camera.fire`."""
        raise CameraError("this camera fires by itself", "Wait for it.")

    def grab(self, timeout_s: float) -> Trigger | Frame | None:
        """See `Camera.grab`."""
        if self._seen is not None:
            trigger, self._seen = self._seen, None
            picture = self._pictures[self._fired % len(self._pictures)]
            return Frame(trigger, self._fired, FrameStatus.COMPLETE, time.monotonic_ns(), picture)
        if self._fired == self._count:
            raise StreamEnded
        wait = self._due - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, timeout_s))
            if wait > timeout_s:
                return None
        self._fired += 1
        self._due = time.monotonic() + self._period_s
        self._seen = Trigger(time.monotonic_ns(), time.time_ns() // 1000)
        return self._seen

    def close(self) -> None:
        """Stop firing."""
        self._fired = self._count


def main() -> int:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    package = load_package(arguments.model)
    engine = OnnxCpuEngine(package, arguments.threads)
    data = elpv.load()
    paths = [*data.test_normal[: PICTURES // 2], *data.test_anomalous[: PICTURES // 2]]
    pictures = [read_picture(path) for path in paths]
    recipe = make_recipe(engine, [Shot(p, read_picture(p), "") for p in data.draw(SHOTS, 0)])
    images = [preprocess(p, package.info.encoder.input_size, View()).image[np.newaxis] for p in pictures]
    warm_up(engine, recipe)
    half = arguments.frames // 2
    first = time_each(lambda i: engine.encode(images[i % len(images)]), half)
    period_s = float(np.median(first)) / BUSY_SHARE
    verdicts = run_station(engine, recipe, MemoryCamera(pictures, period_s, arguments.frames))
    encoder_ms = np.concatenate([first, time_each(lambda i: engine.encode(images[i % len(images)]), half)]) * 1000
    total_ms = np.array([v.publish_after_us - (v.capture_after_us or 0) for v in verdicts]) / 1000
    figures = {
        "encoder_ms": round(float(np.median(encoder_ms)), 3),
        "total_ms_p50": round(float(np.quantile(total_ms, 0.5)), 3),
        "total_ms_p99": round(float(np.quantile(total_ms, 0.99)), 3),
        "ratio": round(float(np.median(total_ms) / np.median(encoder_ms)), 3),
        "frames": len(verdicts),
        "rate_hz": round(1 / period_s, 1),
    }
    write_whole(arguments.out, msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    Console().print_json(data=figures)
    return 0


def make_recipe(engine: OnnxCpuEngine, shots: list[Shot]) -> Recipe:
    """A recipe in memory."""
    made = calibrate(encode_shots(shots, engine, None, False, unseen), engine, unseen)
    info = RecipeInfo(
        schema_version=SCHEMA_VERSION,
        product="bench",
        revision=1,
        package_name=engine.package.info.encoder.name,
        package_hash=engine.package.info.package_hash,
        bank_sha256="",
        parent_revision=None,
        change="",
        threshold=made.threshold,
        limits=made.limits,
        roi=None,
        pose=None,
        counterexamples=(),
        normals_sha256="",
        bit_depth=None,
        shots=(),
        files={},
        software_version="",
        created="",
    )
    return Recipe(Path(), info, made.bank, made.encoded.view, "")


def unseen(_what: str, _done: int, _of: int) -> None:
    """A progress that nobody watches."""


def time_each(call: Callable[[int], object], count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Seconds of each of `count` calls."""
    times = np.empty(count)
    for index in range(count):
        began = time.perf_counter()
        call(index)
        times[index] = time.perf_counter() - began
    return times


def run_station(engine: OnnxCpuEngine, recipe: Recipe, camera: MemoryCamera) -> list[VerdictMessage]:
    """Run a whole station, with journal and replay, and a real subscriber; returns what the subscriber received."""
    # The product the station would load is made in memory: only the names of its folders are asked for.
    makers = Makers(
        package=lambda _trust, _folder: engine.package,
        recipe=lambda _trust, _path, _package: recipe,
        engine=lambda _package, _threads: engine,
        camera=lambda _settings: camera,
    )
    sys.setswitchinterval(SWITCH_S)
    memory = JournalSettings().tail_folder
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=memory) as tail_folder:
        supervisor = Supervisor(station(Path(folder), Path(tail_folder)), makers)
        subscriber = Subscriber(supervisor.endpoint)
        runner = threading.Thread(target=supervisor.run, daemon=True)
        runner.start()
        verdicts = receive_all(subscriber)
        runner.join()
        subscriber.close()
    return verdicts


def station(folder: Path, tail_folder: Path) -> Station:
    """A station whose journal lies where those of real ones do: on the disk, its tail in memory."""
    return Station(
        station_id="bench",
        camera=CameraSettings("replay", "memory", 1.0),
        model=ModelSettings("memory"),
        recipe=RecipeSettings("memory"),
        pipeline=PipelineSettings(deadline_ms=1000.0, queue_frames=4),
        bus=BusSettings(f"ipc://{folder}/bus", heartbeat_ms=500.0, wait_for_subscriber_s=10.0),
        journal=JournalSettings(folder=str(folder / "journal"), tail_folder=str(tail_folder)),
    )


def receive_all(subscriber: Subscriber) -> list[VerdictMessage]:
    """Every verdict until the station ends or falls silent."""
    verdicts: list[VerdictMessage] = []
    while (received := subscriber.receive(10_000)) is not None:
        message = received[0]
        if isinstance(message, VerdictMessage) and not message.is_replay:
            verdicts.append(message)
        elif isinstance(message, HeartbeatMessage) and message.state is State.HALTED:
            break
    return verdicts


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LinegateError as error:
        sys.exit(f"bench: {error}")

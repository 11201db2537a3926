"""`make demo`: export, calibrate, run a line of real parts past a camera, and show what was found."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console

from deploy.demo import elpv
from deploy.demo.results import collect, print_table
from deploy.demo.show import write_contact_sheet, write_report
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import PackageInfo, load_package
from edge.errors import LinegateError
from edge.judge import judge_picture
from edge.pictures import list_pictures, read_picture
from edge.recipe import Recipe, load_recipe
from edge.sealed import write_whole

BUILD = Path("build")
DEMO = BUILD / "demo"
PACKAGE = BUILD / "packages" / "efficientnet-lite2"
SHOTS, LINE, RECIPES = DEMO / "shots", DEMO / "line", DEMO / "recipes"
PRODUCT = "solar-cell"
SHOT_COUNT, SHOT_SEED, LINE_SEED = 8, 0, 1
RATE_HZ, BUSY_SHARE = 30.0, 0.5
DEADLINE_MS = 500
QUEUE_FRAMES = 12
PATIENCE_S = 20
LINEGATE = [sys.executable, "-m", "linegate"]

console = Console()


def main() -> int:
    """Run all steps; what is built already is used again."""
    started = time.monotonic()
    try:
        labels = lay_out()
        export()
        package = load_package(PACKAGE)
        recipe = calibrate(package.info)
        engine = OnnxCpuEngine(package)
        rate = choose_rate(engine, recipe)
        stream(rate)
        results = collect(DEMO / "verdicts.jsonl", DEMO / "run.log", labels)
        say("drawing what was found")
        write_contact_sheet(DEMO / "contact-sheet.png", results, LINE, engine, recipe)
        write_report(DEMO / "report.html", results, LINE, engine, recipe)
        write_whole(DEMO / "summary.json", results.summary_json())
    except LinegateError as error:
        console.print(f"demo: {error}", style="red", highlight=False)
        return 2
    print_table(console, results)
    say(f"look at {DEMO / 'report.html'} and {DEMO / 'contact-sheet.png'}")
    say(f"how the product was calibrated: {RECIPES / PRODUCT / recipe.folder.name / 'report.html'}")
    say(f"done in {time.monotonic() - started:.0f} s")
    return 0 if results.complete else 1


def say(text: str) -> None:
    """One line of progress."""
    console.print(f"[bold]demo:[/bold] {text}", highlight=False)


def lay_out() -> dict[str, bool]:
    """Copy shots and line pictures into place; returns what each part on the line truly is (True is defective)."""
    data = elpv.load()
    parts = [(p, False) for p in data.test_normal] + [(p, True) for p in data.test_anomalous]
    order = np.random.default_rng(LINE_SEED).permutation(len(parts))
    labels = {f"{place + 1:04d}-{parts[i][0].name}": parts[i][1] for place, i in enumerate(order)}
    shots = {path.name: path for path in data.draw(SHOT_COUNT, SHOT_SEED)}
    sources = {name: parts[i][0] for name, i in zip(labels, order, strict=True)}
    for folder, files in ((SHOTS, shots), (LINE, sources)):
        if folder.is_dir() and {p.name for p in folder.iterdir()} == set(files):
            continue
        say(f"laying out {len(files)} pictures in {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name, source in files.items():
            shutil.copyfile(source, folder / name)
    return labels


def export() -> None:
    """Make the model package, unless a good one is there."""
    try:
        info = load_package(PACKAGE).info
    except LinegateError:
        say("exporting the encoder (PyTorch to ONNX, with a parity figure)")
        call(["export", "efficientnet-lite2", "--out", str(PACKAGE), "--force"])
    else:
        say(f"package {info.encoder.name} {info.package_hash[:12]} is there")


def calibrate(package: PackageInfo) -> Recipe:
    """Make the recipe, unless one for this package is there."""
    try:
        recipe = load_recipe(RECIPES / PRODUCT, package)
    except LinegateError:
        say(f"calibrating {PRODUCT} from {SHOT_COUNT} normal shots")
        call(["calibrate", PRODUCT, "--model", str(PACKAGE), "--shots", str(SHOTS), "--recipes", str(RECIPES)])
        return load_recipe(RECIPES / PRODUCT, package)
    say(f"recipe {PRODUCT} revision {recipe.info.revision} is there")
    return recipe


def choose_rate(engine: OnnxCpuEngine, recipe: Recipe) -> float:
    """A line speed that leaves this machine half idle, at most 30 parts a second."""
    picture = read_picture(list_pictures(LINE)[0])
    times: list[float] = []
    for _ in range(12):
        began = time.perf_counter()
        judge_picture(picture, engine, recipe)
        times.append(time.perf_counter() - began)
    return round(min(RATE_HZ, BUSY_SHARE / float(np.median(times))), 1)


def stream(rate: float) -> None:
    """Run the station and, in a process of its own, the subscriber.

    Raises:
        LinegateError: the station did not end well.
    """
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    station = DEMO / "station.toml"
    write_whole(station, station_text(endpoint, rate).encode())
    count = len(list_pictures(LINE))
    say(f"{count} parts pass the camera at {rate:g} a second; verdicts on {endpoint}")
    watch = [*LINEGATE, "watch", endpoint, "--json", str(DEMO / "verdicts.jsonl"), "--until-halted"]
    screen = None if console.is_terminal else (DEMO / "watch.log").open("wb")
    with (DEMO / "run.log").open("wb") as log:
        watcher = subprocess.Popen([*watch, "--timeout", str(PATIENCE_S)], stdout=screen)
        runner = subprocess.Popen([*LINEGATE, "run", str(station)], stderr=log)
        try:
            run_code, watch_code = runner.wait(), watcher.wait()
        finally:
            for process in (runner, watcher):
                process.terminate()
    if run_code != 0:
        raise LinegateError((DEMO / "run.log").read_text().strip() or "the station failed", "Read build/demo/run.log.")
    if watch_code != 0:
        say("the subscriber misses verdicts")


def station_text(endpoint: str, rate: float) -> str:
    """The station file of the demo."""
    return f"""# Written by `make demo`. Paths are relative to this file.
station_id = "demo"

[camera]
type = "replay"
source = "line"
rate_hz = {rate:.1f}

[model]
package = "../packages/{PACKAGE.name}"

[recipe]
path = "recipes/{PRODUCT}"

[pipeline]
deadline_ms = {DEADLINE_MS}
queue_frames = {QUEUE_FRAMES}

[bus]
endpoint = "{endpoint}"
replay_endpoint = "tcp://127.0.0.1:*"
control_endpoint = "tcp://127.0.0.1:*"
wait_for_subscriber_s = {PATIENCE_S}

[journal]
folder = "journal"
"""


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def call(words: list[str]) -> None:
    """Run a linegate command and let the person see what it says.

    Raises:
        LinegateError: it failed; it has said why.
    """
    if subprocess.run([*LINEGATE, *words], check=False).returncode != 0:
        raise LinegateError(f"`linegate {words[0]}` failed", "See its message above.")


if __name__ == "__main__":
    sys.exit(main())

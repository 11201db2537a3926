"""What all tests share: a real package, a real recipe, station files, and the command line."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import msgspec
import pytest
from hypothesis import HealthCheck, settings

from deploy.demo import elpv
from edge.condition import Limits
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import Package, load_package
from edge.errors import UsageError
from edge.recipe import Recipe, find_recipe, load_recipe
from tests.packages import ENCODER, REPOSITORY, present_package

PRODUCT = "solar-cell"
SHOT_COUNT = 8
PATIENCE_S = 120.0
"""For what must happen soon; a test that waits so long has failed."""

# The suite gives the same answer each time; `pytest --hypothesis-profile=explore` looks for new examples.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("explore", deadline=None, max_examples=1000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")

Sections = Mapping[str, object]
Completed = subprocess.CompletedProcess[str]
Process = subprocess.Popen[str]


class WriteStation(Protocol):
    """Writes a station file into the test's folder.

    The default station replays `source` once, at 50 Hz, waits for a subscriber on a free ipc endpoint, and keeps its journal
    and the journal's tail in the test's folder. Each other argument overrides keys of its section, `top` those above all
    sections.
    """

    def __call__(
        self,
        source: Path,
        *,
        camera: Sections = ...,
        model: Sections = ...,
        recipe: Sections = ...,
        pipeline: Sections = ...,
        bus: Sections = ...,
        journal: Sections = ...,
        security: Sections = ...,
        supervisor: Sections = ...,
        metrics: Sections = ...,
        top: Sections = ...,
    ) -> Path: ...


class RunLinegate(Protocol):
    """Runs `linegate WORDS` to its end and returns what it said."""

    def __call__(self, *words: str | Path) -> Completed: ...


class StartLinegate(Protocol):
    """Starts `linegate WORDS` with its output in pipes; what still runs after the test is killed."""

    def __call__(self, *words: str | Path) -> Process: ...


def command(*words: str | Path) -> list[str]:
    """The argument vector of `linegate WORDS`, in this Python."""
    return [sys.executable, "-m", "linegate", *(str(word) for word in words)]


def environment() -> dict[str, str]:
    """Subprocesses take the sources beside these tests, and wide lines."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "200"}


def run_linegate(*words: str | Path) -> Completed:
    """Run `linegate WORDS` to its end, away from the repository."""
    with tempfile.TemporaryDirectory() as elsewhere:
        return subprocess.run(
            command(*words),
            cwd=elsewhere,
            env=environment(),
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
            check=False,
        )


def free_port() -> int:
    """A TCP port of the loopback interface that nobody uses now, nor the two after it: replay and control lie there."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError, OverflowError):
            first = stack.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            for step in (1, 2):
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port + step))
            return port


def assignments(keys: Sections) -> str:
    """Lines of a TOML file; JSON scalars are TOML scalars."""
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def section(name: str, keys: Sections) -> str:
    """One table of a TOML file."""
    return f"\n[{name}]\n{assignments(keys)}"


@pytest.fixture(scope="session")
def package_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model package, made by the present sources. Shared by all tests: copy it before you change it."""
    return Path(shutil.copytree(present_package(), tmp_path_factory.mktemp("packages") / ENCODER))


@pytest.fixture(scope="session")
def package(package_folder: Path) -> Package:
    """The same package, loaded."""
    return load_package(package_folder)


@pytest.fixture(scope="session")
def engine(package: Package) -> OnnxCpuEngine:
    """The executor that works everywhere, on the real package."""
    return OnnxCpuEngine(package)


@pytest.fixture(scope="session")
def elpv_pictures() -> elpv.Elpv:
    """The real pictures: file paths by their role."""
    try:
        return elpv.load()
    except UsageError as error:
        pytest.skip(f"{error.what}: pip install -e '.[demo]'")


@pytest.fixture(scope="session")
def shots_folder(elpv_pictures: elpv.Elpv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight real normal parts. Shared by all tests: copy it before you change it."""
    folder = tmp_path_factory.mktemp("shots")
    for path in elpv_pictures.draw(SHOT_COUNT, 0):
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def recipe_folder(package_folder: Path, shots_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A revision made by `linegate calibrate`. Shared by all tests: copy it before you change it."""
    recipes = tmp_path_factory.mktemp("recipes")
    words = ("calibrate", PRODUCT, "--model", package_folder, "--shots", shots_folder, "--recipes", recipes)
    done = run_linegate(*words, "--no-sensitivity")
    assert done.returncode == 0, done.stderr
    return find_recipe(recipes / PRODUCT)


@pytest.fixture(scope="session")
def recipe(recipe_folder: Path, package: Package) -> Recipe:
    """The same recipe, loaded."""
    return load_recipe(recipe_folder, package.info)


def lenient(recipe: Recipe) -> Recipe:
    """The recipe in memory with limits that every picture meets: for tests that need a score of whatever comes."""
    every = (0.0, 1e9)
    limits = Limits(every, every, every, every, contrast_least=0.0, sharpness_least=0.0, clipped_most=1.0)
    return dataclasses.replace(recipe, info=msgspec.structs.replace(recipe.info, limits=limits))


@pytest.fixture
def endpoint() -> Iterator[str]:
    """A free ipc endpoint; its path is short, because the system allows about 100 characters."""
    with tempfile.TemporaryDirectory(prefix="linegate-") as folder:
        yield f"ipc://{folder}/bus"


@pytest.fixture
def station_file(tmp_path: Path, endpoint: str, package_folder: Path, recipe_folder: Path) -> WriteStation:
    """See `WriteStation`."""

    def write(
        source: Path,
        *,
        camera: Sections = {},  # noqa: B006 - never changed
        model: Sections = {},  # noqa: B006
        recipe: Sections = {},  # noqa: B006
        pipeline: Sections = {},  # noqa: B006
        bus: Sections = {},  # noqa: B006
        journal: Sections = {},  # noqa: B006
        security: Sections = {},  # noqa: B006
        supervisor: Sections = {},  # noqa: B006
        metrics: Sections = {},  # noqa: B006
        top: Sections = {},  # noqa: B006
    ) -> Path:
        parts = {
            "camera": {"type": "replay", "source": str(source), "rate_hz": 50.0, **camera},
            "model": {"package": str(package_folder), **model},
            "recipe": {"path": str(recipe_folder), **recipe},
            "pipeline": {"deadline_ms": 60_000.0, "queue_frames": 64, **pipeline},
            "bus": {"endpoint": endpoint, "heartbeat_ms": 50.0, "wait_for_subscriber_s": 60.0, **bus},
            "journal": {"folder": str(tmp_path / "journal"), "tail_folder": str(tmp_path), "tail_mb": 1, **journal},
            "security": security,
            "supervisor": supervisor,
            "metrics": metrics,
        }
        path = tmp_path / "station.toml"
        head = assignments({"station_id": "test", **top})
        text = head + "".join(section(name, keys) for name, keys in parts.items())
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def linegate() -> RunLinegate:
    """See `RunLinegate`."""
    return run_linegate


@pytest.fixture
def start_linegate(tmp_path: Path) -> Iterator[StartLinegate]:
    """See `StartLinegate`."""
    started: list[Process] = []

    def start(*words: str | Path) -> Process:
        process = subprocess.Popen(
            command(*words),
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with process:
            process.kill()


def one_line(completed: Completed) -> str:
    """The only line of an error message; fails on a traceback or on none."""
    lines = completed.stderr.splitlines()
    assert len(lines) == 1, completed.stderr
    assert lines[0].startswith("linegate: "), lines[0]
    return lines[0]

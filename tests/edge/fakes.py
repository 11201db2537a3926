"""Stand-ins for camera, package and executor, so that the pipeline is tested without ONNX and without waiting.

The fake product is a grey checkerboard of 64 x 64 pixels. The fake encoder has one tap of 8 x 8 tokens, each the mean of its
block; the fake decoder's map is a token's distance from the bank, the score its maximum, the unlikeness its median. A white
block scores about 0.5.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge.bus.messages import Provenance
from edge.cameras.base import StreamEnded
from edge.condition import learn_limits, measure
from edge.engines.package import BankTensor, DecoderSpec, EncoderSpec, Package, PackageInfo, Tap, WeightsSource
from edge.job import Job
from edge.ledger import Entry
from edge.preprocess import PREPROCESS_VERSION, View
from edge.recipe import SCHEMA_VERSION, Recipe, RecipeInfo, Threshold
from edge.types import Bank, Frame, FrameStatus, Match, Picture, Tokens, Trigger

SIDE_PX = 64
BLOCK_PX = 8
THRESHOLD = 0.25
UNLIKENESS_MOST = 0.2
PATIENCE_S = 60.0


def normal_part() -> Picture:
    """A part without a defect."""
    rows, columns = np.indices((SIDE_PX, SIDE_PX)) // 4
    grey = np.where((rows + columns) % 2 == 0, 96, 160).astype(np.uint8)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def defective_part(row: int = 2, column: int = 5) -> Picture:
    """A part with one white block of 8 x 8 pixels, in block `(row, column)`."""
    picture = normal_part()
    picture[row * BLOCK_PX : (row + 1) * BLOCK_PX, column * BLOCK_PX : (column + 1) * BLOCK_PX] = 255
    return picture


def blank_part() -> Picture:
    """A frame without a part."""
    return np.full((SIDE_PX, SIDE_PX, 3), 128, np.uint8)


def fake_package() -> Package:
    """Describes the fake executor."""
    grid = SIDE_PX // BLOCK_PX
    info = PackageInfo(
        schema_version=1,
        package_hash="a" * 64,
        preprocess_version=PREPROCESS_VERSION,
        encoder=EncoderSpec("fake", "encoder.onnx", (SIDE_PX, SIDE_PX), (Tap("tokens_0", BLOCK_PX, (grid, grid), 3),)),
        decoder=DecoderSpec("fake", "decoder.onnx", (BankTensor("normal", (3,)),), {}),
        source=WeightsSource("none", "0", "none", "0" * 64),
        files={},
        parity=None,
        software_version="0",
        created="2026-01-01T00:00:00+00:00",
    )
    return Package(Path("fake"), info, b"", b"")


def fake_threshold(value: float, pixel_value: float, unlikeness_most: float) -> Threshold:
    """A threshold that says nothing of where it comes from."""
    return Threshold(
        value=value,
        pixel_value=pixel_value,
        unlikeness_most=unlikeness_most,
        method="fixed",
        scores=(),
        frame_scores=(),
        frames_rejected=0,
        false_reject_mean=None,
        false_reject_bound=None,
        confidence=0.95,
        tail_estimate=None,
        claim="nothing",
    )


def fake_recipe() -> Recipe:
    """Fits the fake executor and the fake product."""
    info = RecipeInfo(
        schema_version=SCHEMA_VERSION,
        product="board",
        revision=3,
        package_name="fake",
        package_hash="a" * 64,
        bank_sha256="b" * 64,
        parent_revision=None,
        change="made up",
        threshold=fake_threshold(THRESHOLD, THRESHOLD, UNLIKENESS_MOST),
        limits=learn_limits([(SIDE_PX, SIDE_PX)], [measure(normal_part())]),
        roi=None,
        pose=None,
        counterexamples=(),
        normals_sha256="e" * 64,
        bit_depth=None,
        shots=(),
        files={},
        software_version="0",
        created="2026-01-01T00:00:00+00:00",
    )
    return Recipe(Path("fake"), info, {"normal": np.full(3, 128 / 255, np.float32)}, View(), "c" * 64)


def fake_provenance() -> Provenance:
    """What fake verdicts say about their origin."""
    return Provenance(
        station_id="test",
        camera_id="fake",
        epoch=1,
        product="board",
        recipe_revision=3,
        recipe_hash="c" * 64,
        package_hash="a" * 64,
        bank_hash="b" * 64,
        config_hash="d" * 64,
        software_version="0",
        engine="fake",
        is_simulated=True,
    )


def fake_job() -> Job:
    """What fake triggers are judged with."""
    return Job(fake_recipe(), fake_provenance())


def fake_entry(seq: int = 1, *, part_id: str = "", deadline_ns: int = 10**18, trigger_id: str = "") -> Entry:
    """An entry of a ledger that was opened now."""
    trigger = Trigger(time.monotonic_ns(), time.time_ns() // 1000, part_id, trigger_id=trigger_id)
    return Entry(seq, trigger, trigger.time_ns + deadline_ns, fake_job())


def nothing(_call: int) -> None:
    """Neither raises nor waits."""


@dataclass
class FakeEngine:
    """Answers at once and always the same.

    `before_encoding` is called with the number of the call (from 1) and may raise or wait. While `gate` is clear, calls
    hang; `entered` is set as soon as one does. The `fill_*` values replace the decoder's answer.
    """

    package: Package = field(default_factory=fake_package)
    description: str = "fake"
    before_encoding: Callable[[int], None] = nothing
    fill_map: float | None = None
    fill_score: float | None = None
    fill_unlikeness: float | None = None
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    calls: int = 0

    def __post_init__(self) -> None:
        self.gate.set()

    def encode(self, images: NDArray[np.uint8]) -> Tokens:
        """See `Engine.encode`."""
        self.calls += 1
        self.entered.set()
        assert self.gate.wait(PATIENCE_S), "nobody opened the gate"
        self.before_encoding(self.calls)
        grid = SIDE_PX // BLOCK_PX
        blocks = images.reshape(len(images), grid, BLOCK_PX, grid, BLOCK_PX, 3).mean(axis=(2, 4)) / 255
        return (blocks.reshape(len(images), grid * grid, 3).astype(np.float32),)

    def match(self, tokens: Tokens, bank: Bank) -> tuple[Match, ...]:
        """See `Engine.match`."""
        grid = SIDE_PX // BLOCK_PX
        found: list[Match] = []
        for distance in np.abs(tokens[0] - bank["normal"]).mean(axis=2).reshape(-1, grid, grid):
            anomaly_map = distance.repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1).astype(np.float32)
            score = float(anomaly_map.max()) if self.fill_score is None else self.fill_score
            if self.fill_map is not None:
                anomaly_map[0, 0] = self.fill_map
            unlikeness = float(np.median(distance)) if self.fill_unlikeness is None else self.fill_unlikeness
            found.append(Match(anomaly_map, score, unlikeness))
        return tuple(found)


Shown = Callable[[], "Trigger | Frame"]


class FakeCamera:
    """Delivers what the test shows it, in order, and nothing else.

    A part is first a trigger, then a frame. While `frozen` is set, frames don't come.
    """

    camera_id = "fake"
    is_simulated = True

    def __init__(self) -> None:
        self._shown: queue.Queue[Shown] = queue.Queue()
        self._count = 0
        self.fired: list[Trigger] = []
        self.fire_shows: Picture | None = None
        self.frozen = False
        self.closed = threading.Event()

    def fire(self, trigger: Trigger) -> None:
        """See `Camera.fire`."""
        self.fired.append(trigger)
        if self.fire_shows is not None:
            self._shown.put(self._frame_of(trigger, self.fire_shows))

    def grab(self, timeout_s: float) -> Trigger | Frame | None:
        """See `Camera.grab`."""
        try:
            return self._shown.get(timeout=timeout_s)()
        except queue.Empty:
            return None

    def close(self) -> None:
        """See `Camera.close`."""
        self.closed.set()

    def show(self, *pictures: Picture) -> None:
        """Pass parts by the camera."""
        for picture in pictures:
            self._pass(picture, "")

    def show_damaged(self, fault: str) -> None:
        """Pass a part whose frame does not arrive whole."""
        self._pass(None, fault)

    def show_trigger(self, trigger_id: str = "") -> Trigger:
        """Pass a part whose frame never arrives."""
        trigger = self._trigger(trigger_id)
        self._shown.put(lambda: trigger)
        return trigger

    def show_frame(self, trigger: Trigger, picture: Picture) -> None:
        """Deliver a frame for a trigger that was shown before, or never."""
        self._shown.put(self._frame_of(trigger, picture))

    def show_when(self, released: threading.Event, picture: Picture) -> None:
        """Hang in `grab` until `released`, then deliver."""

        def wait() -> Trigger:
            assert released.wait(PATIENCE_S), "nobody released the camera"
            trigger = self._trigger("")
            self._shown.put(self._frame_of(trigger, picture))
            return trigger

        self._shown.put(wait)

    def break_with(self, error: Exception) -> None:
        """Let `grab` raise."""

        def fail() -> Frame:
            raise error

        self._shown.put(fail)

    def end(self) -> None:
        """Let the stream end."""
        self.break_with(StreamEnded())

    def _pass(self, pixels: Picture | None, fault: str) -> None:
        cell: list[Trigger] = []

        def see() -> Trigger:
            cell.append(self._trigger(""))
            return cell[0]

        self._shown.put(see)
        if not self.frozen:
            self._shown.put(lambda: self._frame_of(cell[0], pixels, fault)())  # noqa: PLW0108 - the trigger comes first

    def _trigger(self, trigger_id: str) -> Trigger:
        self._count += 1
        return Trigger(time.monotonic_ns(), time.time_ns() // 1000, f"part-{self._count}", trigger_id=trigger_id)

    def _frame_of(self, trigger: Trigger, pixels: Picture | None, fault: str = "") -> Callable[[], Frame]:
        status = FrameStatus.INCOMPLETE if pixels is None else FrameStatus.COMPLETE
        number = self._count
        return lambda: Frame(trigger, number, status, time.monotonic_ns(), pixels, fault)

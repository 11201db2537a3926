"""Builds one station from its file, runs the pipeline's stages, and sees that they end well or loudly."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge import SOFTWARE_VERSION
from edge.bus.compose import Composer
from edge.bus.messages import Provenance, State
from edge.bus.publisher import Publisher
from edge.cameras.base import Camera
from edge.cameras.replay import ReplayCamera
from edge.engines.base import Engine
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.errors import BusError, CameraError
from edge.ledger import Counts
from edge.pipeline import Pipeline
from edge.recipe import Recipe, load_recipe
from edge.station import CameraSettings, Station, config_hash
from edge.types import Reason

JOIN_S = 10.0


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `fault` is empty when it ended because it was done or asked to stop."""

    counts: Counts
    state: State
    fault: str


def open_camera(settings: CameraSettings) -> Camera:
    """The camera that the station file asks for.

    Raises:
        CameraError: it cannot be opened.
    """
    source = Path(settings.source)
    if not source.exists():
        raise CameraError(f"camera.source {source} does not exist", "Name a folder of pictures or a video file.")
    return ReplayCamera(settings.id, source, settings.rate_hz, settings.loop, settings.bit_depth)


def warm_up(engine: Engine, recipe: Recipe) -> None:
    """Run once, so that the first part does not pay for what is prepared lazily.

    Raises:
        EngineError: the engine fails, or does not take this bank.
    """
    height, width = engine.package.info.encoder.input_size
    engine.match(engine.encode(np.zeros((1, height, width, 3), np.uint8)), recipe.bank)


class Supervisor:
    """One run of one station. Every failure before `run` is a LinegateError and leaves nothing behind."""

    def __init__(self, station: Station) -> None:
        """Load, verify and warm everything, bind the bus, open the camera.

        Raises:
            LinegateError: whatever is wrong with package, recipe, engine, camera or bus.
        """
        self.station = station
        package = load_package(Path(station.model.package))
        self.recipe = load_recipe(Path(station.recipe.path), package.info)
        self._check_depth()
        self.engine: Engine = OnnxCpuEngine(package, station.model.threads)
        warm_up(self.engine, self.recipe)
        self._publisher = Publisher(station.bus.endpoint)
        try:
            self._camera = open_camera(station.camera)
        except BaseException:
            self._publisher.close()
            raise
        deadline_ns = round(station.pipeline.deadline_ms * 1e6)
        self.pipeline = Pipeline(
            self._camera,
            self.engine,
            self.recipe,
            self._publisher,
            Composer(self._provenance(), deadline_ns),
            deadline_ns=deadline_ns,
            queue_frames=station.pipeline.queue_frames,
            heartbeat_ns=round(station.bus.heartbeat_ms * 1e6),
        )
        self._fault = ""

    @property
    def endpoint(self) -> str:
        """Where verdicts are published, with the port that was taken."""
        return self._publisher.endpoint

    def run(self) -> Outcome:
        """Run until the stream ends, `pipeline.stop` is called or a stage breaks.

        Raises:
            BusError: the station waits for a subscriber and none came.
        """
        try:
            patience = self.station.bus.wait_for_subscriber_s
            if patience and not self._publisher.wait_for_subscriber(patience):
                raise BusError(
                    f"nobody subscribed to {self._publisher.endpoint} within {patience:g} s",
                    "Start a subscriber (`linegate watch`), or set bus.wait_for_subscriber_s = 0.",
                )
            return self._run_stages()
        finally:
            self._camera.close()
            self._publisher.close()

    def _run_stages(self) -> Outcome:
        stages = (self.pipeline.grab_stage, self.pipeline.judge_stage, self.pipeline.publish_stage)
        threads = [threading.Thread(target=self._guard, args=(s,), name=s.__name__, daemon=True) for s in stages]
        for thread in threads:
            thread.start()
        publisher = threads[-1]
        failed_at: float | None = None
        while publisher.is_alive():
            publisher.join(0.2)
            if self._fault and failed_at is None:
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() - failed_at > JOIN_S:
                self.pipeline.give_up_camera()
        for thread in threads:
            thread.join(JOIN_S)
        if self.pipeline.state is not State.HALTED:
            self.pipeline.bury()
        return Outcome(self.pipeline.ledger.counts(), self.pipeline.state, self._fault)

    def _guard(self, stage: Callable[[], None]) -> None:
        """The one place that catches everything: a broken stage becomes verdicts and state Error, not silence."""
        try:
            stage()
        except Exception as error:  # noqa: BLE001 - the supervisor's duty
            reason = Reason.CAMERA_LOST if isinstance(error, CameraError) else Reason.ENGINE_FAULT
            self._fault = f"{stage.__name__} broke: {type(error).__name__}: {error}"
            self.pipeline.fail(self._fault, reason)

    def _check_depth(self) -> None:
        camera, shots = self.station.camera.bit_depth, self.recipe.info.bit_depth
        if camera != shots:
            raise CameraError(
                f"the camera's bit_depth is {camera or 8}, the recipe's shots had {shots or 8}",
                "Set camera.bit_depth to what the product was calibrated with, or calibrate again.",
            )

    def _provenance(self) -> Provenance:
        info = self.recipe.info
        return Provenance(
            station_id=self.station.station_id,
            camera_id=self._camera.camera_id,
            epoch=time.time_ns() // 1_000_000,
            product=info.product,
            recipe_revision=info.revision,
            recipe_hash=self.recipe.recipe_hash,
            package_hash=info.package_hash,
            bank_hash=info.bank_sha256,
            config_hash=config_hash(self.station),
            software_version=SOFTWARE_VERSION,
            engine=self.engine.description,
            is_simulated=self._camera.is_simulated,
        )

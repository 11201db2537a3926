"""Builds one station from its file, runs the pipeline's stages, restarts what fails, and sees that it ends well or loudly."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import zmq

from edge import SOFTWARE_VERSION
from edge.assembly import Makers, check_depth, first_recipe, make_job, open_journal, recipe_root
from edge.bus.auth import Guard
from edge.bus.control import ControlServer
from edge.bus.endpoints import is_remote
from edge.bus.messages import Mode, State
from edge.bus.publisher import Publisher
from edge.bus.replay import ReplayServer
from edge.changeover import Changeover, warm_up
from edge.commands import Commands
from edge.engines.base import Engine
from edge.errors import BusError, RecipeError
from edge.intake import Intake
from edge.job import Job
from edge.ledger import Counts, Ledger
from edge.logs import log_event
from edge.metrics import LatencyHistogram, MetricsServer
from edge.notify import Notifier
from edge.outlet import Outlet
from edge.pipeline import Pipeline, shut
from edge.recipe import Recipe
from edge.restart import settle
from edge.signals import Identity, JournalHealth, Signals
from edge.stages import Stages
from edge.station import Station, config_hash, endpoints
from edge.trust import Trust

SERVER_JOIN_S = 3.0
WATCHDOG_STEP_S = 0.5
_LOG = logging.getLogger("linegate.station")


@dataclass(frozen=True)
class Outcome:
    """How a run ended. `fault` is empty when it ended because it was done or asked to stop."""

    counts: Counts
    state: State
    fault: str


class Supervisor:
    """One run of one station. Every failure before `run` is a LinegateError and leaves nothing behind."""

    def __init__(self, station: Station, makers: Makers | None = None) -> None:
        """Load, verify and warm everything, bind the bus, open the camera.

        Raises:
            LinegateError: whatever is wrong with journal, keys, package, recipe, engine, camera or bus.
        """
        self.station = station
        self._makers = makers or Makers()
        self._began = False
        with contextlib.ExitStack() as stack:
            self._build(stack)
            self._resources = stack.pop_all()

    def _build(self, stack: contextlib.ExitStack) -> None:
        station = self.station
        self.journal = open_journal(station.journal)
        stack.callback(self._close_journal)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        stack.callback(self._context.term)
        self._guard = Guard(self._context, station.security)
        stack.callback(self._guard.close)
        trust = Trust(station.security, self.journal)
        self._package = self._makers.package(trust, Path(station.model.package))
        mode = self._load_recipe(trust)
        self.engine: Engine = self._open_engine(self.recipe)
        self._bind(stack)
        self._camera = self._makers.camera(station.camera)
        stack.callback(shut, self._camera)
        self.epoch = max(time.time_ns() // 1_000_000, self.journal.newest_epoch() + 1)
        self._assemble(self._job(self.recipe, mode))
        self._serve(trust, stack)
        self._trust = trust

    def _load_recipe(self, trust: Trust) -> Mode:
        path, expected, mode = first_recipe(self.station, self.journal)
        self.recipe: Recipe | None = None
        if path is not None:
            self.recipe = self._makers.recipe(trust, path, self._package)
            check_depth(self.station.camera, self.recipe)
            if expected and self.recipe.recipe_hash != expected:
                raise RecipeError(
                    f"{path} is not the recipe that was active when the station ended",
                    "A revision is never edited: restore it, or name another recipe.path in the station file.",
                )
        return mode

    def _bind(self, stack: contextlib.ExitStack) -> None:
        feed, replay, _ = endpoints(self.station.bus)
        self._feed = feed
        self.publisher = self._open_publisher()
        self._feed = self.publisher.endpoint
        stack.callback(self._close_publisher)
        self._replay = ReplayServer(self._context, replay, self.journal, self._guard_for("subscribers"))
        stack.callback(self._replay.close)

    def _open_publisher(self) -> Publisher:
        return Publisher(self._context, self._feed, self._guard_for("subscribers"))

    def _guard_for(self, domain: str) -> Callable[[zmq.Socket[bytes]], None]:
        def guard(socket: zmq.Socket[bytes]) -> None:
            self._guard.apply(socket, "operators" if domain == "operators" else "subscribers")

        return guard

    def _job(self, recipe: Recipe | None, mode: Mode) -> Job:
        return make_job(self.station, self._camera, self.engine, self.epoch, recipe, mode)

    def _assemble(self, job: Job) -> None:
        """The pipeline and what belongs to it."""
        pace, journal = self.station.pipeline, self.journal
        deadline_ns = round(pace.deadline_ms * 1e6)
        heartbeat_ns = round(self.station.bus.heartbeat_ms * 1e6)
        self.latencies = LatencyHistogram()
        self._notifier = Notifier.from_environment()
        ledger = Ledger(deadline_ns)
        self._triggers_known = journal.readable
        recent = journal.recent_triggers()
        left = journal.left()
        recent.update({t.trigger_id: (left.epoch, t.seq) for t in left.triggers if t.trigger_id})
        self._left = left
        intake = Intake(ledger, journal, job, min_interval_ns=round(pace.min_interval_ms * 1e6), recent=recent)
        outlet = Outlet(ledger, journal, self.publisher, self.latencies.note)
        self.signals = Signals(
            self._identity(),
            intake,
            outlet,
            lambda: JournalHealth(journal.state, journal.lost, journal.pictures_lost),
            heartbeat_ns=heartbeat_ns,
            stall_ns=deadline_ns + heartbeat_ns,
            single=pace.start == "single",
            on_progress=self._notifier.progress,
        )
        self.pipeline = Pipeline(
            self._camera, self.engine, ledger, intake, outlet, self.signals, queue_frames=pace.queue_frames
        )

    def _identity(self) -> Identity:
        bus = self.station.bus
        remote = any(is_remote(endpoint) for endpoint in endpoints(bus))
        return Identity(
            station_id=self.station.station_id,
            epoch=self.epoch,
            package_hash=self._package.info.package_hash,
            config_hash=config_hash(self.station),
            software_version=SOFTWARE_VERSION,
            replay_endpoint=self._replay.endpoint,
            control_endpoint="",
            plaintext_remote=remote and not self._guard.enabled,
        )

    def _serve(self, trust: Trust, stack: contextlib.ExitStack) -> None:
        """What others may ask of the station."""
        station, pipeline = self.station, self.pipeline
        self.changeover = Changeover(
            pipeline.intake,
            trust,
            self.journal,
            load=lambda path: self._makers.recipe(trust, path, self._package),
            engine=lambda: self.engine,
            job=self._job,
            check=lambda recipe: check_depth(station.camera, recipe),
            on_change=self.journal.describe,
            root=recipe_root(station),
            configured=station.recipe.path,
        )
        self._stages = Stages(
            pipeline,
            station.supervisor,
            open_engine=self._reopen_engine,
            open_camera=lambda: self._makers.camera(station.camera),
            open_publisher=self._reopen_publisher,
        )
        commands = Commands(
            pipeline,
            self.changeover,
            lambda: self.signals.heartbeat(pipeline.ledger.counts()),
            self._stages.restarts_left,
            self._knows_triggers,
            software_trigger=station.camera.trigger == "software",
        )
        self._control = ControlServer(self._context, endpoints(station.bus)[2], commands, self._guard_for("operators"))
        stack.callback(self._control.close)
        self.signals.announce(self._control.endpoint)
        if station.metrics.port:
            metrics = MetricsServer(
                station.metrics.port,
                lambda: self.signals.heartbeat(pipeline.ledger.counts()),
                self.latencies,
                self._info,
            )
            stack.callback(metrics.close)

    def _knows_triggers(self) -> bool:
        """Whether a trigger that came before would be recognised; learns it when the journal can be read again."""
        if not self._triggers_known and self.journal.readable:
            self.pipeline.intake.learn(self.journal.recent_triggers())
            self._triggers_known = True
        return self._triggers_known

    def _info(self) -> dict[str, str]:
        provenance = self.pipeline.intake.job.provenance
        return {
            "station_id": provenance.station_id,
            "product": provenance.product,
            "recipe_revision": str(provenance.recipe_revision),
            "software_version": provenance.software_version,
            "engine": provenance.engine,
        }

    def _reopen_engine(self) -> Engine:
        self.engine = self._open_engine(self.pipeline.intake.job.recipe)
        return self.engine

    def _open_engine(self, recipe: Recipe | None) -> Engine:
        engine = self._makers.engine(self._package, self.station.model.threads)
        if recipe is not None:
            warm_up(engine, recipe)
        return engine

    def _reopen_publisher(self) -> Publisher:
        self.publisher.close()
        self.publisher = self._open_publisher()
        return self.publisher

    def ask_to_stop(self) -> None:
        """End soon, with a verdict for every open trigger. May be called by a signal handler."""
        self._stages.ask_to_stop()

    @property
    def endpoint(self) -> str:
        """Where verdicts are published, with the port that was taken."""
        return self.publisher.endpoint

    @property
    def replay_endpoint(self) -> str:
        """Where verdicts can be asked for again."""
        return self._replay.endpoint

    @property
    def control_endpoint(self) -> str:
        """Where commands are taken."""
        return self._control.endpoint

    def run(self) -> Outcome:
        """Run until the stream ends, `pipeline.stop` is called or something has failed for good.

        Raises:
            BusError: the station waits for a subscriber and none came.
        """
        with self._resources:
            owed = self._begin()
            self._stages.serve(self._replay.serve, self._replay.stop)
            try:
                self.signals.tell()
                self._notifier.ready(f"judging on {self.endpoint}")
                self._wait_for_subscriber()
                # Not before: a trigger that is taken has a deadline, which the stages see to.
                self._stages.serve(self._control.serve, self._control.stop)
                for data in owed:
                    self.pipeline.outlet.repeat(data)
                fault = self._stages.run()
            finally:
                self._notifier.stopping()
                self._stages.stop_serving(SERVER_JOIN_S)
                self.pipeline.stop()
            return Outcome(self.pipeline.ledger.counts(), self.signals.state, fault)

    def _begin(self) -> list[bytes]:
        """Settle what the last process left, and begin this epoch."""
        job = self.pipeline.intake.job
        self.journal.catch_up()
        owed = settle(self._left, self.journal, job.provenance, self.pipeline.ledger.deadline_ns)
        self.journal.begin(self.epoch, time.time_ns() // 1000)
        self.journal.describe(job)
        self._began = True
        self._trust.note_active(f"package {self._package.info.encoder.name}", self._package.info.package_hash)
        if self.recipe is not None:
            self._trust.note_active(f"recipe {self.recipe.info.product}", self.recipe.recipe_hash)
        log_event(_LOG, "started", epoch=self.epoch, restart_verdicts=len(owed), last_epoch=self._left.epoch)
        return owed

    def _wait_for_subscriber(self) -> None:
        patience = self.station.bus.wait_for_subscriber_s
        end = time.monotonic() + patience
        while patience and not self.publisher.wait_for_subscriber(WATCHDOG_STEP_S):
            self._notifier.progress()
            if self._stages.stop_asked:
                return
            if time.monotonic() > end:
                raise BusError(
                    f"nobody subscribed to {self.publisher.endpoint} within {patience:g} s",
                    "Start a subscriber (`linegate watch`), or set bus.wait_for_subscriber_s = 0.",
                )

    def _close_publisher(self) -> None:
        self.publisher.close()

    def _close_journal(self) -> None:
        self.journal.close(self.signals.state.value if self._began else "not started")

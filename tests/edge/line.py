"""A station on fakes: the real supervisor, pipeline and bus, with a subscriber that the test reads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from edge.assembly import Makers
from edge.bus.messages import HeartbeatMessage, MaskMessage, State, VerdictMessage
from edge.bus.subscriber import Message, Subscriber
from edge.errors import LinegateError
from edge.station import (
    BusSettings,
    CameraSettings,
    JournalSettings,
    ModelSettings,
    PipelineSettings,
    RecipeSettings,
    Station,
    SupervisorSettings,
)
from edge.supervisor import Outcome, Supervisor
from edge.types import Judgement
from tests.edge.fakes import PATIENCE_S, FakeCamera, FakeEngine, fake_package, fake_recipe

LONG_MS = 600_000.0
POLL_MS = 200
T = TypeVar("T")


class Line:
    """Show parts to `camera`, steer `engine`, read what the station publishes."""

    def __init__(self, supervisor: Supervisor, camera: FakeCamera, engine: FakeEngine, subscriber: Subscriber) -> None:
        self.supervisor, self.camera, self.engine = supervisor, camera, engine
        self.messages: list[Message] = []
        self.pngs: dict[int, bytes] = {}
        self.outcomes: list[Outcome] = []
        self._subscriber = subscriber
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.outcomes.append(self.supervisor.run())

    @property
    def verdicts(self) -> list[VerdictMessage]:
        """All that were received so far."""
        return [m for m in self.messages if isinstance(m, VerdictMessage)]

    @property
    def heartbeats(self) -> list[HeartbeatMessage]:
        """All that were received so far."""
        return [m for m in self.messages if isinstance(m, HeartbeatMessage)]

    @property
    def masks(self) -> list[MaskMessage]:
        """All that were received so far."""
        return [m for m in self.messages if isinstance(m, MaskMessage)]

    def read(self, timeout_ms: int) -> Message | None:
        """The next message, if one comes in time."""
        received = self._subscriber.receive(timeout_ms)
        if received is None:
            return None
        message, blob = received
        self.messages.append(message)
        if isinstance(message, MaskMessage):
            self.pngs[message.seq] = blob
        return message

    def read_until(self, enough: Callable[[], bool]) -> None:
        """Read messages until `enough` says so."""
        end = time.monotonic() + PATIENCE_S
        while not enough():
            assert time.monotonic() < end, f"waited in vain; received {self.messages[-5:]}"
            self.read(POLL_MS)

    def read_verdicts(self, count: int) -> list[VerdictMessage]:
        """Read until `count` verdicts have come in all."""
        self.read_until(lambda: len(self.verdicts) >= count)
        return self.verdicts

    def wait(self) -> Outcome:
        """Read to the last heartbeat and see the station end."""
        self.read_until(lambda: bool(self.heartbeats) and self.heartbeats[-1].state in (State.HALTED, State.ERROR))
        return self.join()

    def join(self) -> Outcome:
        """See the station end, however it does."""
        self._thread.join(PATIENCE_S)
        assert self.outcomes, "the station did not end"
        return self.outcomes[0]

    def finish(self) -> Outcome:
        """Let the stream end and read to the last heartbeat."""
        self.camera.end()
        return self.wait()


@contextmanager
def running_line(
    endpoint: str,
    journal_folder: Path,
    *,
    deadline_ms: float = LONG_MS,
    queue_frames: int = 64,
    heartbeat_ms: float = 20.0,
    spare_cameras: Sequence[FakeCamera | LinegateError] = (),
    spare_engines: Sequence[FakeEngine | LinegateError] = (),
    **sections: msgspec.Struct,
) -> Iterator[Line]:
    """A running station; it is stopped at the end, however the test ends. `sections` replace those of the station file.

    Each time the station opens a camera or an engine again it gets the next spare, or its error.
    """
    camera, engine = FakeCamera(), FakeEngine()
    station = fake_station(endpoint, journal_folder, deadline_ms, queue_frames, heartbeat_ms)
    makers = fake_makers(camera, engine, spare_cameras, spare_engines)
    supervisor = Supervisor(msgspec.structs.replace(station, **sections), makers)
    engine.calls = 0
    engine.entered.clear()
    subscriber = Subscriber(endpoint, masks=True)
    line = Line(supervisor, camera, engine, subscriber)
    try:
        yield line
    finally:
        engine.gate.set()
        supervisor.pipeline.stop()
        line.join()
        subscriber.close()


def fake_makers(
    camera: FakeCamera,
    engine: FakeEngine,
    spare_cameras: Sequence[FakeCamera | LinegateError] = (),
    spare_engines: Sequence[FakeEngine | LinegateError] = (),
) -> Makers:
    """A station made of these."""
    next_camera, next_engine = in_turn(camera, spare_cameras), in_turn(engine, spare_engines)
    return Makers(
        package=lambda _trust, _folder: fake_package(),
        recipe=lambda _trust, _path, _package: fake_recipe(),
        engine=lambda _package, _threads: next_engine(),
        camera=lambda _settings: next_camera(),
    )


def in_turn(first: T, spares: Sequence[T | LinegateError]) -> Callable[[], T]:
    """Gives the first, then one spare after the other; raises those that are errors. Without spares, the first again."""
    left = [first, *spares]

    def give() -> T:
        found = left.pop(0) if spares else first
        if isinstance(found, LinegateError):
            raise found
        return found

    return give


def fake_station(
    endpoint: str, journal_folder: Path, deadline_ms: float, queue_frames: int, heartbeat_ms: float
) -> Station:
    """The station file of a fake station, whose parts give up soon."""
    return Station(
        station_id="test",
        camera=CameraSettings("replay", "nowhere", 1.0, trigger="software"),
        model=ModelSettings("nowhere"),
        recipe=RecipeSettings(str(Path("nowhere"))),
        pipeline=PipelineSettings(deadline_ms, queue_frames),
        bus=BusSettings(endpoint, heartbeat_ms, wait_for_subscriber_s=PATIENCE_S),
        journal=JournalSettings(folder=str(journal_folder), tail_folder=str(journal_folder), tail_mb=1),
        supervisor=SupervisorSettings(restarts=0),
    )


def by_trigger(line: Line) -> dict[int, VerdictMessage]:
    """All verdicts; fails if a trigger has two, or the sequence has a gap."""
    found = {verdict.trigger_seq: verdict for verdict in line.verdicts}
    assert len(found) == len(line.verdicts), "a trigger has two verdicts"
    assert [verdict.seq for verdict in line.verdicts] == list(range(1, len(found) + 1))
    return found


def assert_counts_agree(line: Line) -> HeartbeatMessage:
    """Every heartbeat adds up, and the last one with what was received; returns it."""
    for beat in line.heartbeats:
        assert beat.triggers_seen == beat.ok + beat.not_ok + beat.not_decidable + beat.in_flight
    last = line.heartbeats[-1]
    judged = [verdict.judgement for verdict in line.verdicts]
    assert (last.ok, last.not_ok, last.not_decidable) == tuple(judged.count(judgement) for judgement in Judgement)
    assert (last.in_flight, last.head_seq) == (0, len(judged))
    return last

"""What hangs or cannot be opened again is left behind: the rest of the station goes on, stops and closes everything."""

from __future__ import annotations

import contextlib
import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.bus.compose import Judged, mask_message
from edge.bus.control import ControlClient
from edge.bus.messages import MaskMessage, State, VerdictMessage
from edge.bus.publisher import Publisher
from edge.bus.requests import TriggerCommand
from edge.bus.subscriber import Subscriber
from edge.bus.topics import Topic
from edge.cameras.base import Camera
from edge.errors import BusError, CameraError
from edge.station import BusSettings, CameraSettings, PipelineSettings, SupervisorSettings
from edge.supervisor import Outcome, Supervisor
from edge.types import Judgement, Reason, Trigger
from tests.edge.fakes import PATIENCE_S, FakeCamera, FakeEngine, defective_part, normal_part
from tests.edge.line import LONG_MS, assert_counts_agree, fake_makers, fake_station, running_line

GONE = CameraError("the camera is gone", "Plug it in.")
SOON_S = 8.0
"""Less than a thread that hangs is waited for, and much more than ending takes."""


def wait_until(there: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    never = threading.Event()
    while not there():
        assert time.monotonic() < end, "waited in vain"
        never.wait(0.005)


def trigger(part_id: str = "") -> Trigger:
    return Trigger(time.monotonic_ns(), time.time_ns() // 1000, part_id)


class Stubborn(FakeCamera):
    """Cannot even be closed."""

    def close(self) -> None:
        super().close()
        raise OSError(19, "no such device")


class Made:
    """A station of these parts in its thread; nobody subscribes."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor, self.pipeline = supervisor, supervisor.pipeline
        self.outcomes: list[Outcome] = []
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        self.outcomes.append(self.supervisor.run())

    def ended(self, within_s: float = PATIENCE_S) -> Outcome:
        self.thread.join(within_s)
        assert self.outcomes, "the station did not end"
        return self.outcomes[0]


@contextmanager
def made(
    endpoint: str,
    folder: Path,
    cameras: Callable[[CameraSettings], Camera],
    engine: FakeEngine,
    spares: tuple[FakeEngine, ...] = (),
    **sections: msgspec.Struct,
) -> Iterator[Made]:
    """A station that opens its cameras with `cameras`."""
    station = fake_station(endpoint, folder, LONG_MS, 64, 20.0)
    bus = BusSettings(endpoint, heartbeat_ms=20.0)
    makers = dataclasses.replace(fake_makers(FakeCamera(), engine, (), spares), camera=cameras)
    found = Made(Supervisor(msgspec.structs.replace(station, **{"bus": bus, **sections}), makers))
    try:
        yield found
    finally:
        engine.gate.set()
        found.pipeline.stop()
        found.ended()


# Cameras.


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_camera_that_cannot_be_closed_does_not_end_the_watch(endpoint: str, tmp_path: Path, restarts: int) -> None:
    cameras = iter([Stubborn(), FakeCamera()])
    opened: list[FakeCamera] = []

    def camera(_settings: CameraSettings) -> Camera:
        opened.append(next(cameras))
        return opened[-1]

    supervisor = SupervisorSettings(restarts=restarts, hang_s=60.0)
    with made(endpoint, tmp_path, camera, FakeEngine(), supervisor=supervisor) as station:
        opened[0].show_trigger()
        wait_until(lambda: station.pipeline.ledger.counts().in_flight == 1)
        opened[0].break_with(GONE)
        wait_until(lambda: station.pipeline.ledger.counts().not_decidable == 1)
        assert opened[0].closed.is_set()
        if restarts:
            wait_until(lambda: len(opened) == 2)
            opened[1].show(normal_part())
            wait_until(lambda: station.pipeline.ledger.counts().ok == 1)
            opened[1].end()
        outcome = station.ended()
    assert outcome.counts.in_flight == 0
    assert (outcome.counts.triggers_seen, outcome.counts.ok) == (1 + restarts, restarts)
    if restarts:
        assert (outcome.state, outcome.fault) == (State.HALTED, "")
    else:
        assert (outcome.state, outcome.fault) == (State.ERROR, f"the camera failed: {GONE}")


def test_a_camera_that_cannot_be_closed_lets_the_station_stop(endpoint: str, tmp_path: Path) -> None:
    camera = Stubborn()
    with made(endpoint, tmp_path, lambda _settings: camera, FakeEngine()) as station:
        wait_until(lambda: station.supervisor.signals.state is State.CONTINUOUS_EXECUTION)
        camera.show(normal_part())
        wait_until(lambda: station.pipeline.ledger.counts().ok == 1)
        station.supervisor.ask_to_stop()
        outcome = station.ended()
    assert (outcome.state, outcome.fault, outcome.counts.in_flight) == (State.HALTED, "", 0)


class Opening:
    """Gives one camera, and hangs when another one is asked for."""

    def __init__(self) -> None:
        self.first, self.late = FakeCamera(), FakeCamera()
        self.hangs, self.released = threading.Event(), threading.Event()
        self._given = False

    def camera(self, _settings: CameraSettings) -> Camera:
        if not self._given:
            self._given = True
            return self.first
        self.hangs.set()
        assert self.released.wait(PATIENCE_S)
        return self.late


IMPATIENT = SupervisorSettings(restarts=5, hang_s=0.5)


def test_a_camera_that_never_opens_does_not_keep_the_station_from_stopping(endpoint: str, tmp_path: Path) -> None:
    opening = Opening()
    with made(endpoint, tmp_path, opening.camera, FakeEngine(), supervisor=IMPATIENT) as station:
        opening.first.show_trigger()
        opening.first.break_with(GONE)
        assert opening.hangs.wait(PATIENCE_S)
        station.supervisor.ask_to_stop()
        outcome = station.ended(SOON_S)
        opening.released.set()
        assert opening.late.closed.wait(PATIENCE_S), "the camera that came too late was kept open"
    assert (outcome.state, outcome.fault) == (State.HALTED, "")
    assert (outcome.counts.triggers_seen, outcome.counts.not_decidable, outcome.counts.in_flight) == (1, 1, 0)


def test_while_a_camera_never_opens_the_engine_is_replaced_all_the_same(endpoint: str, tmp_path: Path) -> None:
    opening, engine, spare = Opening(), FakeEngine(), FakeEngine()
    with made(endpoint, tmp_path, opening.camera, engine, (spare,), supervisor=IMPATIENT) as station:
        ledger = station.pipeline.ledger
        spare.entered.clear()
        engine.gate.clear()
        engine.entered.clear()
        opening.first.show(normal_part())
        assert engine.entered.wait(PATIENCE_S)
        opening.first.break_with(GONE)
        assert opening.hangs.wait(PATIENCE_S)
        assert spare.entered.wait(PATIENCE_S), "no other engine was opened"
        wait_until(lambda: ledger.counts().not_decidable == 1)
        opening.released.set()
        opening.late.show(normal_part())
        wait_until(lambda: ledger.counts().ok == 1)
    assert station.ended().fault == ""


def test_the_wait_for_a_camera_is_capped_and_stop_does_not_wait_for_it(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.stages.RETRY_NS", 10_000_000)
    monkeypatch.setattr("edge.stages.LONGEST_RETRY_NS", 40_000_000)
    monkeypatch.setattr("edge.stages.WATCH_S", 0.001)
    first, tries = FakeCamera(), []

    def camera(_settings: CameraSettings) -> Camera:
        tries.append(time.monotonic_ns())
        if len(tries) > 1:
            raise GONE
        return first

    settings = SupervisorSettings(restarts=60, within_s=86_400.0, hang_s=60.0)
    with made(endpoint, tmp_path, camera, FakeEngine(), supervisor=settings) as station:
        first.break_with(GONE)
        # Doubled each time without end, the tenth wait alone would take 5 s and the twentieth an hour and a half.
        wait_until(lambda: len(tries) > 25)
        # Now nobody will try again in the time of this test.
        monkeypatch.setattr("edge.stages.RETRY_NS", 3_600_000_000_000)
        monkeypatch.setattr("edge.stages.LONGEST_RETRY_NS", 3_600_000_000_000)
        grab = station.supervisor._stages._grab
        wait_until(lambda: grab.retry_ns - time.monotonic_ns() > 1_000_000_000_000)
        station.supervisor.ask_to_stop()
        outcome = station.ended(SOON_S)
    waits = [later - earlier for earlier, later in pairwise(tries[1:20])]
    assert min(waits) >= 9_000_000, "it does not wait"
    assert (outcome.state, outcome.fault) == (State.HALTED, "")


# The publisher.


def test_a_fast_line_without_a_publisher_neither_stands_still_nor_leaves_a_trigger_open(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More verdicts wait than pictures may, and the engine, the control endpoint and `stop` do not wait for them."""
    down = threading.Event()
    send, opened = Publisher.send, Supervisor._open_publisher

    def broken_send(publisher: Publisher, topic: Topic, data: bytes, blob: bytes | None = None) -> None:
        if down.is_set():
            raise BusError("the bus cannot send", "Restart the station.")
        send(publisher, topic, data, blob)

    def broken_open(supervisor: Supervisor) -> Publisher:
        if down.is_set():
            raise BusError("in use", "Wait.")
        return opened(supervisor)

    monkeypatch.setattr(Publisher, "send", broken_send)
    monkeypatch.setattr(Supervisor, "_open_publisher", broken_open)
    camera, engine = FakeCamera(), FakeEngine()
    camera.fire_shows = normal_part()
    settings = SupervisorSettings(restarts=20, within_s=86_400.0, hang_s=60.0)
    pace = PipelineSettings(LONG_MS, 8)
    with made(endpoint, tmp_path, lambda _s: camera, engine, supervisor=settings, pipeline=pace) as station:
        pipeline = station.pipeline
        publish = station.supervisor._stages._publish
        wait_until(lambda: station.supervisor.signals.state is State.CONTINUOUS_EXECUTION)
        down.set()
        wait_until(lambda: publish.error is not None and publish.retry_ns > time.monotonic_ns())
        for _ in range(1_000):
            pipeline.trigger(trigger())
        assert pipeline.ledger.counts().in_flight >= 999
        wait_until(lambda: engine.calls > 1 and pipeline._outbox.qsize() >= 990)
        kept = [j for j in list(_items(pipeline._outbox)) if j.frame is not None and j.frame.pixels is not None]
        assert len(kept) <= 64 + 1
        down.clear()
        station.supervisor.ask_to_stop()
        outcome = station.ended()
    assert (outcome.state, outcome.fault) == (State.HALTED, "")
    assert (outcome.counts.triggers_seen, outcome.counts.in_flight) == (1_000, 0)


def _items(outbox: queue.SimpleQueue[Judged]) -> Iterator[Judged]:
    """Once around: in the order in which they lie there."""
    for _ in range(outbox.qsize()):
        item = outbox.get_nowait()
        outbox.put(item)
        yield item


# The engine.


def test_the_result_of_an_engine_that_was_left_behind_never_wins(endpoint: str, tmp_path: Path) -> None:
    """Not even if it comes between the moment when it is left behind and the verdict that it hangs."""
    spare = FakeEngine()
    settings = SupervisorSettings(restarts=3, hang_s=600.0)
    with running_line(endpoint, tmp_path, supervisor=settings, spare_engines=(spare,)) as line:
        pipeline, stages = line.supervisor.pipeline, line.supervisor._stages
        line.engine.gate.clear()
        line.camera.show(normal_part())
        assert line.engine.entered.wait(PATIENCE_S)
        hand_on, old = pipeline._hand_on, stages._judge.thread
        assert old is not None

        def preempted(judged: Judged) -> None:
            if judged.verdict.reason is Reason.ENGINE_FAULT:
                line.engine.gate.set()
                old.join(PATIENCE_S)
                assert not old.is_alive()
            hand_on(judged)

        pipeline._hand_on = preempted  # type: ignore[method-assign]
        pipeline.lose_engine("it hangs")
        (only,) = line.read_verdicts(1)
        assert (only.judgement, only.reason, only.accept) == (Judgement.NOT_DECIDABLE, Reason.ENGINE_FAULT, False)
        line.read_until(lambda: bool(line.heartbeats) and line.heartbeats[-1].late == 1)
        pipeline.replace_engine(spare)
        stages._start(stages._judge, stages._run_stage)
        line.camera.show(normal_part())
        assert [v.judgement for v in line.read_verdicts(2)] == [Judgement.NOT_DECIDABLE, Judgement.OK]
        assert line.finish().fault == ""
    assert_counts_agree(line)


# Before and between.


def test_while_it_waits_for_a_subscriber_no_trigger_is_taken(endpoint: str, tmp_path: Path) -> None:
    camera = FakeCamera()
    camera.fire_shows = normal_part()
    bus = BusSettings(endpoint, heartbeat_ms=20.0, wait_for_subscriber_s=PATIENCE_S)
    with made(endpoint, tmp_path, lambda _s: camera, FakeEngine(), bus=bus) as station:
        ledger = station.pipeline.ledger
        with contextlib.closing(ControlClient(station.supervisor.control_endpoint)) as client:
            with pytest.raises(BusError, match="no answer"):
                client.ask(TriggerCommand(trigger_id="early"), 0.2)
            assert (ledger.counts().triggers_seen, camera.fired) == (0, [])
            with contextlib.closing(Subscriber(endpoint)):
                assert client.ask(TriggerCommand(trigger_id="in time"), PATIENCE_S).epoch == station.supervisor.epoch
                wait_until(lambda: ledger.counts().in_flight == 0)
        station.supervisor.ask_to_stop()
        assert station.ended().counts.in_flight == 0


def test_stop_while_it_waits_for_a_subscriber_ends_it(endpoint: str, tmp_path: Path) -> None:
    bus = BusSettings(endpoint, heartbeat_ms=20.0, wait_for_subscriber_s=PATIENCE_S)
    with made(endpoint, tmp_path, lambda _s: FakeCamera(), FakeEngine(), bus=bus) as station:
        station.supervisor.ask_to_stop()
        outcome = station.ended(SOON_S)
    assert (outcome.state, outcome.counts.triggers_seen, outcome.fault) == (State.HALTED, 0, "")


def test_a_camera_that_breaks_when_it_is_fired_loses_that_part_and_answers(endpoint: str, tmp_path: Path) -> None:
    class Breaks(FakeCamera):
        def fire(self, _trigger: Trigger) -> None:
            raise OSError("sdk: -1015")

    with made(endpoint, tmp_path, lambda _s: Breaks(), FakeEngine()) as station:
        with contextlib.closing(ControlClient(station.supervisor.control_endpoint)) as client:
            assert client.ask(TriggerCommand(), PATIENCE_S).trigger_seq == 1
        wait_until(lambda: station.pipeline.ledger.counts().not_decidable == 1)


def test_a_large_mask_does_not_delay_the_next_verdict(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, released = threading.Event(), threading.Event()

    def slow(message: VerdictMessage, mask: NDArray[np.bool_]) -> tuple[MaskMessage, bytes]:
        begun.set()
        assert released.wait(PATIENCE_S)
        return mask_message(message, mask)

    monkeypatch.setattr("edge.press.mask_message", slow)
    with running_line(endpoint, tmp_path) as line:
        line.camera.show(defective_part())
        assert begun.wait(PATIENCE_S)
        line.camera.show(normal_part(), defective_part())
        assert [v.judgement for v in line.read_verdicts(3)] == [Judgement.NOT_OK, Judgement.OK, Judgement.NOT_OK]
        assert line.masks == []
        released.set()
        line.read_until(lambda: len(line.masks) == 2)
        assert [m.seq for m in line.masks] == [1, 3] and all(line.pngs[seq] for seq in (1, 3))
        line.finish()
    assert line.heartbeats[-1].masks_lost == 0

"""What fails is restarted within a budget: the parts it cost are rejected, all others are judged."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

import msgspec
import pytest

from edge.bus.messages import State, VerdictMessage
from edge.bus.publisher import Publisher
from edge.bus.subscriber import Subscriber
from edge.bus.topics import VERDICT, Topic
from edge.cameras.base import SourceBroken
from edge.errors import BusError, CameraError, EngineError, LinegateError
from edge.station import SupervisorSettings
from edge.types import Judgement, Reason, Trigger
from tests.conftest import StartLinegate, WriteStation
from tests.edge.fakes import PATIENCE_S, FakeCamera, FakeEngine, defective_part, normal_part
from tests.edge.line import Line, assert_counts_agree, by_trigger, running_line

GONE = CameraError("the camera is gone", "Plug it in.")
RESTARTS = 3
HANG_S = 1.0
SUPERVISOR = SupervisorSettings(restarts=RESTARTS, within_s=600.0, hang_s=HANG_S)


class StartLine(Protocol):
    """A running station that may be restarted, with these spares."""

    def __call__(
        self,
        *,
        deadline_ms: float = ...,
        spare_cameras: tuple[FakeCamera | LinegateError, ...] = ...,
        spare_engines: tuple[FakeEngine | LinegateError, ...] = ...,
        supervisor: SupervisorSettings = ...,
    ) -> AbstractContextManager[Line]: ...


@pytest.fixture
def start_line(endpoint: str, tmp_path: Path) -> StartLine:
    """See `StartLine`."""

    @contextmanager
    def start(
        *,
        deadline_ms: float = 600_000.0,
        spare_cameras: tuple[FakeCamera | LinegateError, ...] = (),
        spare_engines: tuple[FakeEngine | LinegateError, ...] = (),
        supervisor: SupervisorSettings = SUPERVISOR,
    ) -> Iterator[Line]:
        with running_line(
            endpoint,
            tmp_path / "journal",
            deadline_ms=deadline_ms,
            spare_cameras=spare_cameras,
            spare_engines=spare_engines,
            supervisor=supervisor,
        ) as line:
            yield line

    return start


def restarts_left(line: Line, part: str) -> int:
    return line.supervisor._stages.restarts_left()[part]


def judged(verdict: VerdictMessage) -> tuple[Judgement, Reason | None]:
    return verdict.judgement, verdict.reason


LOST = (Judgement.NOT_DECIDABLE, Reason.CAMERA_LOST)
FAULT = (Judgement.NOT_DECIDABLE, Reason.ENGINE_FAULT)
GOOD = (Judgement.OK, None)


# The camera.


def test_a_camera_that_fails_twice_and_comes_back_costs_only_the_parts_it_never_showed(start_line: StartLine) -> None:
    second, third = FakeCamera(), FakeCamera()
    with start_line(spare_cameras=(second, third)) as line:
        line.camera.show(normal_part())
        for camera in (line.camera, second):
            camera.show_trigger()
            camera.break_with(GONE)
        third.show(normal_part())
        line.read_verdicts(4)
        assert second.closed.is_set() and line.camera.closed.is_set() and not third.closed.is_set()
        third.end()
        outcome = line.wait()
        found = by_trigger(line)
    assert [judged(found[seq]) for seq in sorted(found)] == [GOOD, LOST, LOST, GOOD]
    assert "the camera failed: the camera is gone" in found[2].detail
    assert (outcome.state, outcome.fault) == (State.HALTED, "")
    assert_counts_agree(line)


def test_while_there_is_no_camera_each_trigger_is_lost_at_once_and_is_judged_again_afterwards(
    start_line: StartLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.stages.RETRY_NS", 2_000_000_000)
    back = FakeCamera()
    with start_line(spare_cameras=(GONE, back)) as line:
        line.camera.break_with(GONE)
        line.read_until(lambda: bool(line.supervisor.pipeline.intake.camera_fault))
        line.supervisor.pipeline.trigger(trigger("while there is none"))
        (lost,) = line.read_verdicts(1)
        assert judged(lost) == LOST and lost.part_id == "while there is none"
        assert restarts_left(line, "camera") == RESTARTS - 1, "it waited for the next attempt"
        assert line.heartbeats[-1].state is not State.ERROR
        line.read_until(lambda: not line.supervisor.pipeline.intake.camera_fault)
        back.fire_shows = normal_part()
        line.supervisor.pipeline.trigger(trigger("afterwards"))
        assert [judged(v) for v in line.read_verdicts(2)] == [LOST, GOOD]
        assert restarts_left(line, "camera") == RESTARTS - 2
        assert restarts_left(line, "engine") == restarts_left(line, "publisher") == RESTARTS
        back.end()
        assert line.wait().state is State.HALTED
    assert_counts_agree(line)


def trigger(part_id: str) -> Trigger:
    return Trigger(time.monotonic_ns(), time.time_ns() // 1000, part_id)


def test_a_hanging_camera_is_replaced_and_a_part_that_it_shows_later_counts_and_is_rejected(
    start_line: StartLine,
) -> None:
    released, spare = threading.Event(), FakeCamera()
    with start_line(spare_cameras=(spare,)) as line:
        line.camera.show_trigger()
        line.camera.show_when(released, normal_part())
        (lost,) = line.read_verdicts(1)
        assert judged(lost) == LOST and lost.detail == "the camera hangs"
        released.set()
        late = line.read_verdicts(2)[1]
        assert judged(late) == LOST and late.detail == "the camera that saw this part was left behind"
        spare.show(normal_part())
        line.read_verdicts(3)
        spare.end()
        outcome = line.wait()
    assert [judged(v) for v in line.verdicts] == [LOST, LOST, GOOD]
    assert outcome.counts.triggers_seen == 3 and outcome.fault == ""


def test_a_source_that_is_broken_for_good_ends_in_error_at_once(start_line: StartLine) -> None:
    spare = FakeCamera()
    with start_line(spare_cameras=(spare,)) as line:
        line.camera.show_trigger()
        line.camera.break_with(SourceBroken("the video is damaged", "Record another."))
        outcome = line.wait()
        assert restarts_left(line, "camera") == RESTARTS
    assert outcome.state is State.ERROR and "the video is damaged" in outcome.fault
    assert [judged(v) for v in line.verdicts] == [LOST]
    assert_counts_agree(line)


def test_a_camera_that_fails_more_often_than_the_budget_allows_ends_in_error_with_everything_closed(
    start_line: StartLine,
) -> None:
    spares = tuple(FakeCamera() for _ in range(RESTARTS))
    with start_line(spare_cameras=spares) as line:
        for camera in (line.camera, *spares):
            camera.show_trigger()
            camera.break_with(GONE)
        outcome = line.wait()
        assert restarts_left(line, "camera") == 0
    assert outcome.state is State.ERROR and outcome.fault == f"the camera failed: {GONE}"
    assert [judged(v) for v in line.verdicts] == [LOST] * (RESTARTS + 1)
    assert outcome.counts.in_flight == 0 and assert_counts_agree(line).state is State.ERROR


def test_stop_ends_although_the_camera_hangs_and_the_part_it_owes_misses_its_deadline(start_line: StartLine) -> None:
    released = threading.Event()
    with start_line(deadline_ms=200.0) as line:
        line.camera.show_trigger()
        line.camera.show_when(released, normal_part())
        line.read_until(line.camera._shown.empty)
        line.supervisor.pipeline.stop()
        outcome = line.wait()
        assert (outcome.state, outcome.fault) == (State.HALTED, "")
        assert restarts_left(line, "camera") == RESTARTS
        released.set()
    assert [judged(v) for v in line.verdicts] == [(Judgement.NOT_DECIDABLE, Reason.DEADLINE_MISSED)]


# The engine.


@pytest.mark.parametrize("spares_fail", [False, True])
def test_a_broken_engine_is_replaced_and_only_the_part_in_hand_is_lost(
    start_line: StartLine, spares_fail: bool
) -> None:
    def break_down(_call: int) -> None:
        raise RuntimeError("a bug")

    good = FakeEngine()
    spares: tuple[FakeEngine | LinegateError, ...] = (good,)
    if spares_fail:
        spares = (EngineError("no memory", "Wait."), good)
    with start_line(spare_engines=spares) as line:
        line.engine.gate.clear()
        line.engine.before_encoding = break_down
        line.camera.show(normal_part(), normal_part(), defective_part())
        line.read_until(lambda: bool(line.heartbeats) and line.heartbeats[-1].in_flight == 3)
        line.engine.gate.set()
        line.read_verdicts(3)
        assert restarts_left(line, "engine") == RESTARTS - len(spares)
        outcome = line.finish()
    found = by_trigger(line)
    assert [judged(found[seq]) for seq in (1, 2, 3)] == [FAULT, GOOD, (Judgement.NOT_OK, Reason.DEFECT)]
    assert found[1].detail == "the engine failed: RuntimeError: a bug"
    assert outcome.fault == "" and assert_counts_agree(line).state is State.HALTED


def test_a_hanging_engine_is_replaced_and_its_late_result_changes_nothing(start_line: StartLine) -> None:
    spare = FakeEngine()
    with start_line(spare_engines=(spare,)) as line:
        line.engine.gate.clear()
        line.camera.show(normal_part(), normal_part())
        found = line.read_verdicts(2)
        assert [(v.trigger_seq, *judged(v)) for v in found] == [(1, *FAULT), (2, *GOOD)]
        assert found[0].detail == "the engine hangs" and not found[0].accept
        line.engine.gate.set()
        line.read_until(lambda: line.heartbeats[-1].late == 1)
        line.camera.show(normal_part())
        outcome = line.finish()
    assert len(line.verdicts) == 3 and line.engine.calls == 1
    assert (outcome.counts.ok, outcome.counts.not_decidable, outcome.counts.late) == (2, 1, 1)
    assert_counts_agree(line)


def test_an_engine_that_fails_on_part_after_part_is_replaced(start_line: StartLine) -> None:
    def fail(_call: int) -> None:
        raise EngineError("out of memory", "Buy more.")

    spare = FakeEngine()
    with start_line(spare_engines=(spare,)) as line:
        line.engine.before_encoding = fail
        line.camera.show(*(normal_part() for _ in range(5)))
        assert {judged(v) for v in line.read_verdicts(5)} == {FAULT}
        # Warming up is its first call.
        assert spare.entered.wait(PATIENCE_S)
        line.camera.show(normal_part())
        assert judged(line.read_verdicts(6)[-1]) == GOOD
        assert line.finish().fault == ""


def test_an_engine_that_never_works_again_ends_in_error_with_everything_closed(start_line: StartLine) -> None:
    """It breaks in warming up too, and not as an engine should."""

    def break_down(_call: int) -> None:
        raise RuntimeError("a bug")

    with start_line(supervisor=msgspec.structs.replace(SUPERVISOR, restarts=1)) as line:
        line.engine.before_encoding = break_down
        line.engine.gate.clear()
        line.camera.show(normal_part(), normal_part(), normal_part())
        line.read_until(lambda: bool(line.heartbeats) and line.heartbeats[-1].in_flight == 3)
        line.engine.gate.set()
        outcome = line.wait()
    assert outcome.state is State.ERROR and outcome.counts.in_flight == 0
    assert [judged(v) for v in line.verdicts] == [FAULT] * 3
    assert_counts_agree(line)


# The publisher.


def test_a_broken_publisher_is_rebuilt_in_its_place_and_what_was_lost_is_in_the_journal(
    start_line: StartLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The feed has a gap that the head of the next heartbeat tells of; who asks for it gets it."""
    send = Publisher.send
    broke = threading.Event()

    def break_once(publisher: Publisher, topic: Topic, data: bytes, blob: bytes | None = None) -> None:
        if topic is VERDICT and not broke.is_set():
            broke.set()
            raise BusError("the bus cannot send", "Restart the station.")
        send(publisher, topic, data, blob)

    with start_line() as line:
        first, endpoint = line.supervisor.publisher, line.supervisor.endpoint
        monkeypatch.setattr(Publisher, "send", break_once)
        line.camera.show(normal_part())
        assert broke.wait(PATIENCE_S)
        line.read_until(lambda: bool(line.heartbeats) and line.heartbeats[-1].head_seq == 1)
        assert line.supervisor.publisher is not first and line.supervisor.endpoint == endpoint
        line.camera.show(normal_part(), defective_part())
        line.read_until(lambda: bool(line.masks))
        assert restarts_left(line, "publisher") == RESTARTS - 1
        history = line.supervisor.journal.read(line.supervisor.epoch, 1, 10)
        outcome = line.finish()
    assert [v.seq for v in line.verdicts] == [2, 3]
    kept = [msgspec.json.decode(data, type=VerdictMessage) for data in history]
    assert [(v.seq, v.trigger_seq, v.judgement) for v in kept] == [
        (1, 1, Judgement.OK),
        (2, 2, Judgement.OK),
        (3, 3, Judgement.NOT_OK),
    ]
    assert (outcome.state, outcome.fault, outcome.counts.triggers_seen) == (State.HALTED, "", 3)
    assert line.heartbeats[-1].state is State.HALTED and line.heartbeats[-1].head_seq == 3


def test_a_publisher_that_breaks_more_often_than_the_budget_allows_ends_in_error_with_everything_closed(
    start_line: StartLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def always_break(*_: object) -> None:
        raise BusError("the bus cannot send", "Restart the station.")

    with start_line() as line:
        line.engine.gate.clear()
        line.camera.show(normal_part(), normal_part())
        line.read_until(lambda: bool(line.heartbeats) and line.heartbeats[-1].in_flight == 2)
        monkeypatch.setattr(Publisher, "send", always_break)
        line.engine.gate.set()
        outcome = line.join()
        assert restarts_left(line, "publisher") == 0
    assert outcome.state is State.ERROR and "the publisher failed: the bus cannot send" in outcome.fault
    assert outcome.counts.triggers_seen == 2 and outcome.counts.in_flight == 0


# The whole process.


def test_a_suspended_station_goes_on_and_has_no_restart_to_pay_for(
    shots_folder: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate
) -> None:
    """As after a machine's sleep: that no stage came round for a while proves nothing against any of them."""
    subscriber = Subscriber(endpoint)
    station = station_file(shots_folder, camera={"loop": True}, supervisor={"restarts": 0, "hang_s": HANG_S})
    run = start_linegate("run", station)
    read_verdicts(subscriber, 3)
    run.send_signal(signal.SIGSTOP)
    # Nobody can be asked whether enough time has passed: this is the time.
    time.sleep(2 * HANG_S)
    run.send_signal(signal.SIGCONT)
    read_verdicts(subscriber, 50)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=PATIENCE_S)
    subscriber.close()
    assert run.returncode == 0 and "Halted: " in err.splitlines()[-1], err
    assert "part=" not in err and "hangs" not in err


def read_verdicts(subscriber: Subscriber, count: int) -> None:
    found = 0
    while found < count:
        received = subscriber.receive(round(PATIENCE_S * 1000))
        assert received is not None, "the station fell silent"
        found += isinstance(received[0], VerdictMessage)

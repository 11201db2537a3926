"""A station whose stages break or hang, and may not be restarted, fails closed and says so."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.bus.messages import State
from edge.errors import CameraError
from edge.station import SupervisorSettings
from edge.types import Judgement, Reason
from tests.edge.fakes import defective_part, normal_part
from tests.edge.line import Line, assert_counts_agree, by_trigger, running_line


def hold_three_parts(line: Line) -> None:
    """One part in the engine, two behind it."""
    line.engine.gate.clear()
    line.camera.show(normal_part(), normal_part(), normal_part())
    line.read_until(lambda: bool(line.heartbeats) and line.heartbeats[-1].in_flight == 3)


def assert_failed_closed(line: Line, fault: str) -> None:
    outcome = line.outcomes[0]
    assert fault in outcome.fault and outcome.state is State.ERROR
    assert outcome.counts.in_flight == 0 and outcome.counts.ok == 0
    assert {(v.judgement, v.accept) for v in line.verdicts} == {(Judgement.NOT_DECIDABLE, False)}
    assert sorted(by_trigger(line)) == list(range(1, outcome.counts.triggers_seen + 1))
    assert assert_counts_agree(line).state is State.ERROR


def test_a_broken_judge_stage_closes_every_open_trigger_and_ends_in_error(line: Line) -> None:
    def break_down(_call: int) -> None:
        raise RuntimeError("a bug")

    hold_three_parts(line)
    line.engine.before_encoding = break_down
    line.engine.gate.set()
    line.wait()
    assert_failed_closed(line, "the engine failed: RuntimeError: a bug")
    assert {v.reason for v in line.verdicts} == {Reason.ENGINE_FAULT}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CameraError("the camera is gone", "Plug it in."), "the camera failed: the camera is gone. Plug it in."),
        (RuntimeError("a bug"), "the camera failed: RuntimeError: a bug"),
    ],
)
def test_a_broken_grab_stage_closes_every_open_trigger_and_ends_in_error(
    line: Line, error: Exception, words: str
) -> None:
    hold_three_parts(line)
    line.camera.break_with(error)
    line.read_verdicts(3)
    line.engine.gate.set()
    line.wait()
    assert_failed_closed(line, words)
    assert {v.reason for v in line.verdicts} == {Reason.CAMERA_LOST}


def test_a_lost_camera_is_named_as_the_reason(line: Line) -> None:
    hold_three_parts(line)
    line.camera.break_with(CameraError("the camera is gone", "Plug it in."))
    verdicts = line.read_verdicts(3)
    line.engine.gate.set()
    line.wait()
    assert {v.reason for v in verdicts} == {Reason.CAMERA_LOST}


def test_a_broken_publish_stage_closes_every_open_trigger_and_ends_in_error(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    others_wait = threading.Event()

    def hold_the_others(call: int) -> None:
        if call > 1:
            others_wait.set()
            assert released.wait(60)

    def break_down(*_: object) -> None:
        if others_wait.is_set():
            raise RuntimeError("a bug")

    released = threading.Event()
    line.engine.before_encoding = hold_the_others
    monkeypatch.setattr("edge.press.Press.collect", break_down)
    line.camera.show(defective_part(), normal_part(), normal_part())
    assert line.camera.closed.wait(60)
    released.set()
    outcome = line.join()
    while line.read(timeout_ms=200) is not None:
        pass
    assert "the publisher failed: RuntimeError: a bug" in outcome.fault
    assert (outcome.state, outcome.counts.in_flight) == (State.ERROR, 0)
    assert sorted(by_trigger(line)) == list(range(1, outcome.counts.triggers_seen + 1))


def test_a_frame_that_arrives_while_the_station_fails_gets_its_verdict_too(line: Line) -> None:
    def break_down(_call: int) -> None:
        raise RuntimeError("a bug")

    line.engine.before_encoding = break_down
    released = threading.Event()
    line.camera.show(normal_part())
    line.camera.show_when(released, normal_part())
    line.read_verdicts(1)
    # The publishing stage now either waits for the grabbing one, or has ended.
    for _ in range(5):
        line.read(timeout_ms=50)
    released.set()
    outcome = line.join()
    assert outcome.state is State.ERROR
    assert outcome.counts.in_flight == 0, "a trigger was opened and never closed"


def test_a_camera_that_never_returns_does_not_keep_a_broken_station_alive(endpoint: str, tmp_path: Path) -> None:
    def break_down(_call: int) -> None:
        raise RuntimeError("a bug")

    soon = SupervisorSettings(restarts=0, hang_s=0.5)
    released = threading.Event()
    with running_line(endpoint, tmp_path, supervisor=soon) as line:
        line.engine.before_encoding = break_down
        line.camera.show(normal_part())
        line.camera.show_when(released, normal_part())
        outcome = line.join()
        released.set()
        assert (outcome.state, outcome.counts.in_flight) == (State.ERROR, 0)
        assert [v.judgement for v in line.read_verdicts(1)] == [Judgement.NOT_DECIDABLE]


def test_the_heartbeat_stops_while_the_engine_hangs_and_comes_back(hasty_line: Line) -> None:
    assert_heartbeat_pauses(hasty_line, hasty_line.engine.gate.clear, hasty_line.engine.gate.set)


def test_the_heartbeat_stops_while_the_camera_hangs_and_comes_back(hasty_line: Line) -> None:
    released = threading.Event()

    def hang() -> None:
        hasty_line.camera.show_when(released, normal_part())

    assert_heartbeat_pauses(hasty_line, hang, released.set)


def assert_heartbeat_pauses(line: Line, hang: Callable[[], None], release: Callable[[], None]) -> None:
    """Deadline and heartbeat are 40 and 10 ms, so half a second of silence cannot come from a healthy line."""
    line.read_until(lambda: len(line.heartbeats) >= 3)
    hang()
    line.camera.show(normal_part())
    line.read_until(lambda: is_silent(line))
    release()
    before = len(line.heartbeats)
    line.read_until(lambda: len(line.heartbeats) > before)
    line.finish()
    assert_counts_agree(line)


def is_silent(line: Line) -> bool:
    """No heartbeat for half a second."""
    before = len(line.heartbeats)
    for _ in range(10):
        line.read(timeout_ms=50)
    return len(line.heartbeats) == before

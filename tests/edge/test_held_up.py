"""A process that was stopped and an engine that hangs: nothing old is taken for new, and no sign of life is faked."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from pathlib import Path

from edge.bus.control import HELD_UP_NS, SETTLE_NS, ControlClient
from edge.bus.messages import HeartbeatMessage, StateMessage, VerdictMessage
from edge.bus.requests import StatusCommand, TriggerCommand
from edge.bus.subscriber import Subscriber
from edge.station import SupervisorSettings
from edge.types import Judgement, Reason
from tests.conftest import Process, StartLinegate, WriteStation
from tests.edge.fakes import PATIENCE_S, normal_part
from tests.edge.line import Line, running_line

DEADLINE_MS = 1_000.0
PATIENCE_MS = round(PATIENCE_S * 1000)


def stopped_for(process: Process, seconds: float) -> None:
    process.send_signal(signal.SIGSTOP)
    # Nobody can be asked whether enough time has passed: this is the time.
    time.sleep(seconds)


def next_verdict(subscriber: Subscriber) -> VerdictMessage:
    while True:
        received = subscriber.receive(PATIENCE_MS)
        assert received is not None, "the station fell silent"
        if isinstance(received[0], VerdictMessage):
            return received[0]


def control_endpoint(subscriber: Subscriber) -> str:
    while True:
        received = subscriber.receive(PATIENCE_MS)
        assert received is not None, "the station fell silent"
        if isinstance(received[0], StateMessage):
            return received[0].control_endpoint


def test_a_trigger_that_lay_there_while_the_process_was_stopped_misses_its_deadline(
    shots_folder: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate
) -> None:
    """The part has passed: a frame that is taken now shows another one."""
    file = station_file(shots_folder, camera={"trigger": "software"}, pipeline={"deadline_ms": DEADLINE_MS})
    run = start_linegate("run", file)
    with (
        contextlib.closing(Subscriber(endpoint)) as subscriber,
        contextlib.closing(ControlClient(control_endpoint(subscriber))) as client,
    ):
        client.ask(TriggerCommand(part_id="before"), PATIENCE_S)
        before = next_verdict(subscriber)
        assert before.part_id == "before" and before.frame_id is not None

        stopped_for(run, 0.1)
        replies: list[int] = []
        plc = threading.Thread(
            target=lambda: replies.append(client.ask(TriggerCommand(part_id="held"), PATIENCE_S).trigger_seq)
        )
        plc.start()
        time.sleep(1.5 * DEADLINE_MS / 1000)
        run.send_signal(signal.SIGCONT)
        held = next_verdict(subscriber)
        plc.join(PATIENCE_S)
        assert (held.part_id, [held.trigger_seq]) == ("held", replies)
        assert (held.judgement, held.reason, held.accept) == (
            Judgement.NOT_DECIDABLE,
            Reason.DEADLINE_MISSED,
            False,
        )
        assert held.frame_id is None and not held.deadline_met and held.latency_us > 1_000 * DEADLINE_MS

        # Until then a trigger may be one that was on its way when the process was stopped.
        time.sleep((SETTLE_NS + HELD_UP_NS) / 1e9)
        client.ask(TriggerCommand(part_id="after"), PATIENCE_S)
        after = next_verdict(subscriber)
        assert (after.part_id, after.deadline_met) == ("after", True)
        # Had a frame been taken for the part that had passed, this one would have the number after it.
        assert after.frame_id == before.frame_id + 1
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0 and "Halted: 3 triggers" in err.splitlines()[-1], err


def test_a_trigger_that_waited_for_another_command_too_long_is_not_fired(endpoint: str, tmp_path: Path) -> None:
    """A command that holds the control endpoint up does the same as a process that is stopped."""
    deadline_ms = 3 * HELD_UP_NS / 1e6
    entered, released = threading.Event(), threading.Event()
    with running_line(endpoint, tmp_path, deadline_ms=deadline_ms) as line:
        line.camera.fire_shows = normal_part()
        line.read_until(lambda: bool(line.heartbeats))
        handler = line.supervisor._control._handler
        handle = handler.handle

        def held_up(command: object, since_ns: int) -> object:
            if isinstance(command, StatusCommand):
                entered.set()
                assert released.wait(PATIENCE_S)
            return handle(command, since_ns)  # type: ignore[arg-type]

        handler.handle = held_up  # type: ignore[method-assign,assignment]
        first, second = (ControlClient(line.supervisor.control_endpoint) for _ in range(2))
        threads = [threading.Thread(target=first.ask, args=(StatusCommand(), PATIENCE_S))]
        threads[0].start()
        assert entered.wait(PATIENCE_S)
        threads.append(threading.Thread(target=second.ask, args=(TriggerCommand(part_id="held"), PATIENCE_S)))
        threads[1].start()
        time.sleep(2 * deadline_ms / 1000)
        released.set()
        (held,) = line.read_verdicts(1)
        for thread in threads:
            thread.join(PATIENCE_S)
        first.close()
        second.close()
        assert (held.part_id, held.reason, held.frame_id) == ("held", Reason.DEADLINE_MISSED, None)
        assert line.camera.fired == [], "a frame was taken for a part that had passed"


# Signs of life.


PATIENT = SupervisorSettings(restarts=0, hang_s=600.0)


def silent_line(line: Line) -> None:
    """The engine hangs, and the last heartbeat has been read."""
    line.read_until(lambda: len(line.heartbeats) >= 3)
    line.engine.gate.clear()
    line.camera.show(normal_part())
    assert line.engine.entered.wait(PATIENCE_S)
    before = -1
    while before != len(line.heartbeats):
        before = len(line.heartbeats)
        for _ in range(5):
            line.read(timeout_ms=60)


def test_who_joins_while_the_engine_hangs_gets_no_old_heartbeat(endpoint: str, tmp_path: Path) -> None:
    with running_line(endpoint, tmp_path, deadline_ms=40.0, heartbeat_ms=10.0, supervisor=PATIENT) as line:
        silent_line(line)
        for _ in range(5):
            with contextlib.closing(Subscriber(endpoint)) as late:
                told: list[object] = []
                # The last state comes to each late joiner: once it is here, a last heartbeat would be too.
                while not any(isinstance(m, StateMessage) for m in told):
                    received = late.receive(PATIENCE_MS)
                    assert received is not None
                    told.append(received[0])
                while (received := late.receive(50)) is not None:
                    told.append(received[0])
                assert not [m for m in told if isinstance(m, HeartbeatMessage)]
        line.engine.gate.set()
        count = len(line.heartbeats)
        line.read_until(lambda: len(line.heartbeats) > count)
        line.finish()


def test_a_stage_that_is_excused_again_and_again_brings_no_heartbeat(endpoint: str, tmp_path: Path) -> None:
    """That the whole process was stopped excuses a stage from hanging, but is no progress."""
    with running_line(endpoint, tmp_path, deadline_ms=40.0, heartbeat_ms=10.0, supervisor=PATIENT) as line:
        silent_line(line)
        count = len(line.heartbeats)
        for _ in range(20):
            before_ns = time.monotonic_ns()
            line.supervisor.signals.excuse("judge")
            line.supervisor.signals.excuse("publish")
            now_ns = time.monotonic_ns()
            assert line.supervisor.signals.stalled_ns("judge", now_ns) <= now_ns - before_ns
            line.read(timeout_ms=20)
        assert len(line.heartbeats) == count
        line.engine.gate.set()
        line.read_until(lambda: len(line.heartbeats) > count)
        line.finish()

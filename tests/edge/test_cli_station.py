"""`linegate run` and `linegate watch`: how they start, agree, refuse and end."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from edge.bus.messages import HeartbeatMessage, State, VerdictMessage, encode
from edge.bus.publisher import Publisher
from edge.bus.subscriber import Subscriber
from edge.bus.topics import HEARTBEAT, VERDICT
from tests.conftest import (
    Process,
    RunLinegate,
    StartLinegate,
    WriteStation,
    free_port,
    one_line,
)
from tests.edge.feed import unguarded
from tests.edge.messages import halted, heartbeat, verdict
from tests.edge.videos import write_video


@pytest.fixture
def publisher(endpoint: str) -> Iterator[Publisher]:
    """Says what the test wants `watch` to hear."""
    with zmq.Context() as context:
        made = Publisher(context, endpoint, unguarded)
        yield made
        made.close()


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_run_and_watch_agree_on_every_verdict(
    shots_folder: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate, tmp_path: Path
) -> None:
    out = tmp_path / "verdicts.jsonl"
    watch = start_linegate("watch", endpoint, "--json", out, "--until-halted", "--timeout", "60")
    run = start_linegate("run", station_file(shots_folder))
    run_out, run_err = run.communicate(timeout=120)
    watch_out, watch_err = watch.communicate(timeout=120)
    assert (run.returncode, watch.returncode, run_out) == (0, 0, ""), run_err + watch_err
    assert "is ready after" in run_err.splitlines()[0] and endpoint in run_err.splitlines()[0]
    assert "Halted: 8 triggers" in run_err.splitlines()[-1]
    verdicts = [msgspec.json.decode(line, type=VerdictMessage) for line in out.read_bytes().splitlines()]
    assert [verdict.part_id for verdict in verdicts] == sorted(path.name for path in shots_folder.iterdir())
    assert [verdict.seq for verdict in verdicts] == list(range(1, 9))
    assert len(watch_out.splitlines()) == 8
    assert "8 verdicts" in watch_err and "0 missing" in watch_err


def test_watch_writes_nothing_but_json_to_standard_output(
    shots_folder: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate
) -> None:
    watch = start_linegate("watch", endpoint, "--json", "-", "--until-halted", "--timeout", "60")
    run = start_linegate("run", station_file(shots_folder))
    out, _ = watch.communicate(timeout=120)
    assert run.wait(60) == 0
    assert [line["seq"] for line in lines_of(out)] == list(range(1, 9))


def test_watch_gives_up_on_a_silent_endpoint_with_1(linegate: RunLinegate, endpoint: str) -> None:
    done = linegate("watch", endpoint, "--timeout", "0.2")
    assert done.returncode == 1
    assert "Is the station running?" in done.stderr.splitlines()[-1]


def test_watch_refuses_an_unwritable_file(linegate: RunLinegate, endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = linegate("watch", endpoint, "--json", tmp_path / "file" / "below")
    assert done.returncode == 2 and "cannot be written" in one_line(done)


def test_watch_tells_a_full_disk_on_one_line(
    shots_folder: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    watch = start_linegate("watch", endpoint, "--json", "/dev/full", "--until-halted", "--timeout", "60")
    run = start_linegate("run", station_file(shots_folder))
    _, err = watch.communicate(timeout=120)
    assert run.wait(60) == 0
    assert watch.returncode == 2 and "Traceback" not in err
    assert "cannot be written" in err.splitlines()[-1]


def watched(publisher: Publisher, watch: Process, *messages: VerdictMessage | HeartbeatMessage) -> str:
    """What `watch` says of these messages."""
    assert publisher.wait_for_subscriber(60)
    for message in messages:
        publisher.send(VERDICT if isinstance(message, VerdictMessage) else HEARTBEAT, encode(message))
    return watch.communicate(timeout=60)[1]


def test_watch_ends_with_1_when_a_verdict_is_missing(
    publisher: Publisher, endpoint: str, start_linegate: StartLinegate
) -> None:
    watch = start_linegate("watch", endpoint, "--until-halted", "--timeout", "60")
    said = watched(publisher, watch, heartbeat(0), verdict(1), verdict(3), halted(3))
    assert watch.returncode == 1
    assert "2 verdicts" in said and "1 missing" in said and "Halted" in said


def test_watch_tells_a_message_that_is_none_on_one_line(
    publisher: Publisher, endpoint: str, start_linegate: StartLinegate
) -> None:
    watch = start_linegate("watch", endpoint, "--timeout", "60")
    assert publisher.wait_for_subscriber(60)
    publisher.send(HEARTBEAT, encode(verdict(1)))
    _, err = watch.communicate(timeout=60)
    assert watch.returncode == 2
    assert len(err.splitlines()) == 1 and "malformed" in err


def test_an_interrupted_watch_still_tells_what_it_saw(
    publisher: Publisher, endpoint: str, start_linegate: StartLinegate
) -> None:
    watch = start_linegate("watch", endpoint)
    assert publisher.wait_for_subscriber(60)
    publisher.send(VERDICT, encode(verdict(1)))
    assert watch.stdout is not None
    assert "OK" in watch.stdout.readline()
    watch.send_signal(signal.SIGINT)
    _, err = watch.communicate(timeout=60)
    assert watch.returncode == 0 and "1 verdicts" in err and "Traceback" not in err


def test_run_refuses_a_port_in_use(linegate: RunLinegate, shots_folder: Path, station_file: WriteStation) -> None:
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with zmq.Context() as context:
        holder = Publisher(context, endpoint, unguarded)
        done = linegate("run", station_file(shots_folder, bus={"endpoint": endpoint}))
        holder.close()
    assert done.returncode == 2 and done.stdout == ""
    assert endpoint in one_line(done)


def test_run_says_where_it_publishes_when_the_system_chose_the_port(
    shots_folder: Path, station_file: WriteStation, start_linegate: StartLinegate
) -> None:
    station = station_file(shots_folder, bus={"endpoint": "tcp://127.0.0.1:*", "wait_for_subscriber_s": 0.0})
    run = start_linegate("run", station)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 0
    assert "tcp://127.0.0.1:*" not in err and "tcp://127.0.0.1:" in err


def test_run_refuses_an_unknown_key(linegate: RunLinegate, shots_folder: Path, station_file: WriteStation) -> None:
    done = linegate("run", station_file(shots_folder, pipeline={"deadlin_ms": 5}))
    assert done.returncode == 2
    assert one_line(done).endswith("Did you mean `deadline_ms`?")


BAD_STATIONS: dict[str, tuple[dict[str, dict[str, object]], str]] = {
    "missing source": ({"camera": {"source": "missing"}}, "missing"),
    "missing package": ({"model": {"package": "missing"}}, "linegate export"),
    "missing recipe": ({"recipe": {"path": "missing"}}, "linegate calibrate"),
    "open endpoint": ({"bus": {"endpoint": "tcp://0.0.0.0:5556"}}, "allow_remote_plaintext"),
    "other bit depth": ({"camera": {"bit_depth": 12}}, "bit_depth"),
    "nobody listens": ({"bus": {"wait_for_subscriber_s": 0.05}}, "wait_for_subscriber_s"),
}


@pytest.mark.parametrize(("changes", "hint"), BAD_STATIONS.values(), ids=BAD_STATIONS.keys())
def test_run_refuses_what_cannot_run(
    linegate: RunLinegate,
    shots_folder: Path,
    station_file: WriteStation,
    changes: dict[str, dict[str, object]],
    hint: str,
) -> None:
    done = linegate("run", station_file(shots_folder, **changes))
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    assert hint in done.stderr.splitlines()[-1]


def test_a_station_that_loses_its_camera_ends_with_1_and_tells_why(
    tmp_path: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate
) -> None:
    video = write_video(tmp_path / "line.avi")
    subscriber = Subscriber(endpoint)
    run = start_linegate("run", station_file(video, camera={"loop": True}))
    assert subscriber.receive(60_000) is not None
    video.write_bytes(b"junk")
    _, err = run.communicate(timeout=60)
    subscriber.close()
    lines = err.splitlines()
    assert run.returncode == 1 and "Traceback" not in err
    assert "Error: " in lines[-2] and "cannot be decoded as a video" in lines[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_station_with_every_trigger_judged(
    shots_folder: Path,
    station_file: WriteStation,
    endpoint: str,
    start_linegate: StartLinegate,
    number: signal.Signals,
) -> None:
    subscriber = Subscriber(endpoint)
    run = start_linegate("run", station_file(shots_folder, camera={"loop": True}))
    verdicts = 0
    while True:
        received = subscriber.receive(60_000)
        assert received is not None, "the station fell silent"
        message = received[0]
        if isinstance(message, VerdictMessage):
            verdicts += 1
            if verdicts == 3:
                run.send_signal(number)
        elif getattr(message, "state", None) is State.HALTED:
            break
    subscriber.close()
    _, err = run.communicate(timeout=60)
    assert run.returncode == 0 and "Traceback" not in err
    assert f"Halted: {verdicts} triggers" in err.splitlines()[-1]


def test_a_burst_of_signals_ends_a_station_cleanly(
    shots_folder: Path, station_file: WriteStation, endpoint: str, start_linegate: StartLinegate
) -> None:
    """The handler may interrupt itself, and anything that holds a lock."""
    with contextlib.closing(Subscriber(endpoint)) as subscriber:
        run = start_linegate("run", station_file(shots_folder, camera={"loop": True, "rate_hz": 200.0}))
        verdicts, state = 0, None
        while state is not State.HALTED:
            received = subscriber.receive(60_000)
            assert received is not None, "the station fell silent"
            message = received[0]
            state = getattr(message, "state", None) if isinstance(message, HeartbeatMessage) else None
            verdicts += isinstance(message, VerdictMessage)
            if verdicts == 3:
                for number in (signal.SIGTERM, signal.SIGINT) * 50:
                    run.send_signal(number)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 0 and "Traceback" not in err, err
    assert f"Halted: {verdicts} triggers" in err.splitlines()[-1]

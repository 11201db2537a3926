"""Every record is one line; whoever reads slowly loses lines and holds up nobody."""

from __future__ import annotations

import fcntl
import io
import json
import logging
import os
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.logs import Format, Level, configure, log_event
from edge.types import Reason
from tests.conftest import PATIENCE_S
from tests.packages import REPOSITORY

LOG = logging.getLogger("linegate.test")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)


def written(style: Format, log: Callable[[], None], level: Level = "info") -> list[str]:
    """The lines that `log()` makes."""
    stream = io.StringIO()
    keeper = configure(style, stream, level=level)
    try:
        log()
    finally:
        assert keeper.close()
    text = stream.getvalue()
    assert text == "" or text.endswith("\n")
    return text.split("\n")[:-1]


def objects(log: Callable[[], None], level: Level = "info") -> list[dict[str, Any]]:
    return [json.loads(line) for line in written("json", log, level)]


def test_json_is_one_object_a_record() -> None:
    before = datetime.now(timezone.utc)
    (line,) = objects(lambda: log_event(LOG, "late_result", station_id="press-3", seq=7, reason=Reason.DEADLINE_MISSED))
    moment = datetime.strptime(line.pop("time"), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    assert abs((moment - before).total_seconds()) < PATIENCE_S
    assert line == {
        "level": "info",
        "event": "late_result",
        "logger": "linegate.test",
        "station_id": "press-3",
        "seq": 7,
        "reason": "deadline_missed",
    }


def test_text_is_for_people() -> None:
    def log() -> None:
        log_event(LOG, "station_ready", station_id="press-3", after_s=0.5, product="left bracket", recipe=None, on=True)
        log_event(LOG, "late_result", level="warning", seq=7, detail="")
        LOG.error("the disk of %s is full", "press-3")

    assert written("text", log) == [
        'linegate: station_ready station_id=press-3 after_s=0.5 product="left bracket" recipe=null on=true',
        'linegate: warning: late_result seq=7 detail=""',
        "linegate: error: the disk of press-3 is full",
    ]


def test_an_exception_is_one_line() -> None:
    def log() -> None:
        try:
            raise OSError("no space\nleft")
        except OSError as error:
            log_event(LOG, "journal_behind", level="error", error=error)
            LOG.exception("again")

    assert [line["error"] for line in objects(log)] == ["OSError: no space\nleft"] * 2
    assert written("text", log)[0] == 'linegate: error: journal_behind error="OSError: no space\\nleft"'


def test_what_was_logged_does_not_change_later() -> None:
    parts = [1]

    def log() -> None:
        log_event(LOG, "parts", parts=parts)
        parts.append(2)

    assert objects(log)[0]["parts"] == "[1]"


def test_an_exceptions_frames_are_let_go() -> None:
    class Picture: ...

    def fail() -> weakref.ref[Picture]:
        picture = Picture()
        reference = weakref.ref(picture)
        try:
            raise ValueError
        except ValueError as error:
            log_event(LOG, "failed", error=error)
        return reference

    read, write = os.pipe()
    with os.fdopen(read), os.fdopen(write, "w") as stream:
        fill(write)
        keeper = configure("json", stream)
        log_event(LOG, "blocks_the_writer")
        assert fail()() is None
        os.read(read, 1 << 20)
        assert keeper.close()


@pytest.mark.parametrize(
    ("value", "told"),
    [(float("nan"), "nan"), (np.int64(5), 5), (np.float64(0.5), 0.5), (Path("/a/b"), "/a/b"), ({"a": 1}, "{'a': 1}")],
)
def test_values_become_what_json_knows(value: object, told: object) -> None:
    assert objects(lambda: log_event(LOG, "event", value=value))[0]["value"] == told


@pytest.mark.parametrize("name", ["time", "logger"])
def test_no_field_overwrites_the_records_own(name: str) -> None:
    line = objects(lambda: log_event(LOG, "event", **{name: "mine"}))[0]  # type: ignore[arg-type]
    assert line[f"{name}_"] == "mine" and line[name] != "mine"


@given(event=st.text(), fields=st.dictionaries(st.from_regex(r"f_[a-z]{1,8}", fullmatch=True), SCALARS))
def test_whatever_is_said_is_one_line_and_json_gives_it_back(event: str, fields: dict[str, Any]) -> None:
    def log() -> None:
        log_event(LOG, event, **fields)

    (line,) = written("json", log)
    assert len(line.splitlines()) == 1
    found = json.loads(line)
    assert found["event"] == event
    assert {name: found[name] for name in fields} == fields
    (text,) = written("text", log)
    assert text.isprintable()


def test_only_what_is_bad_enough_is_logged() -> None:
    def log() -> None:
        log_event(LOG, "detail", level="debug")
        log_event(LOG, "bad", level="error")

    assert [line["event"] for line in objects(log)] == ["bad"]
    assert [line["event"] for line in objects(log, level="debug")] == ["detail", "bad"]


def test_a_record_that_cannot_be_told_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    def log() -> None:
        LOG.info("%d", "no number")
        log_event(LOG, "after")

    assert [(line["event"], line.get("count")) for line in objects(log)] in (
        [("after", None), ("log_records_dropped", 1)],
        [("log_records_dropped", 1), ("after", None)],
    )
    assert capfd.readouterr() == ("", "")


def test_without_a_keeper_nothing_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    written("text", lambda: None)
    log_event(LOG, "nobody_listens", level="error")
    assert capfd.readouterr() == ("", "")


def fill(descriptor: int) -> None:
    """Write until the pipe takes no more."""
    fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(descriptor, False)
    try:
        while True:
            os.write(descriptor, b"\n")
    except BlockingIOError:
        os.set_blocking(descriptor, True)


@dataclass
class Pipe:
    """A full pipe, as standard error is when nobody reads it."""

    read: int
    stream: IO[str]

    def drain(self) -> list[dict[str, Any]]:
        """Everything up to the end of the stream."""
        with os.fdopen(self.read, encoding="utf-8") as stream:
            return [json.loads(line) for line in stream if line.strip()]


@pytest.fixture
def full_pipe() -> Iterator[Pipe]:
    read, write = os.pipe()
    fill(write)
    stream = os.fdopen(write, "w")
    yield Pipe(read, stream)
    stream.close()


def test_a_blocked_reader_holds_up_nobody_and_learns_what_it_missed(full_pipe: Pipe) -> None:
    keeper = configure("json", full_pipe.stream, capacity_records=16)

    def publish() -> None:
        for seq in range(1_000):
            log_event(LOG, "verdict", seq=seq)

    publisher = threading.Thread(target=publish, daemon=True)
    publisher.start()
    publisher.join(PATIENCE_S / 4)
    assert not publisher.is_alive(), "the publisher waits for the reader"
    received: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: received.extend(full_pipe.drain()))
    reader.start()
    assert keeper.close(PATIENCE_S)
    full_pipe.stream.close()
    reader.join(PATIENCE_S)
    sequences = [line["seq"] for line in received if line["event"] == "verdict"]
    dropped = [line["count"] for line in received if line["event"] == "log_records_dropped"]
    assert 16 <= len(sequences) <= 18 and sequences == sorted(sequences)
    assert sum(dropped) + len(sequences) == 1_000


def test_the_count_is_told_as_soon_as_the_reader_is_back(full_pipe: Pipe) -> None:
    keeper = configure("json", full_pipe.stream, capacity_records=2)
    for seq in range(10):
        log_event(LOG, "verdict", seq=seq)
    text = ""
    while "log_records_dropped" not in text:
        assert select.select([full_pipe.read], [], [], PATIENCE_S)[0], text
        text += os.read(full_pipe.read, 4096).decode()
    assert keeper.close()
    os.close(full_pipe.read)


def test_closing_does_not_wait_for_a_blocked_reader(full_pipe: Pipe) -> None:
    keeper = configure("json", full_pipe.stream, capacity_records=2)
    for seq in range(10):
        log_event(LOG, "verdict", seq=seq)
    assert not keeper.close(0.05)
    # Let the writer's thread end: it must not outlive this test.
    reader = threading.Thread(target=full_pipe.drain)
    reader.start()
    assert keeper.close(PATIENCE_S)
    full_pipe.stream.close()
    reader.join(PATIENCE_S)


def test_a_reader_that_went_away_is_no_failure() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        keeper = configure("json", stream)
        for seq in range(10):
            log_event(LOG, "verdict", seq=seq)
        assert keeper.close()


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(full_pipe: Pipe) -> None:
    os.set_blocking(full_pipe.stream.fileno(), False)
    keeper = configure("json", full_pipe.stream)
    for seq in range(200):
        log_event(LOG, "verdict", seq=seq)
    received: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: received.extend(full_pipe.drain()))
    reader.start()
    assert keeper.close(PATIENCE_S)
    full_pipe.stream.close()
    reader.join(PATIENCE_S)
    assert [line["seq"] for line in received] == list(range(200))


def test_a_process_ends_although_nobody_reads_its_standard_error() -> None:
    program = (
        "import sys, logging\nfrom edge.logs import configure, log_event\n"
        "keeper = configure('json', sys.stderr, capacity_records=8)\n"
        "for seq in range(1000): log_event(logging.getLogger('linegate.x'), 'verdict', seq=seq)\n"
        "keeper.close(0.05)\n"
    )
    read, write = os.pipe()
    fill(write)
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=REPOSITORY, stderr=write, timeout=PATIENCE_S, check=False
        )
        assert done.returncode == 0
    finally:
        os.close(read)
        os.close(write)


def test_two_threads_write_whole_lines() -> None:
    def log() -> None:
        def publish(name: str) -> None:
            for seq in range(200):
                log_event(LOG, "verdict", name_=name, seq=seq)

        threads = [threading.Thread(target=publish, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    lines = objects(log)
    for name in "ab":
        assert [line["seq"] for line in lines if line["name_"] == name] == list(range(200))

"""Whatever comes from outside, as bytes, is read or refused: it crashes nothing, accepts nothing and hangs nothing."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.bus.control import ControlServer
from edge.bus.messages import VerdictMessage, encode
from edge.bus.replay import ReplayServer
from edge.bus.requests import Command, Reply, VerdictsReply
from edge.bus.subscriber import decode
from edge.bus.topics import TOPICS
from edge.engines.package import PACKAGE_FILE, load_package
from edge.errors import BusError, JournalError, LinegateError, PackageError, RecipeError, StationError
from edge.journal.journal import Journal
from edge.journal.tail import HEADER_BYTES, NOTE_START, SLOT_BYTES, SLOT_COUNT, Tail, tail_path
from edge.recipe import BANK_FILE, RECIPE_FILE, load_recipe
from edge.sealed import seal, sha256_of
from edge.station import JournalSettings, load_station
from tests.edge.fakes import PATIENCE_S, fake_entry, fake_job, fake_package
from tests.edge.feed import MemoryHistory, state_message, unguarded, verdict
from tests.edge.messages import heartbeat
from tests.edge.operated import info_of, write_recipe

PATIENCE_MS = round(PATIENCE_S * 1000)
FEW = settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)


@dataclass(frozen=True)
class Cut:
    """Replaces a share of some bytes by others."""

    place: float
    length: int
    junk: bytes

    def of(self, data: bytes) -> bytes:
        at = int(self.place * len(data))
        return data[:at] + self.junk + data[at + self.length :]


JUNK = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"null", b"NaN", b"1e999", b"-1", b'"', b"[[[[", b"{", b"\\ud800", b"9" * 30, b"\x00", b"true", b"[" * 3000]
    ),
)
CUTS = st.lists(
    st.builds(Cut, st.floats(0, 1, exclude_max=True), st.one_of(st.integers(0, 12), st.just(10**6)), JUNK),
    min_size=1,
    max_size=3,
)


def mangled(data: bytes, cuts: list[Cut]) -> bytes:
    for cut in cuts:
        data = cut.of(data)
    return data


# What comes over the bus.


@dataclass
class Nothing:
    """A station that does what it is told and counts it."""

    handled: list[Command] = field(default_factory=list)

    def handle(self, command: Command, since_ns: int) -> Reply:
        self.handled.append(command)
        return Reply(epoch=1)


@dataclass(frozen=True)
class Sockets:
    """A control and a replay server in their threads, and a client of each."""

    station: Nothing
    control: zmq.Socket[bytes]
    replay: zmq.Socket[bytes]


@pytest.fixture(scope="module")
def sockets() -> Iterator[Sockets]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    station, history = Nothing(), MemoryHistory()
    for seq in range(1, 4):
        history.note(verdict(seq))
    servers: tuple[ControlServer | ReplayServer, ...] = (
        ControlServer(context, "tcp://127.0.0.1:*", station, unguarded),
        ReplayServer(context, "tcp://127.0.0.1:*", history, unguarded),
    )
    threads = [threading.Thread(target=server.serve, daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    clients = [context.socket(zmq.DEALER), context.socket(zmq.DEALER)]
    for socket, server in zip(clients, servers, strict=True):
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(server.endpoint)
    yield Sockets(station, *clients)
    for server, thread in zip(servers, threads, strict=True):
        server.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "serve did not end"
        server.close()
    for socket in clients:
        socket.close()
    context.term()


def asked(socket: zmq.Socket[bytes], *parts: bytes) -> list[bytes]:
    socket.send_multipart(parts)
    assert socket.poll(PATIENCE_MS), "no answer"
    answer = socket.recv_multipart()
    return answer[1:] if len(answer) > 1 and not answer[0] else answer


COMMANDS = st.sampled_from(
    [
        b'{"command":"status","id":1}',
        b'{"command":"prepare","id":1,"product":"board","revision":3}',
        b'{"command":"activate","recipe_hash":"' + b"a" * 64 + b'"}',
        b'{"command":"mode","mode":"observe"}',
        b'{"command":"trigger","part_id":"p","encoder_count":-3,"trigger_id":"t"}',
        b'{"command":"stop"}',
    ]
)
REQUESTS = st.sampled_from(
    [b'{"request":"epochs","id":7,"after":0}', b'{"request":"verdicts","id":7,"epoch":1,"from_seq":2,"limit":500}']
)


@FEW
@given(good=COMMANDS, cuts=CUTS, others=st.lists(st.binary(max_size=9), max_size=2))
def test_a_mangled_command_is_refused_or_done_as_it_says(
    sockets: Sockets, good: bytes, cuts: list[Cut], others: list[bytes]
) -> None:
    sockets.station.handled.clear()
    data = mangled(good, cuts)
    reply = msgspec.json.decode(asked(sockets.control, data, *others)[-1], type=Reply)
    assert bool(reply.error) == bool(reply.remedy) != bool(sockets.station.handled)
    if sockets.station.handled:
        said = msgspec.json.decode(others[-1] if others else data)
        (done,) = sockets.station.handled
        assert {key: getattr(done, key) for key in said if key not in ("command", "mode")} == {
            key: value for key, value in said.items() if key not in ("command", "mode")
        }
    assert not msgspec.json.decode(asked(sockets.control, b'{"command":"status"}')[-1], type=Reply).error


@FEW
@given(good=REQUESTS, cuts=CUTS, others=st.lists(st.binary(max_size=9), max_size=2))
def test_a_mangled_replay_request_is_refused_or_answered(
    sockets: Sockets, good: bytes, cuts: list[Cut], others: list[bytes]
) -> None:
    head, *page = asked(sockets.replay, mangled(good, cuts), *others)
    reply = msgspec.json.decode(head, type=VerdictsReply)
    assert bool(reply.error) == bool(reply.remedy) and (not reply.error or not page)
    for data in page:
        assert msgspec.json.decode(data, type=VerdictMessage).is_replay
    (head, *page) = asked(sockets.replay, b'{"request":"verdicts","epoch":1}')
    assert len(page) == 3


GOOD_PARTS = {
    b"verdict": encode(verdict(1)),
    b"heartbeat": encode(heartbeat(1)),
    b"state": encode(state_message()),
    b"mask": b'{"station_id":"a","epoch":1,"seq":1,"trigger_seq":1,"part_id":"","sha256":"","width":1,"height":1}',
}


@settings(FEW, max_examples=200)
@given(topic=st.sampled_from(TOPICS), cuts=CUTS, blob=st.binary(max_size=9))
def test_a_mangled_message_of_the_feed_is_read_as_it_says_or_refused(
    topic: object, cuts: list[Cut], blob: bytes
) -> None:
    name, parts = topic.name, topic.parts  # type: ignore[attr-defined]
    data = mangled(GOOD_PARTS[name], cuts)
    try:
        message, _ = decode([name, data, *[blob] * (parts - 2)])
    except BusError as error:
        assert error.remedy
        return
    if isinstance(message, VerdictMessage) and message.accept:
        # What lets a part pass must be said in as many words.
        assert msgspec.json.decode(data)["accept"] is True


@pytest.mark.parametrize("parts", [[b""], [b"verdict"], [b"verdict", b"", b""], [b"mask", b"{}"], [b"x", b"{}"]])
def test_a_message_with_too_few_parts_is_refused(parts: list[bytes]) -> None:
    with pytest.raises(BusError):
        decode(parts)


# What lies on the disk.


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


@settings(FEW, max_examples=150)
@given(name=st.sampled_from([RECIPE_FILE, BANK_FILE]), cuts=CUTS)
def test_a_mangled_recipe_is_refused(folder: Path, name: str, cuts: list[Cut]) -> None:
    revision = write_recipe(folder)
    good = (revision / name).read_bytes()
    bad = mangled(good, cuts)
    (revision / name).write_bytes(bad)
    if bad == good:
        load_recipe(revision, fake_package().info)
        return
    with pytest.raises(RecipeError) as caught:
        load_recipe(revision, fake_package().info)
    assert str(caught.value).isprintable()


@settings(FEW, max_examples=200)
@given(cuts=CUTS)
@example([Cut(0.1, 0, b"")])
def test_a_mangled_bank_with_the_right_hash_is_refused_or_is_a_bank(folder: Path, cuts: list[Cut]) -> None:
    revision = write_recipe(folder)
    bad = mangled((revision / BANK_FILE).read_bytes(), cuts)
    load_with_bank(revision, bad)


def load_with_bank(revision: Path, data: bytes) -> None:
    (revision / BANK_FILE).write_bytes(data)
    info = msgspec.structs.replace(info_of(revision), bank_sha256=sha256_of(data))
    (revision / RECIPE_FILE).write_bytes(seal(info))
    with contextlib.suppress(RecipeError):
        bank = load_recipe(revision, fake_package().info).bank
        assert bank["normal"].shape == (3,) and bank["normal"].dtype == "float32"


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2", "BOOL", "F64", "I64", "U8", "F16", "F4", "C64", "none"])
def test_a_bank_of_another_kind_of_number_is_refused(folder: Path, kind: str) -> None:
    size = {"F64": 8, "I64": 8, "BF16": 2, "F16": 2, "C64": 8}.get(kind, 1) * 3
    header = b'{"normal":{"dtype":"%s","shape":[3],"data_offsets":[0,%d]}}' % (kind.encode(), size)
    data = len(header).to_bytes(8, "little") + header + bytes(size)
    revision = write_recipe(folder)
    (revision / BANK_FILE).write_bytes(data)
    info = msgspec.structs.replace(info_of(revision), bank_sha256=sha256_of(data))
    (revision / RECIPE_FILE).write_bytes(seal(info))
    with pytest.raises(RecipeError):
        load_recipe(revision, fake_package().info)


@FEW
@given(cuts=CUTS)
def test_a_mangled_package_description_is_refused(package_folder: Path, folder: Path, cuts: list[Cut]) -> None:
    own = folder / "package"
    own.mkdir(exist_ok=True)
    good = (package_folder / PACKAGE_FILE).read_bytes()
    bad = mangled(good, cuts)
    (own / PACKAGE_FILE).write_bytes(bad)
    with pytest.raises(PackageError) as caught:
        load_package(own)
    assert str(caught.value).isprintable()


STATION = """station_id = "press-4"
[camera]
type = "replay"
source = "parts"
rate_hz = 12.5
[model]
package = "lite"
[bus]
endpoint = "tcp://127.0.0.1:5600"
control_endpoint = "ipc:///run/control"
[journal]
folder = "j"
[security]
signers = "s"
"""


@settings(FEW, max_examples=200)
@given(cuts=CUTS)
def test_a_mangled_station_file_is_refused_or_says_something_else(folder: Path, cuts: list[Cut]) -> None:
    path = folder / "station.toml"
    path.write_bytes(mangled(STATION.encode(), cuts))
    try:
        station = load_station(path)
    except StationError as error:
        assert error.remedy and str(error).isprintable()
    else:
        assert not station.bus.allow_remote_plaintext


# The memory that outlives the process.

RING_BYTES = 1 << 16


@pytest.fixture(scope="module")
def left(folder: Path) -> Path:
    """What a station left that died: three verdicts that the disk never took, two open triggers."""
    place = folder / "left"
    place.mkdir()
    tail = Tail(tail_path(place, place / "journal"), RING_BYTES)
    tail.begin(1_000)
    tail.note(msgspec.json.encode(fake_job().provenance))
    for seq in (1, 2, 3):
        tail.append(encode(verdict(seq, 1_000)), seq)
    for seq in (4, 5):
        entry = fake_entry(seq)
        tail.take_slot(
            msgspec.msgpack.encode(
                {
                    "seq": seq,
                    "time_ns": entry.trigger.time_ns,
                    "wall_us": 1,
                    "part_id": "",
                    "trigger_id": "",
                    "encoder_count": None,
                }
            )
        )
    tail.close()
    return tail.path


HEADER = st.integers(0, NOTE_START - 1)
SLOTS = st.integers(HEADER_BYTES + (SLOT_COUNT - 3) * SLOT_BYTES, HEADER_BYTES + SLOT_COUNT * SLOT_BYTES - 1)
RING = st.integers(0, 8_000).map(lambda at: HEADER_BYTES + SLOT_COUNT * SLOT_BYTES + at)
PLACES = st.one_of(HEADER, st.integers(0, HEADER_BYTES), SLOTS, RING)


@settings(FEW, max_examples=40)
@given(changes=st.lists(st.tuples(PLACES, st.integers(1, 255)), min_size=1, max_size=4), cut=st.booleans())
@example(changes=[(39, 255)], cut=False)
@example(changes=[(47, 255)], cut=False)
@example(changes=[(46, 0x80)], cut=False)
def test_a_damaged_tail_gives_nothing_that_was_not_in_it(left: Path, changes: list[tuple[int, int]], cut: bool) -> None:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "journal"
        path = tail_path(Path(made), folder)
        shutil.copy(left, path)
        with path.open("r+b") as file:
            for place, mask in changes:
                file.seek(place)
                (byte,) = file.read(1)
                file.seek(place)
                file.write(bytes([byte ^ mask]))
            if cut:
                file.truncate(max(place for place, _ in changes))
        try:
            journal = Journal(JournalSettings(folder=str(folder), tail_folder=made, tail_mb=1))
        except JournalError as error:
            assert str(error).isprintable()
            return
        try:
            found = journal.left()
            assert {t.seq for t in found.triggers} <= {4, 5}
            epoch = max(journal.newest_epoch() + 1, time.time_ns() // 1_000_000)
            assert epoch < 2**53, "no subscriber could read it"
            journal.begin(epoch, 1)
            for kept in journal.read(1_000, 1, 10):
                assert msgspec.json.decode(kept, type=VerdictMessage) in {verdict(s, 1_000) for s in (1, 2, 3)}
            assert all(info.head_seq < 2**53 for info in journal.epochs(0))
        finally:
            journal.close("Halted")


def test_every_refusal_is_one_that_the_front_door_prints() -> None:
    for kind in (BusError, JournalError, PackageError, RecipeError, StationError):
        assert issubclass(kind, LinegateError)

"""The control endpoint does what it is told, one answer each; nothing that a client sends ends it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
import zmq

from edge.bus.control import HELD_UP_NS, SETTLE_NS, ControlClient, ControlServer
from edge.bus.messages import JournalState, Mode, State
from edge.bus.requests import (
    LARGEST_REQUEST_BYTES,
    ActivateCommand,
    Command,
    ModeCommand,
    PrepareCommand,
    Reply,
    StatusCommand,
    StatusReply,
    StopCommand,
    TriggerCommand,
)
from edge.errors import BusError, ControlError, SecurityError
from tests.edge.fakes import PATIENCE_S
from tests.edge.feed import unguarded

PATIENCE_MS = round(PATIENCE_S * 1000)
HASH = "0123456789abcdef" * 4
STATUS = StatusReply(
    station_id="test",
    epoch=7,
    head_seq=0,
    state=State.READY,
    mode=Mode.JUDGE,
    triggers_seen=0,
    ok=0,
    not_ok=0,
    not_decidable=0,
    in_flight=0,
    product="board",
    recipe_revision=1,
    recipe_hash=HASH,
    prepared_hash="",
    journal=JournalState.OK,
    journal_lost=0,
    pictures_lost=0,
    restarts_left={"camera": 5},
    software_version="0",
)
ANSWERS: dict[type[object], tuple[Command, Reply]] = {
    StatusCommand: (StatusCommand(), Reply(status=STATUS)),
    PrepareCommand: (
        PrepareCommand(product="board", revision=2),
        Reply(product="board", recipe_revision=2, recipe_hash=HASH),
    ),
    ActivateCommand: (ActivateCommand(recipe_hash=HASH), Reply(product="board", epoch=7, trigger_seq=3)),
    ModeCommand: (ModeCommand(mode=Mode.OBSERVE), Reply(epoch=7, trigger_seq=3)),
    TriggerCommand: (
        TriggerCommand(part_id="p", encoder_count=-4, trigger_id="t"),
        Reply(epoch=7, trigger_seq=5, duplicate=True),
    ),
    StopCommand: (StopCommand(), Reply(epoch=7)),
}


class Station:
    """Answers as the table says. While `gate` is clear a `slow` command takes long."""

    def __init__(self) -> None:
        self.handled: list[Command] = []
        self.came_ns: list[int] = []
        self.refuses: Exception | None = None
        self.slow: type[PrepareCommand | StatusCommand] = PrepareCommand
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def handle(self, command: Command, since_ns: int) -> Reply:
        self.handled.append(command)
        self.came_ns.append(since_ns)
        if isinstance(command, self.slow):
            self.entered.set()
            assert self.gate.wait(PATIENCE_S), "nobody opened the gate"
        if self.refuses is not None:
            raise self.refuses
        return ANSWERS[type(command)][1]


class Desk:
    """The server in its thread, and whoever talks to it."""

    def __init__(self, endpoint: str) -> None:
        self.station = Station()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.server = ControlServer(self.context, endpoint, self.station, unguarded)
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()
        self.sockets: list[zmq.Socket[bytes]] = []
        self.clients: list[ControlClient] = []
        self.client = self.another()

    def another(self) -> ControlClient:
        """One more client with manners."""
        self.clients.append(ControlClient(self.server.endpoint))
        return self.clients[-1]

    def stranger(self, kind: int = zmq.DEALER, **options: int) -> zmq.Socket[bytes]:
        """A client without."""
        socket = self.context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            socket.setsockopt(getattr(zmq, name), value)
        socket.connect(self.server.endpoint)
        self.sockets.append(socket)
        return socket

    def do(self, command: Command) -> Reply:
        return self.client.ask(command, PATIENCE_S)

    def answer_to(self, socket: zmq.Socket[bytes], *parts: bytes) -> Reply:
        socket.send_multipart(parts)
        assert socket.poll(PATIENCE_MS), "no answer"
        return msgspec.json.decode(socket.recv_multipart()[-1], type=Reply)

    def close(self) -> None:
        self.station.gate.set()
        self.server.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "serve did not end"
        self.server.close()
        for socket in self.sockets:
            socket.close()
        for client in self.clients:
            client.close()
            client.close()
        self.context.term()


@pytest.fixture
def desk(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr("edge.bus.control.POLL_MS", 10)
    made = Desk(endpoint)
    yield made
    made.close()


@pytest.mark.parametrize(("command", "answer"), ANSWERS.values(), ids=[kind.__name__ for kind in ANSWERS])
def test_every_command_is_handed_on_and_its_answer_comes_back(desk: Desk, command: Command, answer: Reply) -> None:
    assert desk.do(command) == msgspec.structs.replace(answer, id=1)
    assert desk.station.handled == [msgspec.structs.replace(command, id=1)]
    assert desk.do(command).id == 2
    assert desk.server.refused == 0


@pytest.mark.parametrize("command", [c for c, _ in ANSWERS.values()], ids=[kind.__name__ for kind in ANSWERS])
def test_a_refusal_is_told_with_its_remedy_and_the_next_command_is_done(desk: Desk, command: Command) -> None:
    desk.station.refuses = ControlError("this cannot be", "Do that.")
    with pytest.raises(ControlError) as caught:
        desk.do(command)
    assert (caught.value.what, caught.value.remedy, desk.server.refused) == ("this cannot be", "Do that.", 1)
    desk.station.refuses = None
    assert not desk.do(command).error


BREAKS = [RuntimeError("a bug"), OSError(5, "sdk: -1015"), KeyError("x"), AssertionError("never"), zmq.ZMQError(14)]


@pytest.mark.parametrize("error", BREAKS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("command", [TriggerCommand(), PrepareCommand(product="board")], ids=["beside", "slow"])
def test_a_command_that_breaks_is_answered_and_the_next_one_is_done(
    desk: Desk, command: Command, error: Exception
) -> None:
    desk.station.refuses = error
    with pytest.raises(ControlError) as caught:
        desk.do(command)
    assert caught.value.what == f"this broke ({error})" and "log" in caught.value.remedy
    assert desk.server.refused == 1
    desk.station.refuses = None
    assert not desk.do(command).error and desk.do(StatusCommand()).status == STATUS


MALFORMED = {
    "nothing": (b"",),
    "no JSON": (b"status",),
    "not UTF-8": (b'{"command":"trigger","part_id":"\xff\xfe"}',),
    "surrogate": (b'{"command":"trigger","part_id":"\\ud800"}',),
    "cut short": (b'{"command":"status"',),
    "two objects": (b'{"command":"status"}{"command":"stop"}',),
    "array": (b'["status"]',),
    "null": (b"null",),
    "no command": (b"{}",),
    "unknown command": (b'{"command":"reboot"}',),
    "command of a wrong type": (b'{"command":5}',),
    "unknown field": (b'{"command":"stop","force":true}',),
    "id of a wrong type": (b'{"command":"stop","id":"1"}',),
    "negative id": (b'{"command":"stop","id":-1}',),
    "id that is too large": (b'{"command":"stop","id":9007199254740992}',),
    "fractional revision": (b'{"command":"prepare","product":"a","revision":1.5}',),
    "revision 0": (b'{"command":"prepare","product":"a","revision":0}',),
    "no product": (b'{"command":"prepare"}',),
    "product is a path": (b'{"command":"prepare","product":"../a"}',),
    "product is empty": (b'{"command":"prepare","product":""}',),
    "product ends in a line feed": (b'{"command":"prepare","product":"a\\n"}',),
    "hash too short": (b'{"command":"activate","recipe_hash":"abc"}',),
    "hash in capitals": (b'{"command":"activate","recipe_hash":"' + b"A" * 64 + b'"}',),
    "unknown mode": (b'{"command":"mode","mode":"off"}',),
    "trigger id too long": (b'{"command":"trigger","trigger_id":"' + b"x" * 65 + b'"}',),
    "part id too long": (b'{"command":"trigger","part_id":"' + b"x" * 129 + b'"}',),
    "encoder count that is no number": (b'{"command":"trigger","encoder_count":NaN}',),
    "encoder count that is too large": (b'{"command":"trigger","encoder_count":' + b"9" * 400 + b"}",),
    "deep nesting": (b"[" * 60_000,),
    "deep nesting in a field": (b'{"command":"stop","id":' + b"[" * 60_000,),
    "two parts": (b'{"command":"stop"}', b'{"command":"stop"}'),
    "delimiter and nothing": (b"", b""),
    "delimiter and two parts": (b"", b'{"command":"stop"}', b'{"command":"stop"}'),
    "many parts": (b'{"command":"stop"}',) * 1000,
}


@pytest.mark.parametrize("parts", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_is_no_command_is_refused_and_nothing_is_done(desk: Desk, parts: tuple[bytes, ...]) -> None:
    reply = desk.answer_to(desk.stranger(), *parts)
    assert reply.error and reply.remedy and reply == Reply(error=reply.error, remedy=reply.remedy)
    assert (desk.station.handled, desk.server.refused) == ([], 1)
    assert desk.do(StatusCommand()).status == STATUS


def test_an_oversized_command_closes_that_connection_alone(desk: Desk) -> None:
    rude = desk.stranger()
    with rude.get_monitor_socket(zmq.EVENT_DISCONNECTED) as monitor:
        rude.send(b'{"command":"stop"}' + b" " * LARGEST_REQUEST_BYTES)
        assert monitor.poll(PATIENCE_MS), "the connection was kept"
        rude.disable_monitor()
    assert desk.do(StatusCommand()).status == STATUS
    assert desk.station.handled == [StatusCommand(id=1)]
    largest = b'{"command":"status"}'.ljust(LARGEST_REQUEST_BYTES)
    assert desk.answer_to(desk.stranger(), largest).status == STATUS


def test_a_client_that_never_reads_its_answers_stops_nobody(desk: Desk) -> None:
    rude = desk.stranger(RCVHWM=1)
    count = 5_000
    for _ in range(count):
        rude.send(b'{"command":"trigger"}')
    assert desk.do(StatusCommand()).status == STATUS
    # Asked for only now, and still answered: what it lost were answers, not others' time.
    assert desk.another().ask(TriggerCommand(), PATIENCE_S).epoch == 7


def test_a_req_client_gets_its_delimiter_back(desk: Desk) -> None:
    request = desk.stranger(zmq.REQ)
    for sent in (b'{"command":"status","id":4}', b'{"command":"prepare","product":"board","id":4}'):
        reply = desk.answer_to(request, sent)
        assert (reply.id, reply.error) == (4, "")
    assert desk.answer_to(request, b"junk").error


def test_a_slow_changeover_delays_no_trigger_and_admits_no_second_one(desk: Desk) -> None:
    desk.station.gate.clear()
    slow, other = desk.stranger(), desk.another()
    slow.send(b'{"command":"prepare","product":"board","id":9}')
    assert desk.station.entered.wait(PATIENCE_S)
    assert desk.do(TriggerCommand()).trigger_seq == 5
    assert desk.do(StatusCommand()).status == STATUS
    for command in (PrepareCommand(product="x"), ActivateCommand(recipe_hash=HASH), ModeCommand(mode=Mode.OBSERVE)):
        with pytest.raises(ControlError, match="another changeover is being done"):
            other.ask(command, PATIENCE_S)
    assert [type(c) for c in desk.station.handled] == [PrepareCommand, TriggerCommand, StatusCommand]
    assert not slow.poll(0), "it was answered before it was done"
    desk.station.gate.set()
    assert slow.poll(PATIENCE_MS)
    assert msgspec.json.decode(slow.recv(), type=Reply).id == 9


def test_whoever_has_the_answer_to_a_changeover_may_begin_the_next_at_once(desk: Desk) -> None:
    for _ in range(300):
        desk.do(PrepareCommand(product="board"))
        desk.do(ActivateCommand(recipe_hash=HASH))


def test_a_server_that_ends_while_a_changeover_is_done_ends(endpoint: str) -> None:
    desk = Desk(endpoint)
    desk.station.gate.clear()
    desk.stranger().send(b'{"command":"prepare","product":"board"}')
    assert desk.station.entered.wait(PATIENCE_S)
    working = next(t for t in threading.enumerate() if t.name == "changeover")
    desk.server.stop()
    desk.thread.join(PATIENCE_S)
    desk.station.gate.set()
    working.join(PATIENCE_S)
    desk.close()


def test_a_command_that_lay_there_while_the_server_was_held_up_is_as_old_as_it_may_be(desk: Desk) -> None:
    """Who was held up does not know when it came, and must not say that it came just now."""
    client = desk.stranger()
    before_ns = time.monotonic_ns()
    desk.answer_to(client, b'{"command":"trigger"}')
    at_once_ns = desk.station.came_ns[-1]
    assert before_ns - HELD_UP_NS <= at_once_ns <= time.monotonic_ns()
    desk.station.slow = StatusCommand
    desk.station.gate.clear()
    client.send(b'{"command":"status"}')
    assert desk.station.entered.wait(PATIENCE_S)
    held_ns = time.monotonic_ns()
    client.send(b'{"command":"trigger"}')
    while time.monotonic_ns() - held_ns < 2 * HELD_UP_NS:
        desk.thread.join(0.01)
    desk.station.gate.set()
    for _ in range(2):
        assert client.poll(PATIENCE_MS)
        client.recv()
    assert desk.station.came_ns[-1] <= held_ns, "it is said to be younger than it may be"
    assert desk.station.came_ns[-1] >= at_once_ns
    # For a while something may still be on its way; then the next one is new again.
    desk.answer_to(client, b'{"command":"trigger"}')
    assert desk.station.came_ns[-1] <= held_ns
    desk.thread.join((SETTLE_NS + 2 * HELD_UP_NS) / 1e9)
    now_ns = time.monotonic_ns()
    desk.answer_to(client, b'{"command":"trigger"}')
    assert desk.station.came_ns[-1] >= now_ns - HELD_UP_NS


def test_an_endpoint_in_use_is_told_with_the_remedy() -> None:
    with zmq.Context() as other:
        with zmq.Context() as context:
            server = ControlServer(context, "tcp://127.0.0.1:*", Station(), unguarded)
            with pytest.raises(BusError, match=r"cannot be bound.*in use.*bus\.control_endpoint"):
                ControlServer(other, server.endpoint, Station(), unguarded)
            server.close()
            server.close()
        ControlServer(other, server.endpoint, Station(), unguarded).close()


@pytest.mark.parametrize("error", [BusError("no keys", "Make some."), SecurityError("no keys", "Make some.")])
def test_a_guard_that_fails_leaves_nothing_behind(error: Exception) -> None:
    asked: list[str] = []

    def guard(socket: zmq.Socket[bytes]) -> None:
        asked.append(socket.getsockopt_string(zmq.LAST_ENDPOINT))
        raise error

    with zmq.Context() as context:
        with pytest.raises(type(error), match="no keys"):
            ControlServer(context, "tcp://127.0.0.1:*", Station(), guard)
        ControlServer(context, "tcp://127.0.0.1:*", Station(), unguarded).close()
    assert asked == [""], "it is asked before the socket is bound"


@pytest.fixture
def pretender(endpoint: str) -> Iterator[Callable[[list[bytes]], zmq.Socket[bytes]]]:
    """Answers each command with what the test says, on an endpoint where a station is expected."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.ROUTER)
    socket.setsockopt(zmq.LINGER, 0)
    socket.bind(endpoint)
    threads: list[threading.Thread] = []

    def answer(answers: list[bytes]) -> zmq.Socket[bytes]:
        def work() -> None:
            address, _ = socket.recv_multipart()
            for said in answers:
                socket.send_multipart([address, said])

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()
        return socket

    yield answer
    for thread in threads:
        thread.join(PATIENCE_S)
    socket.close()
    context.term()


def test_a_client_takes_only_the_answer_to_its_own_question(
    pretender: Callable[[list[bytes]], object], endpoint: str
) -> None:
    junk = [b"", b"{}x", b"[" * 100_000, b'{"id":"1"}', b"\xff", b'{"id":8,"epoch":8}']
    pretender([*junk, b'{"id":1,"epoch":5}'])
    with contextlib.closing(ControlClient(endpoint)) as client:
        assert client.ask(StatusCommand(), PATIENCE_S) == Reply(id=1, epoch=5)


def test_junk_does_not_make_a_client_wait_longer(
    pretender: Callable[[list[bytes]], object], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretender([b"junk"] * 50)
    now = iter(range(1_000))
    monkeypatch.setattr("edge.bus.control.time.monotonic", lambda: float(next(now)))
    with contextlib.closing(ControlClient(endpoint)) as client, pytest.raises(BusError, match="no answer"):
        client.ask(StatusCommand(), 5.0)
    assert next(now) < 20, "every answer, whatever it was, began the wait anew"


def test_silence_and_what_is_no_endpoint_are_told(endpoint: str) -> None:
    with (
        contextlib.closing(ControlClient(endpoint)) as client,
        pytest.raises(BusError, match=r"no answer.*0\.01 s.*control endpoint"),
    ):
        client.ask(StatusCommand(), 0.01)
    for wrong in ("", "nonsense", "tcp://", "x://y:1"):
        with pytest.raises(BusError, match="not an endpoint"):
            ControlClient(wrong)

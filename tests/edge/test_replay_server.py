"""The replay endpoint answers what the journal has; nothing that a client sends ends it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge.bus.messages import VerdictMessage
from edge.bus.replay import ReplayServer
from edge.bus.requests import (
    LARGEST_REQUEST_BYTES,
    EpochInfo,
    EpochsReply,
    EpochsRequest,
    VerdictsReply,
    VerdictsRequest,
)
from edge.errors import BusError, JournalError
from tests.edge.feed import PATIENCE_MS, MemoryHistory, Serving, unguarded, verdict

ENDPOINT = "tcp://127.0.0.1:*"


class FailingHistory(MemoryHistory):
    """A journal that cannot be read while `failing`."""

    failing = False

    def epochs(self, after: int) -> list[EpochInfo]:
        if self.failing:
            raise JournalError("the journal cannot be read (disk gone)", "Mend the disk.")
        return super().epochs(after)


class Asker:
    """A client without manners."""

    def __init__(self) -> None:
        self.history = FailingHistory()
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.serving = Serving(ENDPOINT, self.history)
        self.server = self.serving.server
        self.sockets: list[zmq.Socket[bytes]] = []
        self.socket = self.connected(zmq.DEALER)

    def connected(self, kind: int) -> zmq.Socket[bytes]:
        socket = self.context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(self.server.endpoint)
        self.sockets.append(socket)
        return socket

    def ask(self, *parts: bytes) -> list[bytes]:
        self.socket.send_multipart(parts)
        assert self.socket.poll(PATIENCE_MS), "no answer"
        return self.socket.recv_multipart()

    def verdicts(self, request: VerdictsRequest) -> tuple[VerdictsReply, list[VerdictMessage]]:
        head, *page = self.ask(msgspec.json.encode(request))
        return msgspec.json.decode(head, type=VerdictsReply), [
            msgspec.json.decode(p, type=VerdictMessage) for p in page
        ]

    def epochs(self, after: int = 0) -> EpochsReply:
        (reply,) = self.ask(msgspec.json.encode(EpochsRequest(id=5, after=after)))
        return msgspec.json.decode(reply, type=EpochsReply)

    def close(self) -> None:
        self.serving.stop()
        for socket in self.sockets:
            socket.close()
        self.context.term()


@pytest.fixture
def asker() -> Iterator[Asker]:
    made = Asker()
    for seq in range(1, 8):
        made.history.note(verdict(seq, 3), keep=seq not in (2, 5))
    yield made
    made.close()


def test_a_page_has_what_is_kept_marked_as_replayed(asker: Asker) -> None:
    reply, page = asker.verdicts(VerdictsRequest(id=9, epoch=3, from_seq=2, limit=3))
    assert reply == VerdictsReply(id=9, info=EpochInfo(3, 1, 7, False), count=3)
    assert page == [verdict(seq, 3, is_replay=True) for seq in (3, 4, 6)]
    assert page[0].accept, "the books need to know what was said"
    assert asker.server.answered == 1


def test_after_the_head_there_is_an_empty_page(asker: Asker) -> None:
    reply, page = asker.verdicts(VerdictsRequest(epoch=3, from_seq=8))
    assert (reply.error, reply.count, page) == ("", 0, [])


def test_epochs_are_listed(asker: Asker) -> None:
    asker.history.note(verdict(1, 4))
    assert [info.epoch for info in asker.epochs().epochs] == [3, 4]
    assert asker.epochs(3) == EpochsReply(id=5, epochs=(EpochInfo(4, 1, 1, False),))


def test_an_unknown_epoch_is_refused_with_its_id(asker: Asker) -> None:
    reply, page = asker.verdicts(VerdictsRequest(id=9, epoch=2))
    assert (reply.id, reply.info, page) == (9, None, []) and "epoch 2 is not known" in reply.error and reply.remedy
    assert asker.server.refused == 1


def test_a_journal_that_cannot_be_read_is_told_and_asked_again(asker: Asker) -> None:
    asker.history.failing = True
    reply, _ = asker.verdicts(VerdictsRequest(id=9, epoch=3))
    assert (reply.id, reply.error, reply.remedy) == (9, "the journal cannot be read (disk gone)", "Mend the disk.")
    assert asker.epochs().error == "the journal cannot be read (disk gone)"
    asker.history.failing = False
    assert asker.epochs().error == ""


def test_verdicts_that_cannot_be_read_are_left_out_and_counted(asker: Asker) -> None:
    asker.history.kept[3].verdicts = {
        seq: b"{}" if seq < 6 else msgspec.json.encode(verdict(seq, 3)) for seq in range(1, 8)
    }
    for first in range(1, 7):
        _, page = asker.verdicts(VerdictsRequest(epoch=3, from_seq=first, limit=2))
        assert page and page[-1].seq in (6, 7), "an empty page would say that there are no more"
    assert asker.server.damaged


def test_a_req_socket_gets_its_delimiter_back(asker: Asker) -> None:
    request = asker.connected(zmq.REQ)
    request.send(msgspec.json.encode(EpochsRequest()))
    assert request.poll(PATIENCE_MS)
    assert msgspec.json.decode(request.recv(), type=EpochsReply).epochs


def test_an_oversized_request_closes_that_connection_alone(asker: Asker) -> None:
    rude = asker.connected(zmq.DEALER)
    events = rude.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    asker.sockets.append(events)
    rude.send(b" " * (LARGEST_REQUEST_BYTES + 1))
    assert events.poll(PATIENCE_MS), "it is still connected"
    rude.disable_monitor()
    assert asker.epochs().epochs
    (reply,) = asker.ask(b"[" * LARGEST_REQUEST_BYTES)
    assert msgspec.json.decode(reply, type=VerdictsReply).error


def test_a_client_that_does_not_read_stops_nobody(asker: Asker) -> None:
    rude = asker.connected(zmq.DEALER)
    rude.setsockopt(zmq.RCVHWM, 1)
    for _ in range(500):
        rude.send(msgspec.json.encode(VerdictsRequest(epoch=3)))
    assert asker.epochs().epochs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    parts=st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.sampled_from(
                [b"", b'{"request":"verdicts"}', b'{"request":"epochs","after":-1}', b'{"request":"epochs"}']
            ),
        ),
        min_size=1,
        max_size=5,
    )
)
@example(parts=[b""])
@example(parts=[b"", b""])
@example(parts=[b"[" * 50_000])
@example(parts=[b'{"request":"verdicts","epoch":9007199254740991,"from_seq":9007199254740991,"limit":500}'])
@example(parts=[b'{"request":"verdicts","epoch":0,"from_seq":0}'])
def test_whatever_is_sent_is_answered_and_so_is_the_next(asker: Asker, parts: list[bytes]) -> None:
    head = asker.ask(*parts)
    reply = msgspec.json.decode(head[1] if not head[0] else head[0], type=VerdictsReply)
    assert bool(reply.error) == bool(reply.remedy)
    assert [info.epoch for info in asker.epochs().epochs] == [3]


def test_a_port_in_use_is_told_with_the_remedy(asker: Asker) -> None:
    with pytest.raises(BusError, match=r"cannot be bound.*in use.*bus\.replay_endpoint"):
        ReplayServer(asker.context, asker.server.endpoint, asker.history, unguarded)


def test_the_guard_is_asked_before_the_socket_is_bound() -> None:
    bound: list[str] = []

    def guard(socket: zmq.Socket[bytes]) -> None:
        bound.append(socket.getsockopt_string(zmq.LAST_ENDPOINT))

    with zmq.Context() as context:
        server = ReplayServer(context, ENDPOINT, MemoryHistory(), guard)
        server.close()
        server.close()
    assert bound == [""]


def test_a_guard_that_fails_releases_the_socket() -> None:
    def guard(_socket: zmq.Socket[bytes]) -> None:
        raise BusError("no keys", "Make some.")

    with zmq.Context() as context, pytest.raises(BusError, match="no keys"):
        ReplayServer(context, ENDPOINT, MemoryHistory(), guard)

"""The replay endpoint: one ROUTER socket that answers what a journal still has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import msgspec
import zmq

from edge.bus.binding import bind
from edge.bus.messages import VerdictMessage
from edge.bus.requests import (
    LARGEST_REQUEST_BYTES,
    EpochInfo,
    EpochsReply,
    EpochsRequest,
    ReplayRequest,
    VerdictsReply,
    VerdictsRequest,
    id_of,
)
from edge.errors import JournalError

SEND_HIGH_WATER_MARK = 8
"""Pages that wait for one client that does not read; more are dropped, and it asks again."""
LINGER_MS = 200
ZMTP_HEARTBEAT_MS = 500
POLL_MS = 100


class History(Protocol):
    """What can be replayed. Called by the serving thread alone."""

    def epochs(self, after: int) -> list[EpochInfo]:
        """All epochs after this one, oldest first, also those of which no verdict is kept.

        `head_seq` is the last verdict that was published, whether it is kept or not.

        Raises:
            JournalError: it cannot be read.
        """

    def read(self, epoch: int, from_seq: int, limit: int) -> list[bytes]:
        """The first verdicts of an epoch from `from_seq` on, as published, ascending, `limit` at most.

        Whatever was published before the call and is still kept is among them, on the disk or not; gaps say that a verdict is
        gone for good. Empty only if there is none from there on.

        Raises:
            JournalError: it cannot be read.
        """


class ReplayServer:
    """Answers one page at a time. Never blocks, and nothing that a client sends ends it."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        history: History,
        guard: Callable[[zmq.Socket[bytes]], None],
    ) -> None:
        """Bind `endpoint`. `guard` says who may connect; it is applied before the socket is bound.

        Raises:
            BusError: in use, or not an endpoint.
        """
        self.answered = self.refused = self.damaged = 0
        """Requests answered and refused; verdicts of the history that cannot be read, left out of their pages."""
        self._history = history
        self._stopping = threading.Event()
        self._request = msgspec.json.Decoder(ReplayRequest)
        self._verdict = msgspec.json.Decoder(VerdictMessage)
        self._encoder = msgspec.json.Encoder()
        self._socket = context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.SNDHWM, SEND_HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, LINGER_MS)
        self._socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_REQUEST_BYTES)
        self._socket.setsockopt(zmq.HEARTBEAT_IVL, ZMTP_HEARTBEAT_MS)
        self.endpoint = bind(self._socket, endpoint, guard, "replay", "bus.replay_endpoint")

    def serve(self) -> None:
        """Answer requests until `stop`."""
        while not self._stopping.is_set():
            try:
                if self._socket.poll(POLL_MS):
                    self._serve_one(self._socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                # Gone between poll and receive, or no room for the reply: the client asks again.
                continue
            except zmq.ContextTerminated:
                return

    def stop(self) -> None:
        """Let `serve` return within 0.1 s; from any thread."""
        self._stopping.set()

    def close(self) -> None:
        """Release the endpoint, after `serve` has returned. May be called twice."""
        self._socket.close()

    def _serve_one(self, parts: list[bytes]) -> None:
        identity, content = parts[0], parts[1:]
        # REQ sockets put an empty part first, and expect it back.
        envelope = [identity, b""] if len(content) > 1 and not content[0] else [identity]
        body = content[len(envelope) - 1 :]
        answer = (
            self._answer(body[0]) if len(body) == 1 else self._refuse(0, f"a request has one part, not {len(body)}")
        )
        self._socket.send_multipart([*envelope, *answer], zmq.NOBLOCK)

    def _answer(self, body: bytes) -> list[bytes]:
        try:
            request = self._request.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return self._refuse(id_of(body), f"not a request ({error})")
        try:
            answer = self._epochs(request) if isinstance(request, EpochsRequest) else self._verdicts(request)
        except JournalError as error:
            return self._refuse(request.id, error.what, error.remedy, isinstance(request, EpochsRequest))
        return answer

    def _epochs(self, request: EpochsRequest) -> list[bytes]:
        epochs = tuple(self._history.epochs(request.after))
        self.answered += 1
        return [self._encoder.encode(EpochsReply(id=request.id, epochs=epochs))]

    def _verdicts(self, request: VerdictsRequest) -> list[bytes]:
        # Before the page is read: what is published meanwhile must not look as if it were missing from it.
        info = next((i for i in self._history.epochs(max(0, request.epoch - 1)) if i.epoch == request.epoch), None)
        if info is None:
            return self._refuse(request.id, f"epoch {request.epoch} is not known", "Ask which epochs there are.")
        page = self._page(request)
        self.answered += 1
        return [self._encoder.encode(VerdictsReply(id=request.id, info=info, count=len(page))), *page]

    def _page(self, request: VerdictsRequest) -> list[bytes]:
        """The next verdicts that can be read. An empty page says that there are no more, so damaged ones are passed over."""
        from_seq = request.from_seq
        while kept := self._history.read(request.epoch, from_seq, request.limit):
            page = [copy for verdict in kept if (copy := self._copy(verdict)) is not None]
            if page:
                return page
            from_seq += len(kept)
        return []

    def _copy(self, kept: bytes) -> bytes | None:
        try:
            verdict = self._verdict.decode(kept)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self.damaged += 1
            return None
        return self._encoder.encode(msgspec.structs.replace(verdict, is_replay=True))

    def _refuse(
        self, request_id: int, error: str, remedy: str = "See edge/bus/requests.py.", of_epochs: bool = False
    ) -> list[bytes]:
        self.refused += 1
        reply = EpochsReply if of_epochs else VerdictsReply
        return [self._encoder.encode(reply(id=request_id, error=error, remedy=remedy))]

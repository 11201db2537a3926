"""A station as its clients see it: messages, a history in memory, and a feed that loses what the test wants lost."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import zmq

from edge.bus.endpoints import sibling
from edge.bus.messages import (
    HeartbeatMessage,
    JournalState,
    Mode,
    State,
    StateMessage,
    VerdictMessage,
)
from edge.bus.replay import ReplayServer
from edge.bus.requests import EpochInfo
from edge.types import Judgement, Reason

PATIENCE_MS = 60_000
PATIENCE_S = PATIENCE_MS / 1000


def verdict(seq: int, epoch: int = 1, *, is_replay: bool = False, restart: bool = False) -> VerdictMessage:
    """The verdict with this number: accepted, unless it is one that a restart gave."""
    return VerdictMessage(
        station_id="test",
        camera_id="fake",
        epoch=epoch,
        seq=seq,
        trigger_seq=seq,
        trigger_id="",
        part_id=f"part-{epoch}-{seq}",
        encoder_count=None,
        frame_id=None if restart else seq,
        judgement=Judgement.NOT_DECIDABLE if restart else Judgement.OK,
        accept=not restart,
        reason=Reason.RESTART if restart else None,
        detail="",
        score=None if restart else 0.1,
        threshold=1.0,
        region_count=0,
        regions=(),
        mask=None,
        product="board",
        recipe_revision=3,
        recipe_hash="c" * 64,
        package_hash="a" * 64,
        bank_hash="b" * 64,
        config_hash="d" * 64,
        software_version="0",
        engine="fake",
        trigger_wall_us=1,
        capture_after_us=None if restart else 1000,
        done_after_us=None if restart else 2000,
        publish_after_us=3000,
        clock_synchronised=None,
        latency_us=3000,
        deadline_us=500_000,
        deadline_met=True,
        is_simulated=True,
        is_replay=is_replay,
    )


def copy_of(message: VerdictMessage) -> VerdictMessage:
    """What the feed sends again for a late joiner."""
    return msgspec.structs.replace(message, is_replay=True, accept=False)


def heartbeat(head_seq: int, epoch: int = 1, state: State = State.CONTINUOUS_EXECUTION) -> HeartbeatMessage:
    """A heartbeat after this many verdicts."""
    return HeartbeatMessage(
        station_id="test",
        epoch=epoch,
        head_seq=head_seq,
        triggers_seen=head_seq,
        ok=head_seq,
        not_ok=0,
        not_decidable=0,
        in_flight=0,
        missed=0,
        late=0,
        overruns=0,
        duplicates=0,
        unclaimed=0,
        state=state,
        mode=Mode.JUDGE,
        journal=JournalState.OK,
        journal_lost=0,
        pictures_lost=0,
        masks_lost=0,
        plaintext_remote=False,
        wall_us=1,
    )


def state_message(epoch: int = 1, state: State = State.CONTINUOUS_EXECUTION) -> StateMessage:
    """What the station says at a change of state."""
    return StateMessage(
        station_id="test",
        epoch=epoch,
        state=state,
        mode=Mode.JUDGE,
        detail="",
        product="board",
        recipe_revision=3,
        recipe_hash="c" * 64,
        package_hash="a" * 64,
        config_hash="d" * 64,
        software_version="0",
        first_trigger_seq=1,
        replay_endpoint="",
        control_endpoint="",
        wall_us=1,
    )


@dataclass
class Kept:
    """What a journal has of one epoch."""

    verdicts: dict[int, bytes] = field(default_factory=dict)
    head_seq: int = 0
    ended: bool = False

    def info(self, epoch: int) -> EpochInfo:
        """What replay tells of it."""
        return EpochInfo(epoch, min(self.verdicts, default=self.head_seq + 1), self.head_seq, self.ended)


class MemoryHistory:
    """A journal in memory. Change it only through replacing values: the server reads it in another thread."""

    def __init__(self) -> None:
        self.kept: dict[int, Kept] = {}

    def note(self, message: VerdictMessage, keep: bool = True) -> None:
        """A verdict was published."""
        of_epoch = self.kept.setdefault(message.epoch, Kept())
        of_epoch.head_seq = max(of_epoch.head_seq, message.seq)
        if keep:
            of_epoch.verdicts = {**of_epoch.verdicts, message.seq: msgspec.json.encode(message)}

    def prune(self, epoch: int, below: int) -> None:
        """Forget the verdicts of an epoch below a seq."""
        of_epoch = self.kept[epoch]
        of_epoch.verdicts = {seq: data for seq, data in of_epoch.verdicts.items() if seq >= below}

    def epochs(self, after: int) -> list[EpochInfo]:
        """See `History`."""
        return [self.kept[epoch].info(epoch) for epoch in sorted(self.kept) if epoch > after]

    def read(self, epoch: int, from_seq: int, limit: int) -> list[bytes]:
        """See `History`."""
        verdicts = self.kept[epoch].verdicts
        return [verdicts[seq] for seq in sorted(verdicts) if seq >= from_seq][:limit]


def unguarded(_socket: zmq.Socket[bytes]) -> None:
    """Everybody may connect."""


class Serving:
    """A replay server in its thread."""

    def __init__(self, endpoint: str, history: MemoryHistory) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.server = ReplayServer(self.context, endpoint, history, unguarded)
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """End it as a station does; then the endpoint is free."""
        self.server.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "serve did not end"
        self.server.close()
        self.context.term()


class Feed:
    """Publishes on a raw XPUB socket what the test says, and forgets nothing unless told to."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.history = MemoryHistory()
        self.serving: Serving | None = None
        self._publishing, self.socket = _publishing(endpoint)

    def restart(self) -> None:
        """The publishing process ends, and another one binds the same endpoint."""
        self._end_publishing()
        self._publishing, self.socket = _publishing(self.endpoint)

    def _end_publishing(self) -> None:
        # Only the end of its context says that the endpoint is free.
        self.socket.close()
        self._publishing.term()

    def wait_for_subscriber(self, reading: Callable[[], object] = lambda: None) -> None:
        """Until one has subscribed to verdicts, heartbeats and states.

        `reading` is called meanwhile: a subscriber subscribes again at a new publisher only when it is read from.
        """
        wanted = {b"\x01verdict", b"\x01heartbeat", b"\x01state"}
        end_s = time.monotonic() + PATIENCE_S
        while wanted:
            assert time.monotonic() < end_s, "nobody subscribed"
            reading()
            if self.socket.poll(20):
                wanted.discard(self.socket.recv())

    def start_replay(self) -> None:
        """Serve the history."""
        self.serving = Serving(sibling(self.endpoint, 1), self.history)

    def stop_replay(self) -> None:
        """Serve it no more."""
        if self.serving is not None:
            self.serving.stop()
            self.serving = None

    def give(self, *seqs: int, epoch: int = 1, live: bool = True, keep: bool = True, restart: bool = False) -> None:
        """Give verdicts: into the history if kept, onto the feed if live."""
        for seq in seqs:
            message = verdict(seq, epoch, restart=restart)
            self.history.note(message, keep)
            if live:
                self.say(message)

    def say(self, message: VerdictMessage | HeartbeatMessage | StateMessage) -> None:
        """Send a message on its topic."""
        names = {VerdictMessage: b"verdict", HeartbeatMessage: b"heartbeat", StateMessage: b"state"}
        self.socket.send_multipart([names[type(message)], msgspec.json.encode(message)])

    def beat(self, epoch: int = 1) -> None:
        """Send a heartbeat that tells what was given."""
        of_epoch = self.history.kept.setdefault(epoch, Kept())
        self.say(heartbeat(of_epoch.head_seq, epoch))

    def close(self) -> None:
        """Stop everything."""
        self.stop_replay()
        self._end_publishing()


def _publishing(endpoint: str) -> tuple[zmq.Context[zmq.Socket[bytes]], zmq.Socket[bytes]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.XPUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.XPUB_VERBOSE, 1)
    socket.bind(endpoint)
    return context, socket


@contextmanager
def running_feed(replay: bool = True) -> Iterator[Feed]:
    """A feed on a free ipc endpoint; its path is short, because the system allows about 100 characters."""
    with tempfile.TemporaryDirectory(prefix="linegate-") as folder:
        feed = Feed(f"ipc://{folder}/bus")
        try:
            if replay:
                feed.start_replay()
            yield feed
        finally:
            feed.close()

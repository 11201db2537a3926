"""Makes one ordered stream without gaps from a feed that loses messages and a replay that can be asked.

No sockets, no threads, no clock: messages, replies and times go in, verdicts and questions come out.

Everything up to `_at` has been handed out. What comes next is handed out at once; what comes later is held back until replay
has told of everything between. A question is asked again only after `ask_again_s`, unless the answer led further. An answer
that comes late, or twice, is as good as any: what the journal once did not have it will never have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

import msgspec

from edge.bus.messages import HeartbeatMessage, StateMessage, VerdictMessage
from edge.bus.position import Position
from edge.bus.requests import EpochsReply, EpochsRequest, ReplayRequest, VerdictsReply, VerdictsRequest
from edge.errors import BusError

PAGE = 200
ASK_AGAIN_S = 1.0
ROOM = 100_000
"""Live verdicts that may wait behind a gap; more are forgotten and asked for later."""
_REMEMBERED_QUESTIONS = 32

Start: TypeAlias = Literal["now", "oldest"] | Position


class Why(str, Enum):
    """Why verdicts cannot be had any more."""

    PRUNED = "pruned"
    UNRECORDED = "unrecorded"
    UNKNOWN_EPOCH = "unknown_epoch"


@dataclass(frozen=True, slots=True)
class Lost:
    """Verdicts that were given, and that nobody can give to this reader any more.

    Stands in the stream where they would have stood. `pruned`: the journal kept them no longer; `unrecorded`: it should have
    them, and has not; `unknown_epoch`: it does not know their epoch, so that nobody can say how many there were: the
    last of these has no `last_seq`, and may stand for none at all.
    """

    epoch: int
    first_seq: int
    last_seq: int | None
    why: Why


Item: TypeAlias = VerdictMessage | Lost


class Collector:
    """Every verdict since a starting position, exactly once, ordered by epoch and seq; `Lost` where there are none.

    A verdict that did not go straight from the feed to the reader has `is_replay` set, so that it moves no gate: those from
    the replay, and those that were held back behind a gap.
    """

    def __init__(self, start: Start, *, ask_again_s: float = ASK_AGAIN_S, room: int = ROOM, page: int = PAGE) -> None:
        """Begin at a position; at what is given from "now" on; or at the "oldest" that is kept."""
        self.refusal = ""
        """What replay refused last, and what to do about it; empty while it answers."""
        self.started: Position | None = None
        """Where the stream begins; None while that is not known."""
        self._from_oldest = start == "oldest"
        self._ask_again_s, self._room, self._page = ask_again_s, room, page
        self._at: Position | None = None
        self._held: dict[int, dict[int, VerdictMessage]] = {}
        self._heads: dict[int, int] = {}
        self._ended: set[int] = set()
        self._listed: set[int] = set()
        self._newest = 0
        self._doubt = self._unconfirmed = False
        self._questions = 0
        self._asked: dict[type[ReplayRequest], tuple[ReplayRequest, float]] = {}
        self._pending: dict[int, ReplayRequest] = {}
        if isinstance(start, Position):
            self._begin(start)
            self._learn(start.epoch, 0)
            self._doubt = self._unconfirmed = True

    @property
    def position(self) -> Position | None:
        """Everything up to here has been handed out; None while the start is not known."""
        return self._at

    @property
    def held_back(self) -> int:
        """Verdicts that wait behind a gap."""
        return sum(len(held) for held in self._held.values())

    def live(self, message: VerdictMessage | HeartbeatMessage | StateMessage) -> list[Item]:
        """Take a message of the feed; returns what can be handed out now.

        Raises:
            BusError: the starting position is not one of this station.
        """
        if isinstance(message, VerdictMessage):
            return self._live_verdict(message)
        if self._unconfirmed and self._at is not None and message.epoch < self._at.epoch:
            raise BusError(
                f"the station is in epoch {message.epoch}, but the position to go on from is in the later epoch "
                f"{self._at.epoch}",
                "Is it another station's position? Start from `oldest` or `now`, with a new position file.",
            )
        head_seq = 0
        if isinstance(message, HeartbeatMessage):
            head_seq = message.head_seq
            if self._at is None and not self._from_oldest:
                self._begin(Position(message.epoch, head_seq))
        self._learn(message.epoch, head_seq)
        return []

    def _live_verdict(self, verdict: VerdictMessage) -> list[Item]:
        if self._at is None and not self._from_oldest and not verdict.is_replay:
            self._begin(Position(verdict.epoch, verdict.seq - 1))
        self._learn(verdict.epoch, verdict.seq)
        if verdict.is_replay or (self._at is not None and Position(verdict.epoch, verdict.seq) <= self._at):
            return []
        if self._at == Position(verdict.epoch, verdict.seq - 1):
            self._at = Position(verdict.epoch, verdict.seq)
            return [verdict, *self._advance()]
        if self.held_back < self._room:
            self._held.setdefault(verdict.epoch, {})[verdict.seq] = verdict
        return []

    def request(self, now_s: float) -> ReplayRequest | None:
        """What to ask of replay now, if anything; `now_s` is any clock that never goes back."""
        question = self._question()
        if question is None or now_s < self._due_s(question):
            return None
        self._asked[type(question)] = (question, now_s)
        self._questions += 1
        self._pending[self._questions] = question
        self._pending.pop(self._questions - _REMEMBERED_QUESTIONS, None)
        return msgspec.structs.replace(question, id=self._questions)

    def wait_s(self, now_s: float) -> float | None:
        """How long `request` has nothing to ask if nothing comes in; None: until something does."""
        question = self._question()
        return None if question is None else max(0.0, self._due_s(question) - now_s)

    def asked(self, request_id: int) -> ReplayRequest | None:
        """The question that a reply with this id answers; None if there is none, or it is answered."""
        return self._pending.get(request_id)

    def verdicts(self, reply: VerdictsReply, page: Iterable[VerdictMessage]) -> list[Item]:
        """Take a page of verdicts; returns what can be handed out now."""
        asked = self._pending.pop(reply.id, None)
        if not isinstance(asked, VerdictsRequest) or self._at is None or asked.epoch != self._at.epoch:
            return []
        info = reply.info
        if info is None or info.epoch != asked.epoch:
            self.refusal, self._doubt = f"{reply.error}. {reply.remedy}", True
            return []
        self.refusal = ""
        found = {verdict.seq: verdict for verdict in page if verdict.epoch == asked.epoch}
        self._learn(asked.epoch, max(info.head_seq, *found, 0))
        if info.ended:
            self._ended.add(asked.epoch)
        # A page tells what there is up to its last verdict, an empty one that there is nothing more. What an ended epoch's
        # journal does not have will not come, even if the feed told of more than the journal knows.
        last = self._heads[asked.epoch] if info.ended else info.head_seq
        up_to = max(found, default=last)
        return [*self._sweep(self._at, up_to, found, info.first_seq), *self._advance()]

    def epochs(self, reply: EpochsReply) -> list[Item]:
        """Take a list of epochs; returns what can be handed out now."""
        asked = self._pending.pop(reply.id, None)
        if not isinstance(asked, EpochsRequest):
            return []
        if reply.error:
            self.refusal = f"{reply.error}. {reply.remedy}"
            return []
        self.refusal = ""
        for info in reply.epochs:
            self._listed.add(info.epoch)
            self._learn(info.epoch, info.head_seq)
            if info.ended:
                self._ended.add(info.epoch)
        if self._at is None:
            oldest = min(reply.epochs, key=lambda info: info.epoch, default=None)
            if oldest is None:
                return []
            self._begin(Position(oldest.epoch, max(0, oldest.first_seq - 1)))
            return self._advance()
        told = {info.epoch for info in reply.epochs}
        if asked.after >= self._at.epoch:
            return []
        self._doubt = False
        # Epochs only grow: a journal that knows later ones, but not this one, has forgotten it.
        forgotten = self._at.epoch not in told and any(epoch > self._at.epoch for epoch in told)
        return [*(self._abandon(self._at) if forgotten else ()), *self._advance()]

    def _question(self) -> ReplayRequest | None:
        """What must be known before anything more can be handed out; None while nothing is missing."""
        if self._at is None:
            return EpochsRequest() if self._from_oldest else None
        epoch, seq = self._at.epoch, self._at.seq
        if not self._doubt and self._heads.get(epoch, 0) > seq:
            return VerdictsRequest(epoch=epoch, from_seq=seq + 1, limit=self._page)
        if self._doubt or self._newest > epoch:
            return EpochsRequest(after=max(0, epoch - 1))
        return None

    def _due_s(self, question: ReplayRequest) -> float:
        last, asked_s = self._asked.get(type(question), (None, 0.0))
        return asked_s + self._ask_again_s if last == question else float("-inf")

    def _begin(self, position: Position) -> None:
        self._at = self.started = position
        self._forget_before(position)

    def _learn(self, epoch: int, head_seq: int) -> None:
        """An epoch exists, and had verdicts up to here."""
        self._newest = max(self._newest, epoch)
        if self._at is None or epoch >= self._at.epoch:
            self._heads[epoch] = max(self._heads.get(epoch, 0), head_seq)
            self._unconfirmed = False

    def _advance(self) -> list[Item]:
        """Hand out what is held and comes next, over the ends of epochs that are complete."""
        items: list[Item] = []
        while self._at is not None:
            epoch, seq = self._at.epoch, self._at.seq
            held = self._held.get(epoch, {})
            while seq + 1 in held:
                seq += 1
                items.append(_late(held.pop(seq)))
            self._at = Position(epoch, seq)
            complete = epoch in self._ended and self._heads.get(epoch, 0) <= seq
            following = min((listed for listed in self._listed if listed > epoch), default=None)
            if not complete or following is None:
                break
            self._enter(following)
        return items

    def _sweep(
        self, at: Position, up_to: int, found: Mapping[int, VerdictMessage], first_kept: int | None
    ) -> list[Item]:
        """Hand out all that there is of this epoch up to a seq; what is neither found nor held is lost."""
        epoch, seq = at.epoch, at.seq
        held = self._held.get(epoch, {})
        there = range(seq + 1, up_to + 1) if up_to - seq <= len(held) else sorted({*found, *held})
        items: list[Item] = []
        for had in there:
            if seq < had <= up_to and (had in held or had in found):
                items += _lost(epoch, seq + 1, had - 1, first_kept)
                items.append(_late(held.pop(had) if had in held else found[had]))
                seq = had
        items += _lost(epoch, seq + 1, up_to, first_kept)
        self._at = Position(epoch, max(seq, up_to))
        return items

    def _abandon(self, at: Position) -> list[Item]:
        """Leave an epoch that the journal does not know."""
        up_to = max(at.seq, self._heads.get(at.epoch, 0))
        items = self._sweep(at, up_to, {}, None)
        items.append(Lost(at.epoch, up_to + 1, None, Why.UNKNOWN_EPOCH))
        self._enter(min(epoch for epoch in self._listed if epoch > at.epoch))
        return items

    def _enter(self, epoch: int) -> None:
        self._at = Position(epoch, 0)
        self._forget_before(self._at)

    def _forget_before(self, position: Position) -> None:
        epoch = position.epoch
        self._heads = {e: head for e, head in self._heads.items() if e >= epoch}
        self._held = {e: held for e, held in self._held.items() if e >= epoch}
        for seq in [s for s in self._held.get(epoch, ()) if s <= position.seq]:
            del self._held[epoch][seq]
        self._ended = {e for e in self._ended if e >= epoch}
        self._listed = {e for e in self._listed if e >= epoch}


def _late(verdict: VerdictMessage) -> VerdictMessage:
    return verdict if verdict.is_replay else msgspec.structs.replace(verdict, is_replay=True)


def _lost(epoch: int, first_seq: int, last_seq: int, first_kept: int | None) -> list[Item]:
    """What is missing from `first_seq` to `last_seq`, split where the journal begins."""
    if first_kept is None:
        return [Lost(epoch, first_seq, last_seq, Why.UNKNOWN_EPOCH)] if first_seq <= last_seq else []
    split = max(first_seq, min(first_kept, last_seq + 1))
    pruned = [Lost(epoch, first_seq, split - 1, Why.PRUNED)] if first_seq < split else []
    return [*pruned, *([Lost(epoch, split, last_seq, Why.UNRECORDED)] if split <= last_seq else [])]

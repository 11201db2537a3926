"""The line: a photo-eye that triggers the station for each part, over the control endpoint, and asks again until answered."""

from __future__ import annotations

import time
from dataclasses import dataclass

import msgspec
import numpy as np
import zmq

from edge.bus.requests import (
    ActivateCommand,
    Command,
    PrepareCommand,
    Reply,
    StatusCommand,
    StatusReply,
    TriggerCommand,
)
from edge.bus.subscriber import CurveClient
from tests.bench.chaos.world import KINDS, PRODUCTS

ASK_AGAIN_S = 0.5
COMMAND_S = 3.0
FIRST_COMMAND_ID = 1 << 40
_REPLIES = msgspec.json.Decoder(Reply)


@dataclass
class Part:
    """One part that has passed and whose trigger is not acknowledged yet."""

    part_id: str
    asked_s: float


class Line:
    """Parts at a fixed rate, whatever the station does. One part never has two trigger ids, and none is left unasked."""

    def __init__(self, endpoint: str, rate_hz: float, seed: int, keys: CurveClient | None = None) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.setsockopt(zmq.RECONNECT_IVL, 20)
        self._socket.setsockopt(zmq.RECONNECT_IVL_MAX, 100)
        if keys is not None:
            keys.apply(self._socket)
        self._socket.connect(endpoint)
        self._random = np.random.default_rng(seed)
        self._period_s, self._least_s = 1 / rate_hz, 0.4 / rate_hz
        self._due_s = self._last_s = time.monotonic()
        self._waiting: dict[int, Part] = {}
        self._command_id = FIRST_COMMAND_ID
        self._command: tuple[int, float] | None = None
        self._answer: Reply | None = None
        self.acknowledged: dict[int, tuple[int, int]] = {}
        self.contradictions = 0
        self.passed = 0
        self.product = PRODUCTS[0]
        self.changeovers = 0
        self._change: str = ""
        self._hash = ""

    # Parts.

    def pass_part(self) -> int:
        """A part passes the photo-eye now."""
        self.passed += 1
        number = self.passed
        part_id = f"{self.product}-{int(self._random.integers(KINDS))}-{number}"
        self._waiting[number] = Part(part_id, 0.0)
        self._ask(number)
        self._last_s = time.monotonic()
        return number

    def repeat(self, number: int) -> None:
        """The photo-eye bounces: the same trigger once more."""
        if number in self._waiting:
            self._ask(number)

    def _ask(self, number: int) -> None:
        part = self._waiting[number]
        part.asked_s = time.monotonic()
        self._send(TriggerCommand(id=number, part_id=part.part_id, trigger_id=f"eye-{number}"))

    def _send(self, command: Command) -> None:
        try:
            self._socket.send(msgspec.json.encode(command), flags=zmq.NOBLOCK)
        except zmq.Again:
            return

    def step(self, most: int, timeout_ms: int = 2) -> None:
        """Pass what is due, up to `most` parts in all; take what the station has answered."""
        now = time.monotonic()
        if self._may_pass() and self.passed < most and now >= self._due_s and now - self._last_s >= self._least_s:
            self.pass_part()
            self._due_s += self._period_s
        self._socket.poll(timeout_ms)
        while self._socket.poll(0):
            self._take(_REPLIES.decode(self._socket.recv_multipart()[-1]))
        now = time.monotonic()
        for number in [n for n, part in self._waiting.items() if now - part.asked_s > ASK_AGAIN_S][:50]:
            self._ask(number)
        self._change_step()

    def _take(self, reply: Reply) -> None:
        if reply.id >= FIRST_COMMAND_ID:
            if self._command is not None and reply.id == self._command[0]:
                self._answer = reply
            return
        if reply.error:
            return
        place = (reply.epoch, reply.trigger_seq)
        if self._waiting.pop(reply.id, None) is None and self.acknowledged.get(reply.id) != place:
            self.contradictions += 1
        self.acknowledged[reply.id] = place

    @property
    def unanswered(self) -> int:
        """Parts whose trigger the station has not acknowledged."""
        return len(self._waiting)

    # Changeover: prepare while parts pass, then let the last ones be acknowledged, then activate.

    def change(self) -> None:
        """Begin a changeover to the other product, unless one is going on."""
        if not self._change:
            self._change = "prepare"

    @property
    def changing(self) -> bool:
        """Whether one is going on."""
        return bool(self._change)

    def _may_pass(self) -> bool:
        return self._change not in ("drain", "activate")

    def _change_step(self) -> None:
        if not self._change:
            return
        other = PRODUCTS[1 - PRODUCTS.index(self.product)]
        if self._change == "prepare":
            answer = self._ask_command(PrepareCommand(product=other))
            if answer is not None and not answer.error:
                self._hash, self._change = answer.recipe_hash, "drain"
        elif self._change == "drain":
            if not self._waiting:
                self._change = "activate"
        elif self._change == "activate":
            answer = self._ask_command(ActivateCommand(recipe_hash=self._hash))
            if answer is not None and not answer.error:
                self._changed(other)
            elif answer is not None:
                # It was killed in between, or the answer was lost: what is active decides.
                self._change = "look"
        elif self._change == "look":
            answer = self._ask_command(StatusCommand())
            if answer is not None and answer.status is not None:
                if answer.status.product == other:
                    self._changed(other)
                else:
                    self._change = "prepare"

    def _changed(self, product: str) -> None:
        self.product, self._change = product, ""
        self.changeovers += 1

    def _ask_command(self, command: Command) -> Reply | None:
        """The answer, when it has come; asks again after a while."""
        answer, self._answer = self._answer, None
        if answer is not None:
            self._command = None
            return answer
        now = time.monotonic()
        if self._command is None or now - self._command[1] > COMMAND_S:
            self._command_id += 1
            self._command = (self._command_id, now)
            self._send(msgspec.structs.replace(command, id=self._command_id))
        return None

    def status(self, timeout_s: float) -> StatusReply | None:
        """How the station is; None if it does not say."""
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            answer = self._ask_command(StatusCommand())
            if answer is not None and answer.status is not None:
                return answer.status
            self.step(0)
        return None

    def close(self) -> None:
        """Disconnect."""
        self._socket.close()
        self._context.term()

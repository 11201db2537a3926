"""The route of one frame, on one page.

    trigger -> camera -> Frame -> preprocess -> condition -> encoder -> matching decoder -> verdict -> bus
                 |____________ the ledger opens here and closes with exactly one verdict ____________|

Three stages run in three threads: grab, judge, publish. The hand-offs between them are bounded. A frame that finds the
first one full is judged NOT_DECIDABLE (overload) at once; the second is waited for, because the publisher never blocks.
Only the publishing stage closes entries of the ledger, so a deadline and a result can't both win.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import deque

from edge.bus.compose import Composer, Judged
from edge.bus.messages import State
from edge.bus.publisher import Publisher
from edge.bus.topics import HEARTBEAT, MASK, VERDICT
from edge.cameras.base import Camera, StreamEnded
from edge.engines.base import Engine
from edge.errors import EngineError, PictureError
from edge.judge import judge_picture
from edge.ledger import Ledger
from edge.recipe import Recipe
from edge.types import Frame, FrameStatus, Reason, Verdict
from edge.verdict import undecided

TICK_S = 0.05
OUTBOX_VERDICTS = 1024
WAITING_MASKS = 16
FOREVER_NS = 1 << 63


def judge_frame(frame: Frame, engine: Engine, recipe: Recipe) -> Verdict:
    """The verdict on one frame. A stage that fails gives NOT_DECIDABLE and its reason, never a default score."""
    threshold = recipe.info.threshold
    if frame.pixels is None or frame.status is not FrameStatus.COMPLETE:
        return undecided(Reason.FRAME_INCOMPLETE, frame.fault or "the frame did not arrive whole", threshold.value)
    try:
        return judge_picture(frame.pixels, engine, recipe)[0]
    except PictureError as error:
        return undecided(Reason.UNFIT_IMAGE, str(error), threshold.value)
    except EngineError as error:
        return undecided(Reason.ENGINE_FAULT, str(error), threshold.value)


class Pipeline:
    """The three stages of one station. Each stage method runs in a thread of its own until the stream ends or `stop`."""

    def __init__(
        self,
        camera: Camera,
        engine: Engine,
        recipe: Recipe,
        publisher: Publisher,
        composer: Composer,
        *,
        deadline_ns: int,
        queue_frames: int,
        heartbeat_ns: int,
    ) -> None:
        self.ledger = Ledger(deadline_ns)
        self.state = State.READY
        self._camera, self._engine, self._recipe = camera, engine, recipe
        self._publisher, self._composer = publisher, composer
        self._frames: queue.Queue[Frame] = queue.Queue(queue_frames)
        self._outbox: queue.Queue[Judged] = queue.Queue(OUTBOX_VERDICTS)
        self._masks: deque[tuple[Judged, int]] = deque()
        self._stopping = threading.Event()
        self._grab_ended = threading.Event()
        self._fault = ""
        self._fault_reason = Reason.ENGINE_FAULT
        self._head_seq = 0
        self._heartbeat_ns = heartbeat_ns
        self._heartbeat_due = 0
        self._stall_ns = deadline_ns + heartbeat_ns
        # A trigger may open while the publisher waits: it must wake well within the shortest deadline.
        self._tick_s = min(TICK_S, deadline_ns / 1e9 / 10)
        self._progress_ns = dict.fromkeys(("grab", "judge"), time.monotonic_ns())

    def stop(self) -> None:
        """Grab no more; every open trigger still gets its verdict."""
        self._stopping.set()
        self._camera.close()

    def fail(self, fault: str, reason: Reason) -> None:
        """A stage is broken for good: close every open trigger as NOT_DECIDABLE and end in state Error."""
        self._fault_reason = reason
        self._fault = fault
        self.stop()

    def give_up_camera(self) -> None:
        """The camera does not return from its last call: do not wait for it any longer."""
        self._grab_ended.set()

    def bury(self) -> None:
        """The publishing stage is gone: close what is open in the ledger, and tell subscribers if that still works."""
        self.state = State.ERROR
        self._grab_ended.set()
        for trigger in self.ledger.expired(FOREVER_NS):
            # What cannot be sent stays rejected at the PLC: the missing heartbeat tells it so.
            with contextlib.suppress(Exception):
                self._close(Judged(trigger, undecided(self._fault_reason, self._fault)))
        with contextlib.suppress(Exception):
            self._send_heartbeat()

    def grab_stage(self) -> None:
        """Camera to the first hand-off."""
        self.state = State.CONTINUOUS_EXECUTION
        try:
            while not self._stopping.is_set():
                self._progress_ns["grab"] = time.monotonic_ns()
                frame = self._camera.grab(TICK_S)
                if frame is not None:
                    self._take(frame)
        except StreamEnded:
            pass
        finally:
            self._grab_ended.set()

    def _take(self, frame: Frame) -> None:
        """From here on the frame's trigger is owed a verdict."""
        self.ledger.open(frame.trigger)
        try:
            self._frames.put_nowait(frame)
        except queue.Full:
            verdict = undecided(Reason.OVERLOAD, "more frames than this machine can judge")
            self._outbox.put(Judged(frame.trigger, verdict, frame))

    def judge_stage(self) -> None:
        """First hand-off to the second: preprocess, condition, encoder, decoder, verdict."""
        while not (self._grab_ended.is_set() and self._frames.empty()):
            self._progress_ns["judge"] = time.monotonic_ns()
            try:
                frame = self._frames.get(timeout=TICK_S)
            except queue.Empty:
                continue
            verdict = judge_frame(frame, self._engine, self._recipe)
            self._outbox.put(Judged(frame.trigger, verdict, frame, time.monotonic_ns()))

    def publish_stage(self) -> None:
        """Second hand-off to the bus; deadlines and heartbeats. Ends when every trigger has its verdict."""
        self._progress_ns = dict.fromkeys(self._progress_ns, time.monotonic_ns())
        while not (self._grab_ended.is_set() and self.ledger.counts().in_flight == 0):
            self._close_expired()
            try:
                judged = self._outbox.get(timeout=self._patience_s())
            except queue.Empty:
                self._send_mask()
            else:
                self._close_expired()
                self._close(judged)
            self._send_heartbeat_if_due()
            if self._fault:
                for trigger in self.ledger.expired(FOREVER_NS):
                    self._close(Judged(trigger, undecided(self._fault_reason, self._fault)))
        while self._masks:
            self._send_mask()
        self.state = State.ERROR if self._fault else State.HALTED
        self._send_heartbeat()

    def _patience_s(self) -> float:
        """How long the publisher may wait for the next verdict before it has something else to do."""
        if self._masks:
            return 0.0
        now = time.monotonic_ns()
        due = min(self._heartbeat_due, self.ledger.next_deadline_ns() or self._heartbeat_due)
        return min(self._tick_s, max(0.0, (due - now) / 1e9))

    def _close_expired(self) -> None:
        for trigger in self.ledger.expired(time.monotonic_ns()):
            self._close(Judged(trigger, undecided(Reason.DEADLINE_MISSED, "no verdict was ready by the deadline")))

    def _close(self, judged: Judged) -> None:
        if not self.ledger.close(judged.trigger, judged.verdict):
            return
        self._head_seq += 1
        self._publisher.send(VERDICT, self._composer.verdict(judged, self._head_seq))
        if judged.verdict.mask is not None:
            self._masks.append((judged, self._head_seq))
            if len(self._masks) > WAITING_MASKS:
                self._send_mask()

    def _send_mask(self) -> None:
        if self._masks:
            message, png = self._composer.mask(*self._masks.popleft())
            self._publisher.send(MASK, message, png)

    def _send_heartbeat_if_due(self) -> None:
        now = time.monotonic_ns()
        if now < self._heartbeat_due:
            return
        self._heartbeat_due = now + self._heartbeat_ns
        self._publisher.note_subscriptions()
        stalled = any(now - stamp > self._stall_ns for stamp in self._progress_ns.values())
        if not stalled or self._grab_ended.is_set():
            self._send_heartbeat()

    def _send_heartbeat(self) -> None:
        message = self._composer.heartbeat(self.ledger.counts(), self._head_seq, self.state)
        self._publisher.send(HEARTBEAT, message)

"""The route of one frame, on one page.

    trigger -> intake -> camera -> Frame -> preprocess -> condition -> encoder -> matching decoder -> verdict -> outlet -> bus
                  |_________ the ledger's entry opens here and closes with exactly one verdict __________|

Three stages run in three threads: grab, judge, publish. The hand-offs between them are bounded: a frame that finds the
first one full is judged NOT_DECIDABLE (overload) at once. The second holds no more than one verdict an open trigger, and the
pictures of a few of them.
Only the publishing stage closes entries of the ledger, so a deadline and a result can't both win. A stage that hangs or
breaks can be left behind: `lose_engine` and `lose_camera` make its thread's later results worthless.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from dataclasses import dataclass, replace

from edge.bus.compose import Judged, judged_now
from edge.bus.messages import ENDED, State
from edge.cameras.base import Camera, StreamEnded
from edge.engines.base import Engine
from edge.errors import BusError, CameraError
from edge.intake import Intake, Opened, StationEnding
from edge.judge import judge_frame
from edge.ledger import Entry, Ledger
from edge.logs import log_event
from edge.outlet import Outlet, missed
from edge.signals import Signals
from edge.types import Frame, Reason, Trigger
from edge.verdict import undecided

TICK_S = 0.05
_LOG = logging.getLogger("linegate.pipeline")
WAITING_PICTURES = 64
LAST_MASKS_S = 5.0


@dataclass(frozen=True, slots=True)
class Work:
    """A frame that waits for the engine, and the entry that waits for the frame's verdict."""

    entry: Entry
    frame: Frame


class Pipeline:
    """The three stages of one station. Each stage method runs in a thread of its own until the stream ends or `stop`."""

    def __init__(
        self,
        camera: Camera,
        engine: Engine,
        ledger: Ledger,
        intake: Intake,
        outlet: Outlet,
        signals: Signals,
        *,
        queue_frames: int,
    ) -> None:
        self.ledger, self.intake, self.outlet, self.signals = ledger, intake, outlet, signals
        self.engine_faults = 0
        self._camera: Camera | None = camera
        self._engine: Engine | None = engine
        self._awaiting: dict[Trigger, Entry] = {}
        self._frames: queue.Queue[Work] = queue.Queue(queue_frames)
        self._outbox: queue.SimpleQueue[Judged] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._grab_ended = threading.Event()
        self._fault = ""
        self._fault_reason = Reason.ENGINE_FAULT
        self._in_hand: Work | None = None
        self._engine_lock = threading.Lock()
        # A trigger may open while the publisher waits: it must wake well within the shortest deadline.
        self._tick_s = min(TICK_S, ledger.deadline_ns / 1e9 / 10)

    # Triggers and frames come in: from the camera, or from the control endpoint.

    def trigger(self, trigger: Trigger) -> Opened:
        """A part is here: from now on it is owed a verdict. For triggers that the camera does not see by itself.

        Raises:
            StationEnding: no more triggers are taken.
        """
        if self._stopping.is_set():
            raise StationEnding("the station is ending", "Start it again.")
        opened = self._open(trigger)
        if opened.entry is not None and opened.refusal is None:
            camera = self._camera
            try:
                if camera is not None and time.monotonic_ns() < opened.entry.deadline_ns:
                    camera.fire(trigger)
            except (CameraError, OSError) as error:
                self._give_up(opened.entry, Reason.CAMERA_LOST, str(error))
        return opened

    def _open(self, trigger: Trigger) -> Opened:
        opened = self.intake.open(trigger)
        if opened.entry is not None:
            if opened.refusal is None:
                self._awaiting[trigger] = opened.entry
                if not self.ledger.is_open(opened.entry):
                    # Its deadline passed meanwhile, and the publisher looked for it here too early.
                    self._awaiting.pop(trigger, None)
            else:
                self._hand_on(Judged(opened.entry, opened.refusal))
        return opened

    def _take(self, frame: Frame) -> None:
        entry = self._awaiting.pop(frame.trigger, None)
        if entry is None:
            self.signals.unclaimed += 1
            return
        try:
            self._frames.put_nowait(Work(entry, frame))
        except queue.Full:
            verdict = undecided(Reason.OVERLOAD, "more frames than this machine can judge")
            self._hand_on(Judged(entry, verdict, frame))

    def _note_part(self, arrival: Trigger | Frame | None) -> None:
        """What a camera delivers that was left behind: its picture is worthless, but a part that it saw counts."""
        if isinstance(arrival, Trigger):
            opened = self._open(arrival)
            if opened.entry is not None and opened.refusal is None:
                self._give_up(opened.entry, Reason.CAMERA_LOST, "the camera that saw this part was left behind")

    def _hand_on(self, judged: Judged) -> None:
        """To the publishing stage. While that is held up, verdicts wait without their pictures."""
        if judged.frame is not None and self._outbox.qsize() >= WAITING_PICTURES:
            judged = replace(judged, frame=replace(judged.frame, pixels=None))
        self._outbox.put(judged)

    def _give_up(self, entry: Entry, reason: Reason, why: str) -> None:
        self._awaiting.pop(entry.trigger, None)
        self._hand_on(Judged(entry, undecided(reason, why)))

    # The three stages.

    def grab_stage(self) -> None:
        """Camera to the first hand-off."""
        camera = self._camera
        try:
            while camera is not None and not self._stopping.is_set():
                self.signals.progress("grab")
                arrival = camera.grab(TICK_S)
                if camera is not self._camera:
                    self._note_part(arrival)
                    return
                if isinstance(arrival, Trigger):
                    self._open(arrival)
                elif arrival is not None:
                    self._take(arrival)
        except (StreamEnded, StationEnding):
            pass
        if camera is self._camera:
            self._grab_ended.set()

    def judge_stage(self) -> None:
        """First hand-off to the second: preprocess, condition, encoder, decoder, verdict."""
        engine = self._engine
        while not (self._grab_ended.is_set() and self._frames.empty()):
            if engine is None or engine is not self._engine:
                return
            self.signals.progress("judge")
            try:
                work = self._frames.get(timeout=TICK_S)
            except queue.Empty:
                continue
            recipe = work.entry.job.recipe
            if recipe is None or not self.ledger.is_open(work.entry):
                self.outlet.note_late(work.entry)
                continue
            if not self._take_in_hand(work, engine):
                return
            verdict = judge_frame(work.frame, engine, recipe)
            judged = judged_now(work.entry, verdict, work.frame)
            with self._engine_lock:
                if engine is not self._engine:
                    # Somebody else has given this part its verdict, because this engine took too long.
                    self.outlet.note_late(work.entry, judged)
                    return
                self._in_hand = None
                self.engine_faults = self.engine_faults + 1 if verdict.reason is Reason.ENGINE_FAULT else 0
                self._hand_on(judged)

    def _take_in_hand(self, work: Work, engine: Engine) -> bool:
        """Whether this engine is the one to judge it; one that was left behind gives it back to the next."""
        with self._engine_lock:
            if engine is self._engine:
                self._in_hand = work
                return True
        with self._frames.mutex:
            # To its old place: parts are judged in order.
            self._frames.queue.appendleft(work)
            self._frames.not_empty.notify()
        return False

    def publish_stage(self) -> None:
        """Second hand-off to the bus; deadlines, states and heartbeats. Ends when every trigger has its verdict."""
        outlet, signals = self.outlet, self.signals
        while not self._all_given():
            self._close_expired()
            try:
                judged = self._outbox.get(timeout=self._patience_s())
            except queue.Empty:
                pass
            else:
                self._close_expired()
                outlet.give(judged)
            outlet.send_mask()
            if self._fault:
                self._close_all()
            signals.send_if_due(self.ledger.counts(), ending=self._grab_ended.is_set())
            # Last, so that nobody gets a heartbeat as last value that would not be sent now.
            outlet.publisher.answer_subscriptions()
        outlet.send_last_masks(LAST_MASKS_S)
        self._end()

    def _all_given(self) -> bool:
        """Whether no more triggers can come and every one has its verdict."""
        if not self._grab_ended.is_set():
            return False
        self.intake.close()
        return self.ledger.counts().in_flight == 0

    def _patience_s(self) -> float:
        """How long the publisher may wait for the next verdict before it has something else to do."""
        due = min(self.signals.due_ns, self.ledger.next_deadline_ns() or self.signals.due_ns)
        return min(self._tick_s, max(0.0, (due - time.monotonic_ns()) / 1e9))

    def _close_expired(self) -> None:
        for entry in self.ledger.expired(time.monotonic_ns()):
            self._awaiting.pop(entry.trigger, None)
            self.outlet.give(missed(entry))

    def _close_all(self) -> None:
        for entry in self.ledger.all_open():
            self.outlet.give(Judged(entry, undecided(self._fault_reason, self._fault)))

    def _end(self) -> None:
        self.signals.state, self.signals.detail = State.ERROR if self._fault else State.HALTED, self._fault
        self.signals.send(self.ledger.counts())

    # What the supervisor does to it.

    @property
    def grab_ended(self) -> bool:
        """Whether no more frames will come."""
        return self._grab_ended.is_set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to end."""
        return self._stopping.is_set()

    def lose_engine(self, why: str) -> None:
        """Leave the engine behind, and the thread that may hang in it."""
        with self._engine_lock:
            self._engine = None
            work, self._in_hand = self._in_hand, None
        if work is not None and self.ledger.is_open(work.entry):
            self._hand_on(Judged(work.entry, undecided(Reason.ENGINE_FAULT, why), work.frame))

    def replace_engine(self, engine: Engine) -> None:
        """Judge with another engine; a new `judge_stage` must be started."""
        self.engine_faults = 0
        self._engine = engine

    def lose_camera(self, why: str) -> None:
        """Leave the camera behind, and the thread that may hang in it.

        Frames that were asked for won't come, nor will those that are asked for until there is a new camera.
        """
        self.intake.camera_fault = why
        camera, self._camera = self._camera, None
        if camera is not None:
            shut(camera)
        for entry in list(self._awaiting.values()):
            self._give_up(entry, Reason.CAMERA_LOST, why)

    def replace_camera(self, camera: Camera) -> None:
        """Take frames from another camera; a new `grab_stage` must be started."""
        self._camera = camera
        self.intake.camera_fault = ""

    def stop(self) -> None:
        """Grab no more; every open trigger still gets its verdict."""
        self._stopping.set()
        camera = self._camera
        if camera is not None:
            shut(camera)

    def fail(self, fault: str, reason: Reason) -> None:
        """A stage is broken for good: close every open trigger as NOT_DECIDABLE and end in state Error."""
        self._fault_reason = reason
        self._fault = fault
        self.stop()

    def give_up_camera(self) -> None:
        """The camera does not return from its last call: do not wait for it any longer."""
        self._grab_ended.set()

    def bury(self, fault: str) -> None:
        """The publishing stage is gone for good: close what is open in the ledger and the journal, if not on the bus."""
        self.intake.close()
        self._grab_ended.set()
        self._fault = self._fault or fault
        for entry in self.ledger.all_open():
            # What cannot be sent stays rejected at the PLC: the missing heartbeat tells it so.
            with contextlib.suppress(Exception):
                self.outlet.give(Judged(entry, undecided(self._fault_reason, self._fault)))
        with contextlib.suppress(BusError):
            self._end()

    @property
    def ended(self) -> bool:
        """Whether every trigger has its verdict and no more will come."""
        return self.signals.state in ENDED


def shut(camera: Camera) -> None:
    """Give a camera back that may be gone already: whatever it says to that changes nothing."""
    try:
        camera.close()
    except Exception as error:  # noqa: BLE001 - it must not keep a station from ending, or from opening another one
        log_event(_LOG, "camera_not_closed", level="warning", error=error)

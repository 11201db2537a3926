"""What the station tells about itself: state and heartbeat, sent only while every stage makes progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge.bus.messages import HeartbeatMessage, JournalState, Mode, State, StateMessage
from edge.bus.topics import HEARTBEAT
from edge.intake import Intake
from edge.ledger import Counts
from edge.outlet import Outlet

STAGES = ("grab", "judge")
STALL_TICK_NS = 20_000_000


@dataclass(frozen=True, slots=True)
class JournalHealth:
    """How the journal is, as the heartbeat tells it."""

    state: JournalState
    lost: int
    pictures_lost: int


@dataclass(frozen=True, slots=True)
class Identity:
    """What stays the same during a run."""

    station_id: str
    epoch: int
    package_hash: str
    config_hash: str
    software_version: str
    replay_endpoint: str
    control_endpoint: str
    plaintext_remote: bool


class Signals:
    """Heartbeats at a fixed rate, and the state at every change. `state` and `detail` may be set by any thread."""

    def __init__(
        self,
        identity: Identity,
        intake: Intake,
        outlet: Outlet,
        journal: Callable[[], JournalHealth],
        *,
        heartbeat_ns: int,
        stall_ns: int,
        single: bool,
        on_progress: Callable[[], None],
    ) -> None:
        self.identity = identity
        self.state, self.detail = State.PREOPERATIONAL, ""
        self.unclaimed = 0
        self.due_ns = 0
        self._intake, self._outlet, self._journal = intake, outlet, journal
        self._heartbeat_ns, self._stall_ns, self._single = heartbeat_ns, stall_ns, single
        self._on_progress = on_progress
        self._progress_ns = dict.fromkeys(STAGES, time.monotonic_ns())
        self._excused_ns = dict(self._progress_ns)
        self._told: tuple[object, ...] = ()

    def announce(self, control_endpoint: str) -> None:
        """Where commands are taken: known last, because commands need all the rest."""
        self.identity = replace(self.identity, control_endpoint=control_endpoint)

    def progress(self, stage: str) -> None:
        """A stage has come round once more."""
        self._progress_ns[stage] = time.monotonic_ns()

    def excuse(self, stage: str) -> None:
        """A stage may have been held up by something else: it hangs only if it does not come round from now on.

        No progress either: heartbeats wait until it has come round. What is none of the stages that are watched is ignored.
        """
        if stage in self._excused_ns:
            self._excused_ns[stage] = time.monotonic_ns()

    def stalled_ns(self, stage: str, now_ns: int) -> int:
        """How long before `now_ns` a stage came round or was excused."""
        return now_ns - max(self._progress_ns[stage], self._excused_ns[stage])

    @property
    def running_state(self) -> State:
        """The state of a station that is not about to end."""
        if self._intake.job.recipe is None:
            return State.INITIALIZED
        return State.READY if self._single else State.CONTINUOUS_EXECUTION

    def send_if_due(self, counts: Counts, *, ending: bool) -> None:
        """Send the state if it has changed, and a heartbeat if it is time and no stage stalls."""
        if not ending and self.state not in (State.HALTED, State.ERROR):
            executes = self.running_state is State.READY and counts.in_flight > 0
            self.state = State.SINGLE_EXECUTION if executes else self.running_state
        self._send_state_if_changed()
        now = time.monotonic_ns()
        if not ending and any(now - stamp > self._stall_ns for stamp in self._progress_ns.values()):
            # Nor does a late joiner get the last heartbeat now: it would look like a sign of life.
            self._outlet.publisher.forget(HEARTBEAT)
            self.due_ns = now + min(self._heartbeat_ns, STALL_TICK_NS)
            return
        self._on_progress()
        if now >= self.due_ns:
            self.due_ns = now + self._heartbeat_ns
            self._outlet.send_heartbeat(self.heartbeat(counts))

    def tell(self) -> None:
        """Send the state, before the stages run."""
        self._send_state_if_changed()

    def send(self, counts: Counts) -> None:
        """Send both, whatever the stages do: for the end."""
        self._send_state_if_changed()
        self._outlet.send_heartbeat(self.heartbeat(counts))

    def forget_told(self) -> None:
        """Nobody has heard of the state: the publisher is new."""
        self._told = ()

    def _send_state_if_changed(self) -> None:
        job = self._intake.job
        now = (self.state, self.detail, job)
        if now != self._told:
            self._told = now
            self._outlet.send_state(self.state_message())

    def state_message(self) -> StateMessage:
        """The state now."""
        identity, provenance = self.identity, self._intake.job.provenance
        return StateMessage(
            station_id=identity.station_id,
            epoch=identity.epoch,
            state=self.state,
            mode=self._intake.job.mode,
            detail=self.detail,
            product=provenance.product,
            recipe_revision=provenance.recipe_revision,
            recipe_hash=provenance.recipe_hash,
            package_hash=identity.package_hash,
            config_hash=identity.config_hash,
            software_version=identity.software_version,
            first_trigger_seq=self._intake.first_seq,
            replay_endpoint=identity.replay_endpoint,
            control_endpoint=identity.control_endpoint,
            wall_us=time.time_ns() // 1000,
        )

    def heartbeat(self, counts: Counts) -> HeartbeatMessage:
        """The counts now."""
        mode: Mode = self._intake.job.mode
        journal = self._journal()
        return HeartbeatMessage(
            station_id=self.identity.station_id,
            epoch=self.identity.epoch,
            head_seq=self._outlet.head_seq,
            triggers_seen=counts.triggers_seen,
            ok=counts.ok,
            not_ok=counts.not_ok,
            not_decidable=counts.not_decidable,
            in_flight=counts.in_flight,
            missed=counts.missed,
            late=counts.late,
            overruns=counts.overruns,
            duplicates=self._intake.duplicates,
            unclaimed=self.unclaimed,
            state=self.state,
            mode=mode,
            journal=journal.state,
            journal_lost=journal.lost,
            pictures_lost=journal.pictures_lost,
            masks_lost=self._outlet.masks_lost,
            plaintext_remote=self.identity.plaintext_remote,
            wall_us=time.time_ns() // 1000,
        )

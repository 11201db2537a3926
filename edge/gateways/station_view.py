"""What the bus tells of the station: whether it lives and judges, with which recipe, and which verdicts never came."""

from __future__ import annotations

from dataclasses import dataclass

from edge.bus.messages import ENDED, HeartbeatMessage, Mode, State, StateMessage, VerdictMessage
from edge.gateways.codes import OnlineReason

LEAK = 0.001
"""So much of the time that passes is forgiven: more than two clocks drift apart, less than a feed that falls behind."""
LOWER_EPOCH_BEATS = 3
ODD_VERDICTS = 3


@dataclass(frozen=True, slots=True)
class Missing:
    """Verdicts `first_seq` and the `count - 1` after it did not arrive."""

    epoch: int
    first_seq: int
    count: int


class Punctuality:
    """How late messages are, against the most punctual heartbeats; the two clocks need not agree.

    What piled up on the way, while the network or this process stood still, comes in a burst and is old. A heartbeat that comes
    longer after the last one than it was sent after it is late by the difference, and so are those after it until they have
    caught up.
    """

    def __init__(self) -> None:
        self.late_ns = 0.0
        self.apart_ns = 0
        """How far apart the last two heartbeats were sent."""
        self._last: tuple[int, int] | None = None

    def note(self, now_ns: int, sent_ns: int) -> None:
        """A heartbeat came now."""
        if self._last is not None:
            apart_ns, self.apart_ns = now_ns - self._last[0], sent_ns - self._last[1]
            self.late_ns = max(0.0, self.late_ns + apart_ns - self.apart_ns - LEAK * apart_ns)
            if self.apart_ns <= 0:
                # The sender's clock was set back: what is late cannot be told from that any more.
                self.late_ns = 0.0
        self._last = (now_ns, sent_ns)

    def of(self, now_ns: int, sent_ns: int) -> float:
        """How late something else is that came now."""
        if self._last is None:
            return 0.0
        return self.late_ns + (now_ns - self._last[0]) - (sent_ns - self._last[1])


class StationView:
    """Follows one station. All times are monotonic nanoseconds of this process.

    Only heartbeats prove that it lives: verdicts come from a station that hangs too, when their deadlines pass. It is taken
    for live from the second heartbeat on, while they are punctual.
    """

    def __init__(self, silence_ns: int, station_id: str = "") -> None:
        """Follow the station with this id, or the first one that is heard."""
        self._silence_ns, self._station_id = silence_ns, station_id
        self._news_ns: int | None = None
        self._punctuality = Punctuality()
        self._fresh_beats = 0
        self._refusal: OnlineReason | None = None
        self._odd_verdicts = 0
        self._lower: tuple[int, int] = (0, 0)
        self._next: dict[int, int] = {}
        self.epoch = 0
        self.counts: HeartbeatMessage | None = None
        self.active: StateMessage | None = None
        self.beats = 0
        """Heartbeats that were news."""

    def look(self, now_ns: int) -> None:
        """Notice a silence. Everything that takes a message does so first."""
        if self._news_ns is not None and now_ns - self._news_ns > self._silence_ns:
            self._fresh_beats = 0

    def heartbeat(self, message: HeartbeatMessage, now_ns: int) -> Missing | None:
        """Take a heartbeat; returns the verdicts that it shows to be lost. A copy made for another subscriber is no news."""
        self.look(now_ns)
        if self.counts is not None and (message.epoch, message.wall_us) == (self.counts.epoch, self.counts.wall_us):
            return None
        if message.epoch < self.epoch and not self._goes_back(message.epoch, now_ns):
            return None
        self._enter(message.epoch)
        self._news_ns, self._refusal = now_ns, None
        self.beats += 1
        self.counts = message
        self._fresh_beats += 1
        self._punctuality.note(now_ns, message.wall_us * 1000)
        if message.epoch not in self._next and self._fresh_beats < 2:
            # The first one may be a copy of an old one: what came since is not lost.
            return None
        return self._missing_before(message.epoch, message.head_seq + 1)

    def state(self, message: StateMessage, now_ns: int) -> None:
        """Take a state: which recipe is active. It is no proof of life, because it may be a copy."""
        self.look(now_ns)
        if message.epoch >= self.epoch:
            self._enter(message.epoch)
            self.active, self._odd_verdicts = message, 0

    def verdict(self, message: VerdictMessage, now_ns: int) -> tuple[bool, Missing | None]:
        """Take a live verdict; returns whether it is a new one, and those before it that are lost."""
        self.look(now_ns)
        self._enter(message.epoch)
        expected = self._next.get(message.epoch)
        if message.epoch < self.epoch and expected is None:
            return False, None
        if expected is not None and message.seq < expected:
            return False, None
        missing = self._missing_before(message.epoch, message.seq)
        self._next[message.epoch] = message.seq + 1
        if self.active is not None and message.recipe_hash != self.active.recipe_hash:
            self._odd_verdicts += 1
        return True, missing

    def is_late(self, message: VerdictMessage, now_ns: int) -> bool:
        """Whether this verdict, which came now, was held up after it was given."""
        given_ns = (message.trigger_wall_us + message.publish_after_us) * 1000
        return self._punctuality.of(now_ns, given_ns) > self._silence_ns / 2

    def is_stranger(self, station_id: str) -> bool:
        """Whether this is not the station that is followed."""
        self._station_id = self._station_id or station_id
        return station_id != self._station_id

    def refuse(self, reason: OnlineReason) -> None:
        """Something came that must not be used."""
        self._refusal, self._fresh_beats = reason, 0

    @property
    def lacks_state(self) -> bool:
        """Whether what the station said of its recipe was lost: it must be asked for again."""
        is_missing = self.active is None and self._fresh_beats >= 2
        return is_missing or self._odd_verdicts >= ODD_VERDICTS

    @property
    def apart_ns(self) -> int:
        """How far apart the last two heartbeats were sent."""
        return self._punctuality.apart_ns

    def head_of(self, epoch: int, head_seq: int) -> Missing | None:
        """An earlier run had so many verdicts; returns those that did not arrive."""
        return self._missing_before(epoch, head_seq + 1) if epoch in self._next else None

    def reason(self, now_ns: int) -> OnlineReason:
        """Whether the station judges parts for the gate, and if not, why not."""
        self.look(now_ns)
        beat, active = self.counts, self.active
        found = OnlineReason.ONLINE
        if self._refusal is not None:
            found = self._refusal
        elif beat is not None and beat.state is State.ERROR:
            found = OnlineReason.STATION_ERROR
        elif beat is not None and beat.state in ENDED:
            found = OnlineReason.NOT_RUNNING
        elif self._news_ns is not None and now_ns - self._news_ns > self._silence_ns:
            found = OnlineReason.BUS_SILENT
        elif beat is None or active is None or not self._beats_punctually:
            found = OnlineReason.WAITING
        elif beat.state is State.INITIALIZED or not active.recipe_hash:
            found = OnlineReason.NO_RECIPE
        elif beat.state is State.PREOPERATIONAL:
            found = OnlineReason.NOT_RUNNING
        elif beat.mode is Mode.OBSERVE or active.mode is Mode.OBSERVE:
            found = OnlineReason.OBSERVING
        return found

    @property
    def _beats_punctually(self) -> bool:
        return self._fresh_beats >= 2 and self._punctuality.late_ns <= self._silence_ns / 2

    def station_state(self, now_ns: int) -> State | None:
        """What it said last; None if it is silent. One that has ended is silent for good."""
        told = self.counts.state if self.counts is not None else None
        if told is None and self.active is not None:
            told = self.active.state
        silent = self._news_ns is None or now_ns - self._news_ns > self._silence_ns
        return None if silent and told not in ENDED else told

    def _goes_back(self, epoch: int, now_ns: int) -> bool:
        """Whether the station has begun again with a lower number, because its clock was set back and it keeps no journal."""
        if self._news_ns is None or now_ns - self._news_ns <= self._silence_ns:
            return False
        beats = self._lower[1] + 1 if self._lower[0] == epoch else 1
        self._lower = (epoch, beats)
        if beats < LOWER_EPOCH_BEATS:
            return False
        self.epoch, self._lower = 0, (0, 0)
        return True

    def _enter(self, epoch: int) -> None:
        """The station has begun another run: nothing that is known of the last one holds for it."""
        if epoch <= self.epoch:
            return
        known = self.epoch != 0
        self._next = {old: seq for old, seq in self._next.items() if old == self.epoch}
        if known:
            # It was listened to before this run began, so all of its verdicts are owed.
            self._next[epoch] = 1
        self.epoch = epoch
        # Not how punctual it is: what piled up may hold the beginning of a run.
        self._fresh_beats = self._odd_verdicts = 0
        self.counts = self.active = None

    def _missing_before(self, epoch: int, seq: int) -> Missing | None:
        """What did not arrive although `seq` comes next; nothing before the first message that was heard."""
        expected = self._next.setdefault(epoch, seq)
        if seq <= expected:
            return None
        self._next[epoch] = seq
        return Missing(epoch, expected, seq - expected)

"""The handshake with a PLC, without any protocol or clock: what the station says goes in, what the PLC may see comes out.

    station: verdicts, heartbeats, states --> Handshake --> Image: ready, result, accept, faults, counts --> registers, nodes
    PLC: heartbeat, ack, trigger, recipe, reset, stop --^

Rules that hold whatever happens:

1. A result is held until its number is acknowledged; nothing overwrites it.
2. `accept` is true only for an OK that came while everything was as it should be, and is still held in time. It is withdrawn
   for good by anything that goes wrong; nothing gives it back.
3. Every verdict that the PLC should have had gets a number, also one that is lost or finds no room: the PLC sees a gap.
"""

from __future__ import annotations

from edge.bus.messages import HeartbeatMessage, StateMessage, VerdictMessage
from edge.gateways.codes import FaultCode, OnlineReason, ReasonCode, TriggerStatus
from edge.gateways.results import result_of
from edge.gateways.standing import MILLISECOND_NS, PlcWrites, Standing
from edge.gateways.wishes import RecipeWish, TriggerWish


class Handshake(Standing):
    """One PLC and one station. Not safe for several threads; every method takes the monotonic time in nanoseconds."""

    # What the station says.

    def heartbeat(self, message: HeartbeatMessage, now_ns: int) -> None:
        """The station lives."""
        if self._is_strange(message.station_id, now_ns):
            return
        self._note_missing(self._view.heartbeat(message, now_ns), now_ns)
        self._advance(now_ns)

    def state(self, message: StateMessage, now_ns: int) -> None:
        """The station is in another state, or says so again."""
        if self._is_strange(message.station_id, now_ns):
            return
        self._view.state(message, now_ns)
        self._advance(now_ns)

    def verdict(self, message: VerdictMessage, now_ns: int) -> None:
        """The station has judged a part. Copies for late joiners are ignored."""
        if message.is_replay or self._is_strange(message.station_id, now_ns):
            return
        fresh, missing = self._view.verdict(message, now_ns)
        self._note_missing(missing, now_ns)
        # A new epoch takes the gateway offline: its first verdict must not be judged by how things were before.
        self._advance(now_ns)
        if not fresh:
            return
        is_forgotten = self._triggers.is_forgotten(message.trigger_id)
        disowned = self._triggers.disowned(message.trigger_id)
        wish = self._triggers.judged(message.trigger_id) or disowned
        result = result_of(
            message,
            0 if disowned else self._held.next_number,
            now_ns,
            withheld=ReasonCode.DISOWNED if disowned or is_forgotten else self._withheld(message, now_ns),
            trigger_number=0 if wish is None else wish.number,
            recipe_number=self._recipe.number_of(message.product, message.recipe_revision),
        )
        self._take(result)

    def unreadable(self, now_ns: int) -> None:
        """Something came over the bus that this software cannot read: it may have been a verdict."""
        self._view.refuse(OnlineReason.UNREADABLE)
        self._advance(now_ns)

    def epoch_had(self, epoch: int, head_seq: int, now_ns: int) -> None:
        """An earlier run of the station had so many verdicts."""
        self._advance(now_ns)
        self._note_missing(self._view.head_of(epoch, head_seq), now_ns, is_now=False)

    @property
    def epoch(self) -> int:
        """The station's run; 0 before any was heard of."""
        return self._view.epoch

    @property
    def lacks_state(self) -> bool:
        """Whether what the station said of its recipe was lost."""
        return self._view.lacks_state

    @property
    def apart_ms(self) -> float:
        """How far apart the station sent its last two heartbeats."""
        return self._view.apart_ns / MILLISECOND_NS

    def look(self, now_ns: int) -> None:
        """Notice what time alone changes. Call it often."""
        self._advance(now_ns)

    # What the PLC says.

    def plc_heartbeat(self, value: int, now_ns: int) -> None:
        """The PLC's heartbeat was written; only another value than before says that it lives."""
        self._advance(now_ns)
        plc = self._plc
        if value != plc.heartbeat and plc.heartbeat is not None:
            if not self._met and plc.ack:
                # So that what it goes on writing is not taken for the acknowledgement of a result that comes.
                self._held.begin_after(plc.ack)
            plc.changed_ns, plc.is_new, self._met = now_ns, False, True
        plc.heartbeat = value
        self._advance(now_ns)

    def new_plc(self, now_ns: int) -> None:
        """Another client writes from now on, or the same one again after it was gone."""
        self._plc = PlcWrites()
        self._advance(now_ns)

    def acknowledge(self, number: int, now_ns: int) -> None:
        """The PLC has had the result with this number.

        What it has written before may be written again, as a PLC does that writes in cycles; so may 0, which is none. Any other
        number is a fault and releases nothing.
        """
        self._advance(now_ns)
        before, self._plc.ack = self._plc.ack, number
        if number == before:
            # Also if a result with this number has come since: it was written before.
            return
        if not self._held.release(number) and number and not self._is_noted_only(before):
            self._own["wrong_acks"] += 1
            self._latched.add(FaultCode.WRONG_ACK)

    def trigger(self, number: int, part_id: str, encoder_count: int | None, now_ns: int) -> TriggerWish | None:
        """The PLC has written a trigger number; another one than before, and not 0, is a trigger.

        Returns what to ask of the station, to be answered by `triggered` or `not_triggered`; None if there is nothing to ask.
        """
        self._advance(now_ns)
        triggers, ready = self._triggers, self._ready()
        before, self._plc.trigger = self._plc.trigger, number
        if self._is_noted_only(before):
            triggers.rest(number)
            return None
        if not triggers.is_new(number):
            return None
        if number == 0:
            triggers.rest(number)
            return None
        wish = triggers.ask(number, part_id, encoder_count, now_ns)
        if not ready:
            self._refuse(wish, TriggerStatus.NOT_READY)
            return None
        return wish

    def start_job(self, part_id: str, encoder_count: int | None, now_ns: int) -> TriggerWish | None:
        """Somebody other than the PLC's own trigger wants a part judged; None if not ready."""
        self._advance(now_ns)
        return self._triggers.ask_beside(part_id, encoder_count, now_ns) if self._ready() else None

    def awaits(self, wish: TriggerWish) -> bool:
        """Whether the part has no result yet, nor was given up."""
        return self._triggers.awaits(wish)

    def triggered(self, wish: TriggerWish, now_ns: int) -> None:
        """The station has taken it."""
        self._advance(now_ns)
        self._triggers.take(wish)

    def not_triggered(self, wish: TriggerWish, status: TriggerStatus, now_ns: int) -> None:
        """The station has refused it, or has not answered."""
        self._advance(now_ns)
        self._refuse(wish, status)

    def want_recipe(self, number: int, now_ns: int) -> RecipeWish | None:
        """The PLC has written a recipe number; another one than before, and not 0, is a wish.

        Returns what to ask of the station, to be answered by `recipe_changed` or `recipe_failed`; None if nothing is to be asked.
        """
        self._advance(now_ns)
        wish = self._recipe.want(number, self._view.active, now_ns)
        self._advance(now_ns)
        return wish

    def wants(self, wish: RecipeWish) -> bool:
        """Whether the PLC still waits for it."""
        return self._recipe.waits_for(wish)

    def recipe_changed(self, wish: RecipeWish, recipe_hash: str, now_ns: int) -> None:
        """The station judges with it from now on; it counts as changed when the feed says so too."""
        self._recipe.changed(wish, recipe_hash)
        self._advance(now_ns)

    def recipe_failed(self, wish: RecipeWish, now_ns: int) -> None:
        """The station has refused it, or has not answered."""
        self._recipe.failed(wish)
        self._advance(now_ns)

    def reset_bit(self, is_set: bool, now_ns: int) -> None:
        """The PLC has written its reset bit: it counts when it rises."""
        self._advance(now_ns)
        before, self._plc.resets = self._plc.resets, is_set
        if is_set and not before and not self._is_noted_only(before):
            self.reset(now_ns)

    def reset(self, now_ns: int) -> None:
        """Clear what is latched. No acceptance comes back."""
        self._advance(now_ns)
        self._latched.clear()
        self._advance(now_ns)

    def stop(self, who: str, now_ns: int) -> None:
        """Accept nothing until the same one says `start`."""
        self._stops.add(who)
        self._advance(now_ns)

    def start(self, who: str, now_ns: int) -> None:
        """End one's own `stop`."""
        self._stops.discard(who)
        self._advance(now_ns)

    def abort(self, now_ns: int) -> None:
        """Give up every trigger of the PLC that has no result yet."""
        self._advance(now_ns)
        for wish in self._triggers.pending:
            self._give_up(wish, now_ns)

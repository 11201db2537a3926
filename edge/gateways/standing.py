"""How things stand between one station and one PLC, and what follows from that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from edge.bus.messages import VerdictMessage
from edge.gateways.codes import FaultCode, OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.consequences import BUS_GONE, LIVE_FAULTS, RECIPE_FAULTS, WHY_WITHHELD
from edge.gateways.held import HeldResults
from edge.gateways.image import Counts, Image
from edge.gateways.recipe_change import RecipeChange
from edge.gateways.results import Result, stand_in
from edge.gateways.settings import GatewaySettings
from edge.gateways.station_view import Missing, StationView
from edge.gateways.triggers import Triggers
from edge.gateways.wishes import TriggerWish

MILLISECOND_NS = 1_000_000


@dataclass
class PlcWrites:
    """What the PLC has written.

    `is_new`: at the start, after a silence, and when another client writes, nobody knows whether what it writes is meant for
    now: a PLC that writes in cycles goes on writing what it wrote long ago. So the first values are only noted, until its
    heartbeat has changed; without a heartbeat, the first value of each.
    """

    is_new: bool = True
    heartbeat: int | None = None
    changed_ns: int = 0
    ack: int | None = None
    trigger: int | None = None
    resets: bool | None = None


class Standing:
    """All that a handshake knows. Every method brings it up to now first; whatever is wrong withdraws acceptances."""

    def __init__(
        self,
        settings: GatewaySettings,
        boot_id: str,
        session: int,
        announce: Callable[[Result], None] = lambda _result: None,
    ) -> None:
        """Start at reject.

        Args:
            settings: the gateway's file.
            boot_id: begins the trigger ids; never the same at two starts of any gateway.
            session: 1 to 65,535, at random, so that the PLC sees a restart. The result numbers follow it, so that what the PLC
                acknowledged last, and writes again, is not taken for one of them.
            announce: is called with every result when it comes, also one that finds no room.
        """
        plc = settings.plc
        self._settings, self._session, self._announce = settings, session, announce
        self._checksum = lru_cache(2)(settings.checksum)
        self._plc_silence_ns = round(plc.heartbeat_ms * MILLISECOND_NS)
        self._ack_ns, self._trigger_ns = round(plc.ack_ms * MILLISECOND_NS), round(plc.trigger_ms * MILLISECOND_NS)
        self._view = StationView(round(settings.bus.silence_ms * MILLISECOND_NS), settings.bus.station_id)
        self._held = HeldResults(plc.queue, session)
        self._triggers = Triggers(settings.name, boot_id)
        self._recipe = RecipeChange(settings.recipes, round(plc.recipe_ms * MILLISECOND_NS))
        self._latched: set[FaultCode] = set()
        self._plc = PlcWrites()
        self._met = not self._plc_silence_ns
        self._stops: set[str] = set()
        self._own: Counter[str] = Counter()
        self._reason = OnlineReason.NOT_STARTED

    # What comes out.

    def image(self, now_ns: int) -> Image:
        """All that the PLC may see now."""
        self._advance(now_ns)
        view, plc, recipe, triggers = self._view, self._plc, self._recipe, self._triggers
        result = self._held.first
        faults = self._faults()
        active = view.active
        return Image(
            online=self._reason is OnlineReason.ONLINE,
            online_reason=self._reason,
            ready=self._ready(),
            busy=bool(triggers.pending) or recipe.status is RecipeStatus.CHANGING,
            result=result,
            accept=result is not None and result.accept,
            queue_depth=len(self._held),
            overrun=FaultCode.OVERRUN in self._latched,
            fault=min(faults, default=FaultCode.NONE),
            faults=sum(1 << (fault - 1) for fault in faults),
            heartbeat=view.beats & 0xFFFF,
            session=self._session,
            plc_alive=self._plc_alive(now_ns),
            plc_heartbeat=plc.heartbeat or 0,
            trigger_ack=triggers.acked,
            trigger_status=triggers.status,
            recipe_number=0 if active is None else recipe.number_of(active.product, active.recipe_revision),
            recipe_hash="" if active is None else active.recipe_hash,
            recipe_wanted=recipe.wanted,
            recipe_status=recipe.status,
            product="" if active is None else active.product,
            recipe_revision=0 if active is None else active.recipe_revision,
            settings_checksum=0 if active is None else self._checksum(active.config_hash),
            epoch=view.epoch,
            station_id="" if active is None else active.station_id,
            station_state=view.station_state(now_ns),
            station_detail="" if active is None else active.detail,
            counts=self._counts(),
        )

    def _counts(self) -> Counts:
        beat, own = self._view.counts, self._own
        return Counts(
            triggers_seen=0 if beat is None else beat.triggers_seen,
            ok=0 if beat is None else beat.ok,
            not_ok=0 if beat is None else beat.not_ok,
            unjudged=0 if beat is None else beat.not_decidable,
            in_flight=0 if beat is None else beat.in_flight,
            missed=0 if beat is None else beat.missed,
            lost=own["lost"],
            overruns=own["overruns"],
            wrong_acks=own["wrong_acks"],
            missed_triggers=self._triggers.missed,
            withdrawn=self._held.withdrawn,
            results=own["results"],
        )

    def _faults(self) -> set[FaultCode]:
        live = (LIVE_FAULTS.get(self._reason), RECIPE_FAULTS.get(self._recipe.status))
        return self._latched | {fault for fault in live if fault is not None}

    def _ready(self) -> bool:
        triggers = self._triggers
        return (
            self._reason is OnlineReason.ONLINE
            and triggers.is_answered
            and len(triggers.pending) < self._settings.plc.triggers_in_flight
            and self._held.has_room
        )

    def _plc_alive(self, now_ns: int) -> bool:
        plc = self._plc
        return not self._plc_silence_ns or (not plc.is_new and now_ns - plc.changed_ns <= self._plc_silence_ns)

    def _is_noted_only(self, before: object) -> bool:
        """Whether what the PLC writes may be from long ago; `before`: what it has written there since it is new."""
        return self._plc.is_new if self._plc_silence_ns else before is None

    # How things stand, and what follows from that.

    def _advance(self, now_ns: int) -> None:
        """Bring everything up to now. Whatever is wrong withdraws the acceptance of what is held."""
        if not self._plc.is_new and not self._plc_alive(now_ns):
            self._plc = PlcWrites()
        is_there = self._view.reason(now_ns) not in BUS_GONE
        self._recipe.settle(self._view.active, now_ns, is_there=is_there)
        self._reason = self._find_reason(now_ns)
        for wish in self._triggers.pending:
            if self._reason in BUS_GONE or now_ns - wish.asked_ns > self._trigger_ns:
                self._give_up(wish, now_ns)
        if self._reason is not OnlineReason.ONLINE:
            self._held.withdraw(WHY_WITHHELD.get(self._reason, ReasonCode.NOT_ONLINE))
        if self._held.withdraw(ReasonCode.NOT_ACKNOWLEDGED, now_ns - self._ack_ns):
            self._latched.add(FaultCode.NOT_ACKNOWLEDGED)

    def _find_reason(self, now_ns: int) -> OnlineReason:
        station, recipe, active = self._view.reason(now_ns), self._recipe, self._view.active
        if station is not OnlineReason.ONLINE or active is None:
            return station
        if FaultCode.OVERRUN in self._latched:
            return OnlineReason.OVERRUN
        if self._stops:
            return OnlineReason.STOPPED
        if recipe.status is RecipeStatus.CHANGING:
            return OnlineReason.CHANGEOVER
        if recipe.differs(active):
            return OnlineReason.RECIPE_DIFFERS
        return OnlineReason.ONLINE if self._plc_alive(now_ns) else OnlineReason.PLC_SILENT

    def _withheld(self, message: VerdictMessage, now_ns: int) -> ReasonCode | None:
        """Why an OK verdict that came now is not to be accepted; None if it is."""
        active, allow_simulated = self._view.active, self._settings.plc.allow_simulated
        reasons = (
            (message.is_test, ReasonCode.OBSERVED),
            (not message.deadline_met or self._view.is_late(message, now_ns), ReasonCode.LATE),
            (not message.accept, ReasonCode.NOT_ACCEPTED),
            (message.is_simulated and not allow_simulated, ReasonCode.SIMULATED),
            (self._reason is not OnlineReason.ONLINE, WHY_WITHHELD.get(self._reason, ReasonCode.NOT_ONLINE)),
            (message.epoch != self._view.epoch, ReasonCode.NOT_ONLINE),
            (active is None or message.recipe_hash != active.recipe_hash, ReasonCode.WRONG_RECIPE),
        )
        return next((reason for holds, reason in reasons if holds), None)

    def _take(self, result: Result) -> None:
        """Hold a result for the PLC, if there is one, if it is to have it (a number), and if there is room."""
        self._own["results"] += 1
        if not result.number or not self._met:
            pass
        elif not self._held.put(result):
            self._own["overruns"] += 1
            self._latched.add(FaultCode.OVERRUN)
            self._held.withdraw(ReasonCode.OVERRUN)
            self._reason = OnlineReason.OVERRUN
            result = result.withdrawn(ReasonCode.OVERRUN)
        self._announce(result)

    def _is_strange(self, station_id: str, now_ns: int) -> bool:
        """Whether another station has said this: then nothing that is heard there counts."""
        self._advance(now_ns)
        if not self._view.is_stranger(station_id):
            return False
        self._view.refuse(OnlineReason.WRONG_STATION)
        self._advance(now_ns)
        return True

    def _note_missing(self, missing: Missing | None, now_ns: int, *, is_now: bool = True) -> None:
        """Verdicts are lost: each part gets a reject in their place, unless the gateway was offline, which says it too."""
        if missing is None:
            return
        self._own["lost"] += missing.count
        self._latched.add(FaultCode.RESULTS_LOST)
        # What finds no room has no use for a stand-in of its own: the overrun and the gap in the numbers tell of it.
        is_shown = is_now and self._reason is OnlineReason.ONLINE
        shown = min(missing.count, self._settings.plc.queue + 1) if is_shown else 0
        for seq in range(missing.first_seq, missing.first_seq + shown):
            self._take(stand_in(self._held.next_number, now_ns, ReasonCode.LOST, epoch=missing.epoch, seq=seq))
        self._held.skip(missing.count - shown)

    def _refuse(self, wish: TriggerWish, status: TriggerStatus) -> None:
        """Tell the PLC that its trigger was not taken, unless its verdict or its stand-in was faster."""
        if self._triggers.refuse(wish, status):
            self._latched.add(FaultCode.TRIGGER_MISSED)

    def _give_up(self, wish: TriggerWish, now_ns: int) -> None:
        """Reject a part of the PLC whose verdict is not to be waited for any longer."""
        self._triggers.disown(wish, TriggerStatus.NO_ANSWER)
        number = self._held.next_number
        self._take(stand_in(number, now_ns, ReasonCode.NO_RESULT, trigger_number=wish.number, part_id=wish.part_id))

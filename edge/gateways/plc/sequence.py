"""The PLC's program, without a protocol or a clock: a status block goes in at each scan, the command block comes out.

The structured text in docs/gateways/st does the same, in the same order:

1. A torn block is not looked at.
2. Another session: the gateway started anew. Nothing that was counted before holds.
3. The watchdog: nothing is accepted before the gateway's heartbeat was seen moving, nor when it stands still. Nothing is
   reset or triggered before the gateway has seen ours moving: it would only note what is written.
4. A result is taken over once, by its number; then its number is acknowledged. A number that is skipped is a gap.
5. A trigger waits for its answer and its result. One that is refused or gets none is a reject.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from edge.gateways.codes import JudgementCode, OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.plc.blocks import RESET, Commands, Status, after, distance
from edge.gateways.plc.findings import Findings, Taken

SETTLING_SCANS = 1_000
"""How many scans the reset at the start may take. After that what is latched counts, so that a run is never silent."""
ANSWERED = (TriggerStatus.PENDING, TriggerStatus.TAKEN, TriggerStatus.NO_ANSWER)
"""Answers after which a trigger is not refused."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do. All times are seconds.

    count, seconds: end after so many results, or after so long; 0 is no end.
    trigger_s: so often a part is triggered, as soon as the gateway is ready; 0 leaves that to others.
    part: begins the part ids.
    recipe: want this recipe number first; 0 is whatever is active, None leaves what was wanted.
    stall_after, stall_s: after so many results, acknowledge nothing for so long.
    resets: whether to clear what is latched, at the start and after each overrun. What was held before the first reset is
        taken over, but is no result of this run.
    watchdog_s: how long the gateway's heartbeat may stand still.
    trigger_timeout_s: how long a trigger may take to its result.
    """

    count: int = 0
    seconds: float = 0.0
    trigger_s: float = 0.0
    part: str = "part"
    recipe: int | None = None
    stall_after: int = 0
    stall_s: float = 5.0
    resets: bool = False
    watchdog_s: float = 3.0
    trigger_timeout_s: float = 10.0


@dataclass(frozen=True, slots=True)
class _Trigger:
    """A trigger that waits for its result."""

    number: int
    at_s: float


class Sequence:
    """One PLC. Call `scan` at every cycle with what was read, and write what it returns."""

    def __init__(self, plan: Plan, on_taken: Callable[[Taken], None] = lambda _taken: None) -> None:
        """Begin; `on_taken` gets every result."""
        self._plan, self._on_taken = plan, on_taken
        self.findings = Findings(wanted_results=plan.count, recipe_wanted=plan.recipe or 0, resets=plan.resets)
        self.commands = Commands()
        self.status: Status | None = None
        self.is_done = False
        self._session: int | None = None
        self._beat, self._beat_s, self._is_alive = 0, 0.0, False
        self._began_s: float | None = None
        self._is_greeted, self._may_act = False, False
        self._is_settled, self._settling_scans = False, 0
        self._last: int | None = None
        self._follows: int | None = None
        self._wrong_acks_before: int | None = None
        self._stall_end_s: float | None = None
        self._trigger: _Trigger | None = None
        self._next_trigger_s = 0.0
        self._resets_left = 1 if plan.resets else 0
        self._saw_overrun = False

    def scan(self, status: Status, now_s: float) -> Commands:
        """One cycle of the PLC.

        Args:
            status: what was read.
            now_s: the time of a clock that is never set.

        Returns:
            What to write: the whole command block.
        """
        findings = self.findings
        findings.reads += 1
        self._write(plc_heartbeat=(self.commands.plc_heartbeat + 1) & 0xFFFF)
        if not status.whole:
            findings.torn += 1
            return self.commands
        self.status = status
        if status.number("session") != self._session:
            self._meet(status, now_s)
        self._watch(status, now_s)
        self._may_act = self._is_greeted and status.bits["plc_alive"]
        self._is_greeted = True
        self._settle(status)
        self._note(status)
        self._clear(status)
        self._take(status, now_s)
        self._follow_trigger(status, now_s)
        self._pull_trigger(status, now_s)
        self.is_done = self._ended(now_s)
        return self.commands

    def last_words(self) -> Commands | None:
        """What to write before the end; None if nothing. A wish that has not come true would keep the gateway offline."""
        is_unmet = bool(self._plan.recipe) and self.findings.recipe_status != RecipeStatus.ACTIVE
        if self.status is None or not (is_unmet or self.commands.command):
            return None
        recipe = 0 if is_unmet else self.commands.recipe_wanted
        beat = (self.commands.plc_heartbeat + 1) & 0xFFFF
        return replace(self.commands, plc_heartbeat=beat, command=0, recipe_wanted=recipe)

    def _write(self, **values: int | str) -> None:
        self.commands = replace(self.commands, **values)  # type: ignore[arg-type]

    def _meet(self, status: Status, now_s: float) -> None:
        """Another gateway, or the same one started anew. Its numbers begin anywhere; ours go on from what it has read."""
        if self._session is None:
            self._began_s = self._next_trigger_s = now_s
            # Nothing that an earlier PLC has asked for is to change because this one connects.
            wanted = self._plan.recipe
            self._write(recipe_wanted=status.number("recipe_wanted_echo") if wanted is None else wanted)
            self._write(plc_heartbeat=(status.number("plc_heartbeat_echo") + 1) & 0xFFFF)
            self._write(trigger_number=status.number("trigger_ack"))
        else:
            self.findings.restarts += 1
        self._session = status.number("session")
        self._beat, self._beat_s, self._is_alive = status.number("heartbeat"), now_s, False
        self._last, self._follows, self._wrong_acks_before = None, None, None
        self._is_greeted = False
        self._write(ack_number=0, command=0)
        if self._trigger is not None:
            self._give_up()

    def _watch(self, status: Status, now_s: float) -> None:
        """The watchdog: is the gateway's heartbeat still counting?"""
        beat = status.number("heartbeat")
        if beat != self._beat:
            self._beat, self._beat_s, self._is_alive = beat, now_s, True
            self.findings.beats += 1
        elif now_s - self._beat_s > self._plan.watchdog_s:
            self.findings.silences += self._is_alive
            self._is_alive = False

    def _settle(self, status: Status) -> None:
        """What was latched, held and lost before the run is not the run's, until the reset at its start took effect."""
        if self._is_settled:
            return
        is_latched, findings = status.bits["overrun"], self.findings
        findings.overrun_before |= is_latched
        self._settling_scans += 1
        has_reset = not self._resets_left and not self.commands.command
        if has_reset and is_latched and self._plan.resets:
            self._resets_left = 1
        self._is_settled = has_reset and not is_latched
        if self._plan.resets and self._settling_scans > SETTLING_SCANS:
            self._is_settled = True
        self._saw_overrun = is_latched and not self._is_settled

    def _is_online(self, status: Status) -> bool:
        """Whether results may be used."""
        is_so = status.bits["online"] and status.number("online_reason") == OnlineReason.ONLINE
        return is_so and self._is_alive

    def _note(self, status: Status) -> None:
        """What the people see."""
        findings = self.findings
        findings.online, findings.is_alive = self._is_online(status), self._is_alive
        findings.online_reason = status.number("online_reason")
        findings.has_been_online |= findings.online
        findings.settings_checksum = status.number("settings_checksum")
        findings.recipe_number = status.number("recipe_number")
        findings.recipe_status = RecipeStatus.NONE
        if status.number("recipe_wanted_echo") == self._plan.recipe:
            findings.recipe_status = status.number("recipe_status")
        if self._wrong_acks_before is None:
            self._wrong_acks_before = status.number("wrong_ack_count")
        findings.wrong_acks += status.number("wrong_ack_count") - self._wrong_acks_before
        self._wrong_acks_before = status.number("wrong_ack_count")
        findings.overrun_latched = status.bits["overrun"]
        if status.bits["overrun"] and not self._saw_overrun:
            findings.overruns += 1
            self._resets_left = 1 if self._plan.resets else 0
        self._saw_overrun = status.bits["overrun"]

    def _clear(self, status: Status) -> None:
        """Reset: the bit rises for one scan, when what is held was taken over: a full queue would overrun again."""
        if self.commands.command & RESET:
            self._write(command=0)
        elif self._resets_left and self._may_act and self._stall_end_s is None and status.number("queue_depth") <= 1:
            self._resets_left -= 1
            self._write(command=RESET)

    def _take(self, status: Status, now_s: float) -> None:
        """Take a result over, once, and acknowledge it."""
        number = status.number("result_number")
        if status.bits["result_valid"] and number and number != self._last:
            if self._follows is not None and (skipped := distance(self._follows, number) - 1):
                self.findings.gaps += 1
                self.findings.missing += skipped
            self._last, self._follows = number, number if self._is_settled else None
            if self._plan.resets and not self._is_settled:
                self.findings.leftover += 1
            else:
                self._judge(status, now_s)
                if self.findings.results == self._plan.stall_after:
                    self._stall_end_s = now_s + self._plan.stall_s
                    self.findings.has_stalled = True
        if self._stall_end_s is not None:
            if now_s < self._stall_end_s:
                return
            self._stall_end_s = None
        if number and number == self._last:
            self._write(ack_number=number)

    def _judge(self, status: Status, now_s: float) -> None:
        trigger, echo = self._trigger, status.number("trigger_number_echo")
        is_own = trigger is not None and echo == trigger.number
        judgement, reason = status.number("judgement"), status.number("reason")
        # The accept bit alone opens the gate; what contradicts it, or is not known, keeps it shut.
        is_sound = judgement == JudgementCode.OK and reason == ReasonCode.NONE
        accept = status.bits["accept"] and is_sound and self._is_online(status)
        score, part_id = status.values["score"], status.values["part_id"]
        taken = Taken(
            number=status.number("result_number"),
            accept=accept,
            judgement=judgement,
            reason=reason,
            part_id=str(part_id),
            trigger_number=echo,
            score=score if isinstance(score, float) else None,
            round_trip_s=now_s - trigger.at_s if trigger is not None and is_own else None,
        )
        if is_own:
            self._trigger = None
        self.findings.note(taken)
        self._on_taken(taken)

    def _follow_trigger(self, status: Status, now_s: float) -> None:
        """A trigger that was refused, waits too long, or has an answer that is not known, is a reject."""
        trigger = self._trigger
        if trigger is None:
            return
        is_answered = status.number("trigger_ack") == trigger.number
        if is_answered and status.number("trigger_status") not in ANSWERED:
            self._trigger = None
            self.findings.triggers_refused += 1
            return
        has_no_answer = is_answered and status.number("trigger_status") == TriggerStatus.NO_ANSWER
        if has_no_answer or now_s - trigger.at_s > self._plan.trigger_timeout_s:
            self._give_up()

    def _give_up(self) -> None:
        self._trigger = None
        self.findings.triggers_unanswered += 1

    def _pull_trigger(self, status: Status, now_s: float) -> None:
        """Trigger the next part when it is due and the gateway takes it."""
        plan, findings = self._plan, self.findings
        is_due = bool(plan.trigger_s) and self._trigger is None and now_s >= self._next_trigger_s
        if plan.recipe and findings.recipe_status != RecipeStatus.ACTIVE:
            is_due = False
        if plan.count and findings.triggers >= plan.count:
            is_due = False
        if plan.resets and not self._is_settled:
            is_due = False
        may_ask = self._may_act and self._is_alive and self._stall_end_s is None
        if not is_due or not status.bits["ready"] or not may_ask:
            return
        findings.triggers += 1
        number = after(self.commands.trigger_number)
        self._write(trigger_number=number, trigger_part_id=f"{plan.part}-{findings.triggers}"[:32])
        self._trigger = _Trigger(number, now_s)
        # From when it was due, so that a late one does not delay all that follow; but no more than one is made up for.
        self._next_trigger_s = max(self._next_trigger_s + plan.trigger_s, now_s)

    def _ended(self, now_s: float) -> bool:
        """Whether all that was planned has been done, and what was taken over last has been let go."""
        plan, findings = self._plan, self.findings
        if plan.seconds and self._began_s is not None and now_s - self._began_s >= plan.seconds:
            return True
        if plan.recipe and findings.recipe_status not in (
            RecipeStatus.NONE,
            RecipeStatus.CHANGING,
            RecipeStatus.ACTIVE,
        ):
            # Nothing else is to be found wrong because it ended too early for it.
            has_waited = self._began_s is not None and now_s - self._began_s > plan.watchdog_s
            return (findings.beats > 0 or has_waited) and (self._is_settled or not plan.resets)
        if not plan.count or findings.results + findings.triggers_refused + findings.triggers_unanswered < plan.count:
            return False
        if not findings.beats + findings.silences:
            # A short run is not to end before the heartbeat had its chance.
            return False
        is_held = self.status is not None and self.status.number("result_number") == self._last
        return not is_held and self._stall_end_s is None and not self._resets_left and not self.commands.command

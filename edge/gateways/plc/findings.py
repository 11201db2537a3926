"""What a commissioning engineer must have seen before a line may run, and what was not as it should be."""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from edge.gateways.codes import JudgementCode, OnlineReason, ReasonCode, RecipeStatus
from edge.gateways.plc.blocks import meaning_of, name_of

KEPT_TIMES = 10_000


@dataclass(frozen=True, slots=True)
class Taken:
    """One result as the PLC took it over.

    `accept` is what its gate did. `judgement` and `reason` are codes, also such as this program does not know. `round_trip_s`
    runs from the PLC's trigger.
    """

    number: int
    accept: bool
    judgement: int
    reason: int
    part_id: str
    trigger_number: int
    score: float | None
    round_trip_s: float | None

    @property
    def is_own_reject(self) -> bool:
        """Whether the gateway accepts it, and the PLC does not."""
        return not self.accept and self.judgement == JudgementCode.OK and self.reason == ReasonCode.NONE


@dataclass
class Findings:
    """Counts of one run. `problems` says what was not as it should be.

    `leftover` are results that were held before the run's reset; `overrun_before`: there was an overrun before the run.
    """

    reads: int = 0
    torn: int = 0
    results: int = 0
    accepted: int = 0
    rejected: Counter[int] = field(default_factory=Counter)
    withheld: Counter[int] = field(default_factory=Counter)
    defective: int = 0
    own_rejects: int = 0
    leftover: int = 0
    gaps: int = 0
    missing: int = 0
    repeated: int = 0
    overruns: int = 0
    overrun_latched: bool = False
    overrun_before: bool = False
    resets: bool = False
    has_stalled: bool = False
    restarts: int = 0
    silences: int = 0
    beats: int = 0
    triggers: int = 0
    triggers_refused: int = 0
    triggers_unanswered: int = 0
    wrong_acks: int = 0
    online: bool = False
    is_alive: bool = False
    online_reason: int = OnlineReason.NOT_STARTED
    has_been_online: bool = False
    settings_checksum: int = 0
    recipe_number: int = 0
    recipe_wanted: int = 0
    recipe_status: int = RecipeStatus.NONE
    is_wish_withdrawn: bool = False
    wanted_results: int = 0
    broken: str = ""
    round_trips_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    exchanges_s: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))

    def note(self, taken: Taken) -> None:
        """A result was taken over."""
        self.results += 1
        if taken.accept:
            self.accepted += 1
        else:
            self.rejected[taken.reason] += 1
            self.own_rejects += taken.is_own_reject
            self.defective += taken.judgement == JudgementCode.NOT_OK
            if taken.judgement == JudgementCode.OK:
                self.withheld[taken.reason] += 1
        if taken.round_trip_s is not None:
            self.round_trips_s.append(taken.round_trip_s)

    def problems(self) -> list[str]:
        """What was not as it should be, worst first; nothing if all was well."""
        found = (
            (self.broken, self.broken),
            (self.torn, f"{self.torn} of {self.reads} reads were torn: read the block in one request"),
            (
                self.overrun_before and not self.resets,
                "an overrun was latched before this run: add --reset",
            ),
            (self.gaps, f"{self.missing} results were never shown ({self.gaps} gaps in their numbers)"),
            (self.overruns, f"{self.overruns} overruns: results were not acknowledged fast enough"),
            (self.wrong_acks, f"{self.wrong_acks} acknowledgements were of a number that was not held"),
            (self.restarts, f"the gateway started anew {self.restarts} times"),
            (self.silences, f"the gateway's heartbeat stood still {self.silences} times"),
            (self.triggers_refused, f"{self.triggers_refused} triggers were not taken"),
            (self.triggers_unanswered, f"{self.triggers_unanswered} triggers got no result"),
            (not self.beats, "the heartbeat never moved"),
            (self._recipe_differs, f"recipe {self.recipe_wanted}: {self.recipe_in_words}"),
            (self.results < self.wanted_results, f"{self.results} of {self.wanted_results} results came"),
            (not self.online, f"not online at the end: {self.online_in_words}"),
        )
        return [text for is_so, text in found if is_so]

    @property
    def _recipe_differs(self) -> bool:
        return bool(self.recipe_wanted) and self.recipe_status != RecipeStatus.ACTIVE

    @property
    def online_in_words(self) -> str:
        """Why the PLC takes the gateway for online or not."""
        if self.online or self.online_reason != OnlineReason.ONLINE:
            return meaning_of(OnlineReason, self.online_reason)
        if self.is_alive:
            return "its online bit is 0"
        return "its heartbeat stands still" if self.beats else "waiting for the heartbeat"

    @property
    def recipe_in_words(self) -> str:
        """What became of the wish."""
        said = meaning_of(RecipeStatus, self.recipe_status)
        return f"{said}; the wish was withdrawn, recipe_wanted is 0 again" if self.is_wish_withdrawn else said

    @property
    def rejects_in_words(self) -> str:
        """How many rejects of each reason; of what the gateway accepts, the PLC's own."""
        known = ((reason, count) for reason, count in sorted(self.rejected.items()) if reason != ReasonCode.NONE)
        found = [f"{count} {name_of(ReasonCode, reason)}" for reason, count in known]
        if self.own_rejects:
            found.append(f"{self.own_rejects} by the PLC itself, which had not seen the gateway's heartbeat move")
        if other := self.rejected[ReasonCode.NONE] - self.own_rejects:
            found.append(f"{other} without a reason")
        return ", ".join(found) or "none"

    @property
    def none_accepted(self) -> str:
        """Why nothing was accepted although parts were judged OK; nothing if that is not so."""
        count = sum(self.withheld.values())
        if self.accepted or not count:
            return ""
        why = ", ".join(
            f"{number} {name_of(ReasonCode, reason)} ({meaning_of(ReasonCode, reason)})"
            if reason != ReasonCode.NONE
            else f"{number} because the PLC had not seen the gateway's heartbeat move"
            for reason, number in sorted(self.withheld.items())
        )
        return f"none of the {count} parts judged OK was accepted: {why}"

    def notes(self) -> list[tuple[str, str]]:
        """What is no fault, but leaves something to be shown: what it is about, and what to do."""
        too_short = "it showed no overrun: it must last longer than plc.queue + 1 parts take"
        found = (
            (self.results and not self.defective, "a reject was seen", "no defective part was seen: put one in"),
            (self.none_accepted, "something passes", self.none_accepted),
            (self.has_stalled and not self.overruns, "the stall", too_short),
        )
        return [(what, text) for is_so, what, text in found if is_so]

    def summary(self) -> dict[str, Any]:
        """For machines: counts, times in milliseconds, and the problems."""
        return {
            "well": not self.problems(),
            "problems": self.problems(),
            "notes": [text for _what, text in self.notes()],
            "reads": self.reads,
            "torn": self.torn,
            "results": self.results,
            "accepted": self.accepted,
            "rejected": {name_of(ReasonCode, reason): count for reason, count in sorted(self.rejected.items())},
            "defective": self.defective,
            "own_rejects": self.own_rejects,
            "leftover": self.leftover,
            "gaps": self.gaps,
            "missing": self.missing,
            "overruns": self.overruns,
            "overrun_before": self.overrun_before,
            "restarts": self.restarts,
            "silences": self.silences,
            "wrong_acks": self.wrong_acks,
            "triggers": self.triggers,
            "triggers_refused": self.triggers_refused,
            "triggers_unanswered": self.triggers_unanswered,
            "online": self.online,
            "online_reason": name_of(OnlineReason, self.online_reason),
            "recipe_number": self.recipe_number,
            "settings_checksum": f"{self.settings_checksum:08x}" if self.settings_checksum else None,
            "exchange_ms": _times(self.exchanges_s),
            "trigger_to_result_ms": _times(self.round_trips_s),
        }


def percentile(values: deque[float], share: float) -> float | None:
    """The nearest-rank percentile; None without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def _times(values: deque[float]) -> dict[str, float | None]:
    found = {name: percentile(values, share) for name, share in (("p50", 0.5), ("p99", 0.99))}
    return {name: None if value is None else round(value * 1000, 3) for name, value in found.items()}

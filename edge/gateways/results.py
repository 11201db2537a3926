"""What a PLC is shown of one part."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge.bus.messages import VerdictMessage
from edge.gateways.codes import JUDGEMENTS, REASONS, JudgementCode, ReasonCode

LARGEST_NUMBER = 65_535


@dataclass(frozen=True, slots=True)
class Result:
    """One result as the PLC gets it, or the stand-in for one that never came.

    `number` counts 1 to 65,535 and begins again at 1; 0 is a result that no PLC is shown. `accept` is the only thing that may
    open a gate; it can be withdrawn while the result is held, and never comes back. `box` is x, y, width and height of the
    largest region in picture pixels. `message` is None for a stand-in.
    """

    number: int
    arrived_ns: int
    judgement: JudgementCode
    accept: bool
    reason: ReasonCode
    epoch: int
    seq: int
    trigger_seq: int = 0
    trigger_number: int = 0
    part_id: str = ""
    recipe_number: int = 0
    score: float | None = None
    threshold: float | None = None
    region_count: int = 0
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    area_px: int = 0
    latency_us: int = 0
    is_simulated: bool = False
    message: VerdictMessage | None = None

    def withdrawn(self, reason: ReasonCode) -> Result:
        """The same result without its acceptance; one that had none keeps its own reason."""
        return replace(self, accept=False, reason=reason) if self.accept else self


def after(number: int, steps: int = 1) -> int:
    """The result number so many steps on: 65,535 is followed by 1."""
    return (number + steps - 1) % LARGEST_NUMBER + 1


def result_of(
    message: VerdictMessage,
    number: int,
    arrived_ns: int,
    *,
    withheld: ReasonCode | None,
    trigger_number: int,
    recipe_number: int,
) -> Result:
    """A verdict as a result.

    Args:
        message: the verdict.
        number: the result's number.
        arrived_ns: when it came, monotonic.
        withheld: why it is not to be accepted although the part is OK; None if it is.
        trigger_number: the PLC's own number of its trigger; 0 if the PLC did not trigger it.
        recipe_number: of the recipe that judged it; 0 if that has none.
    """
    largest = max(message.regions, key=lambda region: region.area_px, default=None)
    judgement = JUDGEMENTS[message.judgement]
    if judgement is JudgementCode.OK:
        reason = ReasonCode.NONE if withheld is None else withheld
    else:
        reason = ReasonCode.NOT_ACCEPTED if message.reason is None else REASONS[message.reason]
    return Result(
        number=number,
        arrived_ns=arrived_ns,
        judgement=judgement,
        accept=judgement is JudgementCode.OK and reason is ReasonCode.NONE,
        reason=reason,
        epoch=message.epoch,
        seq=message.seq,
        trigger_seq=message.trigger_seq,
        trigger_number=trigger_number,
        part_id=message.part_id,
        recipe_number=recipe_number,
        score=message.score,
        threshold=message.threshold,
        region_count=message.region_count,
        box=(0, 0, 0, 0) if largest is None else (largest.x, largest.y, largest.width, largest.height),
        area_px=0 if largest is None else largest.area_px,
        latency_us=message.latency_us,
        is_simulated=message.is_simulated,
        message=message,
    )


def stand_in(
    number: int,
    now_ns: int,
    reason: ReasonCode,
    *,
    epoch: int = 0,
    seq: int = 0,
    trigger_number: int = 0,
    part_id: str = "",
) -> Result:
    """A reject for a part whose verdict never came."""
    return Result(
        number,
        now_ns,
        JudgementCode.NOT_DECIDABLE,
        accept=False,
        reason=reason,
        epoch=epoch,
        seq=seq,
        trigger_number=trigger_number,
        part_id=part_id,
    )

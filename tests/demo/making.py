"""Verdicts as a subscriber might have received them, without a station."""

from __future__ import annotations

import msgspec

from deploy.demo.results import Results
from edge.bus.messages import VerdictMessage
from edge.types import Judgement, Reason
from tests.edge.messages import verdict

THRESHOLD = 1.0


def received(
    seq: int, score: float | None, *, latency_us: int = 20_000, judgement: Judgement | None = None, part: str = ""
) -> VerdictMessage:
    """A verdict by the demo's rules: no score is NOT_DECIDABLE, one above the threshold NOT_OK."""
    if judgement is None:
        judged = Judgement.OK if score is not None and score <= THRESHOLD else Judgement.NOT_OK
        judgement = Judgement.NOT_DECIDABLE if score is None else judged
    reasons = {Judgement.NOT_OK: Reason.DEFECT, Judgement.NOT_DECIDABLE: Reason.UNFIT_IMAGE}
    return msgspec.structs.replace(
        verdict(seq),
        part_id=part or f"part-{seq}.png",
        judgement=judgement,
        accept=judgement is Judgement.OK,
        reason=reasons.get(judgement),
        score=score,
        threshold=THRESHOLD,
        latency_us=latency_us,
    )


def results(normal: list[float | None], defective: list[float | None]) -> Results:
    """A complete run: first the normal parts, then the defective ones."""
    verdicts = tuple(received(seq, score) for seq, score in enumerate([*normal, *defective], start=1))
    return Results(len(verdicts), verdicts, (False,) * len(normal) + (True,) * len(defective))

"""The threshold and what may be said of it, from the scores of normal parts alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from calibration.statistics import CONFIDENCE, order_statistic_bound, outliers, percent, tail_estimate
from edge.recipe import Threshold
from edge.types import Match

PIXEL_QUANTILE = 0.998
UNLIKENESS_MARGIN = 1.25
"""A picture is unfit only when it is clearly more unlike the shots than they are unlike each other."""
LEFT_OUT_SHARE = 0.02
"""Of production parts, the highest 2% set no threshold: among them are the defects. Fixed beforehand, so the bound holds."""
SUSPECT_CUT = 4.5
"""Parts that lie so many robust deviations above the others set none either, should there be more of them."""


def from_leave_one_out(held_out: Sequence[Match]) -> Threshold:
    """The largest score that a shot had against the others, and the other limits from the same matches.

    With n exchangeable scores the next one exceeds the largest with probability 1 / (n + 1). The rate that one given
    threshold will show varies with the shots: it is Beta(1, n) distributed, whose 95% quantile is the bound. Future parts
    meet a bank of one shot more than these scores did, which errs on the side of fewer false rejects.

    Args:
        held_out: one per shot, against a bank of the others; at least two.
    """
    count = len(held_out)
    scores = tuple(m.score for m in held_out)
    mean, bound = 1.0 / (count + 1), order_statistic_bound(count, 0)
    return Threshold(
        value=max(scores),
        pixel_value=_pixel_threshold(held_out),
        unlikeness_most=unlikeness_limit(held_out),
        method="largest leave-one-out score",
        scores=scores,
        frame_scores=(),
        frames_rejected=0,
        false_reject_mean=mean,
        false_reject_bound=bound,
        confidence=CONFIDENCE,
        tail_estimate=tail_estimate(scores, max(scores)),
        claim=(
            f"Of normal parts like these {count} shots, not more than {percent(bound)} will be judged NOT_OK, with "
            f"{CONFIDENCE:.0%} confidence; on average over such calibrations about 1 in {count + 1}."
        ),
    )


def from_one_shot(copies: Sequence[Match]) -> Threshold:
    """The largest score of slightly changed copies of the only shot: a start, with no claim at all.

    Args:
        copies: one match per copy, against the bank of the shot.
    """
    return Threshold(
        value=max(m.score for m in copies),
        pixel_value=_pixel_threshold(copies),
        unlikeness_most=unlikeness_limit(copies),
        method="largest score of shifted, brightened and blurred copies of one shot",
        scores=tuple(m.score for m in copies),
        frame_scores=(),
        frames_rejected=0,
        false_reject_mean=None,
        false_reject_bound=None,
        confidence=CONFIDENCE,
        tail_estimate=None,
        claim="Nothing can be claimed from one shot: how much normal parts differ is not known.",
    )


def from_production(before: Threshold, frames: Sequence[Match], unfit: int, allow_raise: bool = False) -> Threshold:
    """A threshold below which all but a few of the production parts lie, and a claim over all of them.

    The parts left out and the unfit pictures are counted as rejected, whether they are defects or not, so the claim is on all
    rejects of such a production, and so on the false ones. The bank knows none of these parts: their scores are what
    future parts get. A threshold is never raised unless that is asked for: what looks like wide variation may be defects.

    Args:
        before: the threshold of the revision that judged them.
        frames: matches of the fit pictures.
        unfit: how many pictures were unfit.
        allow_raise: accept a threshold above the one before.
    """
    scores = sorted((m.score for m in frames), reverse=True)
    total = len(frames) + unfit
    fixed = math.ceil(LEFT_OUT_SHARE * total)
    suspects = sum(outliers(scores, SUSPECT_CUT))
    left_out = max(fixed - unfit, suspects, 0)
    candidate = scores[min(left_out, len(scores) - 1)]
    raised = candidate > before.value
    value = before.value if raised and not allow_raise else candidate
    rejected = unfit + sum(score > value for score in scores)
    # How many were left out was chosen from the data when suspects decided it; the bound pays for that choice.
    confidence = CONFIDENCE if unfit + suspects <= fixed else 1 - (1 - CONFIDENCE) / 2
    bound = order_statistic_bound(total, rejected, confidence)
    kept = [m for m in frames if m.score <= value] or list(frames)
    method = (
        f"kept: {total} production parts would have raised it"
        if value == before.value
        else f"from {total} production parts"
    )
    return msgspec.structs.replace(
        before,
        value=value,
        pixel_value=_pixel_threshold(kept),
        method=method,
        frame_scores=tuple(m.score for m in frames),
        frames_rejected=rejected,
        false_reject_mean=(rejected + 1) / (total + 1),
        false_reject_bound=bound,
        tail_estimate=tail_estimate(scores, value),
        claim=(
            f"Of parts like these {total} of production, not more than {percent(bound)} will be rejected, with {CONFIDENCE:.0%} "
            f"confidence, defective ones included ({rejected} of these {total} would be)."
        ),
    )


def _pixel_threshold(matches: Sequence[Match]) -> float:
    return float(np.quantile(np.stack([m.anomaly_map for m in matches]), PIXEL_QUANTILE))


def unlikeness_limit(matches: Sequence[Match]) -> float:
    """How unlike the shots a picture may be, from shots against the others."""
    return UNLIKENESS_MARGIN * max(m.unlikeness for m in matches)

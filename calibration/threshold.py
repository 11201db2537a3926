"""The threshold and what may be said of it, from the scores of normal shots alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edge.recipe import Threshold
from edge.types import Match

CONFIDENCE = 0.95
PIXEL_QUANTILE = 0.998
UNLIKENESS_MARGIN = 1.25
"""A picture is unfit only when it is clearly more unlike the shots than they are unlike each other."""


def from_leave_one_out(held_out: Sequence[Match]) -> Threshold:
    """The largest score that a shot had against the others, and the pixel threshold from the same maps.

    With n exchangeable scores the next one exceeds the largest with probability 1 / (n + 1). The rate that one given
    threshold will show varies with the shots: it is Beta(1, n) distributed, whose 95% quantile is also told. Future parts
    meet a bank of one shot more than these scores did, which errs on the side of fewer false rejects.

    Args:
        held_out: one per shot, against a bank of the others; at least two.
    """
    count = len(held_out)
    mean_rate = 1.0 / (count + 1)
    worst_rate = 1.0 - (1.0 - CONFIDENCE) ** (1.0 / count)
    claim = (
        f"Of normal parts like these {count} shots, on average at most 1 in {count + 1} ({percent(mean_rate)}) is rejected; "
        f"with {CONFIDENCE:.0%} confidence not more than {percent(worst_rate)}."
    )
    return Threshold(
        value=max(m.score for m in held_out),
        pixel_value=_pixel_threshold(held_out),
        unlikeness_most=_unlikeness_limit(held_out),
        method="largest leave-one-out score",
        scores=tuple(m.score for m in held_out),
        false_reject_bound=mean_rate,
        claim=claim,
    )


def percent(rate: float) -> str:
    """A promised rate in words, rounded up: a promise must not become better by rounding."""
    step = 100 if rate >= 0.1 else 1000
    return f"{math.ceil(rate * step - 1e-9) / step * 100:g}%"


def from_one_shot(copies: Sequence[Match]) -> Threshold:
    """The largest score of slightly changed copies of the only shot: a start, with no claim at all.

    Args:
        copies: one match per copy, against the bank of the shot.
    """
    return Threshold(
        value=max(m.score for m in copies),
        pixel_value=_pixel_threshold(copies),
        unlikeness_most=_unlikeness_limit(copies),
        method="largest score of shifted, brightened and blurred copies of one shot",
        scores=tuple(m.score for m in copies),
        false_reject_bound=None,
        claim="Nothing can be claimed from one shot: how much normal parts differ is not known.",
    )


def _pixel_threshold(matches: Sequence[Match]) -> float:
    return float(np.quantile(np.stack([m.anomaly_map for m in matches]), PIXEL_QUANTILE))


def _unlikeness_limit(matches: Sequence[Match]) -> float:
    return UNLIKENESS_MARGIN * max(m.unlikeness for m in matches)

"""The threshold and what may be said of it, from the scores of normal shots alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.recipe import Threshold

CONFIDENCE = 0.95
PIXEL_QUANTILE = 0.998


def from_leave_one_out(scores: Sequence[float], maps: Sequence[NDArray[np.float32]]) -> Threshold:
    """The largest score that a shot had against the others, and the pixel threshold from the same maps.

    With n exchangeable scores the next one exceeds the largest with probability 1 / (n + 1). The rate that one given
    threshold will show varies with the shots: it is Beta(1, n) distributed, whose 95% quantile is also told. Future parts
    meet a bank of one shot more than these scores did, which errs on the side of fewer false rejects.

    Args:
        scores: one per shot, against a bank of the others; at least two.
        maps: the anomaly maps that belong to them, `float32 [H, W]` each.
    """
    count = len(scores)
    mean_rate = 1.0 / (count + 1)
    worst_rate = 1.0 - (1.0 - CONFIDENCE) ** (1.0 / count)
    claim = (
        f"Of normal parts like these {count} shots, on average at most 1 in {count + 1} ({mean_rate:.0%}) is rejected; "
        f"with {CONFIDENCE:.0%} confidence not more than {worst_rate:.0%}."
    )
    return Threshold(
        value=float(max(scores)),
        pixel_value=_pixel_threshold(maps),
        method="largest leave-one-out score",
        scores=tuple(float(s) for s in scores),
        false_reject_bound=mean_rate,
        claim=claim,
    )


def from_one_shot(scores: Sequence[float], maps: Sequence[NDArray[np.float32]]) -> Threshold:
    """The largest score of slightly changed copies of the only shot: a start, with no claim at all.

    Args:
        scores: one per copy, against the bank of the shot.
        maps: the copies' anomaly maps, `float32 [H, W]` each.
    """
    return Threshold(
        value=float(max(scores)),
        pixel_value=_pixel_threshold(maps),
        method="largest score of shifted, brightened and blurred copies of one shot",
        scores=tuple(float(s) for s in scores),
        false_reject_bound=None,
        claim="Nothing can be claimed from one shot: how much normal parts differ is not known.",
    )


def _pixel_threshold(maps: Sequence[NDArray[np.float32]]) -> float:
    return float(np.quantile(np.stack(maps), PIXEL_QUANTILE))

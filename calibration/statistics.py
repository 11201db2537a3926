"""Distribution-free bounds and one tail fit, in closed form or by bisection: what may be said of a rate from few scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95


def percent(rate: float) -> str:
    """A promised rate in words, rounded up: a promise must not become better by rounding."""
    step = 100 if rate >= 0.1 else 1000
    return f"{math.ceil(rate * step - 1e-9) / step * 100:g}%"


def order_statistic_bound(count: int, above: int, confidence: float = CONFIDENCE) -> float:
    """Upper bound on the chance that the next score exceeds the (above + 1)-th largest of `count` exchangeable scores.

    That chance is Beta(above + 1, count - above) distributed, so its quantile is the Clopper-Pearson upper limit for
    `above` events in `count` trials. With above = 0 it is `1 - (1 - confidence)^(1 / count)`.
    """
    if above >= count:
        return 1.0
    low, high = above / count, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _binomial_tail(count, above, middle) > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _binomial_tail(count: int, above: int, rate: float) -> float:
    """P(Bin(count, rate) <= above), summed in logarithms."""
    if rate >= 1.0:
        return 0.0
    terms = [
        math.lgamma(count + 1)
        - math.lgamma(k + 1)
        - math.lgamma(count - k + 1)
        + k * math.log(max(rate, 1e-300))
        + (count - k) * math.log1p(-rate)
        for k in range(above + 1)
    ]
    return float(sum(math.exp(t) for t in terms))


def tail_estimate(scores: Sequence[float], threshold: float) -> float | None:
    """Extrapolated chance that the next normal score exceeds `threshold`; None with fewer than four scores.

    Takes the logarithms of the scores as normally distributed with unknown mean and spread: the next one then follows
    Student's t with n - 1 degrees of freedom. An assumption, not a bound.
    """
    if len(scores) < 4:
        return None
    logs = np.log(np.maximum(np.asarray(scores, dtype=float), 1e-12))
    spread = float(logs.std(ddof=1)) * math.sqrt(1 + 1 / len(logs))
    if spread == 0.0:
        return None
    return _student_tail((math.log(max(threshold, 1e-12)) - float(logs.mean())) / spread, len(logs) - 1)


def _student_tail(t: float, freedom: int) -> float:
    """P(T > t) for Student's t, by the substitution x = tan(u) and Simpson's rule."""
    low, high = math.atan(t), math.pi / 2
    u = np.linspace(low, high, 2001)[:-1]
    x = np.tan(u)
    log_density = -(freedom + 1) / 2 * np.log1p(x * x / freedom) + np.log1p(x * x)
    constant = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    values = np.append(np.exp(log_density + constant), 0.0)
    step = (high - low) / 2000
    return float(
        min(1.0, max(0.0, step / 3 * (values[0] + values[-1] + 4 * values[1:-1:2].sum() + 2 * values[2:-1:2].sum())))
    )


def outliers(values: Sequence[float], cut: float, measured_on: int | None = None) -> list[bool]:
    """Which positive values lie more than `cut` robust standard deviations above the median, on a logarithmic scale.

    Median and spread are those of the first `measured_on` values; of all when None.
    """
    logs = np.log(np.maximum(np.asarray(values, dtype=float), 1e-12))
    centre = float(np.median(logs[:measured_on]))
    spread = max(1.4826 * float(np.median(np.abs(logs[:measured_on] - centre))), 0.05)
    return [bool(v) for v in (logs - centre) / spread > cut]

"""How well scores separate good from bad, for benchmarks and golden sets."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def auroc(normal: ArrayLike, anomalous: ArrayLike) -> float:
    """Probability that an anomalous score exceeds a normal one, ties counted half (Mann-Whitney U).

    Raises:
        ValueError: one of the classes is empty: there is nothing to compare.
    """
    low, high = np.sort(np.asarray(normal, dtype=float)), np.asarray(anomalous, dtype=float)
    if low.size == 0 or high.size == 0:
        raise ValueError("both classes are needed")
    below = np.searchsorted(low, high, side="left")
    not_above = np.searchsorted(low, high, side="right")
    return float((below + not_above).sum() / (2 * low.size * high.size))


def accuracy(normal: ArrayLike, anomalous: ArrayLike, threshold: float) -> float:
    """Share of parts judged right when scores above `threshold` are rejected."""
    low, high = np.asarray(normal, dtype=float), np.asarray(anomalous, dtype=float)
    return float(((low <= threshold).sum() + (high > threshold).sum()) / (low.size + high.size))


def best_accuracy(normal: ArrayLike, anomalous: ArrayLike) -> float:
    """The best accuracy that any threshold could have given, known only in hindsight."""
    low, high = np.asarray(normal, dtype=float), np.asarray(anomalous, dtype=float)
    candidates = np.concatenate([[-np.inf], low, high])
    right = np.searchsorted(np.sort(low), candidates, side="right") + high.size
    right = right - np.searchsorted(np.sort(high), candidates, side="right")
    return float(right.max() / (low.size + high.size))

"""The memory bank: what is remembered of normal parts, in the form that the matching decoder takes.

Per tap, the unit-length tokens of all shots are summed up by their mean and covariance. A token's distance is its
Mahalanobis distance, which the decoder takes as one small matrix product, so neither the bank nor its cost grows with the
number of shots. The sums can be added and subtracted, which makes leave-one-out cheap.

Which tokens count (the region of interest) and how the map becomes a score are tensors of the bank too, so that one
engine serves products with and without a region of interest. So are counter-examples: tokens of defects that were missed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.types import Bank, Tokens

METHOD = "mahalanobis-self-similarity-2"
"""Stored in packages: a bank fitted here must meet a decoder that was exported for it."""
SHRINKAGE = 0.1
"""Share of the mean variance added to every direction: unseen directions stay finite."""
NORM_LEAST = 1e-6
TOP_SHARE = 0.05
MEDIAN_WEIGHT = 0.25
"""The image score is the mean of the map's top 5% less a quarter of its median: how far the worst stands out."""
INSIDE_LEAST_SHARE = 0.5
"""A token belongs to the region of interest when at least half of its cell does."""
NO_COUNTER_LIMIT = 2.0
"""A cosine that is never reached: no counter-example is active."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Moments:
    """Sums over unit-length tokens of one tap: count, `sums [D]`, `products [D, D]`."""

    count: int
    sums: Array
    products: Array

    def __add__(self, other: Moments) -> Moments:
        """The moments of both sets together."""
        return Moments(self.count + other.count, self.sums + other.sums, self.products + other.products)

    def __sub__(self, other: Moments) -> Moments:
        """The moments without a set that was added before."""
        return Moments(self.count - other.count, self.sums - other.sums, self.products - other.products)


ShotMoments = tuple[Moments, ...]
"""One `Moments` per tap."""


@dataclass(frozen=True)
class Geometry:
    """Which tokens count, one `float32 [N]` of 0 and 1 per tap, the finest tap first."""

    inside: tuple[NDArray[np.float32], ...]


@dataclass(frozen=True)
class Counterexamples:
    """Unit-length tokens `float32 [M, D]` of missed defects (finest tap), and the cosine above which one is recognised."""

    tokens: NDArray[np.float32]
    limit: float


def whole_picture(grids: Sequence[tuple[int, int]]) -> Geometry:
    """The geometry without a region of interest, for taps with these grids (height, width)."""
    return Geometry(tuple(np.ones(height * width, np.float32) for height, width in grids))


def unit_tokens(tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Tokens `[..., D]` at unit length."""
    norms = np.linalg.norm(tokens, axis=-1, keepdims=True)
    return np.asarray(tokens / np.maximum(norms, NORM_LEAST), dtype=np.float32)


def moments_of(tokens: Tokens, geometry: Geometry) -> ShotMoments:
    """Sum up the tokens that count of one or more pictures, each tap `float32 [B, N, D]`."""
    found: list[Moments] = []
    for tap, inside in zip(tokens, geometry.inside, strict=True):
        unit = unit_tokens(tap)[:, inside > 0].reshape(-1, tap.shape[-1]).astype(np.float64)
        found.append(Moments(len(unit), unit.sum(axis=0), unit.T @ unit))
    return tuple(found)


def combine(shots: Sequence[ShotMoments]) -> ShotMoments:
    """The moments of several shots together; at least one."""
    total = shots[0]
    for shot in shots[1:]:
        total = tuple(a + b for a, b in zip(total, shot, strict=True))
    return total


def without(total: ShotMoments, shot: ShotMoments) -> ShotMoments:
    """The moments of all shots but one."""
    return tuple(a - b for a, b in zip(total, shot, strict=True))


def fit_bank(moments: ShotMoments, geometry: Geometry, counter: Counterexamples | None = None) -> Bank:
    """The decoder's bank.

    Per tap a whitening `whiten_i [D, K]` and the whitened mean `centre_i [K]`: `|x W - c|^2` is the Mahalanobis distance of
    a unit-length token, divided by D so that taps are comparable; and `inside_i [N]`. For the score, `rank_weights [N]` and
    `median_weights [N]` over the sorted map of the finest tap. `counter [M, D]` and `counter_limit [1]` are the
    counter-examples, one zero row when there are none.
    """
    bank: dict[str, NDArray[np.float32]] = {}
    for index, (tap, inside) in enumerate(zip(moments, geometry.inside, strict=True)):
        mean = tap.sums / tap.count
        covariance = tap.products / tap.count - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 0.0)
        scale = np.sqrt((values + SHRINKAGE * values.mean()) * len(mean))
        whiten = vectors / np.maximum(scale, NORM_LEAST)
        bank[f"whiten_{index}"] = np.ascontiguousarray(whiten, dtype=np.float32)
        bank[f"centre_{index}"] = (mean @ whiten).astype(np.float32)
        bank[f"inside_{index}"] = inside
    bank["rank_weights"], bank["median_weights"] = pooling_weights(geometry.inside[0])
    dims = len(moments[0].sums)
    bank["counter"] = np.zeros((1, dims), np.float32) if counter is None else counter.tokens
    bank["counter_limit"] = np.array([NO_COUNTER_LIMIT if counter is None else counter.limit], np.float32)
    return bank


def pooling_weights(inside: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights over a map sorted from its highest value, `float32 [N]` each: for the image score, and for the median.

    Places outside count as the lowest, so only the first `sum(inside)` ranks carry weight.
    """
    count = int(inside.sum())
    top = max(1, round(TOP_SHARE * count))
    median = np.zeros(len(inside), np.float32)
    median[count // 2] = 1.0
    rank = -MEDIAN_WEIGHT * median
    rank[:top] += 1.0 / top
    return rank.astype(np.float32), median

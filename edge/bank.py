"""The memory bank: what is remembered of normal parts, in the form that the matching decoder takes.

Per tap, the unit-length tokens of all shots are summed up by their mean and covariance. A token's distance is its
Mahalanobis distance, which the decoder takes as one small matrix product, so neither the bank nor its cost grows with the
number of shots. The sums can be added and subtracted, which makes leave-one-out cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge.types import Bank, Tokens

METHOD = "mahalanobis-self-similarity"
SHRINKAGE = 0.1
"""Share of the mean variance added to every direction: unseen directions stay finite."""
NORM_LEAST = 1e-6

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


def moments_of(tokens: Tokens) -> ShotMoments:
    """Sum up the tokens of one or more pictures, each tap `float32 [B, N, D]`."""
    found: list[Moments] = []
    for tap in tokens:
        flat = tap.reshape(-1, tap.shape[-1]).astype(np.float64)
        unit = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), NORM_LEAST)
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


def fit_bank(moments: ShotMoments) -> Bank:
    """The decoder's bank: per tap a whitening `whiten_i [D, K]` and the whitened mean `centre_i [K]`.

    `|x W - c|^2` is the Mahalanobis distance of a unit-length token, divided by D so that taps are comparable.
    """
    bank: dict[str, NDArray[np.float32]] = {}
    for index, tap in enumerate(moments):
        mean = tap.sums / tap.count
        covariance = tap.products / tap.count - np.outer(mean, mean)
        values, vectors = np.linalg.eigh(covariance)
        values = np.maximum(values, 0.0)
        scale = np.sqrt((values + SHRINKAGE * values.mean()) * len(mean))
        whiten = vectors / np.maximum(scale, NORM_LEAST)
        bank[f"whiten_{index}"] = np.ascontiguousarray(whiten, dtype=np.float32)
        bank[f"centre_{index}"] = (mean @ whiten).astype(np.float32)
    return bank

"""How well anomaly maps find the pixels of defects: pixel AUROC and per-region overlap, from histograms."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

BINS = 4000
FALSE_POSITIVE_LIMIT = 0.3


@dataclass
class PixelScores:
    """Histograms of map values: of normal pixels, of anomalous pixels, and of each anomalous region."""

    top: float
    normal: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    anomalous: NDArray[np.float64] = field(default_factory=lambda: np.zeros(BINS))
    regions: list[NDArray[np.float64]] = field(default_factory=list)

    def add(self, anomaly_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Count one picture: the map is scaled to the size of its mask `bool [H, W]`."""
        full = np.asarray(cv2.resize(anomaly_map, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_LINEAR))
        bins = np.clip((full * ((BINS - 1) / self.top)).astype(np.int64), 0, BINS - 1)
        self.normal += np.bincount(bins[~mask], minlength=BINS)
        if not mask.any():
            return
        self.anomalous += np.bincount(bins[mask], minlength=BINS)
        count, labels = cv2.connectedComponents(mask.astype(np.uint8))
        for label in range(1, count):
            self.regions.append(np.bincount(bins[labels == label], minlength=BINS).astype(np.float64))

    def auroc(self) -> float:
        """Probability that an anomalous pixel has a higher value than a normal one, ties (same bin) counted half."""
        below = np.cumsum(self.normal) - 0.5 * self.normal
        return float((below * self.anomalous).sum() / (self.normal.sum() * self.anomalous.sum()))

    def aupro(self) -> float:
        """Area under the per-region overlap up to 30% false positive pixels (Bergmann et al., MVTec AD, 2021)."""
        false_positive = np.cumsum(self.normal[::-1]) / self.normal.sum()
        overlap = np.mean([np.cumsum(r[::-1]) / r.sum() for r in self.regions], axis=0)
        rates = np.concatenate([[0.0], false_positive])
        overlaps = np.concatenate([[0.0], overlap])
        at_limit = float(np.interp(FALSE_POSITIVE_LIMIT, rates, overlaps))
        inside = rates < FALSE_POSITIVE_LIMIT
        x, y = np.append(rates[inside], FALSE_POSITIVE_LIMIT), np.append(overlaps[inside], at_limit)
        return float(np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2) / FALSE_POSITIVE_LIMIT)

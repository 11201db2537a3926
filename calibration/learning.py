"""Would more shots help? The learning curve over the number of shots."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from calibration.calibrate import Encoded, Step
from edge.bank import combine, fit_bank
from edge.engines.base import Engine

TRIALS = 16
GOOD_ENOUGH = 0.10
"""More shots are not worth while once a normal part looks at most this share stranger than with endless shots."""
MOST_ADVISED = 200


class LearningCurve(msgspec.Struct, frozen=True):
    """Mean unlikeness of a held-out shot against banks of `counts` shots, and what follows from it.

    `limit` is where it would end with endless shots, `advised` about how many shots come close enough to it (None: cannot be
    told, too few shots).
    """

    counts: tuple[int, ...]
    unlikeness: tuple[float, ...]
    limit: float
    advised: int | None
    advice: str


def learning_curve(encoded: Encoded, engine: Engine, step: Step, seed: int = 0) -> LearningCurve:
    """Measure the curve on random subsets of the shots and extrapolate it as `limit + b / count`.

    Args:
        encoded: two or more shots.
        engine: that encoded them.
        step: progress.
        seed: of the random subsets.
    """
    total = len(encoded.tokens)
    random = np.random.default_rng(seed)
    counts = [k for k in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64) if k < total]
    means: list[float] = []
    for done, count in enumerate(counts):
        values: list[float] = []
        for _ in range(TRIALS):
            order = random.permutation(total)
            bank = fit_bank(combine([encoded.moments[i] for i in order[1 : count + 1]]), encoded.geometry)
            values.append(engine.match(encoded.tokens[order[0]], bank)[0].unlikeness)
        means.append(float(np.mean(values)))
        step("learning curve", done + 1, len(counts))
    return _conclude(counts, means, total)


def _conclude(counts: Sequence[int], means: Sequence[float], total: int) -> LearningCurve:
    if len(counts) < 3:
        text = f"{total} shots are too few to say how many would be enough; take at least eight."
        return LearningCurve(tuple(counts), tuple(means), means[-1] if means else 0.0, None, text)
    inverse = 1 / np.asarray(counts, dtype=float)
    weights = np.sqrt(np.asarray(counts, dtype=float))
    design = np.stack([np.ones_like(inverse), inverse], axis=1)
    limit, slope = np.linalg.lstsq(design * weights[:, None], np.asarray(means) * weights, rcond=None)[0]
    limit, slope = max(float(limit), 1e-6), max(float(slope), 0.0)
    advised = min(MOST_ADVISED, max(1, int(np.ceil(slope / (GOOD_ENOUGH * limit)))))
    if advised <= total:
        text = f"{total} shots show most of how normal parts differ; more would change little."
    else:
        text = f"More shots would help: about {advised} instead of {total}, taken at different times."
    return LearningCurve(tuple(counts), tuple(means), limit, advised, text)

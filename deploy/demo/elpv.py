"""The ELPV data set of solar cells and the few-shot protocol that InCTRL (CVPR 2024) uses on it.

Normal are cells labelled 0, anomalous those labelled 1; the uncertain ones between are left out. A quarter of the normal
cells and all anomalous ones are the test; shots are drawn from the other normal cells.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import UsageError

SPLIT_SEED = 42
TEST_SHARE = 0.25


@dataclass(frozen=True)
class Elpv:
    """File paths by their role."""

    train_normal: tuple[Path, ...]
    test_normal: tuple[Path, ...]
    test_anomalous: tuple[Path, ...]

    def draw(self, count: int, seed: int) -> tuple[Path, ...]:
        """`count` shots, the same for the same seed."""
        chosen = np.random.default_rng(seed).choice(len(self.train_normal), count, replace=False)
        return tuple(self.train_normal[i] for i in chosen)


def load() -> Elpv:
    """Find the installed data set and split it.

    Raises:
        UsageError: it is not installed.
    """
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        raise UsageError("the ELPV data set is not installed", "pip install 'linegate[demo]'.")
    folder = Path(found.origin).parent / "data"
    rows = [line.split() for line in (folder / "labels.csv").read_text().splitlines() if line.strip()]
    normal = [folder / row[0] for row in rows if float(row[1]) == 0.0]
    anomalous = [folder / row[0] for row in rows if float(row[1]) == 1.0]
    # The same permutation as scikit-learn's train_test_split(test_size=0.25, random_state=42).
    order = np.random.RandomState(SPLIT_SEED).permutation(len(normal))
    cut = int(np.ceil(TEST_SHARE * len(normal)))
    return Elpv(tuple(normal[i] for i in order[cut:]), tuple(normal[i] for i in order[:cut]), tuple(anomalous))

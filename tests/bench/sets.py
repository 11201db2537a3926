"""The data sets of the detection benchmark: shots to draw from, and labelled test pictures, as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from deploy.demo import elpv
from edge.condition import Features, measure
from edge.engines.base import Engine
from edge.errors import UsageError
from edge.pictures import list_pictures, read_picture
from edge.preprocess import View, preprocess
from edge.types import Tokens


@dataclass(frozen=True)
class Sample:
    """One picture, encoded. `mask` is `bool [H, W]`, None where the set has none."""

    path: Path
    size: tuple[int, int]
    features: Features
    tokens: Tokens
    defective: bool
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class DataSet:
    """`pool` are the normal pictures that shots are drawn from, `test` what is judged."""

    name: str
    pool: tuple[Sample, ...]
    test: tuple[Sample, ...]

    def draw(self, count: int, seed: int) -> list[Sample]:
        """`count` shots, the same for the same seed."""
        chosen = np.random.default_rng(seed).choice(len(self.pool), count, replace=False)
        return [self.pool[i] for i in chosen]


def load_elpv(engine: Engine, progress: Progress) -> DataSet:
    """ELPV by the protocol of InCTRL."""
    data = elpv.load()
    pool = _encode(data.train_normal, False, engine, progress, "ELPV shots")
    normal = _encode(data.test_normal, False, engine, progress, "ELPV normal")
    return DataSet("elpv", pool, normal + _encode(data.test_anomalous, True, engine, progress, "ELPV anomalous"))


def load_magnetic_tile(folder: Path, engine: Engine, progress: Progress) -> DataSet:
    """Magnetic tiles laid out as `train/good`, `test/<kind>`, `ground_truth/<kind>/<name>_mask.png`.

    Raises:
        UsageError: the folder is not laid out so.
    """
    if not (folder / "train" / "good").is_dir() or not (folder / "test").is_dir():
        raise UsageError(f"{folder} is not the magnetic tile set", "It must hold train/good, test/ and ground_truth/.")
    pool = _encode(list_pictures(folder / "train" / "good"), False, engine, progress, "tile shots")
    test: tuple[Sample, ...] = ()
    for kind in sorted(p for p in (folder / "test").iterdir() if p.is_dir()):
        paths = list_pictures(kind)
        samples = _encode(paths, kind.name != "good", engine, progress, f"tile {kind.name}")
        test += tuple(_with_mask(s, folder / "ground_truth" / kind.name / f"{s.path.stem}_mask.png") for s in samples)
    return DataSet("magnetic_tile", pool, test)


def _with_mask(sample: Sample, path: Path) -> Sample:
    if not sample.defective:
        mask: NDArray[np.bool_] = np.zeros(sample.size, dtype=np.bool_)
    else:
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if grey is None or grey.shape != sample.size:
            raise UsageError(f"{path} does not fit its picture", "Use the data set as it was published.")
        mask = np.asarray(grey > 127)
    return Sample(sample.path, sample.size, sample.features, sample.tokens, sample.defective, mask)


def _encode(
    paths: Sequence[Path], defective: bool, engine: Engine, progress: Progress, what: str
) -> tuple[Sample, ...]:
    task = progress.add_task(f"encoding {what}", total=len(paths))
    found: list[Sample] = []
    for path in paths:
        prepared = preprocess(read_picture(path), engine.package.info.encoder.input_size, View())
        tokens = engine.encode(prepared.image[np.newaxis])
        found.append(Sample(path, prepared.placement.size, measure(prepared.image), tokens, defective))
        progress.advance(task)
    return tuple(found)

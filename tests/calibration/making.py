"""Makes pictures and recipes, and remembers what a folder held."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.calibrate import Calibration, Step, calibrate, encode_shots
from calibration.drafting import draft_product
from calibration.product import Options, prepare_product
from calibration.recipe_writer import write_revision
from calibration.shots import Shot, read_shots
from edge.engines.base import Engine
from edge.sealed import sha256_of


class Calibrate(Protocol):
    """Calibrates a folder of shots and returns the new revision's folder."""

    def __call__(
        self, folder: Path, product: str = ..., *, bit_depth: int | None = ..., mixed_sizes: bool = ...
    ) -> Path: ...


def silent(_what: str, _done: int, _of: int) -> None:
    """A progress that nobody watches."""


def calibrate_here(
    folder: Path, engine: Engine, recipes: Path, product: str, bit_depth: int | None, mixed_sizes: bool
) -> Path:
    """What `linegate calibrate` does, without the process, the progress bar and the simulated defects."""
    shots = read_shots(folder, bit_depth, mixed_sizes)
    found = prepare_product(shots, engine, Options(sensitivity=False), silent)
    return write_revision(recipes, draft_product(product, found, engine.package.info, bit_depth))[0]


def calibration_of(shots: Sequence[Shot], engine: Engine, step: Step = silent) -> Calibration:
    """Bank, threshold and limits from whole pictures as they lie."""
    return calibrate(encode_shots(shots, engine, None, False, step), engine, step)


def texture(seed: int, height: int = 64, width: int = 64, channels: int = 3) -> NDArray[np.uint8]:
    """Random blotches, `uint8 [height, width, channels]`; grey has no last dimension."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.0), dtype=np.uint8)


def save(path: Path, pixels: NDArray[Any]) -> Path:
    """Write pixels (in OpenCV's order of channels) in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    good, data = cv2.imencode(path.suffix, pixels)
    assert good
    path.write_bytes(data.tobytes())
    return path


def contents(folder: Path) -> dict[str, str]:
    """Every file and folder below `folder`, hidden ones too, with the hash of what it holds."""
    every = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): "folder" if p.is_dir() else sha256_of(p.read_bytes()) for p in every}

"""What the calibration tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge.engines.base import Engine
from tests.calibration.making import Calibrate, calibrate_here


@pytest.fixture
def shots(shots_folder: Path, tmp_path: Path) -> Path:
    """Three real shots in a folder of the test's own."""
    folder = tmp_path / "shots"
    folder.mkdir()
    for path in sorted(shots_folder.iterdir())[:3]:
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """A folder for recipes that does not exist yet."""
    return tmp_path / "recipes"


@pytest.fixture
def write_recipe(engine: Engine, recipes: Path) -> Calibrate:
    """Calibrates in this process, to a new revision below `recipes`."""

    def write(folder: Path, product: str = "part", *, bit_depth: int | None = None, mixed_sizes: bool = False) -> Path:
        return calibrate_here(folder, engine, recipes, product, bit_depth, mixed_sizes)

    return write

"""Real solar cells as pictures, and what calibration makes of them, without processes and progress bars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.calibrate import calibrate, encode_shots
from calibration.drafting import draft_product
from calibration.product import Options, Product
from calibration.recipe_writer import Draft, write_revision
from calibration.shots import Shot, ShotSet
from deploy.demo import elpv
from edge.engines.base import Engine
from edge.pictures import read_picture
from edge.recipe import Recipe, load_recipe
from edge.sealed import sha256_of
from edge.types import Bank, Match, Picture, Tokens
from tests.calibration.making import save, silent

QUICK = Options(sensitivity=False)


class Remembering:
    """An engine that encodes each picture once."""

    def __init__(self, engine: Engine) -> None:
        self.package, self.description, self._engine = engine.package, engine.description, engine
        self._known: dict[bytes, Tokens] = {}

    def encode(self, images: NDArray[np.uint8]) -> Tokens:
        """See `Engine.encode`."""
        key = images.tobytes()
        if key not in self._known:
            self._known[key] = self._engine.encode(images)
        return self._known[key]

    def match(self, tokens: Tokens, bank: Bank) -> tuple[Match, ...]:
        """See `Engine.match`."""
        return self._engine.match(tokens, bank)


def cells(data: elpv.Elpv, count: int, kind: str = "mono", seed: int = 1) -> list[Picture]:
    """Normal cells of one kind ("mono" or "poly"): the set mixes two products."""
    table = data.train_normal[0].parents[1] / "labels.csv"
    kinds = {Path(row[0]).name: row[2] for line in table.read_text().splitlines() if (row := line.split())}
    pool = [path for path in data.train_normal if kinds[path.name] == kind]
    chosen = np.random.default_rng(seed).choice(len(pool), count, replace=False)
    return [read_picture(pool[i]) for i in chosen]


def named(pictures: Sequence[Picture], prefix: str = "") -> dict[str, Picture]:
    """Pictures as files would be called."""
    return {f"{prefix}{index}.png": picture for index, picture in enumerate(pictures)}


def shot_set(pictures: Mapping[str, Picture]) -> ShotSet:
    """Shots that never were files."""
    return ShotSet(tuple(Shot(Path(n), p, sha256_of(p.tobytes())) for n, p in pictures.items()), ())


def write_pictures(folder: Path, pictures: Mapping[str, Picture]) -> Path:
    """Save RGB pictures as the files they are called."""
    for name, picture in pictures.items():
        save(folder / name, np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)))
    return folder


def make_recipe(
    pictures: Mapping[str, Picture], engine: Engine, recipes: Path, options: Options = QUICK
) -> tuple[Recipe, Product]:
    """A revision of the product "cell" as `linegate calibrate` writes it, but for audit, trials and report."""
    shots = shot_set(pictures)
    encoded = encode_shots(shots.shots, engine, options.roi, options.align, silent)
    product = Product(
        shots=shots,
        calibration=calibrate(encoded, engine, silent),
        findings=(),
        learning=None,
        sensitivity=None,
        selftest=(),
        roi=options.roi,
    )
    draft = draft_product("cell", product, engine.package.info, None)
    folder, _ = write_revision(recipes, Draft(draft.info, draft.files))
    return load_recipe(folder, engine.package.info), product


def spotted(picture: Picture, centre: tuple[int, int], radius: int, grey: int = 10) -> Picture:
    """A copy with a disc of one grey at `(x, y)`."""
    drawn = picture.copy()
    cv2.circle(drawn, centre, radius, (grey, grey, grey), -1)
    return np.asarray(drawn, dtype=np.uint8)

"""A made-up product pair whose scores are recorded, so that verdicts cost no encoder and every right answer is known.

A part shows its kind as a pattern of bits. The table of recorded scores says what each kind scores against the bank of each
product; a frame that meets the wrong bank gets the other product's score, and so, often, the wrong verdict.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from edge.bank import METHOD
from edge.condition import Limits
from edge.engines.package import (
    PACKAGE_FILE,
    BankTensor,
    DecoderSpec,
    EncoderSpec,
    FileEntry,
    PackageInfo,
    Tap,
    WeightsSource,
    identity,
)
from edge.preprocess import PREPROCESS_VERSION
from edge.recipe import BANK_FILE, RECIPE_FILE, SCHEMA_VERSION, RecipeInfo, Threshold
from edge.sealed import seal, sha256_of
from edge.types import Judgement, Picture

SIDE_PX, CELL_PX, BITS = 32, 8, 10
KINDS = 1 << BITS
PRODUCTS = ("left", "right")
LIMIT = 1.0
GOOD_SHARE = 0.9
SEED = 4


@dataclasses.dataclass(frozen=True)
class World:
    """Where package and recipes lie, and what every kind of part scores against each product's bank, `[2, KINDS]`."""

    package: Path
    recipes: Path
    scores: NDArray[np.float32]

    def expected(self, product: str, kind: int) -> Judgement:
        """What a judge without faults would say."""
        return Judgement.OK if self.scores[PRODUCTS.index(product), kind] <= LIMIT else Judgement.NOT_OK


def recorded_scores() -> NDArray[np.float32]:
    """Good parts score 0.2 to 0.9, bad ones 1.1 to 3."""
    draw = np.random.default_rng(SEED)
    good = draw.random((2, KINDS)) < GOOD_SHARE
    return np.where(good, draw.uniform(0.2, 0.9, good.shape), draw.uniform(1.1, 3.0, good.shape)).astype(np.float32)


def picture_of(kind: int) -> Picture:
    """The part: its kind as bright and dark cells, row by row."""
    cells = np.full((SIDE_PX // CELL_PX) ** 2, 64, np.uint8)
    for bit in range(BITS):
        if kind >> bit & 1:
            cells[bit] = 192
    grey = cells.reshape(SIDE_PX // CELL_PX, -1).repeat(CELL_PX, axis=0).repeat(CELL_PX, axis=1)
    return np.repeat(grey[:, :, np.newaxis], 3, axis=2)


def kind_of(image: NDArray[np.uint8]) -> int:
    """The kind that a picture `[H, W, 3]` shows."""
    cells = image[CELL_PX // 2 :: CELL_PX, CELL_PX // 2 :: CELL_PX, 0].reshape(-1)[:BITS]
    return int(((cells > 128).astype(np.int64) << np.arange(BITS)).sum())


def build(folder: Path) -> World:
    """Write the package and one recipe a product, as exporter and calibration would."""
    package = folder / "package"
    package.mkdir(parents=True)
    info = _package_info(package)
    for index, product in enumerate(PRODUCTS):
        _write_recipe(folder / "recipes" / product / "0001", product, index, info)
    return World(package, folder / "recipes", recorded_scores())


def _package_info(folder: Path) -> PackageInfo:
    files = {}
    for name in ("encoder.onnx", "decoder.onnx"):
        (folder / name).write_bytes(name.encode())
        files[name] = FileEntry(sha256_of(name.encode()), len(name))
    info = PackageInfo(
        schema_version=1,
        package_hash="",
        preprocess_version=PREPROCESS_VERSION,
        encoder=EncoderSpec("recorded", "encoder.onnx", (SIDE_PX, SIDE_PX), (Tap("tokens_0", CELL_PX, (4, 4), 1),)),
        decoder=DecoderSpec(METHOD, "decoder.onnx", (BankTensor("product", (1,)),), {}),
        source=WeightsSource("none", "0", "none", "0" * 64),
        files=files,
        parity=None,
        software_version="0",
        created="2026-01-01T00:00:00+00:00",
    )
    info = msgspec.structs.replace(info, package_hash=identity(info))
    (folder / PACKAGE_FILE).write_bytes(seal(info))
    return info


def _write_recipe(folder: Path, product: str, index: int, package: PackageInfo) -> None:
    folder.mkdir(parents=True)
    bank = safetensors.numpy.save({"product": np.full(1, index, np.float32)})
    (folder / BANK_FILE).write_bytes(bank)
    every = (0.0, 1e9)
    threshold = Threshold(
        value=LIMIT,
        pixel_value=LIMIT,
        unlikeness_most=1e9,
        method="fixed",
        scores=(),
        frame_scores=(),
        frames_rejected=0,
        false_reject_mean=None,
        false_reject_bound=None,
        confidence=0.95,
        tail_estimate=None,
        claim="nothing",
    )
    info = RecipeInfo(
        schema_version=SCHEMA_VERSION,
        product=product,
        revision=1,
        package_name=package.encoder.name,
        package_hash=package.package_hash,
        bank_sha256=sha256_of(bank),
        parent_revision=None,
        change="made up",
        threshold=threshold,
        limits=Limits(every, every, every, every, contrast_least=0.0, sharpness_least=0.0, clipped_most=1.0),
        roi=None,
        pose=None,
        counterexamples=(),
        normals_sha256="0" * 64,
        bit_depth=None,
        shots=(),
        files={},
        software_version="0",
        created="2026-01-01T00:00:00+00:00",
    )
    (folder / RECIPE_FILE).write_bytes(seal(info))

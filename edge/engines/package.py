"""Read and verify a model package: encoder, decoder, and what is said about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge.bank import METHOD, Geometry, whole_picture
from edge.errors import PackageError, RecipeError
from edge.preprocess import PREPROCESS_VERSION
from edge.sealed import digest, read_checked, unseal
from edge.types import Bank

SCHEMA_VERSION = 1
PACKAGE_FILE = "package.json"
DECODER_OUTPUTS = ("anomaly_map", "score", "unlikeness")
_MEND = "Export the package again with `linegate export`."


class Tap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tapped layer: its tokens' name in the graph, grid (height, width) and dimension."""

    name: str
    stride: int
    grid: tuple[int, int]
    dim: int


class EncoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The encoder graph: `uint8 [B, H, W, 3]` RGB in, one `float32 [B, h * w, D]` per tap out."""

    name: str
    file: str
    input_size: tuple[int, int]
    taps: tuple[Tap, ...]


class BankTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input of the decoder that a recipe provides; a dimension of 0 is free."""

    name: str
    shape: tuple[int, ...]


class DecoderSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The matching decoder: tokens and bank in, `anomaly_map [B, H, W]`, `score [B]` and `unlikeness [B]` out."""

    method: str
    file: str
    bank: tuple[BankTensor, ...]
    parameters: dict[str, float]


class WeightsSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the encoder's weights come from."""

    origin: str
    version: str
    licence: str
    sha256: str


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the package."""

    sha256: str
    size_bytes: int


class Parity(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the exported graphs stray from the reference, on real pictures.

    `score_difference_worst` is relative to the spread (standard deviation) of the pictures' scores.
    """

    reference: str
    executor: str
    pictures: int
    token_cosine_worst: float
    score_difference_worst: float
    verdict_flips: int


class PackageInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `package.json`."""

    schema_version: int
    package_hash: str
    preprocess_version: int
    encoder: EncoderSpec
    decoder: DecoderSpec
    source: WeightsSource
    files: dict[str, FileEntry]
    parity: Parity | None
    software_version: str
    created: str


@dataclass(frozen=True)
class Package:
    """A verified package: its description and the bytes of its graphs."""

    folder: Path
    info: PackageInfo
    encoder: bytes
    decoder: bytes


def whole_geometry(encoder: EncoderSpec) -> Geometry:
    """The geometry of an encoder's tokens without a region of interest."""
    return whole_picture([tap.grid for tap in encoder.taps])


def identity(info: PackageInfo) -> str:
    """The package hash: over all that can change a score, and nothing else."""
    graphs = {name: info.files[name].sha256 for name in (info.encoder.file, info.decoder.file)}
    parts: dict[str, Any] = {"encoder": info.encoder, "decoder": info.decoder, "files": graphs}
    return digest({**parts, "preprocess_version": info.preprocess_version})


def load_package(folder: Path) -> Package:
    """Read a package and verify every hash in it.

    Raises:
        PackageError: no package there, another schema or preprocessing, or any flipped bit.
    """
    if not (folder / PACKAGE_FILE).is_file():
        raise PackageError(f"{folder} holds no model package ({PACKAGE_FILE} is missing)", _MEND)
    info = unseal(folder / PACKAGE_FILE, PackageInfo, SCHEMA_VERSION, PackageError, _MEND)
    if info.preprocess_version != PREPROCESS_VERSION:
        raise PackageError(
            f"{folder} was made for preprocessing {info.preprocess_version}, this software does {PREPROCESS_VERSION}",
            _MEND,
        )
    if info.decoder.method != METHOD:
        raise PackageError(f"{folder} matches by {info.decoder.method}, this software by {METHOD}", _MEND)
    if not {info.encoder.file, info.decoder.file} <= set(info.files) or info.package_hash != identity(info):
        raise PackageError(f"{folder} does not match its package hash", _MEND)
    contents = {
        name: read_checked(folder / Path(name).name, entry.sha256, PackageError, _MEND)
        for name, entry in info.files.items()
    }
    return Package(folder, info, contents[info.encoder.file], contents[info.decoder.file])


def check_bank(bank: Bank, decoder: DecoderSpec, name: str) -> None:
    """Refuse a bank that the decoder cannot take.

    Raises:
        RecipeError: a tensor is missing, too many, of another type or shape, or not finite.
    """
    remedy = "Calibrate the product again with this package."
    expected = {tensor.name: tensor.shape for tensor in decoder.bank}
    if set(bank) != set(expected):
        raise RecipeError(f"{name} holds {sorted(bank)}, the decoder takes {sorted(expected)}", remedy)
    for key, shape in expected.items():
        array = bank[key]
        fits = array.ndim == len(shape) and all(
            want in (0, have) for want, have in zip(shape, array.shape, strict=True)
        )
        if array.dtype != np.float32 or not fits:
            raise RecipeError(f"{name}: {key} is {array.dtype} {list(array.shape)}, not float32 {list(shape)}", remedy)
        if array.size == 0 or not np.isfinite(array).all():
            raise RecipeError(f"{name}: {key} is empty or not finite", remedy)

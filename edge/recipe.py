"""Load and verify what is prepared for one product: bank, threshold, limits, hashes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from edge.condition import Limits
from edge.engines.package import PackageInfo, check_bank
from edge.errors import RecipeError
from edge.pose import PoseSpec
from edge.preprocess import View
from edge.sealed import digest, read_checked, unseal
from edge.types import Bank
from edge.view import WHOLE, Box

SCHEMA_VERSION = 2
RECIPE_FILE = "recipe.json"
BANK_FILE = "bank.safetensors"
REFERENCE_FILE = "reference.png"
NORMALS_FILE = "normals.safetensors"
"""Tokens of the shots (float16), kept for previews of later changes; the runtime never reads it."""
_MEND = "Restore the recipe from a backup or calibrate the product again."


class ShotEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One calibration picture: where it came from and what it scored against the others."""

    file: str
    sha256: str
    width: int
    height: int
    thumbnail: str
    score: float | None


class Counterexample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A defect that was missed and is recognised since: its picture's name and hash, and how many tokens were taken."""

    file: str
    sha256: str
    tokens: int


class Threshold(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The largest score that passes, and how it was found.

    A picture whose unlikeness is above `unlikeness_most` is not judged: it does not show this product as the shots do.
    `false_reject_mean` is promised of normal parts on average over calibrations, `false_reject_bound` of this one with
    `confidence`; None promises nothing. `tail_estimate` extrapolates beyond what was seen and promises nothing.
    `scores` are the shots' leave-one-out scores, `frame_scores` those of production parts, of which `frames_rejected`
    lie above the threshold or were unfit.
    """

    value: float
    pixel_value: float
    unlikeness_most: float
    method: str
    scores: tuple[float, ...]
    frame_scores: tuple[float, ...]
    frames_rejected: int
    false_reject_mean: float | None
    false_reject_bound: float | None
    confidence: float
    tail_estimate: float | None
    claim: str


class RecipeInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `recipe.json`.

    `change` says in words what made this revision out of `parent_revision`. `roi` is the box that is cut out; which of its
    tokens count is in the bank. `bit_depth` is that of the shots' files, None for 8 bits.
    """

    schema_version: int
    product: str
    revision: int
    package_name: str
    package_hash: str
    bank_sha256: str
    parent_revision: int | None
    change: str
    threshold: Threshold
    limits: Limits
    roi: Box | None
    pose: PoseSpec | None
    counterexamples: tuple[Counterexample, ...]
    normals_sha256: str
    bit_depth: int | None
    shots: tuple[ShotEntry, ...]
    files: dict[str, str]
    software_version: str
    created: str


@dataclass(frozen=True)
class Recipe:
    """A verified recipe, ready to judge with."""

    folder: Path
    info: RecipeInfo
    bank: Bank
    view: View
    recipe_hash: str


def revisions(product_folder: Path) -> list[Path]:
    """Revision folders of a product, oldest first."""
    if not product_folder.is_dir():
        return []
    numbered = [p for p in product_folder.iterdir() if p.name.isdecimal() and p.is_dir()]
    return sorted(numbered, key=lambda p: int(p.name))


def find_recipe(path: Path) -> Path:
    """The recipe folder that `path` names: a revision, or a product's newest revision.

    Raises:
        RecipeError: there is no recipe.
    """
    path = path.resolve()
    if (path / RECIPE_FILE).is_file():
        return path
    found = revisions(path)
    if not found:
        raise RecipeError(f"{path} holds no recipe", "Make one with `linegate calibrate`, or name a product's folder.")
    return found[-1]


def load_recipe(path: Path, package: PackageInfo) -> Recipe:
    """Read a recipe (or a product's newest one) and verify it against the package it will run with.

    Raises:
        RecipeError: missing, damaged, tampered with, or made with another package.
    """
    folder = find_recipe(path)
    info = unseal(folder / RECIPE_FILE, RecipeInfo, SCHEMA_VERSION, RecipeError, _MEND)
    if info.package_hash != package.package_hash:
        raise RecipeError(
            f"{folder} was made with package {info.package_name} ({info.package_hash[:12]}), "
            f"this one is {package.encoder.name} ({package.package_hash[:12]})",
            "Use the package that the recipe names, or calibrate the product again with this one.",
        )
    for name, sha256 in info.files.items():
        read_checked(folder / "thumbnails" / Path(name).name, sha256, RecipeError, _MEND)
    data = read_checked(folder / BANK_FILE, info.bank_sha256, RecipeError, _MEND)
    try:
        bank: Bank = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, LookupError, TypeError, ValueError) as error:
        # The library lets through what NumPy has no type for.
        raise RecipeError(f"{folder / BANK_FILE} is damaged ({error})", _MEND) from error
    check_bank(bank, package.decoder, str(folder / BANK_FILE))
    threshold = info.threshold
    if not np.isfinite([threshold.value, threshold.pixel_value, threshold.unlikeness_most]).all():
        raise RecipeError(f"{folder} has no finite threshold", _MEND)
    return Recipe(folder, info, bank, _load_view(folder, info), digest(info))


def _load_view(folder: Path, info: RecipeInfo) -> View:
    box = info.roi or WHOLE
    if not (0.0 <= box.left < box.right <= 1.0 and 0.0 <= box.top < box.bottom <= 1.0):
        raise RecipeError(f"{folder} has a region of interest outside the picture", _MEND)
    if info.pose is None:
        return View(box)
    data = read_checked(folder / REFERENCE_FILE, info.pose.sha256, RecipeError, _MEND)
    reference = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if reference is None:
        raise RecipeError(f"{folder / REFERENCE_FILE} is not a picture", _MEND)
    return View(box, np.asarray(reference, dtype=np.uint8))

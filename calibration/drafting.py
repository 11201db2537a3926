"""From what calibration found to the draft of a revision."""

from __future__ import annotations

from pathlib import Path

import msgspec
import safetensors.numpy

from calibration import normals
from calibration.heatmap import jpeg, thumbnail
from calibration.pose import reference_png
from calibration.product import Product
from calibration.recipe_writer import Draft
from calibration.report import report_of_product
from edge.engines.package import PackageInfo
from edge.errors import RecipeError, UsageError
from edge.recipe import (
    BANK_FILE,
    NORMALS_FILE,
    REFERENCE_FILE,
    SCHEMA_VERSION,
    Recipe,
    RecipeInfo,
    ShotEntry,
    revisions,
)
from edge.sealed import read_checked, sha256_of
from edge.types import Bank

THUMBNAIL_SIDE = 256


def draft_product(name: str, product: Product, package: PackageInfo, bit_depth: int | None) -> Draft:
    """The first or a fresh revision of a product, from its shots."""
    calibration = product.calibration
    alone = len(product.shots.shots) == 1
    files = {BANK_FILE: bank_bytes(calibration.bank), NORMALS_FILE: normals.store(calibration.encoded.tokens)}
    entries: list[ShotEntry] = []
    thumbnails: dict[str, str] = {}
    for number, (shot, match) in enumerate(zip(product.shots.shots, calibration.matches, strict=True), start=1):
        picture = f"{number:04d}.jpg"
        files[f"thumbnails/{picture}"] = jpeg(thumbnail(shot.picture, THUMBNAIL_SIDE))
        thumbnails[picture] = sha256_of(files[f"thumbnails/{picture}"])
        height, width = shot.picture.shape[:2]
        entries.append(ShotEntry(shot.path.name, shot.sha256, width, height, picture, None if alone else match.score))
    if calibration.encoded.view.reference is not None:
        files[REFERENCE_FILE] = reference_png(calibration.encoded.view.reference)
    info = RecipeInfo(
        schema_version=SCHEMA_VERSION,
        product=name,
        revision=0,
        package_name=package.encoder.name,
        package_hash=package.package_hash,
        bank_sha256=sha256_of(files[BANK_FILE]),
        parent_revision=None,
        change=f"calibrated from {len(entries)} shots",
        threshold=calibration.threshold,
        limits=calibration.limits,
        roi=None if product.roi is None else product.roi.box,
        pose=calibration.encoded.pose,
        counterexamples=(),
        normals_sha256=sha256_of(files[NORMALS_FILE]),
        bit_depth=bit_depth,
        shots=tuple(entries),
        files=thumbnails,
        software_version="",
        created="",
    )
    return Draft(info, files, lambda finished: report_of_product(finished, product))


def draft_change(recipe: Recipe, changed: RecipeInfo, bank: Bank | None = None) -> Draft:
    """A revision that differs from `recipe` in what `changed` says, and in the bank if one is given. Has no report yet."""
    hashes = {NORMALS_FILE: recipe.info.normals_sha256, BANK_FILE: recipe.info.bank_sha256}
    hashes.update({f"thumbnails/{name}": sha256 for name, sha256 in recipe.info.files.items()})
    if recipe.info.pose is not None:
        hashes[REFERENCE_FILE] = recipe.info.pose.sha256
    remedy = "Restore the recipe from a backup or calibrate the product again."
    files = {name: read_checked(recipe.folder / name, sha256, RecipeError, remedy) for name, sha256 in hashes.items()}
    if bank is not None:
        files[BANK_FILE] = bank_bytes(bank)
    info = msgspec.structs.replace(
        changed, parent_revision=recipe.info.revision, bank_sha256=sha256_of(files[BANK_FILE])
    )
    return Draft(info, files)


def recipes_of(recipe: Recipe) -> Path:
    """The folder of all recipes that this one lies in.

    Raises:
        UsageError: it does not lie where its product's next revision could be written; older revisions do not branch.
    """
    product = recipe.folder.parent
    if product.name != recipe.info.product:
        raise UsageError(
            f"{recipe.folder} does not lie in a folder {recipe.info.product}",
            "Name the recipe in the folder of recipes.",
        )
    newest = revisions(product)[-1]
    if newest != recipe.folder:
        raise UsageError(
            f"{recipe.folder} is not the newest revision ({newest.name} is)",
            "Name the product's folder to change the newest.",
        )
    return product.parent


def bank_bytes(bank: Bank) -> bytes:
    """A bank as safetensors."""
    return safetensors.numpy.save(dict(bank))

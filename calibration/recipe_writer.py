"""Write a new revision of a recipe: beside its place, then renamed there. Nothing is ever edited."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import safetensors.numpy

from calibration.calibrate import Calibration
from calibration.heatmap import jpeg, thumbnail
from calibration.report import render
from calibration.shots import ShotSet
from edge import SOFTWARE_VERSION
from edge.engines.package import PackageInfo
from edge.errors import OutputError, UsageError
from edge.recipe import BANK_FILE, RECIPE_FILE, SCHEMA_VERSION, RecipeInfo, ShotEntry, revisions
from edge.sealed import seal, sha256_of

THUMBNAIL_SIDE = 256
PRODUCT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOCK_FILE = ".lock"


def check_product(product: str) -> None:
    """Refuse names that are no folder names.

    Raises:
        UsageError: the name is not usable.
    """
    if not PRODUCT_NAME.fullmatch(product):
        raise UsageError(f"{product!r} is no product name", "Use letters, digits, '.', '_' and '-', at most 64.")


def write_revision(
    recipes: Path, product: str, package: PackageInfo, shots: ShotSet, calibration: Calibration, bit_depth: int | None
) -> tuple[Path, RecipeInfo]:
    """Write the next revision of `product` below the folder `recipes`.

    Raises:
        OutputError: the folder cannot be written; nothing is left behind.
    """
    folder = recipes / product
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder), _beside(folder) as draft:
            revision = int(existing[-1].name) + 1 if (existing := revisions(folder)) else 1
            info = _fill(draft, product, revision, package, shots, calibration, bit_depth)
            final = folder / f"{revision:04d}"
            draft.chmod(0o755)
            draft.rename(final)
            return final, info
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror})", "Choose a folder that can be written."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            if not revisions(folder):
                (folder / LOCK_FILE).unlink(missing_ok=True)
                folder.rmdir()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Two calibrations of one product take turns, so that each gets its own revision.

    One that failed may have removed the lock's file while this one waited for it: then it is taken again.
    """
    path = folder / LOCK_FILE
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists() or not os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                continue
            yield
            return


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A draft folder, removed unless it was renamed; drafts of killed calibrations go with it."""
    for stale in folder.glob(".draft-*"):
        shutil.rmtree(stale, ignore_errors=True)
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(
    draft: Path,
    product: str,
    revision: int,
    package: PackageInfo,
    shots: ShotSet,
    calibration: Calibration,
    bit_depth: int | None,
) -> RecipeInfo:
    bank = safetensors.numpy.save(dict(calibration.bank))
    (draft / BANK_FILE).write_bytes(bank)
    (draft / "thumbnails").mkdir()
    entries: list[ShotEntry] = []
    files: dict[str, str] = {}
    alone = len(shots.shots) == 1
    for number, (shot, match) in enumerate(zip(shots.shots, calibration.matches, strict=True), start=1):
        name = f"{number:04d}.jpg"
        data = jpeg(thumbnail(shot.picture, THUMBNAIL_SIDE))
        (draft / "thumbnails" / name).write_bytes(data)
        files[name] = sha256_of(data)
        height, width = shot.picture.shape[:2]
        entries.append(ShotEntry(shot.path.name, shot.sha256, width, height, name, None if alone else match.score))
    info = RecipeInfo(
        schema_version=SCHEMA_VERSION,
        product=product,
        revision=revision,
        package_name=package.encoder.name,
        package_hash=package.package_hash,
        bank_sha256=sha256_of(bank),
        threshold=calibration.threshold,
        limits=calibration.limits,
        bit_depth=bit_depth,
        shots=tuple(entries),
        files=files,
        software_version=SOFTWARE_VERSION,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
    (draft / RECIPE_FILE).write_bytes(seal(info))
    (draft / "report.html").write_text(render(info, shots, calibration), encoding="utf-8")
    return info

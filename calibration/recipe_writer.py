"""Write a new revision of a recipe: beside its place, then renamed there. Nothing is ever edited."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge import SOFTWARE_VERSION
from edge.errors import OutputError, UsageError
from edge.recipe import RECIPE_FILE, RecipeInfo, revisions
from edge.sealed import seal

PRODUCT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
REPORT_FILE, REPORT_DATA_FILE = "report.html", "report.json"


@dataclass(frozen=True)
class Draft:
    """A revision about to be written: the recipe (its number and date are filled in), its files, and its report.

    `report` is called with the finished recipe and returns the page and the data of it.
    """

    info: RecipeInfo
    files: dict[str, bytes] = field(default_factory=dict)
    report: Callable[[RecipeInfo], tuple[str, bytes]] | None = None


def check_product(product: str) -> None:
    """Refuse names that are no folder names.

    Raises:
        UsageError: the name is not usable.
    """
    if not PRODUCT_NAME.fullmatch(product):
        raise UsageError(f"{product!r} is no product name", "Use letters, digits, '.', '_' and '-', at most 64.")


def write_revision(recipes: Path, draft: Draft) -> tuple[Path, RecipeInfo]:
    """Write the next revision of the draft's product below the folder `recipes`.

    Raises:
        OutputError: the folder cannot be written; nothing is left behind.
    """
    folder = recipes / draft.info.product
    try:
        recipes.mkdir(parents=True, exist_ok=True)
        with _locked(recipes), _product_folder(folder), _beside(folder) as beside:
            number = int(existing[-1].name) + 1 if (existing := revisions(folder)) else 1
            info = _fill(beside, draft, number)
            final = folder / f"{number:04d}"
            beside.chmod(0o755)
            beside.rename(final)
            return final, info
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written ({error.strerror})", "Choose a folder that can be written."
        ) from error


def _fill(beside: Path, draft: Draft, number: int) -> RecipeInfo:
    created = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    info = msgspec.structs.replace(draft.info, revision=number, created=created, software_version=SOFTWARE_VERSION)
    for name, data in draft.files.items():
        (beside / name).parent.mkdir(exist_ok=True)
        (beside / name).write_bytes(data)
    (beside / RECIPE_FILE).write_bytes(seal(info))
    if draft.report is not None:
        page, data = draft.report(info)
        (beside / REPORT_FILE).write_text(page, encoding="utf-8")
        (beside / REPORT_DATA_FILE).write_bytes(data)
    return info


@contextlib.contextmanager
def _locked(recipes: Path) -> Iterator[None]:
    """Calibrations that write below one folder take turns, so that each gets its own revision."""
    handle = os.open(recipes, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _product_folder(folder: Path) -> Iterator[None]:
    """The product's folder, removed again if nothing was written to it."""
    folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()


@contextlib.contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A draft folder, removed unless it was renamed; drafts of killed calibrations go with it."""
    for stale in folder.glob(".draft-*"):
        shutil.rmtree(stale, ignore_errors=True)
    beside = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    try:
        yield beside
    finally:
        shutil.rmtree(beside, ignore_errors=True)

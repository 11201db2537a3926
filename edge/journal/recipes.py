"""The recipes that a journal's verdicts were given with: what was rejected can be judged again when they are long gone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edge.errors import JournalError
from edge.recipe import BANK_FILE, RECIPE_FILE, REFERENCE_FILE, Recipe

FOLDER_NAME = "recipes"
THUMBNAILS = "thumbnails"
NEEDED = (RECIPE_FILE, BANK_FILE, REFERENCE_FILE)


def keep_recipe(folder: Path, recipe: Recipe) -> None:
    """Copy what judging needs of a recipe into a journal's folder, unless it is there.

    Raises:
        JournalError: the disk does not take it.
    """
    kept = folder / FOLDER_NAME / recipe.recipe_hash
    if kept.is_dir():
        return
    beside = kept.with_name(f".{recipe.recipe_hash}.{os.getpid()}.part")
    try:
        beside.mkdir(parents=True, exist_ok=True)
        for name in NEEDED:
            if (recipe.folder / name).is_file():
                shutil.copyfile(recipe.folder / name, beside / name)
        if (recipe.folder / THUMBNAILS).is_dir():
            shutil.copytree(recipe.folder / THUMBNAILS, beside / THUMBNAILS, dirs_exist_ok=True)
        beside.rename(kept)
    except OSError as error:
        shutil.rmtree(beside, ignore_errors=True)
        raise JournalError(
            f"recipe {recipe.recipe_hash[:12]} cannot be kept ({error.strerror})", "Free some space."
        ) from error


def kept_recipe(folder: Path, recipe_hash: str) -> Path:
    """The folder of a kept recipe.

    Raises:
        JournalError: it is not kept.
    """
    kept = folder / FOLDER_NAME / recipe_hash
    if not recipe_hash or not kept.is_dir():
        raise JournalError(
            f"{folder} does not hold recipe {recipe_hash[:12] or '(none)'}, which gave this verdict",
            "Name its folder with --recipe.",
        )
    return kept

"""The shots' tokens, kept beside a recipe so that a later change can be previewed on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from edge.errors import RecipeError
from edge.recipe import NORMALS_FILE, Recipe
from edge.sealed import read_checked
from edge.types import Tokens

KEPT_SHOTS = 64
"""More shots than this are thinned out evenly: what is kept stays small however many there are."""


def store(tokens: Sequence[Tokens]) -> bytes:
    """Tokens of at most 64 shots as float16 safetensors, one tensor `[S, N, D]` per tap."""
    places = np.unique(np.linspace(0, len(tokens) - 1, min(KEPT_SHOTS, len(tokens))).round().astype(int))
    taps = range(len(tokens[0]))
    return safetensors.numpy.save(
        {f"tokens_{tap}": np.concatenate([tokens[i][tap] for i in places]).astype(np.float16) for tap in taps}
    )


def restore(recipe: Recipe) -> list[Tokens]:
    """The kept tokens of a recipe's shots.

    Raises:
        RecipeError: they are missing or damaged.
    """
    remedy = "Calibrate the product again."
    data = read_checked(recipe.folder / NORMALS_FILE, recipe.info.normals_sha256, RecipeError, remedy)
    try:
        taps: dict[str, NDArray[np.float16]] = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise RecipeError(f"{recipe.folder / NORMALS_FILE} is damaged ({error})", remedy) from error
    ordered = [taps[key].astype(np.float32) for key in sorted(taps)]
    return [tuple(tap[i : i + 1] for tap in ordered) for i in range(len(ordered[0]))]

"""A missed defect becomes a counter-example: its tokens are recognised, and the effect on normal parts is shown first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration import normals
from calibration.calibrate import Step, leave_one_out
from edge.bank import Counterexamples, Geometry, unit_tokens
from edge.condition import why_unfit
from edge.engines.base import Engine
from edge.errors import ShotsError
from edge.pictures import read_picture
from edge.preprocess import preprocess
from edge.recipe import Counterexample, Recipe, RecipeInfo
from edge.sealed import sha256_of
from edge.types import Bank, Tokens
from edge.verdict import accepts

TOKENS_TAKEN = 12
MOST_TOKENS = 512
LIMIT_STEP = 0.005
"""The cosine above which a token counts as the counter-example lies at least this far above that of any normal token."""


@dataclass(frozen=True)
class Preview:
    """What adding a counter-example would change, before it is committed.

    `normals_rejected` are kept normal shots that would score above the threshold and did not before.
    """

    info: RecipeInfo
    bank: Bank
    score_before: float
    score_after: float
    normals_rejected: int
    normals: int

    @property
    def helps(self) -> bool:
        """The defect would now be rejected."""
        return self.score_after > self.info.threshold.value


def preview(path: Path, recipe: Recipe, engine: Engine, step: Step) -> Preview:
    """Work out the recipe with one more counter-example.

    The tokens of the defect that stand out most are taken; a token of a later part is recognised when it is more alike to one
    of them than any token of the kept normal shots is.

    Raises:
        ShotsError: the picture is unfit, already rejected, or cannot be told from normal parts.
        PictureError: it is no picture.
    """
    picture = read_picture(path, recipe.info.bit_depth)
    prepared = preprocess(picture, engine.package.info.encoder.input_size, recipe.view)
    unfit = why_unfit(prepared, recipe.info.limits, recipe.info.pose)
    if unfit:
        raise ShotsError(f"{path} is not fit to be judged: {unfit}", "Take a picture like the shots.")
    tokens = engine.encode(prepared.image[None])
    before = engine.match(tokens, recipe.bank)[0]
    if not accepts(before, recipe.info.threshold):
        raise ShotsError(
            f"{path} is rejected already (score {before.score:.4g})", "Only missed defects need to be added."
        )
    geometry = Geometry(tuple(recipe.bank[f"inside_{i}"] for i in range(len(tokens))))
    kept = normals.restore(recipe)
    taken = _standing_out(before.anomaly_map, tokens, geometry, engine, kept)
    counter = _with_known(recipe, taken, kept)
    bank: Bank = {**recipe.bank, "counter": counter.tokens, "counter_limit": np.array([counter.limit], np.float32)}
    limit = recipe.info.threshold.value
    held_before = _normal_scores(kept, geometry, recipe.bank, engine, _known(recipe), step)
    held_after = _normal_scores(kept, geometry, bank, engine, counter, step)
    newly = sum(new > limit >= old for new, old in zip(held_after, held_before, strict=True))
    entry = Counterexample(path.name, sha256_of(path.read_bytes()), len(taken))
    info = msgspec.structs.replace(
        recipe.info,
        counterexamples=(*recipe.info.counterexamples, entry),
        change=f"counter-example {path.name}",
    )
    after = engine.match(tokens, bank)[0]
    return Preview(info, bank, before.score, after.score, newly, len(kept))


def _standing_out(
    anomaly_map: NDArray[np.float32], tokens: Tokens, geometry: Geometry, engine: Engine, kept: Sequence[Tokens]
) -> NDArray[np.float32]:
    """Unit-length tokens `[M, D]` of the finest tap: where the map is highest, the half that normal parts share least."""
    rows, columns = engine.package.info.encoder.taps[0].grid
    height, width = anomaly_map.shape
    centres = anomaly_map[height // (2 * rows) :: height // rows, width // (2 * columns) :: width // columns]
    values = np.where(geometry.inside[0] > 0, centres[:rows, :columns].reshape(-1), -1.0)
    highest = unit_tokens(tokens[0][0][np.argsort(-values)[:TOKENS_TAKEN]])
    order = np.argsort(_nearest_normal(highest, kept))
    return highest[order[: TOKENS_TAKEN // 2]]


def _nearest_normal(rows: NDArray[np.float32], kept: Sequence[Tokens]) -> NDArray[np.float32]:
    """The largest cosine of each of `[M, D]` with any token of the kept normal shots, `[M]`."""
    units = np.concatenate([unit_tokens(shot[0][0]) for shot in kept])
    return np.asarray((rows @ units.T).max(axis=1), dtype=np.float32)


def _known(recipe: Recipe) -> Counterexamples | None:
    if not recipe.info.counterexamples:
        return None
    return Counterexamples(recipe.bank["counter"], float(recipe.bank["counter_limit"][0]))


def _with_known(recipe: Recipe, taken: NDArray[np.float32], kept: Sequence[Tokens]) -> Counterexamples:
    """The new tokens with those of earlier counter-examples, and one limit that no normal token reaches."""
    known = _known(recipe)
    rows = taken if known is None else np.concatenate([known.tokens, taken])
    limit = float(_nearest_normal(rows, kept).max()) + LIMIT_STEP
    if limit >= 1.0 - LIMIT_STEP:
        raise ShotsError("the defect looks like normal parts to this encoder", "A counter-example cannot help here.")
    if len(rows) > MOST_TOKENS:
        raise ShotsError(
            f"more than {MOST_TOKENS} tokens of counter-examples", "Calibrate again with more shots instead."
        )
    return Counterexamples(np.ascontiguousarray(rows, dtype=np.float32), limit)


def _normal_scores(
    kept: Sequence[Tokens],
    geometry: Geometry,
    bank: Bank,
    engine: Engine,
    counter: Counterexamples | None,
    step: Step,
) -> list[float]:
    """Scores of the kept normal shots, each against the others; a single one against the bank."""
    if len(kept) == 1:
        return [engine.match(kept[0], bank)[0].score]
    return [m.score for m in leave_one_out(kept, geometry, engine, step, counter)[1]]

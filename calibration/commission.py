"""Tighten a threshold with production parts: judge them, let nothing out, learn only from what is plainly the product."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from calibration.calibrate import Step
from calibration.shots import pixel_hash
from calibration.threshold import from_production
from edge.engines.base import Engine
from edge.errors import PictureError, ShotsError
from edge.judge import judge_picture
from edge.pictures import read_picture
from edge.recipe import Recipe, RecipeInfo
from edge.types import Judgement, Match

LEAST_FRAMES = 20
MOST_UNFIT_SHARE = 0.2
MOST_REJECTED_SHARE = 0.5


@dataclass(frozen=True)
class Observed:
    """One production part, judged by the revision before. `match` is None when its picture was unfit, and why."""

    path: Path
    match: Match | None
    unfit: str


@dataclass(frozen=True)
class Commissioning:
    """The new revision's recipe, and the parts it rests on."""

    info: RecipeInfo
    observed: tuple[Observed, ...]


def observe(paths: Sequence[Path], recipe: Recipe, engine: Engine, step: Step) -> tuple[Observed, ...]:
    """Judge every frame as the station would; a file that is no picture counts as unfit.

    A picture that was seen already, here or among the shots, is no further part and is left out.
    """
    found: list[Observed] = []
    known = {shot.sha256 for shot in recipe.info.shots}
    for index, path in enumerate(paths):
        step("observing production parts", index + 1, len(paths))
        try:
            picture = read_picture(path, recipe.info.bit_depth)
        except PictureError as error:
            found.append(Observed(path, None, error.what))
            continue
        key = pixel_hash(picture)
        if key in known:
            continue
        known.add(key)
        verdict, match = judge_picture(picture, engine, recipe)
        undecided = verdict.judgement is Judgement.NOT_DECIDABLE
        found.append(Observed(path, None if undecided else match, verdict.detail if undecided else ""))
    return tuple(found)


def commission(recipe: Recipe, observed: tuple[Observed, ...], allow_raise: bool = False) -> Commissioning:
    """The recipe with a threshold from production parts.

    Args:
        recipe: of the revision that judged them.
        observed: the parts.
        allow_raise: accept a threshold above the one before.

    Raises:
        ShotsError: too few frames, or they do not show this product: nothing is learned from them.
    """
    total = len(observed)
    if total < LEAST_FRAMES:
        said = f"{total} different production parts are too few to tighten a threshold"
        raise ShotsError(said, f"Take at least {LEAST_FRAMES}; a picture that comes again counts once.")
    matches = [o.match for o in observed if o.match is not None]
    unfit = total - len(matches)
    if unfit > MOST_UNFIT_SHARE * total:
        reason = next(o.unfit for o in observed if o.match is None)
        raise ShotsError(
            f"{unfit} of {total} frames are not fit to be judged as {recipe.info.product} (the first: {reason})",
            "Show the calibrated product under the light of the shots, or calibrate this one as a product of its own.",
        )
    before = recipe.info.threshold
    above = sum(m.score > before.value for m in matches)
    if len(recipe.info.shots) > 1 and above > MOST_REJECTED_SHARE * total:
        raise ShotsError(
            f"{above} of {total} frames score above the threshold: they do not look like {recipe.info.product}",
            "Show the calibrated product, or calibrate again with shots that cover how normal parts differ.",
        )
    threshold = from_production(before, matches, unfit, allow_raise)
    info = msgspec.structs.replace(
        recipe.info,
        threshold=threshold,
        change=f"threshold from {total} production parts, of which it rejects {threshold.frames_rejected}",
    )
    return Commissioning(info, observed)

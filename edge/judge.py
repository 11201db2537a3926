"""From pixels to verdict: the part of the route that the station, `linegate judge` and the golden set share."""

from __future__ import annotations

import numpy as np

from edge.condition import why_unfit
from edge.engines.base import Engine
from edge.errors import EngineError, PictureError
from edge.preprocess import preprocess
from edge.recipe import Recipe
from edge.types import Frame, FrameStatus, Match, Picture, Reason, Verdict
from edge.verdict import decide, undecided


def judge_picture(picture: Picture, engine: Engine, recipe: Recipe) -> tuple[Verdict, Match | None]:
    """Judge one picture; the match is None when the picture was unfit and not matched.

    Args:
        picture: `uint8 [H, W, 3]` RGB.
        engine: of the recipe's package.
        recipe: to judge with.

    Raises:
        PictureError: not a picture the encoder can take.
        EngineError: the executor failed.
    """
    info = recipe.info
    prepared = preprocess(picture, engine.package.info.encoder.input_size, recipe.view)
    unfit = why_unfit(prepared, info.limits, info.pose)
    if unfit:
        return undecided(Reason.UNFIT_IMAGE, unfit, info.threshold.value), None
    match = engine.match(engine.encode(prepared.image[np.newaxis]), recipe.bank)[0]
    return decide(match, info.threshold, prepared.placement), match


def judge_frame(frame: Frame, engine: Engine, recipe: Recipe) -> Verdict:
    """The verdict on one frame. A stage that fails gives NOT_DECIDABLE and its reason, never a default score."""
    threshold = recipe.info.threshold
    if frame.pixels is None or frame.status is not FrameStatus.COMPLETE:
        return undecided(Reason.FRAME_INCOMPLETE, frame.fault or "the frame did not arrive whole", threshold.value)
    try:
        return judge_picture(frame.pixels, engine, recipe)[0]
    except PictureError as error:
        return undecided(Reason.UNFIT_IMAGE, str(error), threshold.value)
    except EngineError as error:
        return undecided(Reason.ENGINE_FAULT, str(error), threshold.value)

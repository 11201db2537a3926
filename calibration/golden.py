"""Judge a labelled folder with a recipe and with the revision before it, and say what became better or worse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from calibration.calibrate import Step
from calibration.metrics import auroc
from edge.engines.base import Engine
from edge.errors import PictureError, ShotsError, UsageError
from edge.judge import judge_picture
from edge.pictures import list_pictures, read_picture
from edge.recipe import Recipe
from edge.types import Judgement, Reason, Verdict
from edge.verdict import undecided

GOOD, DEFECT = "good", "defect"


class Outcome(msgspec.Struct, frozen=True):
    """How one revision judged the golden set. A part that could not be judged counts as rejected."""

    revision: int
    threshold: float
    good: int
    defect: int
    false_rejects: int
    escapes: int
    undecided: int
    auroc: float | None


@dataclass(frozen=True)
class Judged:
    """One golden picture and its verdict."""

    path: Path
    defective: bool
    verdict: Verdict


def read_golden(folder: Path) -> list[tuple[Path, bool]]:
    """All pictures of `good/` and `defect/` in `folder`; True is defective.

    Raises:
        ShotsError: one of the classes is missing or empty.
    """
    found: list[tuple[Path, bool]] = []
    for name, defective in ((GOOD, False), (DEFECT, True)):
        try:
            found += [(path, defective) for path in list_pictures(folder / name)]
        except UsageError as error:
            raise ShotsError(
                f"the golden set has no {name} parts ({error.what})", f"Put pictures into {GOOD}/ and {DEFECT}/."
            ) from error
    return found


def judge_golden(
    golden: Sequence[tuple[Path, bool]], recipe: Recipe, engine: Engine, step: Step
) -> tuple[Outcome, tuple[Judged, ...]]:
    """Judge every golden picture as the station would."""
    judged: list[Judged] = []
    for index, (path, defective) in enumerate(golden):
        try:
            verdict, _ = judge_picture(read_picture(path, recipe.info.bit_depth), engine, recipe)
        except PictureError as error:
            verdict = undecided(Reason.FRAME_INCOMPLETE, error.what, recipe.info.threshold.value)
        judged.append(Judged(path, defective, verdict))
        step(f"judging the golden set with revision {recipe.info.revision}", index + 1, len(golden))
    scores = {
        label: [j.verdict.score for j in judged if j.defective is label and j.verdict.score is not None]
        for label in (False, True)
    }
    both = bool(scores[False]) and bool(scores[True])
    outcome = Outcome(
        revision=recipe.info.revision,
        threshold=recipe.info.threshold.value,
        good=sum(not j.defective for j in judged),
        defect=sum(j.defective for j in judged),
        false_rejects=sum(not j.defective and not j.verdict.accept for j in judged),
        escapes=sum(j.defective and j.verdict.accept for j in judged),
        undecided=sum(j.verdict.judgement is Judgement.NOT_DECIDABLE for j in judged),
        auroc=auroc(scores[False], scores[True]) if both else None,
    )
    return outcome, tuple(judged)


def changed(before: Sequence[Judged], after: Sequence[Judged]) -> list[tuple[Judged, Judged]]:
    """Pictures that the two revisions judge differently."""
    return [(b, a) for b, a in zip(before, after, strict=True) if b.verdict.judgement is not a.verdict.judgement]

"""Everything that one calibration finds out about a product, gathered for the recipe and its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from calibration.audit import Finding, Kind, audit, drop_near_duplicates
from calibration.calibrate import Calibration, Step, calibrate, encode_shots, limits_from
from calibration.learning import LearningCurve, learning_curve
from calibration.roi import Roi
from calibration.selftest import Trial, selftest
from calibration.sensitivity import Sensitivity, sensitivity
from calibration.shots import Shot, ShotSet
from calibration.threshold import unlikeness_limit
from edge.engines.base import Engine


@dataclass(frozen=True)
class Options:
    """What the engineer asked for."""

    roi: Roi | None = None
    align: bool = False
    accept_mixed: bool = False
    sensitivity: bool = True


@dataclass(frozen=True)
class Product:
    """A calibrated product, before it is written. `learning` and `sensitivity` need two shots or more."""

    shots: ShotSet
    calibration: Calibration
    findings: tuple[Finding, ...]
    learning: LearningCurve | None
    sensitivity: Sensitivity | None
    selftest: tuple[Trial, ...]
    roi: Roi | None


def prepare_product(shots: ShotSet, engine: Engine, options: Options, step: Step) -> Product:
    """Audit the shots, build the bank, find the threshold, and learn what may be said of it.

    Raises:
        ShotsError: the shots cannot make a recipe.
        EngineError: the executor failed.
    """
    kept, copies = drop_near_duplicates(shots.shots)
    shots = ShotSet(kept, shots.duplicates)
    encoded = encode_shots(kept, engine, options.roi, options.align, step)
    calibration = calibrate(encoded, engine, step)
    if len(kept) == 1:
        return Product(shots, calibration, copies, None, None, selftest(kept, calibration, engine, step), options.roi)
    found = audit(kept, encoded.features, encoded.tokens, calibration.matches, options.accept_mixed)
    calibration = _without_odd_shots(calibration, kept, found)
    learning = learning_curve(encoded, engine, step)
    drawn = sensitivity(kept, calibration, engine, step) if options.sensitivity else None
    tried = selftest(kept, calibration, engine, step)
    return Product(shots, calibration, (*copies, *found), learning, drawn, tried, options.roi)


def _without_odd_shots(calibration: Calibration, shots: Sequence[Shot], findings: Sequence[Finding]) -> Calibration:
    """Limits that shots which the audit calls badly taken or foreign do not widen."""
    poor = {f.shot for f in findings if f.kind in (Kind.BLURRED, Kind.DARK, Kind.BRIGHT)}
    foreign = {f.shot for f in findings if f.kind is Kind.FOREIGN}
    good = [i for i, s in enumerate(shots) if s.path.name not in poor]
    own = [m for m, s in zip(calibration.matches, shots, strict=True) if s.path.name not in foreign]
    limits = limits_from(calibration.encoded, good) if good else calibration.limits
    most = unlikeness_limit(own or calibration.matches)
    threshold = msgspec.structs.replace(calibration.threshold, unlikeness_most=most)
    return dataclasses.replace(calibration, limits=limits, threshold=threshold)

"""The calibration report: one self-contained page."""

from __future__ import annotations

from dataclasses import dataclass

import jinja2
import numpy as np

from calibration.calibrate import Calibration
from calibration.heatmap import data_uri, overlay, thumbnail
from calibration.plots import score_plot
from calibration.shots import ShotSet
from calibration.threshold import percent
from edge.recipe import RecipeInfo

PICTURE_SIDE = 320


@dataclass(frozen=True)
class Card:
    """One shot in the report."""

    name: str
    size: str
    score: str
    picture: str
    heat: str
    highest: bool


def environment(package: str) -> jinja2.Environment:
    """Templates of a Python package, with everything escaped that is not markup of ours."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."), autoescape=True, undefined=jinja2.StrictUndefined
    )


def render(info: RecipeInfo, shots: ShotSet, calibration: Calibration) -> str:
    """The report as HTML; every picture and plot is inside."""
    maps = np.stack([m.anomaly_map for m in calibration.matches])
    low, high = float(np.median(maps)), max(float(maps.max()), info.threshold.pixel_value) * 1.1
    top = max(range(len(shots.shots)), key=lambda i: calibration.matches[i].score)
    cards = [
        Card(
            shot.path.name,
            f"{shot.picture.shape[1]} x {shot.picture.shape[0]}",
            f"{match.score:.4g}",
            data_uri(thumbnail(shot.picture, PICTURE_SIDE)),
            data_uri(thumbnail(overlay(shot.picture, match.anomaly_map, low, high), PICTURE_SIDE)),
            highest=index == top and len(shots.shots) > 1,
        )
        for index, (shot, match) in enumerate(zip(shots.shots, calibration.matches, strict=True))
    ]
    alone = len(shots.shots) == 1
    names = [f"changed copy {i + 1}" for i in range(len(info.threshold.scores))] if alone else [c.name for c in cards]
    plot = score_plot(names, info.threshold.scores, info.threshold.value)
    template = environment("calibration").get_template("report.html.j2")
    return template.render(
        info=info, cards=cards, plot=plot, alone=alone, duplicates=shots.duplicates, limits=cannot_claim(info)
    )


def cannot_claim(info: RecipeInfo) -> list[str]:
    """What a reader might believe of the threshold, and must not."""
    count = len(info.shots)
    said = [
        "It says nothing of defects: no defective part was seen, so the share of defects that will be found is not known.",
        "It holds for parts, light, camera and position like those of the shots; another lot or a moved lamp is not covered.",
    ]
    if count == 1:
        said.insert(
            0, "One shot shows no variation between normal parts: expect many false rejects until more shots are added."
        )
    else:
        wanted = 99
        said.insert(
            0,
            f"A false-reject rate below {percent(1 / (count + 1))} cannot be promised from {count} shots"
            + (f"; a promise of 1% takes about {wanted} shots or production parts." if count < wanted else "."),
        )
    return said

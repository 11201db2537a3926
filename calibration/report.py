"""The calibration report: one self-contained page that an engineer can sign, and the same as data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.heatmap import data_uri, overlay, thumbnail
from calibration.plots import GOOD, SHOTS, histogram, learning_plot, score_plot, sensitivity_plot
from calibration.product import Product
from calibration.statistics import percent
from edge.errors import PictureError
from edge.pictures import read_picture
from edge.recipe import Recipe, RecipeInfo
from edge.types import Picture
from edge.view import window_of

if TYPE_CHECKING:
    from calibration.commission import Observed
    from calibration.counterexample import Preview
    from calibration.golden import Judged, Outcome

PICTURE_SIDE = 320
MOST_CARDS = 64
PRODUCTION_CARDS = 12


@dataclass(frozen=True)
class Card:
    """One picture in a report, with what is said of it."""

    name: str
    text: str
    picture: str
    heat: str
    marked: bool
    remarks: tuple[str, ...] = ()


def environment(package: str) -> jinja2.Environment:
    """Templates of a Python package, with everything escaped that is not markup of ours."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "."), autoescape=True, undefined=jinja2.StrictUndefined
    )


def report_of_product(info: RecipeInfo, product: Product) -> tuple[str, bytes]:
    """The report on a calibration from shots, as page and as JSON."""
    threshold = info.threshold
    alone = len(product.shots.shots) == 1
    names = (
        [f"changed copy {i + 1}" for i in range(len(threshold.scores))]
        if alone
        else [s.path.name for s in product.shots.shots]
    )
    template = environment("calibration").get_template("report.html.j2")
    page = template.render(
        info=info,
        alone=alone,
        cards=_shot_cards(info, product),
        hidden=max(0, len(product.shots.shots) - MOST_CARDS),
        duplicates=product.shots.duplicates,
        findings=product.findings,
        limits=cannot_claim(info),
        plot=score_plot(names[:MOST_CARDS], threshold.scores[:MOST_CARDS], threshold.value),
        learning=product.learning,
        learning_plot="" if product.learning is None else learning_plot(product.learning, len(info.shots)),
        selftest=product.selftest,
        sensitivity=product.sensitivity,
        sensitivity_plot="" if product.sensitivity is None else sensitivity_plot(product.sensitivity),
    )
    data = {
        "recipe": info,
        "findings": product.findings,
        "duplicates": [[a.name, b.name] for a, b in product.shots.duplicates],
        "learning": product.learning,
        "sensitivity": product.sensitivity,
        "selftest": product.selftest,
        "cannot_claim": cannot_claim(info),
    }
    return page, _json(data)


def report_of_commissioning(info: RecipeInfo, recipe: Recipe, observed: tuple[Observed, ...]) -> tuple[str, bytes]:
    """The report on a threshold from production parts, as page and as JSON."""
    threshold = info.threshold
    ranked = sorted(observed, key=lambda o: -np.inf if o.match is None else -o.match.score)
    rejected = [o for o in ranked if o.match is None or o.match.score > threshold.value]
    low = float(np.median([np.median(o.match.anomaly_map) for o in observed if o.match is not None]))
    cards: list[Card] = []
    for part in ranked[: max(PRODUCTION_CARDS, min(len(rejected), MOST_CARDS))]:
        passes = part.match is not None and part.match.score <= threshold.value
        text = (
            part.unfit if part.match is None else f"score {part.match.score:.4g}, {'passes' if passes else 'rejected'}"
        )
        try:
            picture = read_picture(part.path, info.bit_depth)
        except PictureError:
            continue
        heat = (
            picture
            if part.match is None
            else _heat(picture, part.match.anomaly_map, recipe, low, threshold.pixel_value * 2.5)
        )
        cards.append(_card(part.path.name, text, picture, heat, marked=not passes))
    plot = histogram(
        {"production": threshold.frame_scores, "shots": threshold.scores},
        {"production": GOOD, "shots": SHOTS},
        threshold.value,
    )
    template = environment("calibration").get_template("commission.html.j2")
    page = template.render(
        info=info,
        before=recipe.info,
        cards=cards,
        rejected=len(rejected),
        total=len(observed),
        plot=plot,
        limits=cannot_claim(info),
    )
    left_out = [{"file": o.path.name, "reason": o.unfit or "stands out from the rest"} for o in rejected]
    return page, _json({"recipe": info, "left_out": left_out, "cannot_claim": cannot_claim(info)})


def report_of_recheck(info: RecipeInfo, outcomes: list[Outcome], changed: list[tuple[Judged, Judged]]) -> str:
    """The page that compares two revisions on a golden set."""
    template = environment("calibration").get_template("recheck.html.j2")
    rows = [
        (_golden_card(after.path, info), before.verdict.judgement.value, after.verdict.judgement.value, after.defective)
        for before, after in changed[:MOST_CARDS]
    ]
    return template.render(info=info, outcomes=outcomes, rows=rows)


def cannot_claim(info: RecipeInfo) -> list[str]:
    """What a reader might believe of the threshold, and must not."""
    threshold, count = info.threshold, len(info.shots)
    said: list[str] = []
    if threshold.false_reject_bound is None:
        said.append(
            "One shot shows no variation between normal parts: expect many false rejects until more shots are added."
        )
    else:
        few = threshold.false_reject_bound > 0.01
        seen = f"{len(threshold.frame_scores)} production parts" if threshold.frame_scores else f"{count} shots"
        said.append(
            f"A false-reject rate below {percent(threshold.false_reject_bound)} cannot be promised from {seen}"
            + ("; a promise of 1% takes about 300 normal parts (linegate commission)." if few else ".")
        )
    if threshold.tail_estimate is not None:
        said.append(
            "An extrapolation, no promise: if the logarithms of the scores were normally distributed, "
            f"{threshold.tail_estimate:.1%} of normal parts would score above the threshold."
        )
    said += [
        "Pictures that are unfit (dark, blurred, unlike the shots as a whole) are rejected too and are not in the share above"
        + ("." if not threshold.frame_scores else ", except those of production, which are."),
        "It says nothing of real defects: none is known. Simulated ones show what the encoder reacts to, no more.",
        "It holds only if no shot was taken out for its high score alone, without a flaw to be seen.",
        "It holds for parts, light, camera and position like those seen; another lot or a moved lamp is not covered.",
    ]
    if info.pose is None:
        said.append(
            "Turned or shifted parts may pass: their texture is the same. Calibrate with --align where place matters."
        )
    return said


def report_of_counterexample(info: RecipeInfo, recipe: Recipe, found: Preview, path: Path) -> tuple[str, bytes]:
    """The report on a counter-example, as page and as JSON."""
    picture = read_picture(path, info.bit_depth)
    card = _card(
        path.name, f"score {found.score_before:.4g} becomes {found.score_after:.4g}", picture, picture, marked=True
    )
    template = environment("calibration").get_template("counterexample.html.j2")
    page = template.render(info=info, before=recipe.info, found=found, cards=[card], limits=cannot_claim(info))
    data = {"recipe": info, "score_before": found.score_before, "score_after": found.score_after}
    return page, _json({**data, "normals_rejected": found.normals_rejected, "normals": found.normals})


def _shot_cards(info: RecipeInfo, product: Product) -> list[Card]:
    matches = product.calibration.matches
    maps = np.stack([m.anomaly_map for m in matches])
    low, high = float(np.median(maps)), max(float(maps.max()), info.threshold.pixel_value) * 1.1
    top = max(range(len(matches)), key=lambda i: matches[i].score)
    cards: list[Card] = []
    pairs = zip(product.shots.shots, matches, product.calibration.encoded.prepared, strict=True)
    for index, (shot, match, prepared) in enumerate(pairs):
        shown = shot.picture if prepared.placement.warp is None else prepared.image
        text = f"{shot.picture.shape[1]} x {shot.picture.shape[0]}, score {match.score:.4g}"
        remarks = tuple(f"{f.kind.value}: {f.text}" for f in product.findings if f.shot == shot.path.name)
        whole = prepared.placement.warp is None and info.roi is None
        heat = overlay(shown if whole else prepared.image, match.anomaly_map, low, high)
        cards.append(_card(shot.path.name, text, shown, heat, index == top and len(matches) > 1, remarks))
    return cards[:MOST_CARDS]


def _heat(picture: Picture, anomaly_map: NDArray[np.float32], recipe: Recipe, low: float, high: float) -> Picture:
    window = window_of(recipe.view.box, (picture.shape[0], picture.shape[1]))
    cut = picture[window.y : window.y + window.height, window.x : window.x + window.width]
    return overlay(cut, anomaly_map, low, high)


def _golden_card(path: Path, info: RecipeInfo) -> Card:
    picture = read_picture(path, info.bit_depth)
    return _card(path.name, "", picture, picture, marked=False)


def _card(name: str, text: str, picture: Picture, heat: Picture, marked: bool, remarks: tuple[str, ...] = ()) -> Card:
    small = data_uri(thumbnail(picture, PICTURE_SIDE))
    return Card(name, text, small, data_uri(thumbnail(heat, PICTURE_SIDE)), marked, remarks)


def _json(data: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n"

"""Pictures of what the demo found: a contact sheet and a report."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from calibration.heatmap import data_uri, outline, overlay
from calibration.plots import BAD, GOOD, histogram
from calibration.report import environment
from deploy.demo.results import Results
from edge.bus.messages import VerdictMessage
from edge.engines.base import Engine
from edge.judge import judge_picture
from edge.pictures import read_picture
from edge.recipe import Recipe
from edge.sealed import write_whole
from edge.types import Judgement, Match, Picture
from edge.verdict import mask_of
from edge.view import WHOLE, Placement, place_mask, window_of

CARDS, COLUMNS = 24, 6
TILE, GAP, CAPTION = 300, 14, 58
COLOURS = {Judgement.OK: (42, 127, 98), Judgement.NOT_OK: (179, 54, 43), Judgement.NOT_DECIDABLE: (138, 90, 0)}
BACKGROUND, INK, SOFT = (255, 255, 255), (32, 38, 44), (91, 102, 112)


@dataclass(frozen=True)
class Part:
    """One part to show."""

    verdict: VerdictMessage
    defective: bool
    picture: Picture
    match: Match

    @property
    def wrong(self) -> bool:
        """Judged otherwise than labelled."""
        return self.verdict.accept is self.defective

    @property
    def truth(self) -> str:
        """The label, and what a wrong judgement of it is called."""
        name = "defective" if self.defective else "normal"
        return f"{name}, {'escape' if self.defective else 'false reject'}" if self.wrong else name


def choose(results: Results, line: Path, engine: Engine, recipe: Recipe) -> list[Part]:
    """Parts from the lowest score to the highest, evenly spaced: neither the best nor the worst of them alone."""
    pairs = zip(results.verdicts, results.defective, strict=True)
    judged = sorted(((v.score, v, bad) for v, bad in pairs if v.score is not None), key=lambda row: row[0])
    places = np.linspace(0, len(judged) - 1, min(CARDS, len(judged))).round().astype(int)
    parts: list[Part] = []
    for _, verdict, defective in (judged[i] for i in places):
        picture = read_picture(line / verdict.part_id)
        _, match = judge_picture(picture, engine, recipe)
        if match is not None:
            parts.append(Part(verdict, defective, picture, match))
    return parts


def heat(part: Part, recipe: Recipe, low: float) -> Picture:
    """The part with its heat map, and the outline of its mask if it was rejected."""
    threshold = recipe.info.threshold
    drawn = overlay(part.picture, part.match.anomaly_map, low, 2.5 * threshold.pixel_value)
    if part.verdict.judgement is not Judgement.NOT_OK:
        return drawn
    size = (part.picture.shape[0], part.picture.shape[1])
    return outline(drawn, place_mask(mask_of(part.match, threshold), Placement(size, window_of(WHOLE, size))))


def write_contact_sheet(path: Path, results: Results, line: Path, engine: Engine, recipe: Recipe) -> None:
    """Draw the chosen parts side by side: picture left, heat map right, judgement below."""
    parts = choose(results, line, engine, recipe)
    low = _low(parts)
    columns = max(1, COLUMNS // 2)
    rows = -(-len(parts) // columns)
    width = columns * (2 * TILE + 2 * GAP) + GAP
    height = rows * (TILE + CAPTION + GAP) + GAP
    sheet = np.full((height, width, 3), BACKGROUND, np.uint8)
    for index, part in enumerate(parts):
        y = GAP + (index // columns) * (TILE + CAPTION + GAP)
        x = GAP + (index % columns) * (2 * TILE + 2 * GAP)
        for offset, picture in ((0, part.picture), (TILE, heat(part, recipe, low))):
            sheet[y : y + TILE, x + offset : x + offset + TILE] = cv2.resize(picture, (TILE, TILE))
        colour = COLOURS[part.verdict.judgement]
        cv2.rectangle(sheet, (x, y), (x + 2 * TILE - 1, y + TILE - 1), colour, 4)
        _text(sheet, part.verdict.judgement.value, (x, y + TILE + 24), colour, 0.65, 2)
        score = f"score {part.verdict.score:.3g} / {part.verdict.threshold:.3g}"
        _text(sheet, score, (x + 190, y + TILE + 24), INK, 0.55, 1)
        _text(sheet, f"truly {part.truth}", (x + 380, y + TILE + 24), (179, 54, 43) if part.wrong else SOFT, 0.55, 1)
        _text(sheet, part.verdict.part_id, (x, y + TILE + 48), SOFT, 0.5, 1)
    data = cv2.imencode(".png", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 6])[1]
    write_whole(path, data.tobytes())


def write_report(path: Path, results: Results, line: Path, engine: Engine, recipe: Recipe) -> None:
    """One self-contained page: figures, score histogram, parts with heat maps."""
    parts = choose(results, line, engine, recipe)
    low = _low(parts)
    groups = {"normal": results.scores(defective=False), "defective": results.scores(defective=True)}
    plot = histogram(groups, {"normal": GOOD, "defective": BAD}, recipe.info.threshold.value)
    cards = [(part, data_uri(part.picture), data_uri(heat(part, recipe, low))) for part in parts]
    template = environment("deploy.demo").get_template("report.html.j2")
    page = template.render(results=results, figures=results.summary(), info=recipe.info, plot=plot, cards=cards)
    write_whole(path, page.encode())


def _low(parts: list[Part]) -> float:
    return float(np.median([part.match.anomaly_map for part in parts]))


def _text(
    sheet: Picture, text: str, at: tuple[int, int], colour: tuple[int, int, int], size: float, weight: int
) -> None:
    cv2.putText(sheet, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, colour, weight, cv2.LINE_AA)

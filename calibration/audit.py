"""The shot audit: each shot is vetted against the others before anything is built.

It names what an engineer should look at, in words; it decides nothing but what cannot make an honest recipe at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from calibration.shots import Shot
from calibration.statistics import outliers
from edge.bank import unit_tokens
from edge.condition import Features
from edge.errors import ShotsError
from edge.types import Match, Picture, Tokens

LAYOUT_SIDE, SHIFT_SIDE = 32, 64
ALIKE_LAYOUT = 0.3
"""Shots whose layouts correlate by this much on the median show the part in one place; only then can one be misplaced."""
TURNED_GAIN = 0.5
SHIFTED_SHARE = 0.06
DUPLICATE_DIFFERENCE = 0.8
"""Mean grey difference at 64 pixels below which two pictures show the same part under the same light."""
OUTLIER_CUT = 3.5
EXPOSURE_FACTOR, CLIPPED_SHARE, BLUR_SHARE = 1.35, 0.25, 0.75
FOREIGN_FACTOR = 1.35
SUSPECT_FACTOR, SUSPECT_SURE_FACTOR, SUSPECT_CUT = 1.15, 1.3, 2.5
"""A shot is a suspect when it scores much higher than the next, or higher and far outside the spread of the others."""
TWO_GROUPS_GAP, TWO_GROUPS_SILHOUETTE = 0.95, 0.35
"""Two groups are told when the gap between them is about as wide as they are, and shots sit clearly in one of them."""
TWO_PRODUCTS_GAP, TWO_PRODUCTS_SILHOUETTE = 1.05, 0.44
"""Two products are refused when the gap is wider than either group. One product of two looks mostly stays below."""
MOST_CLUSTERED = 64


class Kind(str, Enum):
    """What may be wrong with a shot."""

    BLURRED = "blurred"
    DARK = "under-exposed"
    BRIGHT = "over-exposed"
    ROTATED = "rotated"
    SHIFTED = "shifted"
    NEAR_DUPLICATE = "near-duplicate"
    FOREIGN = "does not belong"
    SUSPECT = "perhaps a defect"
    GROUPS = "two groups"


class Finding(msgspec.Struct, frozen=True):
    """One remark on one shot. A `redundant` shot adds nothing that another does not show."""

    shot: str
    kind: Kind
    text: str
    redundant: bool = False


@dataclass(frozen=True)
class Layouts:
    """Small grey pictures `float32 [S, 32 * 32]` in four turns, less what looks the same in all turns, at unit length."""

    turned: NDArray[np.float32]

    @property
    def upright(self) -> NDArray[np.float32]:
        """`[S, 32 * 32]`."""
        return np.asarray(self.turned[0], dtype=np.float32)


def audit(
    shots: Sequence[Shot],
    features: Sequence[Features],
    tokens: Sequence[Tokens],
    held_out: Sequence[Match],
    accept_mixed: bool = False,
) -> tuple[Finding, ...]:
    """All remarks on two or more shots.

    Args:
        shots: the pictures.
        features: exposure and sharpness of each.
        tokens: of each.
        held_out: each matched against the others.
        accept_mixed: go on although the shots look like two products.

    Raises:
        ShotsError: two products are mixed.
    """
    names = [s.path.name for s in shots]
    found = _two_products(names, tokens, accept_mixed)
    found += [*_exposure(names, features), *_blur(names, features)]
    found += _layout(names, [s.picture for s in shots])
    found += _foreign(names, held_out)
    return tuple(found)


def drop_near_duplicates(shots: Sequence[Shot]) -> tuple[tuple[Shot, ...], tuple[Finding, ...]]:
    """The shots without those that show the same as an earlier one, and what is said of these.

    A copy must not count: a shot that is scored against its own copy scores too low, and n would be too large.

    Raises:
        ShotsError: all shots show the same picture.
    """
    pairs = dict(_near_duplicates(shots))
    if pairs and len(pairs) == len(shots) - 1:
        raise ShotsError(
            f"all {len(shots)} shots show the same picture",
            "Take shots of different parts; one part shows no variation.",
        )
    names = [s.path.name for s in shots]
    said = tuple(
        Finding(names[a], Kind.NEAR_DUPLICATE, f"shows the same as {names[b]} and is left out", redundant=True)
        for a, b in pairs.items()
    )
    return tuple(s for i, s in enumerate(shots) if i not in pairs), said


def _exposure(names: Sequence[str], features: Sequence[Features]) -> list[Finding]:
    brightness = [max(f.brightness, 1.0) for f in features]
    usual = float(np.median(brightness))
    clipped = float(np.median([f.clipped for f in features]))
    bright, dark = outliers(brightness, OUTLIER_CUT), outliers([1 / b for b in brightness], OUTLIER_CUT)
    found: list[Finding] = []
    for index, name in enumerate(names):
        factor = brightness[index] / usual
        extreme = features[index].clipped > clipped + CLIPPED_SHARE
        text = (
            f"mean grey {brightness[index]:.0f}, the others {usual:.0f}; {features[index].clipped:.0%} black or white"
        )
        if (bright[index] and factor > EXPOSURE_FACTOR) or (extreme and factor > 1):
            found.append(Finding(name, Kind.BRIGHT, text))
        elif (dark[index] and factor < 1 / EXPOSURE_FACTOR) or extreme:
            found.append(Finding(name, Kind.DARK, text))
    return found


def _blur(names: Sequence[str], features: Sequence[Features]) -> list[Finding]:
    sharpness = [f.sharpness for f in features]
    usual = float(np.median(sharpness))
    found: list[Finding] = []
    for index, name in enumerate(names):
        soft_others = float(np.quantile([s for i, s in enumerate(sharpness) if i != index], 0.25))
        if sharpness[index] < BLUR_SHARE * soft_others:
            found.append(Finding(name, Kind.BLURRED, f"sharpness {sharpness[index]:.3f}, the others {usual:.3f}"))
    return found


def _small(picture: Picture, side: int) -> NDArray[np.float32]:
    grey = cv2.cvtColor(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return np.asarray(grey, dtype=np.float32)


def _layouts(pictures: Sequence[Picture]) -> Layouts:
    turns: list[list[NDArray[np.float32]]] = [[], [], [], []]
    for picture in pictures:
        small = _small(picture, LAYOUT_SIDE)
        own = [np.rot90(small, quarter) for quarter in range(4)]
        same_in_all_turns = np.mean(own, axis=0)
        for quarter in range(4):
            directed = own[quarter] - same_in_all_turns
            turns[quarter].append(directed.reshape(-1) / max(float(np.linalg.norm(directed)), 1e-3))
    return Layouts(np.stack([np.stack(t) for t in turns]))


def _layout(names: Sequence[str], pictures: Sequence[Picture]) -> list[Finding]:
    """Shots that lie otherwise than the rest, where the rest agrees on a place."""
    layouts = _layouts(pictures)
    small = [_small(p, SHIFT_SIDE) for p in pictures]
    alike = layouts.upright @ layouts.upright.T
    others = ~np.eye(len(names), dtype=bool)
    found: list[Finding] = []
    for index, name in enumerate(names):
        rest = [i for i in range(len(names)) if i != index]
        agreement = (
            float(np.median(alike[np.ix_(rest, rest)][others[: len(rest), : len(rest)]])) if len(rest) > 1 else 0.0
        )
        if agreement < ALIKE_LAYOUT:
            continue
        likeness = [float(np.median(layouts.turned[q][index] @ layouts.upright[rest].T)) for q in range(4)]
        best = int(np.argmax(likeness))
        if best and likeness[best] > likeness[0] + TURNED_GAIN:
            found.append(Finding(name, Kind.ROTATED, f"looks turned by {360 - 90 * best} degrees against the others"))
            continue
        shift = _shift(small[index], [small[i] for i in rest])
        if shift > SHIFTED_SHARE and likeness[0] < agreement - 0.1:
            found.append(Finding(name, Kind.SHIFTED, f"lies about {shift:.0%} of the picture away from the others"))
    return found


def _shift(small: NDArray[np.float32], others: Sequence[NDArray[np.float32]]) -> float:
    """How far, as a share of the picture, a small grey picture lies from the mean of the others."""
    mean = np.mean(others, axis=0).astype(np.float32)
    window = cv2.createHanningWindow((SHIFT_SIDE, SHIFT_SIDE), cv2.CV_32F)
    (dx, dy), response = cv2.phaseCorrelate(mean, small, window)
    return float(np.hypot(dx, dy)) / SHIFT_SIDE if response > 0.15 else 0.0


def _near_duplicates(shots: Sequence[Shot]) -> list[tuple[int, int]]:
    """Pairs (later, earlier) of shots that differ by next to nothing; each later one is named once."""
    small = [_small(s.picture, 64) for s in shots]
    pairs: list[tuple[int, int]] = []
    for later in range(1, len(shots)):
        for earlier in range(later):
            if float(np.abs(small[later] - small[earlier]).mean()) < DUPLICATE_DIFFERENCE:
                pairs.append((later, earlier))
                break
    return pairs


def _foreign(names: Sequence[str], held_out: Sequence[Match]) -> list[Finding]:
    """Shots that the others do not explain, as a whole or in one place."""
    unlike, scores = [m.unlikeness for m in held_out], [m.score for m in held_out]
    strange = outliers(unlike, OUTLIER_CUT)
    found: list[Finding] = []
    for index, name in enumerate(names):
        others_unlike = max(u for i, u in enumerate(unlike) if i != index)
        others = [s for i, s in enumerate(scores) if i != index]
        factor = scores[index] / max(*others, 1e-12)
        far_out = outliers([*others, scores[index]], SUSPECT_CUT, measured_on=len(others))[-1]
        if strange[index] and unlike[index] > FOREIGN_FACTOR * others_unlike:
            found.append(
                Finding(name, Kind.FOREIGN, "as a whole it is unlike the others: another product, side or light")
            )
        elif factor > SUSPECT_SURE_FACTOR or (factor > SUSPECT_FACTOR and far_out):
            text = f"scores {scores[index]:.3g} where the next highest scores {max(others):.3g}: see its heat map"
            found.append(Finding(name, Kind.SUSPECT, text))
    return found


def _two_products(names: Sequence[str], tokens: Sequence[Tokens], accept_mixed: bool) -> list[Finding]:
    """Whether the shots fall into two groups of at least two shots each.

    Raises:
        ShotsError: the groups lie so far apart that they are two products, and `accept_mixed` is not set.
    """
    if len(names) < 4:
        return []
    chosen = np.unique(np.linspace(0, len(names) - 1, min(MOST_CLUSTERED, len(names))).round().astype(int))
    names, tokens = [names[i] for i in chosen], [tokens[i] for i in chosen]
    means = np.stack([np.concatenate([unit_tokens(tap)[0].mean(axis=0) for tap in shot]) for shot in tokens])
    apart = np.linalg.norm(means[:, None] - means[None], axis=2).astype(np.float64)
    first = _first_group(apart)
    if min(first.sum(), (~first).sum()) < 2:
        return []
    gap = float(apart[np.ix_(first, ~first)].min() / max(apart[np.ix_(g, g)].max() for g in (first, ~first)))
    smaller = first if first.sum() <= (~first).sum() else ~first
    listed = ", ".join(name for name, member in zip(names, smaller, strict=True) if member)
    clear = _silhouette(apart, first)
    if gap > TWO_PRODUCTS_GAP and clear > TWO_PRODUCTS_SILHOUETTE and not accept_mixed:
        raise ShotsError(
            f"the shots look like two products mixed: {listed} differ from the others",
            "Calibrate each product from its own folder, or give --accept-mixed if they really are one product.",
        )
    if gap < TWO_GROUPS_GAP or clear < TWO_GROUPS_SILHOUETTE:
        return []
    name = next(name for name, member in zip(names, smaller, strict=True) if member)
    return [
        Finding(name, Kind.GROUPS, f"the shots fall into two groups ({listed}; and the rest): are they one product?")
    ]


def _first_group(apart: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Membership in one of the two clusters that average linkage ends with."""
    clusters = [[i] for i in range(len(apart))]
    while len(clusters) > 2:
        pairs = [(a, b) for b in range(len(clusters)) for a in range(b)]
        a, b = min(pairs, key=lambda p: float(apart[np.ix_(clusters[p[0]], clusters[p[1]])].mean()))
        clusters[a] += clusters.pop(b)
    member = np.zeros(len(apart), dtype=np.bool_)
    member[clusters[0]] = True
    return member


def _silhouette(apart: NDArray[np.float64], first: NDArray[np.bool_]) -> float:
    """Mean silhouette of a split into two (Rousseeuw, 1987)."""
    widths: list[float] = []
    for index in range(len(apart)):
        own = first == first[index]
        other = ~own
        own[index] = False
        inside, outside = float(apart[index][own].mean()), float(apart[index][other].mean())
        widths.append((outside - inside) / max(inside, outside, 1e-12))
    return float(np.mean(widths))

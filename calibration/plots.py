"""Plots for reports, as SVG that a page can hold."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from calibration.learning import LearningCurve
from calibration.sensitivity import LARGEST_SHARE, SMALLEST_SHARE, TOLD_CONTRASTS, Sensitivity, probability

GOOD, BAD, LINE, SOFT = "#2a7f62", "#b3362b", "#20262c", "#c9ced3"
SHOTS = "#4f86b5"
SERIES = ("#9bb8d3", "#4f86b5", "#1d4e79")
WIDTH = 7.2
TICK_SHARES = (0.01, 0.03, 0.08, 0.25)
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "linegate",
}


def score_plot(names: Sequence[str], scores: Sequence[float], threshold: float) -> str:
    """Each shot's score as a dot with its name, and the threshold as a line. Returns SVG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.9 + 0.26 * len(scores)), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(scores))[::-1]
        axes.hlines(rows, 0, scores, color=SOFT, linewidth=1)
        axes.plot(scores, rows, "o", color=GOOD)
        axes.axvline(threshold, color=BAD, linewidth=1.5)
        axes.annotate(f" threshold {threshold:.4g}", (threshold, len(scores) - 0.4), color=BAD, va="bottom")
        axes.set_yticks(rows, [name[:40] for name in names])
        axes.set_ylim(-0.6, len(scores) + 0.2)
        axes.set_xlim(0, max(threshold, *scores) * 1.3)
        axes.set_xlabel("image score (higher is worse)")
        return svg(figure)


def histogram(groups: Mapping[str, Sequence[float]], colours: Mapping[str, str], threshold: float) -> str:
    """Score histograms of labelled groups over each other, and the threshold. Returns SVG."""
    every = np.concatenate([np.asarray(v, dtype=float) for v in groups.values()])
    top = max(float(np.quantile(every, 0.995)), threshold) * 1.02
    edges = np.linspace(min(0.0, float(every.min())), top, 48).tolist()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.8), layout="constrained")
        axes = figure.subplots()
        for name, values in groups.items():
            label = f"{name} ({len(values)})"
            axes.hist(np.clip(values, edges[0], edges[-1]), edges, color=colours[name], alpha=0.6, label=label)
        axes.axvline(threshold, color=LINE, linewidth=1.5, label=f"threshold {threshold:.4g}")
        axes.set_xlabel("image score (higher is worse)")
        axes.set_ylabel("parts")
        axes.legend(frameon=False)
        return svg(figure)


def learning_plot(curve: LearningCurve, shots: int) -> str:
    """How strange a new normal part looks against the number of shots. Returns SVG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
        axes = figure.subplots()
        axes.plot(curve.counts, curve.unlikeness, "o-", color=GOOD, label="measured on held-out shots")
        axes.axhline(curve.limit, color=SOFT, linestyle="--", label="with endless shots (extrapolated)")
        axes.axvline(shots, color=LINE, linewidth=1, label=f"these {shots} shots")
        axes.set_xlabel("shots in the bank")
        axes.set_ylabel("unlikeness")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
        return svg(figure)


def sensitivity_plot(found: Sensitivity) -> str:
    """Probability of detection against size, a panel per kind of defect, a line per contrast. Returns SVG."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.4), layout="constrained")
        panels = figure.subplots(2, 3)
        flat: list[Axes] = list(np.asarray(panels).reshape(-1))
        shares = np.geomspace(SMALLEST_SHARE, LARGEST_SHARE, 60)
        ticks = [round(found.side_px * share, 0 if found.side_px > 100 else 1) for share in TICK_SHARES]
        for axes, curve in zip(flat, found.curves, strict=False):
            for contrast, colour in zip(TOLD_CONTRASTS, SERIES, strict=True):
                chances = [probability(curve, float(share), contrast) for share in shares]
                axes.plot(shares * found.side_px, chances, color=colour, label=f"{contrast:.0%} contrast")
            axes.axhline(0.9, color=SOFT, linestyle="--", linewidth=1)
            axes.set_title(curve.kind.value, fontsize=10)
            axes.set_xscale("log")
            axes.set_xlim(shares[0] * found.side_px, shares[-1] * found.side_px)
            axes.set_xticks(ticks, [f"{tick:.0f}" for tick in ticks])
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_ylim(0, 1)
        handles, labels = flat[0].get_legend_handles_labels()
        for axes in flat[len(found.curves) :]:
            axes.set_axis_off()
        figure.legend(handles, labels, frameon=False, loc="lower right", bbox_to_anchor=(0.98, 0.2))
        figure.supxlabel("size of the defect in pixels of the picture")
        figure.supylabel("probability of detection")
        return svg(figure)


def svg(figure: Figure) -> str:
    """A figure as an `<svg>` element, without the XML preamble."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        # Letters are left to the reader's fonts, so those that matplotlib's own lacks are no loss.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "linegate"})
    text = buffer.getvalue()
    return text[text.index("<svg") :]

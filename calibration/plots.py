"""Plots for reports, as SVG that a page can hold."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

GOOD, BAD, LINE = "#2a7f62", "#b3362b", "#20262c"
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
        figure = Figure(figsize=(7.2, 0.9 + 0.26 * len(scores)), layout="constrained")
        axes = figure.subplots()
        rows = np.arange(len(scores))[::-1]
        axes.hlines(rows, 0, scores, color="#c9ced3", linewidth=1)
        axes.plot(scores, rows, "o", color=GOOD)
        axes.axvline(threshold, color=BAD, linewidth=1.5)
        axes.annotate(f" threshold {threshold:.4g}", (threshold, len(scores) - 0.4), color=BAD, va="bottom")
        axes.set_yticks(rows, [name[:40] for name in names])
        axes.set_ylim(-0.6, len(scores) + 0.2)
        axes.set_xlim(0, threshold * 1.3)
        axes.set_xlabel("image score (higher is worse)")
        return svg(figure)


def histogram(groups: Mapping[str, Sequence[float]], colours: Mapping[str, str], threshold: float) -> str:
    """Score histograms of labelled groups over each other, and the threshold. Returns SVG."""
    every = np.concatenate([np.asarray(v, dtype=float) for v in groups.values()])
    edges = np.linspace(min(0.0, float(every.min())), float(np.quantile(every, 0.995)) * 1.02, 48).tolist()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 2.8), layout="constrained")
        axes = figure.subplots()
        for name, values in groups.items():
            label = f"{name} ({len(values)})"
            axes.hist(np.clip(values, edges[0], edges[-1]), edges, color=colours[name], alpha=0.6, label=label)
        axes.axvline(threshold, color=LINE, linewidth=1.5, label=f"threshold {threshold:.4g}")
        axes.set_xlabel("image score (higher is worse)")
        axes.set_ylabel("parts")
        axes.legend(frameon=False)
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

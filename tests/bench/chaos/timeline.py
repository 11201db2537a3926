"""The run as a picture: verdicts a second by judgement, and when which fault struck."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"OK": "#3a9d5d", "NOT_OK": "#d1495b", "NOT_DECIDABLE": "#edae49"}


def draw(path: Path, reader: Path, faults: list[tuple[float, str]]) -> None:
    """Write a PNG. The time axis is the order of arrival at the reader, because the wall clock was stepped."""
    lines = [line for line in map(json.loads, reader.read_bytes().splitlines()) if "seq" in line]
    step = max(1, len(lines) // 400)
    shares = {name: [] for name in COLOURS}  # type: dict[str, list[float]]
    for first in range(0, len(lines), step):
        counts = Counter(line["judgement"] for line in lines[first : first + step])
        for name, values in shares.items():
            values.append(100 * counts[name] / max(1, sum(counts.values())))
    figure, (above, below) = plt.subplots(2, 1, figsize=(12, 6), height_ratios=(2, 1))
    places = [first / 1000 for first in range(0, len(lines), step)]
    above.stackplot(places, *shares.values(), labels=list(COLOURS), colors=list(COLOURS.values()))
    above.set(xlabel="thousand verdicts, in order", ylabel="% of verdicts", ylim=(0, 100), xlim=(0, places[-1] or 1))
    above.legend(loc="lower left", ncols=3)
    kinds = sorted({kind for _, kind in faults})
    began = faults[0][0] if faults else 0.0
    below.scatter([moment - began for moment, _ in faults], [kinds.index(kind) for _, kind in faults], marker="|", s=90)
    below.set(xlabel="seconds", yticks=range(len(kinds)))
    below.set_yticklabels(kinds, fontsize=8)
    figure.suptitle("Every part has one verdict, whatever happens to the station")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)

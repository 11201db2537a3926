"""The figures as a picture: how soon a verdict is at the PLC, and how soon the PLC knows of a fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"modbus": "#2e6f9e", "opcua": "#d17b28"}
NAMES = {"modbus": "Modbus TCP", "opcua": "OPC UA"}
BIN_MS = 0.5


def draw(path: Path, report: dict[str, Any], latencies: dict[str, list[float]], bar_ms: float) -> None:
    """Write a PNG."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), width_ratios=(1, 1.1))
    edges = np.arange(0, bar_ms + 5, BIN_MS)
    for name, found in latencies.items():
        words = f"{NAMES[name]}: p50 {report[name]['latency_ms_p50']} ms, p99 {report[name]['latency_ms_p99']} ms"
        shown = np.clip(found, 0, edges[-1] - BIN_MS / 2)
        weights = np.full(len(found), 100 / max(1, len(found)))
        left.hist(shown, edges, weights=weights, color=COLOURS[name], alpha=0.6, label=words)
    left.axvline(bar_ms, color="#b3243b", linestyle="--", label=f"bar for p99: {bar_ms:g} ms")
    left.set(
        xlabel="ms from publication to the PLC (the last bin: all above)", ylabel="% of verdicts", xlim=(0, edges[-1])
    )
    left.legend(loc="upper right", fontsize=9, framealpha=1)
    left.set_title("How soon a verdict is at the PLC", fontsize=11)
    kinds = list(next(iter(report[name]["faults"] for name in latencies)))
    height = 0.8 / max(1, len(latencies))
    for place, name in enumerate(latencies):
        faults = report[name]["faults"]
        rows = np.arange(len(kinds)) + (place - (len(latencies) - 1) / 2) * height
        right.barh(
            rows, [faults[kind]["reaction_ms"] or 0 for kind in kinds], height, color=COLOURS[name], label=NAMES[name]
        )
    bars = [report[next(iter(latencies))]["faults"][kind]["configured_ms"] for kind in kinds]
    right.scatter(bars, range(len(kinds)), marker="|", s=1200, color="#b3243b", linewidths=2, zorder=3)
    right.scatter([], [], marker="|", s=120, color="#b3243b", linewidths=2, label="configured")
    right.set(xlabel="ms until not online and reject", yticks=range(len(kinds)), xlim=(0, 1.25 * max(bars)))
    right.set_yticklabels(kinds, fontsize=9)
    right.invert_yaxis()
    right.legend(loc="lower center", bbox_to_anchor=(0.5, 1.06), ncols=3, fontsize=9, frameon=False)
    right.set_title("How soon the PLC's side knows of a fault", fontsize=11)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)

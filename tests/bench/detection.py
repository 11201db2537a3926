"""Detection quality: mean image AUROC over random draws of shots, judged by the exported package itself.

Each test picture is encoded once and matched against the banks of all draws. Accuracy is told at the automatic threshold
(from the shots' leave-one-out scores alone) beside the best that any threshold could have given.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from calibration.calibrate import encode, leave_one_out, match
from calibration.metrics import accuracy, auroc, best_accuracy
from calibration.threshold import from_leave_one_out
from deploy.demo import elpv
from edge.engines.base import Engine
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.errors import LinegateError
from edge.pictures import read_picture
from edge.sealed import write_whole
from edge.types import Bank, Tokens

FIRST_SEED = 0


@dataclass
class Draw:
    """One random choice of shots, and what the test pictures scored with it."""

    shots: int
    bank: Bank
    threshold: float
    normal: list[float] = field(default_factory=list)
    anomalous: list[float] = field(default_factory=list)


def main() -> int:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--shots", default="8", help="numbers of shots, separated by commas")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    counts = [int(word) for word in arguments.shots.split(",")]
    engine = OnnxCpuEngine(load_package(arguments.model))
    console = Console(stderr=True)
    with Progress(console=console) as progress:
        draws = measure_elpv(engine, counts, arguments.draws, progress)
    figures = {"elpv": {str(count): summary([d for d in draws if d.shots == count]) for count in counts}}
    write_whole(arguments.out, msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    print_table(figures["elpv"], arguments.draws)
    return 0


def measure_elpv(engine: Engine, counts: list[int], draws: int, progress: Progress) -> list[Draw]:
    """All draws of all numbers of shots on ELPV."""
    data = elpv.load()
    seeds = range(FIRST_SEED, FIRST_SEED + draws)
    chosen = [(count, data.draw(count, seed)) for count in counts for seed in seeds]
    known: dict[Path, Tokens] = {}
    found: list[Draw] = []
    task = progress.add_task("calibrating draws", total=len(chosen))
    for count, paths in chosen:
        for path in paths:
            if path not in known:
                known[path] = encode(read_picture(path), engine)
        bank, held_out = leave_one_out([known[p] for p in paths], engine, lambda _what, _done, _of: None)
        threshold = from_leave_one_out(held_out)
        found.append(Draw(count, bank, threshold.value))
        progress.advance(task)
    tests = [(p, False) for p in data.test_normal] + [(p, True) for p in data.test_anomalous]
    task = progress.add_task("judging test pictures", total=len(tests))
    for path, anomalous in tests:
        tokens = encode(read_picture(path), engine)
        for draw in found:
            score = match(tokens, draw.bank, engine).score
            (draw.anomalous if anomalous else draw.normal).append(score)
        progress.advance(task)
    return found


def summary(draws: list[Draw]) -> dict[str, float | int]:
    """Mean figures of draws with the same number of shots."""
    aurocs = [auroc(d.normal, d.anomalous) for d in draws]
    return {
        "draws": len(draws),
        "auroc_mean": float(np.mean(aurocs)),
        "auroc_std": float(np.std(aurocs)),
        "accuracy_auto": float(np.mean([accuracy(d.normal, d.anomalous, d.threshold) for d in draws])),
        "accuracy_best": float(np.mean([best_accuracy(d.normal, d.anomalous) for d in draws])),
        "false_reject_rate": float(np.mean([np.mean(np.array(d.normal) > d.threshold) for d in draws])),
    }


def print_table(rows: dict[str, dict[str, float | int]], draws: int) -> None:
    """The figures for people."""
    table = Table(title=f"ELPV, {draws} draws")
    for name in ("shots", "AUROC", "std", "accuracy, automatic", "accuracy, best", "false rejects"):
        table.add_column(name, justify="right")
    for shots, row in rows.items():
        keys = ("auroc_mean", "auroc_std", "accuracy_auto", "accuracy_best", "false_reject_rate")
        table.add_row(shots, *(f"{row[key]:.3f}" for key in keys))
    Console().print(table)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LinegateError as error:
        sys.exit(f"bench: {error}")

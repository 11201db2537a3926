"""Detection quality, and whether the threshold's claim holds: judged by the exported package itself.

Every picture is encoded once. AUROC is over random draws of shots; accuracy is told at the automatic threshold (from the
shots alone) beside the best that any threshold could have given. Claims are checked on normal pictures that were not drawn.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from calibration.calibrate import leave_one_out, perturbed
from calibration.metrics import auroc, best_accuracy
from calibration.statistics import CONFIDENCE
from calibration.threshold import from_leave_one_out, from_one_shot
from deploy.demo import elpv
from edge.bank import fit_bank, moments_of
from edge.condition import Limits, learn_limits, why_poor
from edge.engines.base import Engine
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package, whole_geometry
from edge.errors import LinegateError
from edge.pictures import read_picture
from edge.preprocess import View, preprocess
from edge.recipe import Threshold
from edge.sealed import write_whole
from edge.types import Bank, Match
from edge.verdict import accepts, fits
from tests.bench.pixel_metrics import PixelScores
from tests.bench.sets import DataSet, Sample, load_elpv, load_magnetic_tile

CLAIM_SHOTS = (4, 8, 16, 32)
CLAIM_SEED = 10_000
TILE_SHOTS = (1, 4, 8)
CALIBRATED_SHOTS = (8, 64)


@dataclass(frozen=True)
class Calibrated:
    """A bank and its threshold from one draw of shots."""

    bank: Bank
    threshold: Threshold
    limits: Limits

    def rejects(self, sample: Sample, match: Match) -> bool:
        """Whether the station would not accept a picture: unfit, unlike the shots, or above the threshold."""
        return bool(why_poor(sample.features, self.limits)) or not accepts(match, self.threshold)

    def judges_not_ok(self, sample: Sample, match: Match) -> bool:
        """Whether the station would judge a picture NOT_OK."""
        return (
            self.rejects(sample, match) and not why_poor(sample.features, self.limits) and fits(match, self.threshold)
        )


def main() -> int:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--shots", default="2,4,8", help="numbers of shots on ELPV, separated by commas")
    parser.add_argument("--magnetic-tile", type=Path, help="folder of the magnetic tile set")
    parser.add_argument("--claim-draws", type=int, default=200, help="0 leaves the check of claims out")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    counts = [int(word) for word in arguments.shots.split(",")]
    engine = OnnxCpuEngine(load_package(arguments.model))
    figures: dict[str, Any] = {}
    with Progress(console=Console(stderr=True)) as progress:
        sets = [load_elpv(engine, progress)]
        figures["elpv"] = {str(n): measure_set(sets[0], n, arguments.draws, engine, progress) for n in counts}
        if arguments.magnetic_tile is not None:
            sets.append(load_magnetic_tile(arguments.magnetic_tile, engine, progress))
            rows = {str(n): measure_set(sets[1], n, arguments.draws, engine, progress) for n in TILE_SHOTS}
            figures["magnetic_tile"] = rows
        if arguments.claim_draws:
            figures["claims"] = check_claims(sets, arguments.claim_draws, engine, progress)
    figures["matching_share"] = {str(n): matching_share(sets[0], n, engine) for n in CALIBRATED_SHOTS}
    figures["calibrate_seconds"] = {str(n): calibrate_seconds(n, arguments.model) for n in CALIBRATED_SHOTS}
    write_whole(arguments.out, msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    show(figures, arguments.draws)
    return 0


def calibrated(shots: list[Sample], engine: Engine) -> Calibrated:
    """What `linegate calibrate` would find from these shots."""
    geometry = whole_geometry(engine.package.info.encoder)
    limits = learn_limits([s.size for s in shots], [s.features for s in shots])
    if len(shots) == 1:
        bank = fit_bank(moments_of(shots[0].tokens, geometry), geometry)
        prepared = preprocess(read_picture(shots[0].path), engine.package.info.encoder.input_size, View())
        copies = [engine.match(engine.encode(c[np.newaxis]), bank)[0] for c in perturbed(prepared.image)]
        return Calibrated(bank, from_one_shot(copies), limits)
    bank, held_out = leave_one_out([s.tokens for s in shots], geometry, engine, lambda _what, _done, _of: None)
    return Calibrated(bank, from_leave_one_out(held_out), limits)


def measure_set(data: DataSet, count: int, draws: int, engine: Engine, progress: Progress) -> dict[str, float | int]:
    """Mean figures over draws of `count` shots."""
    task = progress.add_task(f"{data.name}, {count} shots", total=draws)
    rows: list[dict[str, float]] = []
    for seed in range(draws):
        made = calibrated(data.draw(count, seed), engine)
        matches = [engine.match(s.tokens, made.bank)[0] for s in data.test]
        bad = np.array([s.defective for s in data.test])
        scores = np.array([m.score for m in matches])
        rejected = np.array([made.rejects(s, m) for s, m in zip(data.test, matches, strict=True)])
        row = {
            "auroc": auroc(scores[~bad], scores[bad]),
            "accuracy_auto": float((rejected == bad).mean()),
            "accuracy_best": best_accuracy(scores[~bad], scores[bad]),
            "false_reject_rate": float(rejected[~bad].mean()),
        }
        if data.test[0].mask is not None:
            row.update(pixel_figures(data, matches))
        rows.append(row)
        progress.advance(task)
    names = sorted({name for row in rows for name in row})
    means = {f"{name}_mean": float(np.mean([row[name] for row in rows if name in row])) for name in names}
    means["accuracy_auto"], means["accuracy_best"] = means.pop("accuracy_auto_mean"), means.pop("accuracy_best_mean")
    return {"draws": draws, "auroc_std": float(np.std([row["auroc"] for row in rows])), **means}


def pixel_figures(data: DataSet, matches: list[Match]) -> dict[str, float]:
    """Pixel AUROC and AUPRO of one draw."""
    pixels = PixelScores(top=max(float(m.anomaly_map.max()) for m in matches))
    for sample, match in zip(data.test, matches, strict=True):
        if sample.mask is not None:
            pixels.add(match.anomaly_map, sample.mask)
    return {"pixel_auroc": pixels.auroc(), "aupro": pixels.aupro()}


def check_claims(sets: list[DataSet], draws: int, engine: Engine, progress: Progress) -> dict[str, Any]:
    """How often the realised rate of false rejects exceeds the stated bound, over draws from all normal pictures.

    Every reject counts, also of pictures found unfit, although the bound is stated for NOT_OK alone.
    """
    each = max(1, draws // (len(sets) * len(CLAIM_SHOTS)))
    task = progress.add_task("checking claims", total=each * len(sets) * len(CLAIM_SHOTS))
    table: dict[str, dict[str, Any]] = {}
    exceeded = total = 0
    for data in sets:
        normals = [*data.pool, *(s for s in data.test if not s.defective)]
        for count in CLAIM_SHOTS:
            rates: list[tuple[float, float, float]] = []
            for seed in range(each):
                order = np.random.default_rng(CLAIM_SEED + seed).permutation(len(normals))
                shots, rest = [normals[i] for i in order[:count]], [normals[i] for i in order[count:]][:400]
                rates.append(realised(calibrated(shots, engine), rest, engine))
                progress.advance(task)
            promised = np.array(rates)
            over = int((promised[:, 1] > promised[:, 2]).sum())
            table.setdefault(data.name, {})[str(count)] = {
                "promised": float(promised[0, 2]),
                "realised_mean": float(promised[:, 1].mean()),
                "realised_worst": float(promised[:, 1].max()),
                "exceeded": over,
                "not_ok_mean": float(promised[:, 0].mean()),
                "not_ok_exceeded": int((promised[:, 0] > promised[:, 2]).sum()),
                "draws": each,
            }
            exceeded, total = exceeded + over, total + each
    allowed = int(np.floor((1 - CONFIDENCE) * total))
    return {"draws": total, "exceeded": exceeded, "allowed": allowed, "confidence": CONFIDENCE, "table": table}


def realised(made: Calibrated, rest: list[Sample], engine: Engine) -> tuple[float, float, float]:
    """Share of unused normal pictures judged NOT_OK, share rejected for whatever reason, and the promised bound."""
    matches = [engine.match(s.tokens, made.bank)[0] for s in rest]
    pairs = list(zip(rest, matches, strict=True))
    not_ok = sum(made.judges_not_ok(s, m) for s, m in pairs)
    rejected = sum(made.rejects(s, m) for s, m in pairs)
    return not_ok / len(rest), rejected / len(rest), made.threshold.false_reject_bound or 1.0


def matching_share(data: DataSet, count: int, engine: Engine) -> float:
    """Median time of matching over that of encoding, in turns, with a bank of `count` shots."""
    bank = calibrated(data.draw(count, 0), engine).bank
    height, width = engine.package.info.encoder.input_size
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    times: list[tuple[float, float]] = []
    for _ in range(60):
        began = time.perf_counter()
        tokens = engine.encode(image)
        between = time.perf_counter()
        engine.match(tokens, bank)
        times.append((between - began, time.perf_counter() - between))
    encoding, matching = np.median(np.array(times[10:]), axis=0)
    return float(matching / encoding)


def calibrate_seconds(count: int, model: Path) -> float:
    """Wall time of `linegate calibrate` with its whole report, in a process of its own."""
    paths = elpv.load().draw(count, 0)
    with tempfile.TemporaryDirectory() as folder:
        shots = Path(folder) / "shots"
        shots.mkdir()
        for path in paths:
            (shots / path.name).write_bytes(path.read_bytes())
        words = [sys.executable, "-m", "linegate", "calibrate", "bench", "--model", str(model)]
        words += ["--shots", str(shots), "--recipes", str(Path(folder) / "recipes"), "--accept-mixed"]
        began = time.perf_counter()
        subprocess.run(words, check=True, capture_output=True)
        return round(time.perf_counter() - began, 2)


HEADINGS = {
    "auroc_mean": "AUROC",
    "auroc_std": "std",
    "pixel_auroc_mean": "pixel AUROC",
    "aupro_mean": "AUPRO",
    "accuracy_auto": "accuracy, auto",
    "accuracy_best": "best",
    "false_reject_rate_mean": "false rejects",
    "promised": "promised",
    "realised_mean": "mean",
    "realised_worst": "worst",
    "exceeded": "exceeded",
    "not_ok_mean": "NOT_OK, mean",
    "not_ok_exceeded": "exceeded",
}


def show(figures: dict[str, Any], draws: int) -> None:
    """The figures for people."""
    console = Console()
    for name in ("elpv", "magnetic_tile"):
        if name not in figures:
            continue
        table = Table(title=f"{name}, {draws} draws")
        columns: tuple[str, ...] = ("auroc_mean", "auroc_std", "pixel_auroc_mean", "aupro_mean")
        columns += ("accuracy_auto", "accuracy_best", "false_reject_rate_mean")
        for column in ("shots", *(HEADINGS[c] for c in columns)):
            table.add_column(column, justify="right")
        for shots, row in figures[name].items():
            table.add_row(shots, *(f"{row[c]:.3f}" if c in row else "-" for c in columns))
        console.print(table)
    if "claims" in figures:
        claims = figures["claims"]
        title = f"claims: exceeded in {claims['exceeded']} of {claims['draws']} draws, {claims['allowed']} allowed"
        table = Table(title=title)
        columns = (
            "promised",
            "realised_mean",
            "realised_worst",
            "exceeded",
            "not_ok_mean",
            "not_ok_exceeded",
        )
        for column in ("set", "shots", *(HEADINGS[c] for c in columns)):
            table.add_column(column, justify="right")
        for name, rows in claims["table"].items():
            for shots, row in rows.items():
                table.add_row(
                    name, shots, *(f"{row[c]:.3f}" if isinstance(row[c], float) else str(row[c]) for c in columns)
                )
        console.print(table)
    shares = ", ".join(f"{n} shots {share:.1%}" for n, share in figures["matching_share"].items())
    seconds = ", ".join(f"{n} shots {s:.1f} s" for n, s in figures["calibrate_seconds"].items())
    console.print(f"matching adds to the encoder's time: {shares}\nlinegate calibrate takes: {seconds}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except LinegateError as error:
        sys.exit(f"bench: {error}")

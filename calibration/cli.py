"""`linegate calibrate`: make a recipe for a product from a few normal shots."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from calibration.calibrate import calibrate
from calibration.recipe_writer import check_product, write_revision
from calibration.shots import ShotSet, read_shots
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.sealed import require_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("product", metavar="PRODUCT", help="name of the product")
    parser.add_argument("--model", metavar="DIR", type=Path, required=True, help="model package")
    parser.add_argument("--shots", metavar="DIR", type=Path, required=True, help="folder of pictures of normal parts")
    parser.add_argument("--recipes", metavar="DIR", type=Path, required=True, help="where recipes are kept")
    parser.add_argument(
        "--bit-depth", type=int, choices=range(9, 17), metavar="BITS", help="of shots with 16-bit pixels"
    )
    parser.add_argument("--mixed-sizes", action="store_true", help="accept shots of very different sizes")
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="threads of the encoder (0: one a core)")


def run(arguments: argparse.Namespace) -> int:
    """Calibrate and say what came out."""
    check_product(arguments.product)
    shots = read_shots(arguments.shots, arguments.bit_depth, arguments.mixed_sizes)
    package = load_package(arguments.model)
    engine = OnnxCpuEngine(package, arguments.threads)
    require_folder(arguments.recipes)
    _warn(shots)
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("loading", total=None)

        def step(what: str, done: int, of: int) -> None:
            progress.update(task, description=what, completed=done, total=of)

        calibration = calibrate(shots.shots, engine, step)
        step("writing the recipe and its report", 0, 1)
        folder, info = write_revision(
            arguments.recipes, arguments.product, package.info, shots, calibration, arguments.bit_depth
        )
        step("writing the recipe and its report", 1, 1)
    print(
        f"{info.product} revision {info.revision}: threshold {info.threshold.value:.4g} from {len(info.shots)} shots, in {folder}"
    )
    print(info.threshold.claim)
    print(f"read {folder / 'report.html'} before you use it")
    return 0


def _warn(shots: ShotSet) -> None:
    for copy, kept in shots.duplicates:
        print(f"linegate: {copy.name} is the same picture as {kept.name} and is left out.", file=sys.stderr)
    if len(shots.shots) == 1:
        print(
            "linegate: one shot only. The threshold is a guess from changed copies of it and promises nothing; "
            "calibrate again with at least eight shots.",
            file=sys.stderr,
        )

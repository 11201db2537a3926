"""`linegate calibrate`: make a recipe for a product from a few normal shots."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from calibration.cli.progress import shown
from calibration.drafting import draft_product
from calibration.product import Options, Product, prepare_product
from calibration.recipe_writer import check_product, write_revision
from calibration.roi import read_roi
from calibration.shots import ShotSet, read_shots
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.errors import UsageError
from edge.sealed import require_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("product", metavar="PRODUCT", help="name of the product")
    parser.add_argument("--model", metavar="DIR", type=Path, required=True, help="model package")
    parser.add_argument("--shots", metavar="DIR", type=Path, required=True, help="folder of pictures of normal parts")
    parser.add_argument("--recipes", metavar="DIR", type=Path, required=True, help="where recipes are kept")
    parser.add_argument(
        "--roi", metavar="FILE", type=Path, help="region of interest: a mask picture, or a .txt of x y corners"
    )
    parser.add_argument(
        "--align", action="store_true", help="align every frame with a reference shot (shift and small turn)"
    )
    parser.add_argument(
        "--bit-depth", type=int, choices=range(9, 17), metavar="BITS", help="of shots with 16-bit pixels"
    )
    parser.add_argument("--mixed-sizes", action="store_true", help="accept shots of very different sizes")
    parser.add_argument("--accept-mixed", action="store_true", help="accept shots that look like two products")
    parser.add_argument("--no-sensitivity", action="store_true", help="leave the simulated defects out")
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="threads of the encoder (0: one a core)")


def run(arguments: argparse.Namespace) -> int:
    """Calibrate and say what came out."""
    check_product(arguments.product)
    shots = read_shots(arguments.shots, arguments.bit_depth, arguments.mixed_sizes)
    roi = None
    if arguments.roi is not None:
        sizes = {s.picture.shape[:2] for s in shots.shots}
        if len(sizes) > 1:
            raise UsageError(
                "a region of interest needs shots of one size", "Use pictures of one camera and one cut-out."
            )
        height, width = sizes.pop()
        roi = read_roi(arguments.roi, (height, width))
    package = load_package(arguments.model)
    engine = OnnxCpuEngine(package, arguments.threads)
    require_folder(arguments.recipes)
    _warn(shots)
    options = Options(roi, arguments.align, arguments.accept_mixed, not arguments.no_sensitivity)
    with shown() as step:
        product = prepare_product(shots, engine, options, step)
        step("writing the recipe and its report", 0, 1)
        draft = draft_product(arguments.product, product, package.info, arguments.bit_depth)
        folder, info = write_revision(arguments.recipes, draft)
        step("writing the recipe and its report", 1, 1)
    shots_used = f"{len(info.shots)} shot{'s' if len(info.shots) > 1 else ''}"
    print(
        f"{info.product} revision {info.revision}: threshold {info.threshold.value:.4g} from {shots_used}, in {folder}"
    )
    _tell(product)
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


def _tell(product: Product) -> None:
    for finding in product.findings:
        print(f"look at {finding.shot}: {finding.kind.value}, {finding.text}")
    matches = product.calibration.matches
    if len(matches) > 1:
        top = max(range(len(matches)), key=lambda i: matches[i].score)
        print(f"{product.shots.shots[top].path.name} sets the threshold: make sure that it shows no defect")
    for trial in product.selftest:
        if trial.passed and trial.grave:
            print(f"beware: a picture of {trial.name} would pass; these shots differ too much for a safe limit")
    if product.learning is not None:
        print(product.learning.advice)
    for curve in product.sensitivity.curves if product.sensitivity else ():
        print(curve.text)

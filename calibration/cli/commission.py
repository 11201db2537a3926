"""`linegate commission`: tighten a recipe's threshold with parts of production."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from calibration.cli.progress import shown
from calibration.commission import LEAST_FRAMES, commission, observe
from calibration.drafting import draft_change, recipes_of
from calibration.recipe_writer import Draft, write_revision
from calibration.report import report_of_commissioning
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.errors import CameraError, UsageError
from edge.pictures import list_pictures
from edge.recipe import load_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "recipe", metavar="RECIPE", type=Path, help="a revision's folder, or a product's for its newest"
    )
    parser.add_argument("--model", metavar="DIR", type=Path, required=True, help="model package")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--frames", metavar="DIR", type=Path, help="pictures of production parts")
    source.add_argument(
        "--station", metavar="FILE", type=Path, help="grab them from this station's camera; nothing is published"
    )
    parser.add_argument(
        "--count", metavar="N", type=int, help=f"how many, at least {LEAST_FRAMES} (default: all; 300 from a station)"
    )
    parser.add_argument("--allow-raise", action="store_true", help="accept a threshold above the present one")
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="threads of the encoder (0: one a core)")


def run(arguments: argparse.Namespace) -> int:
    """Observe, learn, write a new revision and say what came out."""
    if arguments.count is not None and arguments.count < LEAST_FRAMES:
        raise UsageError(f"--count {arguments.count} is too few", f"Take at least {LEAST_FRAMES} production parts.")
    package = load_package(arguments.model)
    recipe = load_recipe(arguments.recipe, package.info)
    recipes = recipes_of(recipe)
    engine = OnnxCpuEngine(package, arguments.threads)
    with tempfile.TemporaryDirectory(prefix="linegate-") as folder:
        frames = arguments.frames
        if arguments.station is not None:
            frames = Path(folder)
            _grab(arguments.station, frames, arguments.count or 300)
        paths = list_pictures(frames)[: arguments.count]
        with shown() as step:
            result = commission(recipe, observe(paths, recipe, engine, step), arguments.allow_raise)
            draft = draft_change(recipe, result.info)
            report = partial(report_of_commissioning, recipe=recipe, observed=result.observed)
            written, info = write_revision(recipes, Draft(draft.info, draft.files, report))
    print(
        f"{info.product} revision {info.revision}: threshold {info.threshold.value:.4g} (was {recipe.info.threshold.value:.4g}), "
        f"in {written}"
    )
    print(info.threshold.claim)
    old, new = recipe.info.threshold.false_reject_bound, info.threshold.false_reject_bound
    if old is not None and new is not None and new >= old:
        print("this promises no more than the revision before: take more parts")
    if info.threshold.value == recipe.info.threshold.value:
        print("the threshold was kept: look at the highest parts; if they are good, give --allow-raise")
    print(f"read {written / 'report.html'}: it shows the parts that score highest")
    return 0


def _grab(station: Path, folder: Path, count: int) -> None:
    """Have the runtime grab frames, in a process of its own: calibration knows no cameras.

    Raises:
        CameraError: it could not; it has said why.
    """
    words = [sys.executable, "-m", "linegate", "grab", str(station), "--out", str(folder), "--count", str(count)]
    done = subprocess.run(words, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["the camera delivered nothing"]
        what, _, remedy = lines[-1].removeprefix("linegate: ").rpartition(". ")
        raise CameraError(what, remedy)

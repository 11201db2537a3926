"""`linegate judge`: judge pictures offline, through the same code as the station."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import track

from edge.bus.compose import mask_png
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.errors import OutputError, PictureError, UsageError
from edge.judge import judge_frame
from edge.pictures import check_name, list_pictures, read_picture
from edge.recipe import load_recipe
from edge.sealed import require_folder, write_whole
from edge.types import Frame, FrameStatus, Judgement, Trigger, Verdict

EXIT_UNDECIDED = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "recipe", metavar="RECIPE", type=Path, help="a revision's folder, or a product's for its newest"
    )
    parser.add_argument("paths", metavar="PATH", type=Path, nargs="+", help="pictures, or folders of pictures")
    parser.add_argument("--model", metavar="DIR", type=Path, required=True, help="model package")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the JSON lines there, not to standard output")
    parser.add_argument("--masks", metavar="DIR", type=Path, help="write the mask of each NOT_OK picture there (PNG)")
    parser.add_argument("--threads", metavar="N", type=int, default=0, help="threads of the encoder (0: one a core)")


def run(arguments: argparse.Namespace) -> int:
    """Judge all pictures; 1 if some were NOT_DECIDABLE."""
    pictures = _pictures(arguments.paths)
    package = load_package(arguments.model)
    recipe = load_recipe(arguments.recipe, package.info)
    engine = OnnxCpuEngine(package, arguments.threads)
    if arguments.json is not None and arguments.json.is_dir():
        raise OutputError(f"{arguments.json} cannot be written (it is a folder)", "Name a file for the JSON lines.")
    for folder in (arguments.masks, arguments.json and arguments.json.parent):
        if folder is not None:
            require_folder(folder)
    masks = _MaskFiles(arguments.masks)
    lines: list[bytes] = []
    undecided = 0
    console = Console(stderr=True)
    for path in track(pictures, "judging", console=console, disable=not (arguments.json and console.is_terminal)):
        started = time.perf_counter()
        verdict = judge_frame(_frame(path, recipe.info.bit_depth), engine, recipe)
        latency_ms = (time.perf_counter() - started) * 1000
        undecided += verdict.judgement is Judgement.NOT_DECIDABLE
        line = msgspec.json.encode(_record(path, verdict, masks.write(path, verdict), latency_ms))
        lines.append(line)
        if arguments.json is None:
            sys.stdout.write(line.decode() + "\n")
            sys.stdout.flush()
    if arguments.json is not None:
        write_whole(arguments.json, b"\n".join(lines) + b"\n")
    return EXIT_UNDECIDED if undecided else 0


def _pictures(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += list_pictures(path)
        elif path.is_file():
            check_name(path)
            found.append(path)
        else:
            raise UsageError(f"{path} does not exist", "Name pictures or folders of pictures.")
    return found


def _frame(path: Path, bit_depth: int | None) -> Frame:
    """A file as if a camera had delivered it; one that can't be read is an incomplete frame."""
    trigger = Trigger(time.monotonic_ns(), time.time_ns() // 1000, path.name)
    try:
        pixels = read_picture(path, bit_depth)
    except PictureError as error:
        return Frame(trigger, 1, FrameStatus.INCOMPLETE, time.monotonic_ns(), None, error.what)
    return Frame(trigger, 1, FrameStatus.COMPLETE, time.monotonic_ns(), pixels)


def _record(path: Path, verdict: Verdict, mask: Path | None, latency_ms: float) -> dict[str, Any]:
    return {
        "image": str(path),
        "judgement": verdict.judgement,
        "accept": verdict.accept,
        "reason": verdict.reason,
        "detail": verdict.detail,
        "score": verdict.score,
        "threshold": verdict.threshold,
        "regions": verdict.regions,
        "mask": None if mask is None else str(mask),
        "latency_ms": round(latency_ms, 3),
    }


class _MaskFiles:
    """Names and writes masks; two pictures of the same name get different masks."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._names: set[str] = set()

    def write(self, picture: Path, verdict: Verdict) -> Path | None:
        if self._folder is None or verdict.mask is None:
            return None
        name, count = f"{picture.name}.mask.png", 1
        while name in self._names:
            count += 1
            name = f"{picture.name}.{count}.mask.png"
        self._names.add(name)
        write_whole(self._folder / name, mask_png(verdict.mask))
        return self._folder / name

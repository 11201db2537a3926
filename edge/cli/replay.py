"""`linegate replay`: judge a part again from what was kept, and see whether the verdict is the same."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from edge.bus.compose import mask_png, mask_reference
from edge.bus.messages import VerdictMessage
from edge.cli.wording import printable
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from edge.errors import JournalError
from edge.journal.pictures import find_picture
from edge.journal.query import find_verdict
from edge.journal.recipes import kept_recipe
from edge.judge import judge_picture
from edge.pictures import read_picture
from edge.recipe import load_recipe
from edge.sealed import write_whole
from edge.station import Station, load_station
from edge.types import Reason, Verdict

EXIT_DIFFERS = 1
JUDGED = (None, Reason.DEFECT, Reason.UNFIT_IMAGE)
"""Reasons that come from the picture; the others come from what happened around it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("epoch", metavar="EPOCH", type=int, help="run of the station, as in the verdict")
    parser.add_argument("seq", metavar="SEQ", type=int, help="number of the verdict in it")
    parser.add_argument("--station", metavar="FILE", type=Path, default=Path("station.toml"), help="station file")
    parser.add_argument("--recipe", metavar="DIR", type=Path, help="judge with this recipe instead of the kept one")
    parser.add_argument("--mask", metavar="FILE", type=Path, help="write the mask that comes out now (PNG)")
    parser.add_argument("--json", action="store_true", help="print both as one JSON object")


@dataclass(frozen=True)
class Line:
    """One thing that is compared."""

    name: str
    then: object
    now: object

    @property
    def same(self) -> bool:
        """Exactly equal: the same pixels, recipe and engine give the same numbers."""
        return self.then == self.now


def run(arguments: argparse.Namespace) -> int:
    """Judge again; 1 if anything differs."""
    station = load_station(arguments.station)
    then = find_message(station, arguments.epoch, arguments.seq)
    now = judge_again(station, then, arguments.recipe)
    if arguments.mask is not None and now.mask is not None:
        write_whole(arguments.mask, mask_png(now.mask))
    lines = compare(then, now)
    if arguments.json:
        table = {line.name: {"then": line.then, "now": line.now} for line in lines}
        print(msgspec.json.encode({"epoch": then.epoch, "seq": then.seq, "part_id": then.part_id, **table}).decode())
    else:
        _show(then, lines)
    judged = then.reason in JUDGED
    return EXIT_DIFFERS if judged and not all(line.same for line in lines) else 0


def find_message(station: Station, epoch: int, seq: int) -> VerdictMessage:
    """The verdict as it was published.

    Raises:
        JournalError: it is not kept, or cannot be read.
    """
    data = find_verdict(Path(station.journal.folder), epoch, seq)
    if data is None:
        raise JournalError(
            f"{station.journal.folder} has no verdict {seq} of epoch {epoch}",
            "`linegate journal` lists what there is.",
        )
    try:
        return msgspec.json.decode(data, type=VerdictMessage)
    except msgspec.DecodeError as error:
        raise JournalError(f"verdict {seq} of epoch {epoch} cannot be read ({error})", "It is damaged.") from error


def judge_again(station: Station, then: VerdictMessage, recipe_folder: Path | None) -> Verdict:
    """Judge the kept picture with the recipe and the package that gave the verdict.

    Raises:
        JournalError: picture or recipe are not kept, or the station has another package now.
        LinegateError: they are damaged, or the engine fails.
    """
    folder = Path(station.journal.folder)
    picture = find_picture(folder, then.epoch, then.seq)
    if picture is None:
        raise JournalError(
            f"the picture of verdict {then.seq} is not kept",
            "Rejects are kept while journal.pictures_mb lasts and the disk keeps up, accepted parts by "
            "journal.keep_accepts_every; a trigger without a frame has none.",
        )
    package = load_package(Path(station.model.package))
    if package.info.package_hash != then.package_hash:
        raise JournalError(
            f"the verdict was given with package {then.package_hash[:12]}, the station has {package.info.package_hash[:12]}",
            "Name a station file with the package of that time.",
        )
    recipe = load_recipe(recipe_folder or kept_recipe(folder, then.recipe_hash), package.info)
    engine = OnnxCpuEngine(package, station.model.threads)
    return judge_picture(read_picture(picture), engine, recipe)[0]


def compare(then: VerdictMessage, now: Verdict) -> list[Line]:
    """What was published beside what comes out now."""
    return [
        Line("judgement", then.judgement.value, now.judgement.value),
        Line("reason", then.reason, now.reason),
        Line("score", then.score, now.score),
        Line("threshold", then.threshold, now.threshold),
        Line("regions", then.regions, now.regions),
        Line("mask", then.mask, None if now.mask is None else mask_reference(now.mask)),
    ]


def _show(then: VerdictMessage, lines: list[Line]) -> None:
    title = printable(f"{then.product} {then.part_id}, verdict {then.seq} of epoch {then.epoch}")
    table = Table("", "then", "now", "", title=title)
    for line in lines:
        table.add_row(
            line.name,
            printable(_words(line.then)),
            printable(_words(line.now)),
            "same" if line.same else "[bold red]differs",
        )
    console = Console()
    console.print(table)
    if then.reason not in JUDGED and then.reason is not None:
        console.print(
            printable(f"It was given because of {then.reason.value} ({then.detail}), not because of the picture.")
        )


def _words(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return f"{len(value)}, the largest {value[0]}" if value else "none"
    found = getattr(value, "sha256", None)
    return str(getattr(value, "value", value)) if found is None else f"{found[:12]}"

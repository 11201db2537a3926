"""`linegate export`: turn an encoder's weights into a model package."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from rich.console import Console

from edge.errors import UsageError
from edge.pictures import list_pictures
from export.catalogue import ENTRIES, check_name
from export.package_writer import check_target, export_package
from export.parity import enough

PARITY_PICTURES = 32


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    names = ", ".join(entry.name for entry in ENTRIES)
    parser.add_argument("name", metavar="NAME", nargs="?", default=ENTRIES[0].name, help=f"one of: {names}")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="folder of the new package")
    parser.add_argument(
        "--pictures",
        metavar="DIR",
        type=Path,
        help="real pictures for the parity figure (default: those of the demo's data set, where it is installed)",
    )
    parser.add_argument("--force", action="store_true", help="replace the package that is in DIR")


def run(arguments: argparse.Namespace) -> int:
    """Export and say what came out."""
    out = Path(arguments.out).absolute()
    check_name(arguments.name)
    pictures = _pictures(arguments.pictures)
    check_target(out, arguments.force)
    console = Console(stderr=True)
    with console.status("starting") as status:
        info = export_package(arguments.name, out, pictures, arguments.force, status.update)
    size_mb = sum(entry.size_bytes for entry in info.files.values()) / 1e6
    print(f"{info.encoder.name}: package {info.package_hash[:12]}, {size_mb:.1f} MB, in {arguments.out}")
    if info.parity is None:
        print("parity: not measured, because no pictures were given (--pictures DIR)")
    else:
        parity = info.parity
        print(
            f"parity of {parity.executor} with {parity.reference} on {parity.pictures} pictures: worst token cosine "
            f"{parity.token_cosine_worst:.7f}, worst score difference {parity.score_difference_worst:.1e} of the spread, "
            f"{parity.verdict_flips} verdict flips"
        )
    return 0


def _pictures(folder: Path | None) -> list[Path]:
    if folder is not None:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder", "Name a folder of real pictures.")
        return enough(list_pictures(folder))
    found = importlib.util.find_spec("elpv_dataset")
    if found is None or found.origin is None:
        return []
    every = list_pictures(Path(found.origin).parent / "data" / "images")
    return every[:: max(1, len(every) // PARITY_PICTURES)][:PARITY_PICTURES]

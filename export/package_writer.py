"""Write a model package: graphs, description, hashes, parity. Whole or not at all."""

from __future__ import annotations

import datetime
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from edge import SOFTWARE_VERSION
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import (
    PACKAGE_FILE,
    SCHEMA_VERSION,
    EncoderSpec,
    FileEntry,
    Package,
    PackageInfo,
    identity,
    load_package,
)
from edge.errors import ExportError, OutputError
from edge.preprocess import PREPROCESS_VERSION
from edge.sealed import require_folder, seal, sha256_of
from export.catalogue import LoadedEncoder, load_encoder
from export.decoder import DECODER_FILE, MatchingDecoder, describe
from export.graphs import decoder_graph, encoder_graph
from export.parity import Reference, measure

ENCODER_FILE = "encoder.onnx"


def export_package(
    name: str, out: Path, pictures: Sequence[Path], force: bool, step: Callable[[str], None]
) -> PackageInfo:
    """Export an encoder with its decoder to the folder `out`.

    Args:
        name: a row of the catalogue.
        out: the package's folder; made, or replaced when `force` is set.
        pictures: real pictures for the parity figure; none leaves it out.
        force: replace a package that is there.
        step: told what is being done.

    Raises:
        ExportError: unknown encoder, missing weights, or `out` holds something else.
        OutputError: `out` cannot be written.
    """
    check_target(out, force)
    step(f"loading {name}")
    encoder = load_encoder(name)
    decoder = MatchingDecoder(encoder.taps, encoder.input_size)
    spec = describe(encoder.taps)
    step("exporting the encoder")
    graphs = {ENCODER_FILE: encoder_graph(encoder)}
    step("exporting the decoder")
    graphs[DECODER_FILE] = decoder_graph(decoder, encoder.taps, spec)
    info = _describe(encoder, graphs)
    if pictures:
        engine = OnnxCpuEngine(Package(out, info, graphs[ENCODER_FILE], graphs[DECODER_FILE]))
        done = 0

        def tick() -> None:
            nonlocal done
            done += 1
            step(f"comparing with PyTorch, picture {done} of {len(pictures)}")

        info = msgspec.structs.replace(info, parity=measure(Reference(encoder, decoder), engine, pictures, tick))
    step("writing")
    _write(out, info, graphs)
    load_package(out)
    return info


def check_target(out: Path, force: bool) -> None:
    """Refuse to overwrite what is not a package, or a package without `force`.

    Raises:
        ExportError: `out` is in use.
        OutputError: `out` cannot be written.
    """
    if out.is_dir() and any(out.iterdir()):
        if not (out / PACKAGE_FILE).is_file():
            raise ExportError(f"{out} holds other files", "Choose an empty or new folder.")
        if not force:
            raise ExportError(f"{out} holds a package already", "Choose another folder, or give --force to replace it.")
    require_folder(out.parent)
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file", "Choose a folder.")


def _describe(encoder: LoadedEncoder, graphs: dict[str, bytes]) -> PackageInfo:
    info = PackageInfo(
        schema_version=SCHEMA_VERSION,
        package_hash="",
        preprocess_version=PREPROCESS_VERSION,
        encoder=EncoderSpec(encoder.name, ENCODER_FILE, encoder.input_size, encoder.taps),
        decoder=describe(encoder.taps),
        source=encoder.source,
        files={name: FileEntry(sha256_of(data), len(data)) for name, data in graphs.items()},
        parity=None,
        software_version=SOFTWARE_VERSION,
        created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )
    return msgspec.structs.replace(info, package_hash=identity(info))


def _write(out: Path, info: PackageInfo, graphs: dict[str, bytes]) -> None:
    """Write beside `out` and rename into place."""
    beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        for name, data in graphs.items():
            (beside / name).write_bytes(data)
        (beside / PACKAGE_FILE).write_bytes(seal(info))
        beside.chmod(0o755)
        aside = beside.with_name(f"{beside.name}.old")
        if out.is_dir():
            out.rename(aside)
        beside.rename(out)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"{out} cannot be written ({error.strerror})", "Choose a folder that can be written."
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)

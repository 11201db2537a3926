"""`linegate export` as a person types it, with the real tracing: slow, so there is little of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.demo import elpv
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import load_package
from export.catalogue import load_encoder
from export.package_writer import export_package
from tests.conftest import RunLinegate, environment

SMALL = "efficientnet-lite0"


def test_the_small_encoder_exports_and_comes_out_the_same_again(
    linegate: RunLinegate, elpv_pictures: elpv.Elpv, tmp_path: Path
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for path in [*elpv_pictures.test_normal[:4], *elpv_pictures.test_anomalous[:4]]:
        shutil.copyfile(path, pictures / path.name)
    done = linegate("export", SMALL, "--out", tmp_path / "first", "--pictures", pictures)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    info = load_package(tmp_path / "first").info
    assert info.package_hash[:12] in done.stdout
    assert "8 pictures" in done.stdout
    assert info.encoder.name == SMALL
    assert info.encoder.taps == load_encoder(SMALL).taps
    assert info.parity is not None
    assert info.parity.token_cosine_worst >= 0.9999
    assert info.parity.verdict_flips == 0
    # Again, in another process, at another time, to another place.
    again = export_package(SMALL, tmp_path / "second", [], False, lambda _: None)
    assert again.package_hash == info.package_hash
    for name in ("encoder.onnx", "decoder.onnx"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    engine = OnnxCpuEngine(load_package(tmp_path / "second"))
    images = np.zeros((3, *again.encoder.input_size, 3), np.uint8)
    for tap, tokens in zip(again.encoder.taps, engine.encode(images), strict=True):
        assert tokens.shape == (3, tap.grid[0] * tap.grid[1], tap.dim)


@pytest.mark.parametrize("missing", ["torch", "onnx", "onnxscript"])
def test_without_the_export_extra_it_says_what_to_install(missing: str, tmp_path: Path) -> None:
    script = f"import sys; sys.modules[{missing!r}] = None; import linegate; sys.exit(linegate.main(sys.argv[1:]))"
    words = [sys.executable, "-c", script, "export", SMALL, "--out", str(tmp_path / "out")]
    done = subprocess.run(words, env=environment(), capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [f"linegate: {missing} is not installed. pip install 'linegate[export]'."]
    assert not (tmp_path / "out").exists()

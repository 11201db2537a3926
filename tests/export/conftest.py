"""What the export tests share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deploy.demo import elpv
from edge.engines.package import Package
from edge.pictures import read_picture
from edge.preprocess import View, preprocess
from export import package_writer
from export.catalogue import LoadedEncoder, load_encoder
from export.decoder import MatchingDecoder
from export.parity import Reference
from tests.packages import ENCODER


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch's threads and ONNX Runtime's would wait for each other on a small machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def encoder() -> LoadedEncoder:
    """The PyTorch encoder of the package in `package_folder`."""
    return load_encoder(ENCODER)


@pytest.fixture(scope="session")
def reference(encoder: LoadedEncoder) -> Reference:
    """PyTorch, as it was before the export."""
    return Reference(encoder, MatchingDecoder(encoder.taps, encoder.input_size))


@pytest.fixture(scope="session")
def images(elpv_pictures: elpv.Elpv, encoder: LoadedEncoder) -> NDArray[np.uint8]:
    """Three real parts and one of random colours, `uint8 [4, H, W, 3]`."""
    paths = [*elpv_pictures.test_normal[:2], elpv_pictures.test_anomalous[0]]
    real = [preprocess(read_picture(path), encoder.input_size, View()).image for path in paths]
    colours = np.random.default_rng(0).integers(0, 256, (*encoder.input_size, 3), dtype=np.uint8)
    return np.stack([*real, colours])


@pytest.fixture
def quick_graphs(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exporter gets the graphs of `package_folder` instead of tracing for ten seconds."""
    monkeypatch.setattr(package_writer, "encoder_graph", lambda *_: package.encoder)
    monkeypatch.setattr(package_writer, "decoder_graph", lambda *_: package.decoder)

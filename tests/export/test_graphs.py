"""The ONNX files: what goes in and out, that they answer as PyTorch does, and that nothing of this machine is inside."""

from __future__ import annotations

import getpass
import platform
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from edge.engines.base import Engine
from edge.engines.package import DECODER_OUTPUTS, Package
from export.parity import Reference

FLOAT, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
DYNAMIC = None


def shape_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """Sizes, None where any size may come."""
    return [d.dim_value if d.HasField("dim_value") else DYNAMIC for d in value.type.tensor_type.shape.dim]


def kind_of(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def cosines(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = one.astype(np.float64), other.astype(np.float64)
    found: NDArray[np.float64] = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
    return found


@pytest.fixture(scope="module")
def encoder_model(package: Package) -> onnx.ModelProto:
    return onnx.load_from_string(package.encoder)


@pytest.fixture(scope="module")
def decoder_model(package: Package) -> onnx.ModelProto:
    return onnx.load_from_string(package.decoder)


def test_the_encoder_takes_8_bit_pictures_in_batches_of_any_size(
    encoder_model: onnx.ModelProto, package: Package
) -> None:
    (given,) = encoder_model.graph.input
    assert given.name == "images"
    assert kind_of(given) == UINT8
    assert shape_of(given) == [DYNAMIC, *package.info.encoder.input_size, 3]


def test_the_encoder_gives_the_tokens_of_each_tap_and_nothing_else(
    encoder_model: onnx.ModelProto, package: Package
) -> None:
    outputs = {value.name: value for value in encoder_model.graph.output}
    assert list(outputs) == [tap.name for tap in package.info.encoder.taps]
    for tap in package.info.encoder.taps:
        assert kind_of(outputs[tap.name]) == FLOAT
        assert shape_of(outputs[tap.name])[1:] == [tap.grid[0] * tap.grid[1], tap.dim]


@pytest.mark.parametrize("file", ["encoder", "decoder"])
def test_everything_in_a_graph_serves_an_output(file: str, package: Package) -> None:
    """What lies behind the last tap is cut off, weights too."""
    graph = onnx.load_from_string(getattr(package, file)).graph
    makers = {output: node for node in graph.node for output in node.output}
    needed: set[str] = set()
    waiting = [value.name for value in graph.output]
    while waiting:
        name = waiting.pop()
        if name and name not in needed:
            needed.add(name)
            waiting += makers[name].input if name in makers else []
    assert [node.name for node in graph.node if not needed & set(node.output)] == []
    assert [tensor.name for tensor in graph.initializer if tensor.name not in needed] == []


def test_the_encoder_holds_no_more_weights_than_its_reference(
    encoder_model: onnx.ModelProto, reference: Reference
) -> None:
    held = sum(int(np.prod(tensor.dims)) for tensor in encoder_model.graph.initializer)
    own = sum(value.numel() for value in reference.encoder.module.state_dict().values())
    assert held <= own


def test_the_decoder_takes_tokens_and_the_bank(decoder_model: onnx.ModelProto, package: Package) -> None:
    inputs = {value.name: value for value in decoder_model.graph.input}
    taps, bank = package.info.encoder.taps, package.info.decoder.bank
    assert list(inputs) == [tap.name for tap in taps] + [tensor.name for tensor in bank]
    assert all(kind_of(value) == FLOAT for value in inputs.values())
    for tap in taps:
        assert shape_of(inputs[tap.name]) == [DYNAMIC, tap.grid[0] * tap.grid[1], tap.dim]
    for tensor in bank:
        assert shape_of(inputs[tensor.name]) == [size or DYNAMIC for size in tensor.shape]
    assert [value.name for value in decoder_model.graph.output] == list(DECODER_OUTPUTS)


@pytest.mark.parametrize("size", [1, 5, 700])
def test_the_decoder_takes_banks_of_any_size(size: int, package: Package) -> None:
    session = onnxruntime.InferenceSession(package.decoder, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(size)
    feeds = {
        tap.name: rng.normal(size=(2, tap.grid[0] * tap.grid[1], tap.dim)).astype(np.float32)
        for tap in package.info.encoder.taps
    }
    for tensor in package.info.decoder.bank:
        feeds[tensor.name] = rng.normal(size=[known or size for known in tensor.shape]).astype(np.float32)
    outputs = dict(zip(DECODER_OUTPUTS, session.run(list(DECODER_OUTPUTS), feeds), strict=True))
    assert outputs["anomaly_map"].shape == (2, *package.info.encoder.input_size)
    assert outputs["score"].shape == outputs["unlikeness"].shape == (2,)
    assert all(np.isfinite(value).all() for value in outputs.values())


@pytest.mark.parametrize("batch", [1, 3])
def test_tokens_are_those_of_pytorch(
    batch: int, engine: Engine, reference: Reference, images: NDArray[np.uint8]
) -> None:
    for start in range(0, len(images) - batch + 1, batch):
        given = images[start : start + batch]
        for found, expected in zip(engine.encode(given), reference.encode(given), strict=True):
            assert found.shape == expected.shape
            assert cosines(found, expected).min() >= 0.9999
            np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)


def test_matches_are_those_of_pytorch_alone_and_in_a_batch(
    engine: Engine, reference: Reference, images: NDArray[np.uint8], package: Package
) -> None:
    rng = np.random.default_rng(7)
    bank = {
        tensor.name: rng.normal(size=[size or 40 for size in tensor.shape]).astype(np.float32)
        for tensor in package.info.decoder.bank
    }
    tokens = reference.encode(images[:3])
    together = engine.match(tokens, bank)
    for index, expected in enumerate(reference.match(tokens, bank)):
        (alone,) = engine.match(tuple(tap[index : index + 1] for tap in tokens), bank)
        for found in (together[index], alone):
            assert found.score == pytest.approx(expected.score, rel=1e-3)
            assert found.unlikeness == pytest.approx(expected.unlikeness, rel=1e-3)
            np.testing.assert_allclose(found.anomaly_map, expected.anomaly_map, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("file", ["encoder", "decoder"])
def test_nothing_of_this_machine_is_inside(file: str, package: Package) -> None:
    data: bytes = getattr(package, file)
    here = (str(Path.cwd()), str(Path(__file__).parents[2]), str(Path.home()), platform.node(), "site-packages")
    for text in [*here, "/tmp/", ".py", 'File "', "Traceback", "stack_trace"]:  # noqa: S108
        if len(text) > 3:
            assert text.encode() not in data, text
    assert len(getpass.getuser()) <= 4 or getpass.getuser().encode() not in data
    model = onnx.load_from_string(data)
    assert model.producer_version == ""
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    text = str(model)
    assert text.count("op_type") == len(model.graph.node) > 10, "all of the model is in its text"
    assert re.findall('doc_string: "[^"]+"', text) == []
    assert "metadata_props" not in text


@pytest.mark.parametrize("file", ["encoder", "decoder"])
def test_a_graph_is_whole_and_needs_no_extension(file: str, package: Package) -> None:
    model = onnx.load_from_string(getattr(package, file))
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain for entry in model.opset_import} <= {"", "ai.onnx"}
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)

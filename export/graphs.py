"""PyTorch modules to ONNX bytes: dynamic batch, named inputs and outputs, nothing of this machine inside."""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch

from edge.engines.package import DECODER_OUTPUTS, BankTensor, DecoderSpec, Tap
from export.catalogue import LoadedEncoder
from export.decoder import MatchingDecoder

OPSET = 18
EXAMPLE_BATCH = 2
EXAMPLE_BANK = 64


def encoder_graph(encoder: LoadedEncoder) -> bytes:
    """`images uint8 [B, H, W, 3]` to one named `float32 [B, N, D]` per tap."""
    example = torch.zeros(EXAMPLE_BATCH, *encoder.input_size, 3, dtype=torch.uint8)
    batch = torch.export.Dim("batch")
    return _export(encoder.module, (example,), ["images"], [tap.name for tap in encoder.taps], ({0: batch},))


def decoder_graph(decoder: MatchingDecoder, taps: tuple[Tap, ...], spec: DecoderSpec) -> bytes:
    """Tokens and bank to `anomaly_map [B, H, W]`, `score [B]`, `unlikeness [B]`; free bank dimensions stay dynamic."""
    batch = torch.export.Dim("batch")
    tokens = tuple(torch.rand(EXAMPLE_BATCH, tap.grid[0] * tap.grid[1], tap.dim) for tap in taps)
    bank = tuple(torch.rand(*(size or EXAMPLE_BANK for size in tensor.shape)) for tensor in spec.bank)
    bank_shapes = tuple(_free_dimensions(tensor) for tensor in spec.bank)
    names = [tap.name for tap in taps] + [tensor.name for tensor in spec.bank]
    shapes = (tuple({0: batch} for _ in taps), bank_shapes)
    return _export(decoder, (tokens, bank), names, list(DECODER_OUTPUTS), shapes)


def _free_dimensions(tensor: BankTensor) -> dict[int, object]:
    """The dynamic dimension of a bank tensor; tensors of one tap share theirs by the index in their names."""
    if 0 not in tensor.shape:
        return {}
    return {tensor.shape.index(0): torch.export.Dim(f"size_{tensor.name.rpartition('_')[2]}")}


def _export(
    module: torch.nn.Module, example: tuple[Any, ...], inputs: list[str], outputs: list[str], shapes: tuple[object, ...]
) -> bytes:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder, torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            example,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
        if program is None:
            raise RuntimeError("torch.onnx.export returned nothing")
        path = Path(folder) / "graph.onnx"
        program.save(str(path))
        graph = onnx.load(path)
    _strip(graph)
    onnx.checker.check_model(graph)
    return bytes(graph.SerializeToString(deterministic=True))


def _strip(model: onnx.ModelProto) -> None:
    """Remove what the exporter notes of source files and stack traces: it names paths and changes between machines."""
    del model.metadata_props[:]
    model.doc_string = ""
    model.producer_version = ""
    del model.graph.metadata_props[:]
    parts: list[Any] = [*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output]
    for part in [*parts, *model.graph.initializer]:
        del part.metadata_props[:]
        part.doc_string = ""

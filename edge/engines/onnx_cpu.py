"""ONNX Runtime on the CPU: the executor that works everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge.engines.package import DECODER_OUTPUTS, Package
from edge.errors import EngineError
from edge.types import Bank, Match, Tokens

T = TypeVar("T")
THREADS_MOST = 256


class OnnxCpuEngine:
    """Encoder and decoder in two sessions; the decoder keeps to one thread, its work is too small to share."""

    def __init__(self, package: Package, threads: int = 0) -> None:
        """Load both graphs.

        Args:
            package: verified graphs.
            threads: for the encoder; 0 takes one a core.

        Raises:
            EngineError: ONNX Runtime does not accept a graph, or the number of threads makes no sense.
        """
        if not 0 <= threads <= THREADS_MOST:
            raise EngineError(f"{threads} threads cannot be", f"Use 0 (one a core) to {THREADS_MOST}.")
        self.package = package
        self.description = f"onnxruntime {onnxruntime.__version__} cpu"
        self._input = (*package.info.encoder.input_size, 3)
        self._taps = [tap.name for tap in package.info.encoder.taps]
        self._encoder = _session(package.encoder, threads)
        self._decoder = _session(package.decoder, 1)

    def encode(self, images: NDArray[np.uint8]) -> Tokens:
        """See `Engine.encode`."""
        if images.dtype != np.uint8 or images.shape[1:] != self._input:
            raise EngineError(
                f"the encoder got {images.dtype} {list(images.shape)}", f"It takes uint8 [B, {str(self._input)[1:]}."
            )
        return tuple(_guard(lambda: self._encoder.run(self._taps, {"images": images})))

    def match(self, tokens: Tokens, bank: Bank) -> tuple[Match, ...]:
        """See `Engine.match`."""
        feeds: dict[str, NDArray[np.float32]] = dict(zip(self._taps, tokens, strict=True))
        feeds.update(bank)
        outputs = _guard(lambda: self._decoder.run(DECODER_OUTPUTS, feeds))
        return tuple(
            Match(anomaly_map, float(score), float(unlike)) for anomaly_map, score, unlike in zip(*outputs, strict=True)
        )


def _session(graph: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return _guard(lambda: onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]))


def _guard(call: Callable[[], T]) -> T:
    """ONNX Runtime's exceptions share no base class but Exception: turn each into ours."""
    try:
        return call()
    except Exception as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise EngineError(
            f"ONNX Runtime failed: {first_line}", "Export the package again; see `linegate doctor`."
        ) from error

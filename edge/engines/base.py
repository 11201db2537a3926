"""The contract that every executor keeps."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.engines.package import Package
from edge.types import Bank, Tokens


class Engine(Protocol):
    """A loaded encoder and decoder. It either answers or raises EngineError; it never returns a default."""

    package: Package
    description: str
    """Executor and device, as published in every verdict."""

    def encode(self, images: NDArray[np.uint8]) -> Tokens:
        """Patch tokens of `uint8 [B, H, W, 3]` RGB at the package's input size.

        Raises:
            EngineError: the executor failed, or the shape is not the package's.
        """
        ...

    def match(self, tokens: Tokens, bank: Bank) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compare tokens with a bank: anomaly maps `float32 [B, H, W]` and image scores `float32 [B]`.

        Raises:
            EngineError: the executor failed, or the bank does not fit the decoder.
        """
        ...

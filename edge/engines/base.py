"""The contract that every executor keeps."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge.engines.package import Package
from edge.types import Bank, Match, Tokens


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

    def match(self, tokens: Tokens, bank: Bank) -> tuple[Match, ...]:
        """Compare the tokens of B pictures with a bank.

        Raises:
            EngineError: the executor failed, or the bank does not fit the decoder.
        """
        ...

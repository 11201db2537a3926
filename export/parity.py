"""Does the exported package judge as the PyTorch reference does? Measured on real pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge.bank import combine, fit_bank, moments_of, without
from edge.engines.base import Engine
from edge.engines.package import Parity, whole_geometry
from edge.errors import ExportError
from edge.pictures import read_picture
from edge.preprocess import View, preprocess
from edge.types import Bank, Match, Picture, Tokens
from export.catalogue import LoadedEncoder
from export.decoder import MatchingDecoder

SHOTS = 4
"""The first pictures make the bank and the threshold; all are then judged."""
LEAST_PICTURES = 8
TINT = np.array([1.0, 0.8, 0.6])


@dataclass(frozen=True)
class Reference:
    """PyTorch, as it was before the export."""

    encoder: LoadedEncoder
    decoder: MatchingDecoder

    def encode(self, images: NDArray[np.uint8]) -> Tokens:
        """See `Engine.encode`."""
        with torch.no_grad():
            return tuple(t.numpy() for t in self.encoder.module(torch.from_numpy(images)))

    def match(self, tokens: Tokens, bank: Bank) -> tuple[Match, ...]:
        """See `Engine.match`."""
        with torch.no_grad():
            inputs = tuple(torch.from_numpy(t) for t in tokens)
            outputs = [t.numpy() for t in self.decoder(inputs, tuple(torch.from_numpy(a) for a in bank.values()))]
        return tuple(
            Match(anomaly_map, float(score), float(unlike)) for anomaly_map, score, unlike in zip(*outputs, strict=True)
        )


def measure(reference: Reference, engine: Engine, paths: Sequence[Path], tick: Callable[[], None]) -> Parity:
    """Compare token by token and verdict by verdict.

    Raises:
        ExportError: too few pictures to compare; a comparison of nothing is no comparison.
        PictureError: one of them is no picture.
    """
    enough(paths)
    ours: list[Tokens] = []
    theirs: list[Tokens] = []
    for number, path in enumerate(paths):
        prepared = preprocess(_tinted(read_picture(path), number), engine.package.info.encoder.input_size, View())
        image = prepared.image[np.newaxis]
        theirs.append(reference.encode(image))
        ours.append(engine.encode(image))
        tick()
    geometry = whole_geometry(engine.package.info.encoder)
    shots = [moments_of(tokens, geometry) for tokens in theirs[:SHOTS]]
    total = combine(shots)
    bank = fit_bank(total, geometry)
    held_out = [reference.match(theirs[i], fit_bank(without(total, shots[i]), geometry))[0].score for i in range(SHOTS)]
    threshold = float(max(held_out))
    expected = np.array([reference.match(tokens, bank)[0].score for tokens in theirs])
    found = np.array([engine.match(tokens, bank)[0].score for tokens in ours])
    spread = float(expected.std()) or 1.0
    return Parity(
        reference=f"pytorch {torch.__version__.split('+')[0]}",
        executor=engine.description,
        pictures=len(paths),
        token_cosine_worst=min(_worst_cosine(a, b) for a, b in zip(ours, theirs, strict=True)),
        score_difference_worst=float(np.abs(expected - found).max() / spread),
        verdict_flips=int(((expected <= threshold) != (found <= threshold)).sum()),
    )


def enough(paths: Sequence[Path]) -> list[Path]:
    """The pictures, if a comparison of them says anything.

    Raises:
        ExportError: too few.
        PictureError: the first of them is no picture.
    """
    if len(paths) < LEAST_PICTURES:
        raise ExportError(f"{len(paths)} pictures are too few for a parity figure", f"Give at least {LEAST_PICTURES}.")
    read_picture(paths[0])
    return list(paths)


def _tinted(picture: Picture, number: int) -> Picture:
    """Every second picture with unequal channels: on grey ones alone, swapped channels would not show."""
    return picture if number % 2 == 0 else (picture * TINT).astype(np.uint8)


def _worst_cosine(ours: Tokens, theirs: Tokens) -> float:
    worst = 1.0
    for a, b in zip(ours, theirs, strict=True):
        a64, b64 = a.astype(np.float64), b.astype(np.float64)
        cosine = (a64 * b64).sum(-1) / (np.linalg.norm(a64, axis=-1) * np.linalg.norm(b64, axis=-1) + 1e-12)
        worst = min(worst, float(cosine.min()))
    return worst

"""The parity figure: near perfect for a good package, and visibly bad for one that judges differently."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deploy.demo import elpv
from edge.engines.base import Engine
from edge.engines.package import Parity
from edge.errors import ExportError, PictureError
from edge.types import Bank, Match, Tokens
from export.catalogue import LoadedEncoder
from export.decoder import MatchingDecoder
from export.parity import LEAST_PICTURES, Reference, measure
from tests.calibration.making import save, texture


class Spoilt:
    """An engine with a planted error."""

    def __init__(
        self,
        engine: Engine,
        images: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] = lambda images: images,
        score: Callable[[float], float] = lambda score: score,
    ) -> None:
        self.package, self.description, self._engine = engine.package, engine.description, engine
        self._images, self._score = images, score

    def encode(self, images: NDArray[np.uint8]) -> Tokens:
        return self._engine.encode(self._images(images))

    def match(self, tokens: Tokens, bank: Bank) -> tuple[Match, ...]:
        return tuple(replace(m, score=self._score(m.score)) for m in self._engine.match(tokens, bank))


@dataclass(frozen=True)
class Remembering(Reference):
    """Encodes each picture once for all tests: PyTorch is the slow side."""

    known: dict[bytes, Tokens] = field(default_factory=dict)

    def encode(self, images: NDArray[np.uint8]) -> Tokens:
        key = images.tobytes()
        if key not in self.known:
            self.known[key] = super().encode(images)
        return self.known[key]


@pytest.fixture(scope="module")
def reference(encoder: LoadedEncoder) -> Reference:
    return Remembering(encoder, MatchingDecoder(encoder.taps, encoder.input_size))


@pytest.fixture(scope="module")
def real(elpv_pictures: elpv.Elpv) -> list[Path]:
    """Half of them normal, half defective."""
    half = LEAST_PICTURES // 2
    return [*elpv_pictures.train_normal[:half], *elpv_pictures.test_anomalous[:half]]


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("coloured")
    tints = (np.array([1.0, 0.5, 0.1]), np.array([0.9, 0.7, 0.2]))
    return [
        save(folder / f"{i}.png", (texture(i, 96, 96) * tints[i % 2]).astype(np.uint8)) for i in range(LEAST_PICTURES)
    ]


def parity(reference: Reference, engine: Engine, paths: list[Path]) -> Parity:
    return measure(reference, engine, paths, lambda: None)


@pytest.fixture(scope="module")
def good(reference: Reference, engine: Engine, real: list[Path]) -> Parity:
    return parity(reference, engine, real)


def test_the_package_judges_as_pytorch_does(good: Parity, engine: Engine) -> None:
    assert good.pictures == LEAST_PICTURES
    assert good.token_cosine_worst >= 0.9999
    assert good.score_difference_worst <= 1e-3
    assert good.verdict_flips == 0
    assert good.executor == engine.description
    assert torch.__version__.split("+")[0] in good.reference


def test_each_picture_is_ticked_off(reference: Reference, engine: Engine, coloured: list[Path]) -> None:
    ticks: list[None] = []
    measure(reference, engine, coloured, lambda: ticks.append(None))
    assert len(ticks) == len(coloured)


@pytest.mark.parametrize("count", [0, 1, LEAST_PICTURES - 1])
def test_too_few_pictures_are_no_comparison(count: int, reference: Reference, engine: Engine, real: list[Path]) -> None:
    with pytest.raises(ExportError, match=f"{count} pictures are too few") as refused:
        parity(reference, engine, real[:count])
    assert str(LEAST_PICTURES) in refused.value.remedy


def test_a_file_that_is_no_picture_is_refused(
    reference: Reference, engine: Engine, real: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(PictureError, match="is not a picture"):
        parity(reference, engine, [*real[1:], tmp_path / "a.png"])


def test_swapped_channels_show(reference: Reference, engine: Engine, coloured: list[Path]) -> None:
    assert parity(reference, engine, coloured).token_cosine_worst >= 0.9999
    swapped = Spoilt(engine, images=lambda images: np.ascontiguousarray(images[..., ::-1]))
    assert parity(reference, swapped, coloured).token_cosine_worst < 0.99


def test_a_mirrored_picture_shows(reference: Reference, engine: Engine, real: list[Path], good: Parity) -> None:
    mirrored = Spoilt(engine, images=lambda images: np.ascontiguousarray(images[:, :, ::-1]))
    found = parity(reference, mirrored, real)
    assert found.token_cosine_worst < 0.9
    assert found.score_difference_worst > 10 * good.score_difference_worst


def test_a_changed_weight_shows(reference: Reference, engine: Engine, real: list[Path]) -> None:
    module = copy.deepcopy(reference.encoder.module)
    weights = [p for name, p in module.named_parameters() if name.endswith("_project_conv.weight")]
    weights[len(weights) // 2].data *= 1.05
    changed = Reference(replace(reference.encoder, module=module), reference.decoder)
    assert parity(changed, engine, real).token_cosine_worst < 0.9999


@pytest.mark.parametrize(
    ("spoil", "flips"),
    [
        pytest.param(lambda score: 1.01 * score, 0, id="1% more"),
        pytest.param(lambda score: -score, 1, id="lower is worse"),
    ],
)
def test_another_score_shows(
    spoil: Callable[[float], float], flips: int, reference: Reference, engine: Engine, real: list[Path], good: Parity
) -> None:
    found = parity(reference, Spoilt(engine, score=spoil), real)
    assert found.token_cosine_worst >= 0.9999, "the tokens are still right"
    assert found.score_difference_worst > 10 * good.score_difference_worst
    assert found.verdict_flips >= flips

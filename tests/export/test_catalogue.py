"""The encoders that can be exported: right architecture, right weights, or a clear refusal."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from edge.errors import ExportError
from export.catalogue import ENTRIES, Entry, load_encoder
from tests.export.reference import STRIDES, block_outputs

NAMES = [entry.name for entry in ENTRIES]


def entry_of(name: str) -> Entry:
    return next(entry for entry in ENTRIES if entry.name == name)


def weights_of(name: str) -> Path:
    entry = entry_of(name)
    return Path(str(importlib.metadata.distribution(entry.distribution).locate_file(entry.weights)))


def pictures(count: int, size: tuple[int, int]) -> torch.Tensor:
    rng = np.random.default_rng(count)
    return torch.from_numpy(rng.integers(0, 256, (count, *size, 3), dtype=np.uint8))


def worst_cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=-1).min())


def test_the_default_and_the_small_one_are_there() -> None:
    assert NAMES[0] == "efficientnet-lite2"
    assert "efficientnet-lite0" in NAMES
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_have_the_shape_that_the_package_says(name: str) -> None:
    encoder = load_encoder(name)
    tokens = encoder.module(pictures(2, encoder.input_size))
    assert len(tokens) == len(encoder.taps)
    for tap, found in zip(encoder.taps, tokens, strict=True):
        assert found.shape == (2, tap.grid[0] * tap.grid[1], tap.dim)
        assert found.dtype == torch.float32
        assert tap.grid == tuple(-(-side // tap.stride) for side in encoder.input_size)
        assert torch.isfinite(found).all()
    assert len({tap.name for tap in encoder.taps}) == len(encoder.taps)


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_has_the_same_tokens_alone_and_among_others(name: str) -> None:
    encoder = load_encoder(name)
    images = pictures(3, encoder.input_size)
    together = encoder.module(images)
    for index in range(3):
        for among, alone in zip(together, encoder.module(images[index : index + 1]), strict=True):
            torch.testing.assert_close(among[index], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_those_of_an_independent_definition(name: str) -> None:
    encoder = load_encoder(name)
    state = torch.load(weights_of(name), map_location="cpu", weights_only=True)
    images = pictures(2, encoder.input_size)
    expected = block_outputs(name, state, images)
    for found, block in zip(encoder.module(images), encoder.module.tap_blocks, strict=True):
        rows = expected[block].permute(0, 2, 3, 1).reshape(2, -1, expected[block].shape[1])
        assert found.shape == rows.shape
        assert worst_cosine(found, rows) >= 0.99999
        torch.testing.assert_close(found, rows, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_all_weights_before_the_cut_are_used(name: str) -> None:
    """A block too few, or one that was forgotten, would leave weights over."""
    encoder = load_encoder(name)
    state = torch.load(weights_of(name), map_location="cpu", weights_only=True)
    last = max(encoder.module.tap_blocks)
    blocks = tuple(f"_blocks.{index}." for index in range(last + 1))
    before_the_cut = {key for key in state if key.startswith(("_conv_stem.", "_bn0.", *blocks))}
    own = encoder.module.state_dict()
    assert set(own) - before_the_cut == set()
    assert before_the_cut - set(own) == set()
    assert all(torch.equal(own[key], state[key]) for key in own)
    assert sum(key.endswith("._depthwise_conv.weight") for key in state) == len(STRIDES[name])


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_is_frozen_and_tells_where_it_comes_from(name: str) -> None:
    encoder, entry = load_encoder(name), entry_of(name)
    assert not encoder.module.training
    assert not any(parameter.requires_grad for parameter in encoder.module.parameters())
    assert encoder.source.sha256 == entry.sha256
    assert entry.distribution in encoder.source.origin
    assert encoder.source.licence == "Apache-2.0"
    assert encoder.source.version == importlib.metadata.version(entry.distribution)


def test_tokens_are_in_rows_from_top_left() -> None:
    encoder = load_encoder("efficientnet-lite0")
    height, width = encoder.input_size
    dark = torch.full((1, height, width, 3), 100, dtype=torch.uint8)
    lit = dark.clone()
    lit[:, : height // 8, -width // 8 :] = 250
    tap = encoder.taps[0]
    changed = (encoder.module(lit)[0] - encoder.module(dark)[0]).norm(dim=2).reshape(tap.grid)
    row, column = divmod(int(changed.argmax()), tap.grid[1])
    assert row < tap.grid[0] / 4
    assert column >= tap.grid[1] * 3 / 4


def test_an_unknown_encoder_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ExportError, match="there is no encoder 'resnet50'") as refused:
        load_encoder("resnet50")
    assert all(name in refused.value.remedy for name in NAMES)


def test_weights_that_are_not_installed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> importlib.metadata.Distribution:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    with pytest.raises(ExportError, match="not installed") as refused:
        load_encoder("efficientnet-lite0")
    assert "pip install" in refused.value.remedy


class Elsewhere(importlib.metadata.PathDistribution):
    """An installed distribution with its files in another folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def version(self) -> str:
        """See `Distribution`."""
        return "0"

    def locate_file(self, path: object) -> Path:
        """See `Distribution`."""
        return self._folder / str(path)


def test_a_weights_file_that_is_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Elsewhere(tmp_path))
    with pytest.raises(ExportError, match="is missing"):
        load_encoder("efficientnet-lite0")


@pytest.mark.parametrize("flipped", [0, 1_000_000])
def test_a_weights_file_with_one_flipped_bit_is_refused(
    flipped: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "efficientnet-lite0"
    data = bytearray(weights_of(name).read_bytes())
    data[flipped] ^= 1
    copy = tmp_path / entry_of(name).weights
    copy.parent.mkdir(parents=True)
    copy.write_bytes(data)
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Elsewhere(tmp_path))
    with pytest.raises(ExportError, match="is not the published file"):
        load_encoder(name)

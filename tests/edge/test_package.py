"""A package is taken whole and unchanged, or refused; a bank that does not fit its decoder is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import (
    PACKAGE_FILE,
    BankTensor,
    DecoderSpec,
    Package,
    PackageInfo,
    check_bank,
    identity,
    load_package,
)
from edge.errors import EngineError, PackageError, RecipeError
from edge.preprocess import PREPROCESS_VERSION
from edge.recipe import Recipe
from edge.sealed import seal
from edge.types import Bank
from tests.edge.bits import flipped_bit

DECODER = DecoderSpec("any", "decoder.onnx", (BankTensor("matrix", (4, 0)), BankTensor("vector", (0,))), {})
FILES = ("package.json", "encoder.onnx", "decoder.onnx")


def good_bank() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    return {"matrix": np.ones((4, 7), np.float32), "vector": np.ones(7, np.float32)}


@pytest.fixture(scope="module")
def damaged_folder(package_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(package_folder, tmp_path_factory.mktemp("damaged") / "package"))


@pytest.fixture
def own_folder(package_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(package_folder, tmp_path / "package"))


def rewrite(folder: Path, info: PackageInfo) -> None:
    (folder / PACKAGE_FILE).write_bytes(seal(info))


def test_a_package_comes_with_what_its_description_says(package: Package) -> None:
    assert package.info.package_hash == identity(package.info)
    assert {package.info.encoder.file, package.info.decoder.file} == set(package.info.files)
    assert len(package.encoder) == package.info.files[package.info.encoder.file].size_bytes
    assert len(package.decoder) == package.info.files[package.info.decoder.file].size_bytes


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_in_any_file_is_refused(damaged_folder: Path, name: str, place: float, bit: int) -> None:
    with flipped_bit(damaged_folder / name, place, bit), pytest.raises(PackageError) as caught:
        load_package(damaged_folder)
    assert name in caught.value.what and "linegate export" in caught.value.remedy


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(own_folder: Path, name: str) -> None:
    (own_folder / name).unlink()
    with pytest.raises(PackageError, match=name):
        load_package(own_folder)


def test_a_folder_without_a_package_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(PackageError, match="holds no model package"):
            load_package(folder)


def test_a_changed_description_does_not_match_the_package_hash(own_folder: Path, package: Package) -> None:
    decoder = msgspec.structs.replace(package.info.decoder, parameters={"another": 1.0})
    rewrite(own_folder, msgspec.structs.replace(package.info, decoder=decoder))
    with pytest.raises(PackageError, match="does not match its package hash"):
        load_package(own_folder)


def test_a_graph_that_is_not_listed_is_refused(own_folder: Path, package: Package) -> None:
    encoder = msgspec.structs.replace(package.info.encoder, file="other.onnx")
    rewrite(own_folder, msgspec.structs.replace(package.info, encoder=encoder))
    with pytest.raises(PackageError, match="does not match its package hash"):
        load_package(own_folder)


def test_another_preprocessing_is_refused(own_folder: Path, package: Package) -> None:
    rewrite(own_folder, msgspec.structs.replace(package.info, preprocess_version=PREPROCESS_VERSION + 1))
    with pytest.raises(PackageError, match=f"preprocessing {PREPROCESS_VERSION + 1}"):
        load_package(own_folder)


def test_a_file_name_cannot_lead_out_of_the_package(own_folder: Path, package: Package) -> None:
    outside = own_folder.parent / "encoder.onnx"
    shutil.move(own_folder / "encoder.onnx", outside)
    files = {**package.info.files, "../encoder.onnx": package.info.files["encoder.onnx"]}
    del files["encoder.onnx"]
    encoder = msgspec.structs.replace(package.info.encoder, file="../encoder.onnx")
    info = msgspec.structs.replace(package.info, encoder=encoder, files=files)
    rewrite(own_folder, msgspec.structs.replace(info, package_hash=identity(info)))
    with pytest.raises(PackageError, match="cannot be read"):
        load_package(own_folder)


def test_a_fitting_bank_is_taken() -> None:
    check_bank(good_bank(), DECODER, "bank")


BAD_BANKS: dict[str, Bank] = {
    "missing tensor": {"matrix": good_bank()["matrix"]},
    "unknown tensor": {**good_bank(), "more": good_bank()["vector"]},
    "wrong length": {**good_bank(), "matrix": np.ones((5, 7), np.float32)},
    "wrong rank": {**good_bank(), "vector": np.ones((7, 1), np.float32)},
    "wrong type": {**good_bank(), "vector": np.ones(7, np.float64)},
    "not a number": {**good_bank(), "vector": np.array([1, np.nan], np.float32)},
    "infinite": {**good_bank(), "matrix": np.full((4, 7), -np.inf, np.float32)},
    "empty": {**good_bank(), "vector": np.ones(0, np.float32)},
}


@pytest.mark.parametrize("bank", BAD_BANKS.values(), ids=BAD_BANKS.keys())
def test_a_bank_that_does_not_fit_is_refused(bank: Bank) -> None:
    with pytest.raises(RecipeError, match="bank") as caught:
        check_bank(bank, DECODER, "bank")
    assert "Calibrate" in caught.value.remedy


def test_the_real_bank_fits_and_each_spoilt_tensor_is_refused(recipe: Recipe, package: Package) -> None:
    check_bank(recipe.bank, package.info.decoder, "bank")
    for name, tensor in recipe.bank.items():
        spoilt = tensor.copy()
        spoilt.flat[-1] = np.nan
        with pytest.raises(RecipeError, match=name):
            check_bank({**recipe.bank, name: spoilt}, package.info.decoder, "bank")


def test_the_engine_says_which_executor_and_device_it_is(engine: OnnxCpuEngine) -> None:
    assert engine.description.startswith("onnxruntime ") and engine.description.endswith(" cpu")


def test_the_engine_answers_in_the_shapes_of_the_package(engine: OnnxCpuEngine, recipe: Recipe) -> None:
    spec = engine.package.info.encoder
    images = np.random.default_rng(0).integers(0, 256, (2, *spec.input_size, 3), dtype=np.uint8)
    tokens = engine.encode(images)
    assert [t.shape for t in tokens] == [(2, tap.grid[0] * tap.grid[1], tap.dim) for tap in spec.taps]
    matches = engine.match(tokens, recipe.bank)
    assert [m.anomaly_map.shape for m in matches] == [spec.input_size] * 2
    assert all(m.anomaly_map.dtype == np.float32 for m in matches)
    assert np.isfinite([[m.score, m.unlikeness] for m in matches]).all()


def test_a_picture_scores_the_same_alone_and_in_a_batch(engine: OnnxCpuEngine, recipe: Recipe) -> None:
    shape = (3, *engine.package.info.encoder.input_size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    together = engine.match(engine.encode(images), recipe.bank)
    alone = [engine.match(engine.encode(images[i : i + 1]), recipe.bank)[0] for i in range(3)]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose([a.score, a.unlikeness], [b.score, b.unlikeness], rtol=1e-4)
        np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("change", ["size", "type", "channels", "rank"])
def test_the_engine_refuses_images_of_another_shape(engine: OnnxCpuEngine, change: str) -> None:
    height, width = engine.package.info.encoder.input_size
    images: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = {
        "size": np.zeros((1, height // 2, width, 3), np.uint8),
        "type": np.zeros((1, height, width, 3), np.float32),
        "channels": np.zeros((1, height, width, 4), np.uint8),
        "rank": np.zeros((height, width, 3), np.uint8),
    }
    with pytest.raises(EngineError, match="the encoder got"):
        engine.encode(images[change])


def test_the_engine_refuses_a_bank_of_another_decoder(engine: OnnxCpuEngine, recipe: Recipe) -> None:
    tokens = engine.encode(np.zeros((1, *engine.package.info.encoder.input_size, 3), np.uint8))
    name = next(iter(recipe.bank))
    for bank in ({}, {**recipe.bank, name: recipe.bank[name][..., np.newaxis]}):
        with pytest.raises(EngineError, match="ONNX Runtime failed"):
            engine.match(tokens, bank)


def test_a_graph_that_is_none_gives_an_engine_error(package: Package) -> None:
    broken = Package(package.folder, package.info, b"no graph", package.decoder)
    with pytest.raises(EngineError, match="ONNX Runtime failed"):
        OnnxCpuEngine(broken)

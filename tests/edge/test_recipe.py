"""A recipe is taken whole, unchanged and with its own package, or refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.engines.package import Package
from edge.errors import RecipeError
from edge.recipe import BANK_FILE, RECIPE_FILE, Recipe, find_recipe, load_recipe, revisions
from edge.sealed import seal, sha256_of
from tests.edge.bits import flipped_bit

FILES = (RECIPE_FILE, BANK_FILE, "thumbnails/0001.jpg", "thumbnails/0008.jpg")


@pytest.fixture(scope="module")
def damaged_folder(recipe_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(recipe_folder, tmp_path_factory.mktemp("damaged") / "0001"))


@pytest.fixture
def own_folder(recipe_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(recipe_folder, tmp_path / "0001"))


def test_a_recipe_names_its_package_its_shots_and_a_finite_threshold(recipe: Recipe, package: Package) -> None:
    assert recipe.info.package_hash == package.info.package_hash
    assert len(recipe.info.shots) == 8
    assert np.isfinite([recipe.info.threshold.value, recipe.info.threshold.pixel_value]).all()
    assert len(recipe.recipe_hash) == 64


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_in_any_file_is_refused(
    damaged_folder: Path, package: Package, name: str, place: float, bit: int
) -> None:
    with flipped_bit(damaged_folder / name, place, bit), pytest.raises(RecipeError) as caught:
        load_recipe(damaged_folder, package.info)
    assert Path(name).name in caught.value.what and caught.value.remedy


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(own_folder: Path, package: Package, name: str) -> None:
    (own_folder / name).unlink()
    with pytest.raises(RecipeError):
        load_recipe(own_folder, package.info)


def test_a_recipe_made_with_another_package_is_refused_and_both_are_named(recipe: Recipe, package: Package) -> None:
    other = msgspec.structs.replace(package.info, package_hash="f" * 64)
    with pytest.raises(RecipeError) as caught:
        load_recipe(recipe.folder, other)
    assert package.info.package_hash[:12] in caught.value.what and "f" * 12 in caught.value.what


def reseal_with_bank(
    folder: Path, recipe: Recipe, bank: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]
) -> None:
    data = safetensors.numpy.save(bank)
    (folder / BANK_FILE).write_bytes(data)
    info = msgspec.structs.replace(recipe.info, bank_sha256=sha256_of(data))
    (folder / RECIPE_FILE).write_bytes(seal(info))


def test_a_bank_that_does_not_fit_is_refused_even_with_the_right_hash(
    own_folder: Path, recipe: Recipe, package: Package
) -> None:
    name, tensor = next(iter(recipe.bank.items()))
    others = dict(recipe.bank)
    reseal_with_bank(own_folder, recipe, others)
    load_recipe(own_folder, package.info)
    reseal_with_bank(own_folder, recipe, {**others, name: np.full_like(tensor, np.nan)})
    with pytest.raises(RecipeError, match="not finite"):
        load_recipe(own_folder, package.info)
    reseal_with_bank(own_folder, recipe, {key: value for key, value in others.items() if key != name})
    with pytest.raises(RecipeError, match=name):
        load_recipe(own_folder, package.info)


def test_a_bank_that_is_no_safetensors_file_is_refused(own_folder: Path, recipe: Recipe, package: Package) -> None:
    (own_folder / BANK_FILE).write_bytes(b"junk")
    info = msgspec.structs.replace(recipe.info, bank_sha256=sha256_of(b"junk"))
    (own_folder / RECIPE_FILE).write_bytes(seal(info))
    with pytest.raises(RecipeError, match="damaged"):
        load_recipe(own_folder, package.info)


def test_a_product_folder_gives_its_newest_revision(tmp_path: Path) -> None:
    for name in ("0001", "0002", "0010", ".draft-x", "notes"):
        (tmp_path / name).mkdir()
        (tmp_path / name / RECIPE_FILE).touch()
    (tmp_path / "0011").touch()
    assert [path.name for path in revisions(tmp_path)] == ["0001", "0002", "0010"]
    assert find_recipe(tmp_path) == tmp_path / "0010"
    assert find_recipe(tmp_path / "0002") == tmp_path / "0002"


def test_no_recipe_is_said_with_the_remedy(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RecipeError, match=r"holds no recipe.*linegate calibrate"):
            find_recipe(path)

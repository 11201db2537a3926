"""What `linegate calibrate` refuses: exit code 2, one line that names the remedy, nothing written. And what it accepts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

import linegate as front_door
from calibration.shots import read_shots
from edge.engines.package import Package
from edge.recipe import Recipe, load_recipe
from tests.calibration.making import contents, save, texture
from tests.conftest import RunLinegate, one_line

Spoil = Callable[[Path], object]
Refuse = Callable[..., str]


@pytest.fixture
def refuse(shots: Path, recipes: Path, package_folder: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """Runs `linegate calibrate` in this process, and returns its only line after seeing that nothing was written."""

    def run(product: str = "part", **options: Path | str) -> str:
        chosen: dict[str, Path | str] = {"model": package_folder, "shots": shots, "recipes": recipes, **options}
        words = [word for key, value in chosen.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        before = contents(recipes)
        there = recipes.exists()
        try:
            code = front_door.main(["calibrate", product, *words])
        except SystemExit as exit_of_parser:
            code = exit_of_parser.code if isinstance(exit_of_parser.code, int) else -1
        said = capsys.readouterr()
        lines = said.err.splitlines()
        assert code == 2, said
        assert len(lines) == 1, said.err
        assert lines[0].startswith("linegate: "), lines[0]
        assert lines[0].endswith("."), "a sentence that says what to do"
        assert said.out == ""
        assert contents(recipes) == before
        assert recipes.exists() == there
        return lines[0]

    return run


@pytest.fixture
def accept(
    shots: Path, recipes: Path, package_folder: Path, package: Package, linegate: RunLinegate
) -> Callable[..., Recipe]:
    """Runs `linegate calibrate` in a process of its own and returns the recipe."""

    def run(*options: str) -> Recipe:
        done = linegate(
            "calibrate",
            "part",
            "--model",
            package_folder,
            "--shots",
            shots,
            "--recipes",
            recipes,
            *options,
            "--no-sensitivity",
        )
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        assert "Warning" not in done.stderr
        return load_recipe(recipes / "part", package.info)

    return run


def rgba(alpha: int) -> np.ndarray:
    return np.dstack([texture(3, 300, 300), np.full((300, 300), 255, np.uint8)[..., np.newaxis] // 255 * alpha])


def deep(bits: int) -> np.ndarray:
    """16-bit pixels of a camera of fewer bits."""
    return texture(4, 300, 300, 1).astype(np.uint16) << (bits - 8)


def empty(shots: Path) -> None:
    for path in shots.iterdir():
        path.unlink()


REFUSED: dict[str, tuple[Spoil, str]] = {
    "no shots": (empty, "holds no pictures"),
    "only other files": (lambda f: [p.rename(p.with_suffix(".txt")) for p in f.iterdir()], "holds no pictures"),
    "no such folder": (shutil.rmtree, "is not a folder"),
    "a file for a folder": (
        lambda f: f.rename(f.with_name("moved")).with_name(f.name).write_text("x"),
        "is not a folder",
    ),
    "text named png": (lambda f: (f / "a.png").write_text("I am no picture\n"), "a.png is not a picture"),
    "an empty file": (lambda f: (f / "a.png").write_bytes(b""), "a.png is not a picture"),
    "a folder named png": (lambda f: (f / "a.png").mkdir(), "a.png cannot be read"),
    "a link to nothing": (lambda f: (f / "a.png").symlink_to("gone.png"), "a.png cannot be read"),
    "cut short": (lambda f: cut(next(f.iterdir())), "is cut short"),
    "16 bits": (lambda f: save(f / "a.png", deep(12)), "a.png has 16-bit pixels"),
    "16 bits in TIFF": (lambda f: save(f / "a.tiff", deep(12)), "a.tiff has 16-bit pixels"),
    "floating point": (lambda f: save(f / "a.tiff", texture(1, 300, 300).astype(np.float32)), "float32 pixels"),
    "transparency": (lambda f: save(f / "a.png", rgba(254)), "a.png has transparent pixels"),
    "tiny": (lambda f: save(f / "a.png", texture(5, 31, 300)), "a.png is only 300 x 31 pixels"),
    "another size": (lambda f: save(f / "a.png", texture(6, 640, 640)), "a.png is 640 x 640"),
    "another shape": (lambda f: save(f / "a.png", texture(6, 200, 420)), "a.png is 420 x 200"),
}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("case", REFUSED)
def test_bad_shots_are_refused(case: str, shots: Path, refuse: Refuse) -> None:
    spoil, expected = REFUSED[case]
    spoil(shots)
    assert expected in refuse()


@pytest.mark.parametrize("spoilt", ["encoder.onnx", "decoder.onnx", "package.json"])
def test_a_flipped_bit_in_the_package_is_refused(
    spoilt: str, refuse: Refuse, package_folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "package"
    shutil.copytree(package_folder, copy)
    data = bytearray((copy / spoilt).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / spoilt).write_bytes(data)
    assert spoilt in refuse(model=copy)


def test_a_package_that_is_not_there_is_refused(refuse: Refuse, tmp_path: Path) -> None:
    assert "holds no model package" in refuse(model=tmp_path / "nothing")


def test_a_package_without_its_encoder_is_refused(refuse: Refuse, package_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "package"
    shutil.copytree(package_folder, copy)
    (copy / "encoder.onnx").unlink()
    assert "encoder.onnx cannot be read" in refuse(model=copy)


def test_recipes_below_a_file_are_refused(refuse: Refuse, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot be written" in refuse(recipes=tmp_path / "file" / "recipes")
    assert "cannot be written" in refuse(recipes=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_file_in_the_place_of_the_product_is_refused(
    shots: Path, recipes: Path, package_folder: Path, linegate: RunLinegate
) -> None:
    recipes.mkdir()
    (recipes / "part").write_text("in the way")
    words = ("calibrate", "part", "--model", package_folder, "--shots", shots, "--recipes", recipes)
    done = linegate(*words, "--no-sensitivity")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert sum(line.startswith("linegate: ") for line in done.stderr.splitlines()) == 1, done.stderr
    assert contents(recipes).keys() == {"part"}


@pytest.mark.parametrize("product", ["../x", "a/b", "", ".", "..", ".hidden", "a b", "é", "x" * 65, "part\n", "<b>"])
def test_a_product_that_is_no_folder_name_is_refused(product: str, refuse: Refuse) -> None:
    assert "is no product name" in refuse(product)


@pytest.mark.parametrize("bits", ["8", "17", "twelve"])
def test_a_bit_depth_that_no_camera_has_is_refused(bits: str, refuse: Refuse) -> None:
    assert "--bit-depth" in refuse(bit_depth=bits)


def test_a_bit_depth_below_what_the_shots_hold_is_refused(refuse: Refuse, shots: Path) -> None:
    save(shots / "a.png", deep(16))
    assert "a.png holds values beyond 12 bits" in refuse(bit_depth="12")


@pytest.mark.parametrize("threads", ["-1", "100000", "two"])
def test_an_absurd_number_of_threads_is_refused(threads: str, refuse: Refuse) -> None:
    assert "threads" in refuse(threads=threads)


def test_bad_input_leaves_an_earlier_revision_alone(recipes: Path, shots: Path, refuse: Refuse) -> None:
    (recipes / "part" / "0001").mkdir(parents=True)
    (recipes / "part" / "0001" / "recipe.json").write_text("an earlier one")
    empty(shots)
    refuse()
    assert sorted(contents(recipes)) == ["part", "part/0001", "part/0001/recipe.json"]


def test_the_process_says_one_line_too(shots: Path, recipes: Path, package_folder: Path, linegate: RunLinegate) -> None:
    (shots / "a.png").write_text("no picture")
    words = ("calibrate", "part", "--model", package_folder, "--shots", shots, "--recipes", recipes)
    done = linegate(*words, "--no-sensitivity")
    assert done.returncode == 2
    assert "a.png is not a picture" in one_line(done)
    assert not recipes.exists()


def test_very_different_sizes_are_accepted_when_said(accept: Callable[..., Recipe], shots: Path) -> None:
    save(shots / "small.png", texture(7, 100, 300))
    recipe = accept("--mixed-sizes")
    assert {(s.width, s.height) for s in recipe.info.shots} == {(300, 300), (300, 100)}


def test_grey_pictures_are_accepted_as_the_rgb_pictures_they_are(shots: Path) -> None:
    empty(shots)
    grey = texture(8, 300, 300, 1)
    save(shots / "grey.png", grey)
    save(shots / "rgb.png", np.dstack([grey] * 3))
    save(shots / "opaque.png", np.dstack([grey] * 3 + [np.full_like(grey, 255)]))
    save(shots / "zz-other.png", texture(9, 300, 300))
    read = read_shots(shots, None, False)
    assert [s.path.name for s in read.shots] == ["grey.png", "zz-other.png"]
    assert [copy.name for copy, _ in read.duplicates] == ["opaque.png", "rgb.png"]
    np.testing.assert_array_equal(read.shots[0].picture, np.dstack([grey] * 3))


def test_colours_are_read_as_rgb(shots: Path) -> None:
    empty(shots)
    bgr = np.zeros((64, 64, 3), np.uint8)
    bgr[:, :, 0] = 200
    save(shots / "blue.png", bgr)
    np.testing.assert_array_equal(read_shots(shots, None, False).shots[0].picture[0, 0], [0, 0, 200])


def test_deep_pictures_are_accepted_with_their_bit_depth(
    accept: Callable[..., Recipe], shots: Path, package: Package
) -> None:
    eight_bits = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(shots.iterdir())]
    empty(shots)
    for index, pixels in enumerate(eight_bits):
        save(shots / f"{index}.png", np.asarray(pixels).astype(np.uint16) << 8)
    recipe = accept("--bit-depth", "16")
    assert recipe.info.bit_depth == 16
    read = read_shots(shots, 16, False)
    for shot, pixels in zip(read.shots, eight_bits, strict=True):
        np.testing.assert_array_equal(shot.picture[..., 0], np.asarray(pixels).reshape(shot.picture.shape[:2]))


def test_the_smallest_picture_is_accepted(shots: Path) -> None:
    empty(shots)
    save(shots / "a.png", texture(9, 32, 32))
    assert len(read_shots(shots, None, False).shots) == 1


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["$5 or $6.png", "a_$^_$.png"], id="mathematics"),
        pytest.param(["100% <b>&amp;.png", "x" * 200 + ".png", " .png"], id="markup, length, blank"),
        pytest.param(["prüfling.png", "teil-日本.png"], id="letters that no font has"),
    ],
)
def test_awkward_file_names_are_accepted(names: list[str], accept: Callable[..., Recipe], shots: Path) -> None:
    """Dollars are markup to matplotlib, angle brackets to HTML."""
    for index, name in enumerate(names):
        save(shots / name, texture(20 + index, 300, 300))
    recipe = accept("--accept-mixed")
    assert {s.file for s in recipe.info.shots} >= set(names)


def test_a_file_name_that_is_no_utf_8_is_no_traceback(
    shots: Path, recipes: Path, package_folder: Path, linegate: RunLinegate
) -> None:
    """As unpacked from a ZIP file of an old Windows machine."""
    first = next(shots.iterdir())
    shutil.copyfile(first, os.fsencode(shots) + b"/gepr\xfcft.png")
    save(shots / "other.png", texture(1, 300, 300))
    words = ("calibrate", "part", "--model", package_folder, "--shots", shots, "--recipes", recipes)
    done = linegate(*words, "--no-sensitivity")
    assert "Traceback" not in done.stderr
    assert done.returncode in (0, 2)
    if done.returncode == 2:
        assert [p for p in contents(recipes) if p.startswith("part")] == []

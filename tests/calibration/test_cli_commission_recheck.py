"""`linegate commission` and `linegate recheck` from the command line: what they write, and what they leave alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

import linegate as front_door
from calibration.drafting import draft_change
from calibration.recipe_writer import write_revision
from deploy.demo import elpv
from edge.engines.base import Engine
from edge.recipe import Recipe, load_recipe
from tests.calibration.cells import cells, make_recipe, named, spotted, write_pictures
from tests.calibration.making import contents, save, texture
from tests.calibration.page import Page
from tests.conftest import RunLinegate, WriteStation, one_line

FRAMES = 24
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def made(elpv_pictures: elpv.Elpv, engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return make_recipe(named(cells(elpv_pictures, 8)), engine, tmp_path_factory.mktemp("recipes"))[0]


@pytest.fixture(scope="module")
def frames(elpv_pictures: elpv.Elpv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("frames"), named(cells(elpv_pictures, FRAMES, seed=50)))


@pytest.fixture(scope="module")
def golden(elpv_pictures: elpv.Elpv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    pictures = cells(elpv_pictures, 4)
    write_pictures(folder / "good", named(pictures))
    write_pictures(folder / "defect", named([spotted(p, (140, 160), 30) for p in pictures]))
    return folder


@pytest.fixture
def product(made: Recipe, tmp_path: Path) -> Path:
    """The product's folder with revision 1, to be changed."""
    return Path(shutil.copytree(made.folder.parent, tmp_path / "recipes" / "cell"))


@pytest.fixture
def say(package_folder: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs `linegate WORDS --model ...` here: exit code, standard output, the error's line (without progress)."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        try:
            code = front_door.main([*(str(w) for w in words), "--model", str(package_folder)])
        except SystemExit as ended:
            code = int(str(ended.code))
        out, err = capsys.readouterr()
        errors = [line for line in err.splitlines() if line.startswith("linegate: ")]
        assert "Traceback" not in err
        assert code != 2 or len(errors) == 1, err
        return code, out, errors[0] if errors else ""

    return run


def a_missed_defect(folder: Path, recipe: Path, say: Say, picture: np.ndarray) -> Path:
    """The strongest of a row of tinted spots that `linegate judge` accepts."""
    whole = spotted(picture, (150, 140), 16, 20).astype(float)
    shares = np.linspace(0.05, 0.6, 12)
    row = {f"{i:02d}.png": (share * whole + (1 - share) * picture).astype(np.uint8) for i, share in enumerate(shares)}
    write_pictures(folder, row)
    _, out, _ = say("judge", recipe, folder)
    accepted = [json.loads(line)["image"] for line in out.splitlines() if json.loads(line)["accept"]]
    return Path(accepted[-1])


def test_commission_writes_a_tighter_revision(product: Path, frames: Path, say: Say, engine: Engine) -> None:
    before = contents(product / "0001")
    code, out, _ = say("commission", product, "--frames", frames)
    assert code == 0
    assert contents(product / "0001") == before
    after = load_recipe(product, engine.package.info)
    assert (after.info.revision, after.info.parent_revision) == (2, 1)
    assert "revision 2" in out
    assert after.info.threshold.claim in out
    page = Page((product / "0002" / "report.html").read_text(encoding="utf-8"))
    assert page.outside == []
    assert json.loads((product / "0002" / "report.json").read_text())["recipe"]["parent_revision"] == 1


def test_only_count_frames_are_used(product: Path, frames: Path, say: Say, engine: Engine) -> None:
    assert say("commission", product, "--frames", frames, "--count", "20")[0] == 0
    threshold = load_recipe(product, engine.package.info).info.threshold
    assert "20 of production" in threshold.claim


def test_only_the_newest_revision_is_commissioned(product: Path, frames: Path, say: Say) -> None:
    assert say("commission", product / "0001", "--frames", frames)[0] == 0
    before = contents(product)
    code, _, error = say("commission", product / "0001", "--frames", frames)
    assert code == 2
    assert "not the newest revision (0002 is)" in error
    assert contents(product) == before


def test_frames_of_another_product_are_refused(product: Path, say: Say, tmp_path: Path) -> None:
    wood = write_pictures(tmp_path / "wood", named([texture(seed, 300, 300) for seed in range(20)]))
    before = contents(product)
    code, out, error = say("commission", product, "--frames", wood)
    assert code == 2
    assert "of 20 frames" in error
    assert out == ""
    assert contents(product) == before


def test_too_few_frames_are_refused(product: Path, frames: Path, say: Say, tmp_path: Path) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(frames.iterdir())[:5]:
        shutil.copyfile(path, few / path.name)
    before = contents(product)
    code, _, error = say("commission", product, "--frames", few)
    assert (code, "5 different production parts are too few" in error) == (2, True)
    code, _, error = say("commission", product, "--frames", frames, "--count", "19")
    assert (code, "--count 19 is too few" in error) == (2, True)
    assert contents(product) == before


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], id="no source"),
        pytest.param(["--frames", "."], id="no pictures there"),
        pytest.param(["--frames", "/nowhere"], id="no folder"),
        pytest.param(["--station", "/nowhere.toml"], id="no station"),
        pytest.param(["--frames", ".", "--station", "s.toml"], id="two sources"),
        pytest.param(["--frames", ".", "--count", "many"], id="no number"),
        pytest.param(["--frames", ".", "--count", "-30"], id="negative"),
    ],
)
def test_bad_words_for_commission_say_one_line(
    words: list[str], product: Path, say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = contents(product)
    assert say("commission", product, *words)[0] == 2
    assert contents(product) == before


def test_commission_from_a_station_publishes_nothing(
    product: Path,
    frames: Path,
    station_file: WriteStation,
    endpoint: str,
    package_folder: Path,
    linegate: RunLinegate,
    engine: Engine,
) -> None:
    """No recipe of the station is read, no bus is bound: the endpoint's file never appears."""
    station = station_file(frames)
    done = linegate("commission", product, "--model", package_folder, "--station", station, "--count", "20")
    assert done.returncode == 0, done.stderr
    assert not Path(endpoint.removeprefix("ipc://")).exists()
    after = load_recipe(product, engine.package.info)
    assert "20 of production" in after.info.threshold.claim
    assert after.info.parent_revision == 1


def test_a_station_that_shows_nothing_says_one_line(
    product: Path, station_file: WriteStation, say: Say, tmp_path: Path
) -> None:
    before = contents(product)
    station = station_file(tmp_path / "nowhere")
    code, _, error = say("commission", product, "--station", station, "--count", "20")
    assert code == 2
    assert "nowhere" in error
    assert contents(product) == before


def test_recheck_tells_both_revisions(product: Path, frames: Path, golden: Path, say: Say, tmp_path: Path) -> None:
    assert say("commission", product, "--frames", frames)[0] == 0
    before = contents(product)
    table, page = tmp_path / "out" / "golden.json", tmp_path / "out" / "golden.html"
    code, out, _ = say("recheck", product, "--golden", golden, "--json", table, "--report", page)
    data = json.loads(table.read_text())
    assert [o["revision"] for o in data["outcomes"]] == [1, 2]
    assert all((o["good"], o["defect"]) == (4, 4) for o in data["outcomes"])
    first, last = data["outcomes"]
    assert code == int(last["escapes"] > first["escapes"] or last["false_rejects"] > first["false_rejects"])
    assert "false rejects" in out
    assert "escapes" in out
    read = Page(page.read_text(encoding="utf-8"))
    assert read.outside == []
    assert f"{last['escapes']} of 4" in read.text
    assert contents(product) == before


def test_recheck_ends_with_1_when_a_part_is_judged_worse(product: Path, golden: Path, say: Say, engine: Engine) -> None:
    """Revision 2 rejects every part."""
    recipe = load_recipe(product, engine.package.info)
    strict = msgspec.structs.replace(recipe.info.threshold, value=0.01)
    draft = draft_change(recipe, msgspec.structs.replace(recipe.info, threshold=strict))
    write_revision(product.parent, draft)
    code, out, _ = say("recheck", product, "--golden", golden)
    assert code == 1
    assert "(good): OK, now" in out
    assert say("recheck", product / "0001", "--golden", golden)[0] == 0, "there is none before it to compare with"


@pytest.mark.parametrize("name", ["good", "defect"])
def test_recheck_refuses_a_set_with_one_class(name: str, product: Path, golden: Path, say: Say, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(golden, half)
    shutil.rmtree(half / name)
    (half / name).mkdir()
    code, _, error = say("recheck", product, "--golden", half, "--json", tmp_path / "out.json")
    assert code == 2
    assert f"no {name} parts" in error
    assert not (tmp_path / "out.json").exists()


def test_recheck_needs_something_to_check(product: Path, golden: Path, say: Say) -> None:
    assert "nothing to check" in say("recheck", product)[2]
    assert "nothing to write" in say("recheck", product, "--golden", golden, "--commit")[2]


def test_a_counterexample_is_previewed_then_committed(
    product: Path, golden: Path, say: Say, engine: Engine, elpv_pictures: elpv.Elpv, tmp_path: Path
) -> None:
    path = a_missed_defect(tmp_path / "row", product, say, cells(elpv_pictures, 8)[0])
    before = contents(product)
    code, out, _ = say("recheck", product, "--counterexample", path)
    assert code == 0
    assert "would be rejected" in out
    assert "0 of 8 kept normal shots" in out
    assert "nothing was written" in out
    assert contents(product) == before
    code, out, _ = say("recheck", product, "--counterexample", path, "--golden", golden, "--commit")
    assert code == 0
    assert "revision 2 written" in out
    after = load_recipe(product, engine.package.info)
    assert (after.info.revision, after.info.parent_revision) == (2, 1)
    assert json.loads(say("judge", product, path)[1])["judgement"] == "NOT_OK"
    code, _, error = say("recheck", product, "--counterexample", path, "--commit")
    assert code == 2
    assert "rejected already" in error
    assert load_recipe(product, engine.package.info).info.revision == 2


def test_tampered_normals_say_one_line(product: Path, say: Say, elpv_pictures: elpv.Elpv, tmp_path: Path) -> None:
    path = a_missed_defect(tmp_path / "row", product, say, cells(elpv_pictures, 8)[0])
    kept = product / "0001" / "normals.safetensors"
    data = bytearray(kept.read_bytes())
    data[-1] ^= 1
    kept.write_bytes(bytes(data))
    before = contents(product)
    code, _, error = say("recheck", product, "--counterexample", path, "--commit")
    assert code == 2
    assert "normals.safetensors" in error
    assert contents(product) == before


def test_tampered_normals_are_not_carried_on(product: Path, frames: Path, say: Say) -> None:
    """A revision must not be sealed over a file that does not match its hash."""
    kept = product / "0001" / "normals.safetensors"
    kept.write_bytes(kept.read_bytes()[:-1] + b"\x00\x01")
    assert say("commission", product, "--frames", frames)[0] == 2
    assert not (product / "0002").exists()


def test_missing_normals_say_one_line(product: Path, frames: Path, say: Say) -> None:
    (product / "0001" / "normals.safetensors").unlink()
    assert say("commission", product, "--frames", frames)[0] == 2
    assert not (product / "0002").exists()


def test_a_frame_that_is_no_picture_counts_as_unfit(
    product: Path, frames: Path, say: Say, tmp_path: Path, engine: Engine
) -> None:
    folder = Path(shutil.copytree(frames, tmp_path / "mixed"))
    (folder / "zz.png").write_bytes(b"no picture")
    assert say("commission", product, "--frames", folder)[0] == 0
    assert load_recipe(product, engine.package.info).info.threshold.frames_rejected >= 1


@pytest.mark.parametrize(
    ("text", "said"),
    [("0 0\n900 0\n0 200\n", "outside the picture"), ("1 1\n3 1\n3 3\n", "too thin"), ("", "corners")],
)
def test_calibrate_refuses_a_bad_region(text: str, said: str, shots_folder: Path, say: Say, tmp_path: Path) -> None:
    (tmp_path / "roi.txt").write_text(text)
    words = (
        "calibrate",
        "part",
        "--shots",
        shots_folder,
        "--recipes",
        tmp_path / "recipes",
        "--roi",
        tmp_path / "roi.txt",
    )
    code, _, error = say(*words)
    assert code == 2
    assert said in error
    assert not (tmp_path / "recipes" / "part").exists()


def test_calibrate_refuses_shots_that_cannot_be_aligned(say: Say, tmp_path: Path) -> None:
    for seed in range(4):
        save(tmp_path / "shots" / f"{seed}.png", texture(seed, 200, 200))
    words = ("calibrate", "part", "--shots", tmp_path / "shots", "--recipes", tmp_path / "recipes", "--align")
    code, _, error = say(*words)
    assert code == 2
    assert "aligned" in error
    assert not (tmp_path / "recipes" / "part").exists()


def test_the_process_says_one_line_too(
    product: Path, package_folder: Path, linegate: RunLinegate, tmp_path: Path
) -> None:
    done = linegate("recheck", product, "--model", package_folder, "--golden", tmp_path)
    assert done.returncode == 2
    assert "no good parts" in one_line(done)

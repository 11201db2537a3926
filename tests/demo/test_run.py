"""How the demo lays out its line and writes its station; the demo itself is run by `make demo`."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from deploy.demo import elpv
from deploy.demo import run as demo
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.errors import LinegateError
from edge.recipe import Recipe
from edge.station import load_station


@pytest.fixture
def few(elpv_pictures: elpv.Elpv) -> elpv.Elpv:
    """The data set with few cells on the line."""
    return elpv.Elpv(elpv_pictures.train_normal[:20], elpv_pictures.test_normal[:5], elpv_pictures.test_anomalous[:4])


@pytest.fixture
def folders(few: elpv.Elpv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Where shots and line parts go."""
    shots, line = tmp_path / "demo" / "shots", tmp_path / "demo" / "line"
    monkeypatch.setattr(elpv, "load", lambda: few)
    monkeypatch.setattr(demo, "SHOTS", shots)
    monkeypatch.setattr(demo, "LINE", line)
    return shots, line


def test_every_test_cell_is_on_the_line_once_in_a_mixed_order(folders: tuple[Path, Path], few: elpv.Elpv) -> None:
    labels = demo.lay_out()
    placed = sorted(path.name for path in folders[1].iterdir())
    assert placed == sorted(labels)
    assert [name[:4] for name in placed] == [f"{i:04d}" for i in range(1, 10)]
    truth = {path.name: False for path in few.test_normal} | {path.name: True for path in few.test_anomalous}
    assert {name[5:]: bad for name, bad in labels.items()} == truth
    assert list(labels.values()) != sorted(labels.values()), "normal and defective parts alternate"
    sources = {path.name: path for path in [*few.test_normal, *few.test_anomalous]}
    for path in folders[1].iterdir():
        assert path.read_bytes() == sources[path.name[5:]].read_bytes()


def test_no_shot_is_on_the_line(folders: tuple[Path, Path], few: elpv.Elpv) -> None:
    demo.lay_out()
    shots = {path.name for path in folders[0].iterdir()}
    assert len(shots) == demo.SHOT_COUNT == 8
    assert shots <= {path.name for path in few.train_normal}
    assert not shots & {path.name[5:] for path in folders[1].iterdir()}


def test_what_is_laid_out_is_used_again_and_mended(folders: tuple[Path, Path]) -> None:
    labels = demo.lay_out()
    before = {path: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()}
    assert demo.lay_out() == labels
    assert {path: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()} == before
    next(folders[1].iterdir()).unlink()
    (folders[0] / "stray.png").write_bytes(b"")
    assert demo.lay_out() == labels
    assert {path for folder in folders for path in folder.iterdir()} == set(before)


def test_the_station_file_is_one_that_the_station_takes(tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(demo.station_text("tcp://127.0.0.1:5999", 12.5))
    station = load_station(path)
    assert station.camera.rate_hz == 12.5
    assert not station.camera.loop
    assert Path(station.camera.source) == tmp_path / demo.LINE.name
    assert Path(station.recipe.path) == tmp_path / demo.RECIPES.name / demo.PRODUCT
    assert (tmp_path / station.model.package).resolve() == (tmp_path.parent / "packages" / demo.PACKAGE.name).resolve()
    assert station.bus.endpoint == "tcp://127.0.0.1:5999"
    assert station.bus.wait_for_subscriber_s > 0, "no verdict may go out before the subscriber is there"


@pytest.mark.parametrize("rate", [0.1, 29.96, 30.0])
def test_any_rate_that_may_be_chosen_gives_a_valid_station_file(rate: float, tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(demo.station_text("tcp://127.0.0.1:5999", rate))
    assert load_station(path).camera.rate_hz == pytest.approx(rate, abs=0.05)


def test_the_line_is_no_faster_than_it_should_be(
    folders: tuple[Path, Path], engine: OnnxCpuEngine, recipe: Recipe
) -> None:
    demo.lay_out()
    assert 0 < demo.choose_rate(engine, recipe) <= demo.RATE_HZ


def test_the_port_is_free() -> None:
    with socket.socket() as probe:
        port = demo.free_port()
        probe.bind(("127.0.0.1", port))
        assert probe.getsockname()[1] == port


def test_a_good_package_is_used_again_and_a_damaged_one_made_anew(
    package_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "package"
    shutil.copytree(package_folder, copy)
    called: list[list[str]] = []
    monkeypatch.setattr(demo, "PACKAGE", copy)
    monkeypatch.setattr(demo, "call", called.append)
    demo.export()
    assert called == []
    (copy / "decoder.onnx").write_bytes(b"damaged")
    demo.export()
    assert [words[0] for words in called] == ["export"]
    assert "--force" in called[0]


def test_a_good_recipe_is_used_again_and_a_missing_one_made(
    recipe_folder: Path, recipe: Recipe, engine: OnnxCpuEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes = tmp_path / "recipes"
    called: list[list[str]] = []

    def make(words: list[str]) -> None:
        called.append(words)
        shutil.copytree(recipe_folder, recipes / demo.PRODUCT / "0001")

    monkeypatch.setattr(demo, "RECIPES", recipes)
    monkeypatch.setattr(demo, "call", make)
    for _ in range(2):
        assert demo.calibrate(engine.package.info).info == recipe.info
    assert [words[0] for words in called] == ["calibrate"]


def test_a_command_that_fails_ends_the_demo() -> None:
    with pytest.raises(LinegateError, match="`linegate export` failed"):
        demo.call(["export", "no-such-encoder", "--out", "/dev/null/nowhere"])

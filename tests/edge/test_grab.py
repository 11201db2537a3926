"""`linegate grab` keeps what the camera shows, pixel by pixel, and publishes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import linegate as front_door
from edge.cli import grab
from edge.pictures import read_picture
from tests.calibration.making import contents, save, texture
from tests.conftest import WriteStation


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Five pictures; colours tell a swap of channels."""
    for number in range(5):
        save(tmp_path / "source" / f"{number}.png", texture(number, 64, 80))
    return tmp_path / "source"


def pictures(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


@pytest.mark.parametrize("count", [1, 3, 5])
def test_frames_are_kept_as_they_are(count: int, source: Path, station_file: WriteStation, tmp_path: Path) -> None:
    out = tmp_path / "new" / "frames"
    assert front_door.main(["grab", str(station_file(source)), "--out", str(out), "--count", str(count)]) == 0
    assert len(pictures(out)) == count
    for kept, original in zip(pictures(out), pictures(source), strict=False):
        np.testing.assert_array_equal(read_picture(kept), read_picture(original))
    assert set(contents(out)) == {path.name for path in pictures(out)}


def test_a_source_that_ends_gives_what_it_has(
    source: Path, station_file: WriteStation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "frames"
    assert front_door.main(["grab", str(station_file(source)), "--out", str(out), "--count", "50"]) == 0
    assert len(pictures(out)) == 5
    assert "5 frames" in capsys.readouterr().out


def test_damaged_frames_are_left_out(source: Path, station_file: WriteStation, tmp_path: Path) -> None:
    (source / "2.png").write_bytes(b"no picture")
    out = tmp_path / "frames"
    assert front_door.main(["grab", str(station_file(source)), "--out", str(out), "--count", "5"]) == 0
    assert len(pictures(out)) == 4


def test_a_damaged_frame_does_not_count(source: Path, station_file: WriteStation, tmp_path: Path) -> None:
    """Who asks for three frames gets three while the camera has them."""
    (source / "1.png").write_bytes(b"no picture")
    out = tmp_path / "frames"
    assert front_door.main(["grab", str(station_file(source)), "--out", str(out), "--count", "3"]) == 0
    assert len(pictures(out)) == 3


def test_nothing_usable_is_an_error(
    source: Path, station_file: WriteStation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in pictures(source):
        path.write_bytes(b"no picture")
    out = tmp_path / "frames"
    assert front_door.main(["grab", str(station_file(source)), "--out", str(out)]) == 2
    assert "no usable frame" in capsys.readouterr().err
    assert pictures(out) == []


def test_a_camera_that_never_fires_is_an_error(
    source: Path,
    station_file: WriteStation,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grab, "PATIENCE_S", 0.3)
    station = station_file(source, camera={"rate_hz": 0.01})
    assert front_door.main(["grab", str(station), "--out", str(tmp_path / "frames"), "--count", "2"]) == 2
    assert "no frame came" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-3"])
def test_no_frames_cannot_be_asked_for(
    count: str, source: Path, station_file: WriteStation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The camera is not to blame."""
    assert (
        front_door.main(["grab", str(station_file(source)), "--out", str(tmp_path / "frames"), "--count", count]) == 2
    )
    assert "--count" in capsys.readouterr().err
    assert not (tmp_path / "frames").exists()

"""What `linegate calibrate` says to the line engineer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import linegate as front_door
from edge.engines.package import Package
from edge.recipe import load_recipe
from tests.conftest import RunLinegate


def test_it_says_threshold_claim_and_where_the_report_is(
    linegate: RunLinegate, shots: Path, recipes: Path, package_folder: Path, package: Package
) -> None:
    done = linegate("calibrate", "part", "--model", package_folder, "--shots", shots, "--recipes", recipes)
    assert done.returncode == 0, done.stderr
    info = load_recipe(recipes / "part", package.info).info
    lines = done.stdout.splitlines()
    assert lines[0].startswith(f"part revision 1: threshold {info.threshold.value:.4g} from 3 shots")
    assert any("sets the threshold" in line for line in lines[1:-2])
    assert lines[-2] == info.threshold.claim
    assert str(recipes / "part" / "0001" / "report.html") in lines[-1]
    assert "linegate: " not in done.stderr, "no warning without a reason"


def test_one_shot_is_accepted_with_a_plain_warning(
    linegate: RunLinegate, shots: Path, recipes: Path, package_folder: Path, package: Package
) -> None:
    _, second, third = sorted(shots.iterdir())
    second.unlink()
    third.unlink()
    words = ("calibrate", "part", "--model", package_folder, "--shots", shots, "--recipes", recipes)
    done = linegate(*words, "--no-sensitivity")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("linegate: ")]
    assert len(warnings) == 1
    assert "one shot only" in warnings[0]
    assert "promises nothing" in warnings[0]
    assert "Nothing can be claimed" in done.stdout
    assert load_recipe(recipes / "part", package.info).info.threshold.false_reject_bound is None


def test_a_copy_of_a_shot_is_left_out_and_named(
    linegate: RunLinegate, shots: Path, recipes: Path, package_folder: Path, package: Package
) -> None:
    first, second, _ = sorted(shots.iterdir())
    shutil.copyfile(first, second)
    words = ("calibrate", "part", "--model", package_folder, "--shots", shots, "--recipes", recipes)
    done = linegate(*words, "--no-sensitivity")
    assert done.returncode == 0, done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("linegate: ")]
    assert warnings == [f"linegate: {second.name} is the same picture as {first.name} and is left out."]
    assert len(load_recipe(recipes / "part", package.info).info.shots) == 2


def test_shots_that_are_all_the_same_picture_are_refused(
    linegate: RunLinegate, shots: Path, recipes: Path, package_folder: Path
) -> None:
    first, *others = sorted(shots.iterdir())
    for other in others:
        shutil.copyfile(first, other)
    done = linegate("calibrate", "part", "--model", package_folder, "--shots", shots, "--recipes", recipes)
    assert done.returncode == 2
    assert "are the same picture" in done.stderr
    assert not recipes.exists()


@pytest.mark.parametrize(
    "words",
    [
        ("part",),
        ("part", "--model", "m", "--shots", "s"),
        ("part", "--model", "m", "--shots", "s", "--recipes", "r", "--wat"),
        ("part", "more", "--model", "m", "--shots", "s", "--recipes", "r"),
        ("part", "--mod", "m", "--shots", "s", "--recipes", "r"),
    ],
)
def test_a_usage_error_is_one_line(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        front_door.main(["calibrate", *words])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert len(said.splitlines()) == 1
    assert said.startswith("linegate: ")

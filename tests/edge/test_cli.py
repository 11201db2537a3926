"""The command line: what it prints, what it writes, and how it refuses."""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from deploy.demo.elpv import Elpv
from edge import SOFTWARE_VERSION
from edge.engines.package import PACKAGE_FILE, Package, identity
from edge.sealed import seal
from tests.conftest import (
    RunLinegate,
    WriteStation,
    command,
    environment,
    one_line,
)
from tests.edge.bits import flipped_bit
from tests.edge.png import RGB, png

KEYS = ("image", "judgement", "accept", "reason", "score", "threshold", "regions", "mask", "latency_ms")
COMMANDS = ("export", "calibrate", "run", "watch", "judge", "doctor")
Words = list[str | Path]


@pytest.fixture
def judge_words(recipe_folder: Path, package_folder: Path) -> Words:
    """`judge` with everything but the pictures; the recipe is named by its product."""
    return ["judge", recipe_folder.parent, "--model", package_folder]


@pytest.fixture
def shot(shots_folder: Path) -> Path:
    """One real normal part."""
    return sorted(shots_folder.iterdir())[0]


def lines_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_without_a_command_help_tells_them_all(linegate: RunLinegate) -> None:
    done = linegate()
    assert done.returncode == 2 and done.stderr == ""
    assert all(name in done.stdout for name in COMMANDS)


def test_version_and_help_end_well(linegate: RunLinegate) -> None:
    assert linegate("--version").stdout == f"linegate {SOFTWARE_VERSION}\n"
    assert linegate("--help").returncode == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(linegate: RunLinegate, name: str) -> None:
    if name == "export" and importlib.util.find_spec("torch") is None:
        pytest.skip("PyTorch is not installed: pip install -e '.[export]'")
    done = linegate(name, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert f"linegate {name}" in done.stdout


USAGE_ERRORS: tuple[tuple[str, ...], ...] = (
    ("nope",),
    ("--nope",),
    ("judge",),
    ("judge", "--nope"),
    ("judge", "r", "p", "--model", "m", "--nope"),
    ("judge", "r", "p", "--mod", "m"),
    ("judge", "r", "p", "--model", "m", "--threads", "many"),
    ("run",),
    ("run", "a", "b"),
    ("watch",),
    ("watch", "tcp://127.0.0.1:1", "--timeout", "soon"),
    ("watch", "nonsense"),
    ("doctor", "--nope"),
    ("run", "missing.toml"),
    ("judge", "r", "missing.png", "--model", "m"),
    ("judge", "missing", "/", "--model", "m"),
)


@pytest.mark.parametrize("words", USAGE_ERRORS, ids=" ".join)
def test_a_usage_error_is_one_line_and_code_2(linegate: RunLinegate, words: tuple[str, ...]) -> None:
    done = linegate(*words)
    assert done.returncode == 2 and done.stdout == ""
    one_line(done)


def test_judge_prints_one_json_line_a_picture_and_ends_with_0(
    linegate: RunLinegate, judge_words: Words, shots_folder: Path
) -> None:
    done = linegate(*judge_words, shots_folder)
    assert done.returncode == 0 and done.stderr == ""
    lines = lines_of(done.stdout)
    assert [line["image"] for line in lines] == [str(path) for path in sorted(shots_folder.iterdir())]
    for line in lines:
        assert set(KEYS) <= set(line)
        assert line["judgement"] in ("OK", "NOT_OK") and line["accept"] is (line["judgement"] == "OK")
        assert math.isfinite(line["score"]) and math.isfinite(line["threshold"]) and line["latency_ms"] > 0
        assert line["mask"] is None


def test_judge_ends_with_1_when_a_picture_could_not_be_judged(
    linegate: RunLinegate, judge_words: Words, shot: Path, tmp_path: Path
) -> None:
    (tmp_path / "letter.png").write_text("no picture")
    (tmp_path / "blank.png").write_bytes(png(np.full((300, 300, 3), 90, np.uint8), RGB))
    done = linegate(*judge_words, tmp_path / "letter.png", shot, tmp_path / "blank.png")
    assert done.returncode == 1
    lines = lines_of(done.stdout)
    assert [line["reason"] for line in lines] == ["frame_incomplete", None, "unfit_image"]
    for line in (lines[0], lines[2]):
        assert (line["judgement"], line["accept"], line["score"]) == ("NOT_DECIDABLE", False, None)
        assert line["regions"] == [] and line["mask"] is None and line["detail"]


def test_judge_writes_lines_and_masks_where_it_is_told(
    linegate: RunLinegate, judge_words: Words, elpv_pictures: Elpv, tmp_path: Path
) -> None:
    twin = tmp_path / "twin"
    twin.mkdir()
    bad = elpv_pictures.test_anomalous[:6]
    for path in bad:
        shutil.copyfile(path, twin / path.name)
    out, masks = tmp_path / "new" / "out.jsonl", tmp_path / "masks"
    done = linegate(*judge_words, *bad, twin, "--json", out, "--masks", masks)
    assert done.stdout == ""
    lines = lines_of(out.read_text())
    assert len(lines) == 12
    named = [line["mask"] for line in lines if line["judgement"] == "NOT_OK"]
    assert named and len(set(named)) == len(named), "two pictures of one name share a mask"
    assert {str(path) for path in masks.iterdir()} == set(named)
    assert all(line["regions"] for line in lines if line["judgement"] == "NOT_OK")


@pytest.mark.parametrize("option", ["--json", "--masks"])
def test_judge_refuses_an_unwritable_place_before_it_works(
    linegate: RunLinegate, judge_words: Words, shot: Path, tmp_path: Path, option: str
) -> None:
    (tmp_path / "file").write_text("kept")
    done = linegate(*judge_words, shot, option, tmp_path / "file" / "below")
    assert done.returncode == 2 and done.stdout == ""
    assert "cannot be written" in one_line(done)
    assert tree(tmp_path) == {"file"} and (tmp_path / "file").read_text() == "kept"


def test_judge_refuses_a_folder_as_its_json_file_and_writes_no_mask(
    linegate: RunLinegate, judge_words: Words, elpv_pictures: Elpv, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    bad = elpv_pictures.test_anomalous[:6]
    done = linegate(*judge_words, *bad, "--json", tmp_path / "out", "--masks", tmp_path / "masks")
    assert done.returncode == 2
    assert "cannot be written" in one_line(done)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_judge_refuses_a_recipe_made_with_another_package(
    linegate: RunLinegate, recipe_folder: Path, package: Package, shot: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copytree(package.folder, tmp_path / "other"))
    decoder = msgspec.structs.replace(package.info.decoder, parameters={"another": 1.0})
    info = msgspec.structs.replace(package.info, decoder=decoder)
    info = msgspec.structs.replace(info, package_hash=identity(info))
    (other / PACKAGE_FILE).write_bytes(seal(info))
    done = linegate("judge", recipe_folder, shot, "--model", other)
    assert done.returncode == 2
    line = one_line(done)
    assert package.info.package_hash[:12] in line and info.package_hash[:12] in line


@pytest.mark.parametrize("name", ["encoder.onnx", "bank.safetensors"])
def test_judge_and_run_refuse_one_flipped_bit(
    linegate: RunLinegate,
    recipe_folder: Path,
    package_folder: Path,
    shot: Path,
    tmp_path: Path,
    station_file: WriteStation,
    name: str,
) -> None:
    folders = {"package": package_folder, "recipe": recipe_folder}
    copies = {key: Path(shutil.copytree(folder, tmp_path / key)) for key, folder in folders.items()}
    damaged = next(path for folder in copies.values() for path in folder.iterdir() if path.name == name)
    station = station_file(
        shot.parent, model={"package": str(copies["package"])}, recipe={"path": str(copies["recipe"])}
    )
    with flipped_bit(damaged, 0.5, 3):
        for done in (linegate("judge", copies["recipe"], shot, "--model", copies["package"]), linegate("run", station)):
            assert done.returncode == 2 and done.stdout == ""
            assert name in one_line(done)


def test_judge_into_a_closed_pipe_ends_without_a_traceback(judge_words: Words, shots_folder: Path) -> None:
    with subprocess.Popen(
        command(*judge_words, shots_folder),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as judge:
        assert judge.stdout is not None and judge.stderr is not None
        assert judge.stdout.readline().startswith("{")
        judge.stdout.close()
        assert judge.stderr.read() == ""
        assert judge.wait(60) == 1


def test_doctor_says_what_runs_and_what_is_missing(linegate: RunLinegate) -> None:
    done = linegate("doctor")
    assert done.returncode == 0 and done.stderr == ""
    for word in ("onnxruntime cpu", "numpy", "pyzmq", "replay of pictures", "tensorrt", SOFTWARE_VERSION):
        assert word in done.stdout


def test_doctor_json_can_be_read(linegate: RunLinegate) -> None:
    done = linegate("doctor", "--json")
    findings = json.loads(done.stdout)
    assert done.returncode == 0 and {"machine", "library", "executor", "camera", "exporter"} <= {
        finding["group"] for finding in findings
    }
    for finding in findings:
        assert set(finding) == {"group", "name", "works", "detail"} and isinstance(finding["works"], bool)

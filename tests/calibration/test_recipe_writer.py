"""Revisions are added and never changed; what fails or is interrupted leaves nothing."""

from __future__ import annotations

import errno
import fcntl
import itertools
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import pytest

from calibration import drafting, recipe_writer
from calibration.product import Options, prepare_product
from calibration.recipe_writer import Draft, write_revision
from calibration.shots import read_shots
from edge.engines.base import Engine
from edge.engines.package import Package
from edge.errors import OutputError
from edge.recipe import RecipeInfo, find_recipe, load_recipe, revisions
from tests.calibration.making import Calibrate, contents, silent
from tests.conftest import PATIENCE_S, StartLinegate, environment

BLOCKED_CALIBRATION = """
import importlib, sys, time
import linegate

def block(*arguments, **options):
    print("blocked", flush=True)
    time.sleep({patience})

setattr(importlib.import_module({module!r}), {name!r}, block)
sys.exit(linegate.main(sys.argv[1:]))
"""


@pytest.fixture
def draft(shots: Path, engine: Engine) -> Draft:
    product = prepare_product(read_shots(shots, None, False), engine, Options(sensitivity=False), silent)
    return drafting.draft_product("part", product, engine.package.info, None)


def test_revisions_count_up_and_earlier_ones_stay_as_they_are(
    write_recipe: Calibrate, shots: Path, recipes: Path, package: Package
) -> None:
    first = write_recipe(shots)
    assert first == recipes / "part" / "0001"
    before = contents(first)
    next(shots.iterdir()).unlink()
    second = write_recipe(shots)
    assert second == recipes / "part" / "0002"
    assert contents(first) == before
    assert find_recipe(recipes / "part") == second
    one, two = load_recipe(first, package.info).info, load_recipe(second, package.info).info
    assert (one.revision, two.revision) == (1, 2)
    assert (len(one.shots), len(two.shots)) == (3, 2)


def test_revisions_count_on_from_the_newest_though_earlier_ones_are_gone(
    write_recipe: Calibrate, shots: Path, recipes: Path
) -> None:
    for _ in range(2):
        write_recipe(shots)
    shutil.rmtree(recipes / "part" / "0001")
    (recipes / "part" / "0002").rename(recipes / "part" / "0011")
    assert write_recipe(shots).name == "0012"


def test_products_are_counted_each_for_itself(write_recipe: Calibrate, shots: Path) -> None:
    assert write_recipe(shots, "left").name == "0001"
    assert write_recipe(shots, "right").name == "0001"


def test_a_revision_holds_what_it_should_and_no_more(write_recipe: Calibrate, shots: Path, recipes: Path) -> None:
    folder = write_recipe(shots)
    thumbnails = [f"thumbnails/{i:04d}.jpg" for i in (1, 2, 3)]
    files = ["bank.safetensors", "normals.safetensors", "recipe.json", "report.html", "report.json"]
    assert sorted(contents(folder)) == [*files, "thumbnails", *thumbnails]
    assert folder.stat().st_mode & 0o777 == 0o755
    visible = [name for name in contents(recipes) if not Path(name).name.startswith(".")]
    assert {name for name in visible if name.count("/") < 2} == {"part", "part/0001"}


def test_drafts_of_killed_calibrations_go_with_the_next_one(
    write_recipe: Calibrate, shots: Path, recipes: Path
) -> None:
    draft = recipes / "part" / ".draft-killed"
    draft.mkdir(parents=True)
    (draft / "bank.safetensors").write_bytes(b"half")
    assert write_recipe(shots).name == "0001"
    assert not draft.exists()
    assert not list((recipes / "part").glob(".draft-*"))


@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_leaves_nothing(
    earlier: bool, write_recipe: Calibrate, shots: Path, recipes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if earlier:
        write_recipe(shots)
    recipes.mkdir(exist_ok=True)
    before = contents(recipes)

    def full(*_arguments: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(drafting, "report_of_product", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_recipe(shots)
    assert contents(recipes) == before


def test_a_fault_of_ours_leaves_nothing(
    write_recipe: Calibrate, shots: Path, recipes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_arguments: object) -> str:
        raise ZeroDivisionError

    monkeypatch.setattr(drafting, "report_of_product", break_down)
    with pytest.raises(ZeroDivisionError):
        write_recipe(shots)
    assert contents(recipes) == {}


def test_two_calibrations_of_a_product_at_once_give_two_revisions(
    start_linegate: StartLinegate, shots: Path, recipes: Path, package_folder: Path, package: Package
) -> None:
    words = ("calibrate", "part", "--model", package_folder, "--shots", shots, "--recipes", recipes, "--no-sensitivity")
    both = [start_linegate(*words), start_linegate(*words)]
    said = [process.communicate(timeout=PATIENCE_S) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for number in (1, 2):
        assert load_recipe(recipes / "part" / f"{number:04d}", package.info).info.revision == number
    assert sum("revision 1:" in out for out, _ in said) == 1
    assert sum("revision 2:" in out for out, _ in said) == 1


@pytest.mark.parametrize("first_fails", [False, True])
def test_a_calibration_that_waits_for_another_gets_its_revision_however_that_one_ends(
    first_fails: bool,
    draft: Draft,
    recipes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = itertools.count(1)
    writing, go_on, second_waits = threading.Event(), threading.Event(), threading.Event()
    lock = fcntl.flock

    def report(_info: RecipeInfo) -> tuple[str, bytes]:
        if next(calls) == 1:
            writing.set()
            assert go_on.wait(PATIENCE_S)
            if first_fails:
                raise OSError(errno.ENOSPC, "No space left on device")
        return "a report", b"the same as data"

    def flock(file: IO[str] | int, operation: int) -> None:
        second_is_here = writing.is_set()
        if second_is_here:
            second_waits.set()
        lock(file, operation)
        if second_is_here:
            # Let the first one end first, unless it needs the lock to do so.
            first.join(1.0)

    monkeypatch.setattr(fcntl, "flock", flock)
    ended: dict[str, str] = {}

    def write(name: str) -> None:
        try:
            made = write_revision(recipes, Draft(draft.info, draft.files, report))
            ended[name] = made[0].name
        except OutputError as error:
            ended[name] = error.what

    first, second = (threading.Thread(target=write, args=(name,), daemon=True) for name in ("first", "second"))
    first.start()
    assert writing.wait(PATIENCE_S)
    second.start()
    assert second_waits.wait(PATIENCE_S)
    go_on.set()
    for thread in (first, second):
        thread.join(PATIENCE_S)
    if first_fails:
        assert "No space left" in ended["first"]
        assert ended["second"] == "0001"
    else:
        assert (ended["first"], ended["second"]) == ("0001", "0002")


def test_the_end_of_a_failed_calibration_does_not_disturb_those_after_it(
    draft: Draft,
    recipes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first fails and tidies up late, the second is writing by then, and the third comes."""
    second_writes, go_on = threading.Event(), threading.Event()
    first_failed = threading.Event()

    def report(_info: RecipeInfo) -> tuple[str, bytes]:
        name = threading.current_thread().name
        if name == "first":
            first_failed.set()
            raise OSError(errno.ENOSPC, "No space left on device")
        if name == "second":
            second_writes.set()
            assert go_on.wait(PATIENCE_S)
        return "a report", b"the same as data"

    def look(folder: Path) -> list[Path]:
        if threading.current_thread().name == "first" and first_failed.is_set():
            # Unless it still holds the lock, the second one is at work before the first has tidied up.
            second_writes.wait(1.0)
        return revisions(folder)

    monkeypatch.setattr(recipe_writer, "revisions", look)
    ended: dict[str, str] = {}

    def write() -> None:
        try:
            made = recipe_writer.write_revision(recipes, Draft(draft.info, draft.files, report))
            ended[threading.current_thread().name] = made[0].name
        except OutputError as error:
            ended[threading.current_thread().name] = error.what

    first, second, third = (threading.Thread(target=write, name=n, daemon=True) for n in ("first", "second", "third"))
    first.start()
    assert first_failed.wait(PATIENCE_S)
    second.start()
    assert second_writes.wait(PATIENCE_S)
    first.join(PATIENCE_S)
    third.start()
    # It must wait for the second one: nothing that it does meanwhile may touch the other's draft.
    third.join(0.5)
    go_on.set()
    for thread in (second, third):
        thread.join(PATIENCE_S)
    assert "No space left" in ended["first"]
    assert (ended["second"], ended["third"]) == ("0001", "0002")
    assert [path.name for path in (recipes / "part").glob(".draft-*")] == []


@pytest.mark.parametrize(
    ("module", "name"),
    [
        pytest.param("calibration.calibrate", "preprocess", id="encoding"),
        pytest.param("calibration.calibrate", "fit_bank", id="scoring"),
        pytest.param("calibration.drafting", "report_of_product", id="writing"),
    ],
)
@pytest.mark.parametrize("earlier", [False, True])
def test_control_c_ends_with_one_line_and_leaves_nothing(
    module: str,
    name: str,
    earlier: bool,
    write_recipe: Calibrate,
    shots: Path,
    recipes: Path,
    package_folder: Path,
) -> None:
    if earlier:
        write_recipe(shots)
    before = contents(recipes)
    script = BLOCKED_CALIBRATION.format(module=module, name=name, patience=PATIENCE_S)
    words = ("calibrate", "part", "--model", package_folder, "--shots", shots, "--recipes", recipes, "--no-sensitivity")
    process = subprocess.Popen(
        [sys.executable, "-c", script, *(str(word) for word in words)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "blocked\n"
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
        finally:
            process.kill()
    assert process.returncode == 2, err
    assert out == ""
    assert "Traceback" not in err
    said = [line for line in err.splitlines() if line.startswith("linegate: ")]
    assert len(said) == 1, err
    assert "interrupted" in said[0]
    assert contents(recipes) == before

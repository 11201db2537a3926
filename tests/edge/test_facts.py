"""A fact outlives the process and the power, whole or not at all; where it cannot be kept nothing has changed."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import JournalError
from edge.journal import facts as facts_module
from edge.journal.facts import FILE_NAME, Facts
from edge.sealed import seal
from tests.conftest import PATIENCE_S
from tests.edge.journals import on_a_small_disk, python

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


def no_space(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_facts_are_kept_over_restarts(tmp_path: Path) -> None:
    facts = Facts(tmp_path)
    assert facts.get("active") is None
    assert facts.set("active", "a")
    assert facts.set("newest", "n")
    assert facts.set("active", "b")
    for _ in range(2):
        again = Facts(tmp_path)
        assert (again.get("active"), again.get("newest"), again.get("other")) == ("b", "n", None)


def test_a_start_that_remembers_nothing_leaves_no_file(tmp_path: Path) -> None:
    Facts(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_known_already_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = Facts(tmp_path)
    assert facts.set("active", "a")
    monkeypatch.setattr(Path, "write_bytes", no_space)
    assert facts.set("active", "a")
    assert not facts.set("active", "b")


@settings(max_examples=50)
@given(given_facts=st.lists(st.tuples(TEXTS, TEXTS), max_size=8))
def test_any_text_comes_back_as_it_was(given_facts: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        facts = Facts(Path(folder))
        for key, value in given_facts:
            assert facts.set(key, value)
        again = Facts(Path(folder))
        for key, value in dict(given_facts).items():
            assert again.get(key) == facts.get(key) == value


@pytest.mark.parametrize("broken", ["write_bytes", "replace"])
def test_what_the_disk_does_not_take_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    facts = Facts(tmp_path)
    assert facts.set("active", "a")
    before = (tmp_path / FILE_NAME).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Path, broken, no_space)
        assert not facts.set("active", "b")
        assert not facts.set("other", "c")
    for known in (facts, Facts(tmp_path)):
        assert (known.get("active"), known.get("other")) == ("a", None)
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
    assert facts.set("active", "b")
    assert Facts(tmp_path).get("active") == "b"


def test_a_fact_that_is_not_surely_on_the_disk_is_not_called_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = Facts(tmp_path)
    assert facts.set("active", "a")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", no_space)
        assert not facts.set("active", "b")
    assert facts.get("active") == "a"


def test_the_file_and_its_name_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(os, "fsync", note)
    assert Facts(tmp_path).set("active", "a")
    assert str(tmp_path) in synced
    assert any(Path(path).parent == tmp_path and FILE_NAME in path for path in synced)


FULL = """
import sys
from pathlib import Path
from edge.journal.facts import Facts
folder = Path(sys.argv[1])
facts = Facts(folder)
print(facts.set("active", "a"))
with (folder / "ballast").open("wb", buffering=0) as file:
    try:
        while file.write(bytes(4096)) == 4096:
            pass
    except OSError:
        pass
print(facts.set("active", "b" * 10_000), facts.get("active"), Facts(folder).get("active"))
(folder / "ballast").unlink()
print(facts.set("active", "c"), Facts(folder).get("active"), len(list(folder.iterdir())))
"""


def test_on_a_disk_that_is_really_full_nothing_changes(tmp_path: Path) -> None:
    assert on_a_small_disk(FULL, 1, tmp_path).splitlines() == ["True", "False a a", "True c 1"]


CHANGES = """
import itertools, sys
from pathlib import Path
from edge.journal.facts import Facts
facts = Facts(Path(sys.argv[1]))
for n in itertools.count(1):
    assert facts.set("count", str(n)) and facts.set("twin", str(n) * 500)
    print(n, flush=True)
"""


@pytest.mark.parametrize("changes", [1, 20, 90])
def test_facts_survive_kill_9_whole(tmp_path: Path, changes: int) -> None:
    child = python(CHANGES, tmp_path)
    assert child.stdout is not None
    told = [child.stdout.readline() for _ in range(changes)]
    child.kill()
    told += child.communicate(timeout=PATIENCE_S)[0].splitlines(keepends=True)
    last = max(int(line) for line in told if line.endswith("\n"))
    facts = Facts(tmp_path)
    count, twin = facts.get("count"), facts.get("twin")
    assert count in (str(last), str(last + 1))
    assert twin in (str(last) * 500, str(last + 1) * 500)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a station that knows two facts."""
    folder = tmp_path_factory.mktemp("facts")
    facts = Facts(folder)
    assert facts.set("active", "a") and facts.set("newest", "n")
    return (folder / FILE_NAME).read_bytes()


def assert_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / FILE_NAME
        file.write_bytes(data)
        with pytest.raises(JournalError) as caught:
            Facts(Path(folder))
        assert str(file) in caught.value.what and "delete it" in caught.value.remedy
        assert "\n" not in str(caught.value)
        assert file.read_bytes() == data


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff", b'{"schema_version":1,"facts":{}}'])
def test_a_damaged_file_is_told(data: bytes) -> None:
    assert_refused(data)


def test_a_newer_file_is_told(tmp_path: Path) -> None:
    newer = facts_module._Facts(facts_module.SCHEMA_VERSION + 1, {})
    (tmp_path / FILE_NAME).write_bytes(seal(newer))
    with pytest.raises(JournalError, match=f"schema version {facts_module.SCHEMA_VERSION + 1}"):
        Facts(tmp_path)


def test_a_folder_in_its_place_is_told(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(JournalError, match="cannot be read"):
        Facts(tmp_path)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, exclude_max=True), mask=st.integers(1, 255))
def test_any_changed_byte_is_told(sound: bytes, place: float, mask: int) -> None:
    at = int(place * len(sound))
    assert_refused(sound[:at] + bytes([sound[at] ^ mask]) + sound[at + 1 :])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_torn_file_is_told(sound: bytes, kept: float) -> None:
    assert_refused(sound[: int(kept * len(sound))])


@settings(max_examples=100)
@given(data=st.binary(max_size=200))
def test_any_bytes_are_told(data: bytes) -> None:
    assert_refused(data)

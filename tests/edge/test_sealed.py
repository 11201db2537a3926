"""Sealed files come back as they were written, or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import OutputError, RecipeError
from edge.sealed import digest, read_checked, require_folder, seal, sha256_of, unseal, write_whole

REMEDY = "Write it again."
FINITE = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers(-(2**63), 2**63 - 1)


class Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    schema_version: int
    text: str
    numbers: tuple[float, ...]
    table: dict[str, int]
    maybe: float | None


NOTES = st.builds(
    Note,
    schema_version=st.just(1),
    text=st.text(),
    numbers=st.lists(FINITE).map(tuple),
    table=st.dictionaries(st.text(), WHOLE),
    maybe=st.none() | FINITE,
)
NOTE = Note(1, "a part", (0.5, -1.25), {"front": 3}, None)


def read(data: bytes, schema_version: int = 1) -> Note:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "note.json"
        path.write_bytes(data)
        return unseal(path, Note, schema_version, RecipeError, REMEDY)


@given(note=NOTES)
def test_round_trip(note: Note) -> None:
    assert read(seal(note)) == note


@given(note=NOTES, place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(note: Note, place: float, bit: int) -> None:
    data = bytearray(seal(note))
    data[int(place * len(data))] ^= 1 << bit
    with pytest.raises(RecipeError) as caught:
        read(bytes(data))
    assert caught.value.remedy == REMEDY


def test_every_single_bit_of_one_file_is_guarded() -> None:
    data = seal(NOTE)
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(RecipeError):
                read(bytes(flipped))


@given(note=NOTES, cut=st.integers(1, 10))
def test_a_file_cut_short_or_with_a_tail_is_refused(note: Note, cut: int) -> None:
    data = seal(note)
    for damaged in (data[:-cut], data + b" " * cut):
        with pytest.raises(RecipeError):
            read(damaged)


def test_another_schema_version_is_named() -> None:
    with pytest.raises(RecipeError, match="has schema version 1, this software reads 2"):
        read(seal(NOTE), schema_version=2)


@pytest.mark.parametrize("data", [b"", b"[]", b"3", b"null", b"{}", b'{"schema_version": 1}', b"\xff\xfe", b"{" * 50])
def test_what_is_no_sealed_file_is_refused(data: bytes) -> None:
    with pytest.raises(RecipeError, match="damaged"):
        read(data)


def test_json_nested_beyond_any_use_is_refused() -> None:
    with pytest.raises(RecipeError, match="damaged"):
        read(b"[" * 100_000 + b"]" * 100_000)


@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(RecipeError):
        read(data)


def test_a_changed_value_with_the_old_checksum_is_refused() -> None:
    data = seal(NOTE).replace(b"a part", b"b part")
    with pytest.raises(RecipeError, match="does not match its checksum"):
        read(data)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        unseal(tmp_path / "none.json", Note, 1, RecipeError, REMEDY)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_checked(tmp_path / "none.bin", "0" * 64, RecipeError, REMEDY)


def test_the_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


@given(data=st.binary(max_size=200), place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_checked_file_is_read_only_with_its_own_hash(data: bytes, place: float, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bank"
        path.write_bytes(data)
        assert read_checked(path, sha256_of(data), RecipeError, REMEDY) == data
        other = bytearray(data or b"\x00")
        other[int(place * len(other))] ^= 1 << bit
        path.write_bytes(other)
        with pytest.raises(RecipeError, match="does not match its hash"):
            read_checked(path, sha256_of(data), RecipeError, REMEDY)


def test_write_whole_makes_folders_and_replaces_without_leaving_anything(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "file"
    for data in (b"first", b"second"):
        write_whole(path, data)
        assert path.read_bytes() == data
    assert os.listdir(path.parent) == ["file"]  # noqa: PTH208 - hidden files too


def test_write_whole_below_a_file_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"kept")
    with pytest.raises(OutputError, match="cannot be written"):
        write_whole(tmp_path / "file" / "below", b"data")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"kept"]


def test_write_whole_onto_a_folder_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_whole(tmp_path / "folder", b"data")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_a_required_folder_is_made_and_left_empty(tmp_path: Path) -> None:
    require_folder(tmp_path / "new" / "deep")
    assert list((tmp_path / "new" / "deep").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        require_folder(tmp_path / "file" / "below")

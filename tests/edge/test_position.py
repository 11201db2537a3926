"""A position is remembered whenever the program dies, and never guessed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bus.position import FILE_BYTES, SLOT_BYTES, Position, PositionFile
from edge.errors import BusError

positions = st.builds(Position, st.integers(1, 2**53 - 1), st.integers(0, 2**53 - 1))


def reopened(path: Path) -> Position | None:
    file = PositionFile(path)
    file.close()
    return file.position


def written(path: Path, *written: Position) -> None:
    file = PositionFile(path)
    for position in written:
        file.write(position)
        assert file.position == position
    file.close()
    file.close()


def test_a_new_file_has_no_position(tmp_path: Path) -> None:
    path = tmp_path / "position"
    assert reopened(path) is None
    assert reopened(path) is None
    assert path.stat().st_size == FILE_BYTES
    assert [p.name for p in tmp_path.iterdir()] == ["position"]


@settings(max_examples=25, deadline=None)
@given(many=st.lists(positions, min_size=1, max_size=5))
def test_the_last_position_is_remembered(many: list[Position]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "position"
        for position in many:
            written(path, position)
            assert reopened(path) == position


@settings(deadline=None)
@given(
    many=st.lists(positions, min_size=2, max_size=5, unique=True),
    flips=st.dictionaries(st.integers(0, FILE_BYTES - 1), st.integers(1, 255), min_size=1, max_size=4),
    length=st.one_of(st.none(), st.integers(0, FILE_BYTES + 8)),
)
def test_a_damaged_file_gives_one_of_the_last_two_positions_or_an_error(
    many: list[Position], flips: dict[int, int], length: int | None
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "position"
        written(path, *many)
        damaged = bytearray(path.read_bytes())
        for place, flip in flips.items():
            damaged[place] ^= flip
        length = FILE_BYTES if length is None else length
        path.write_bytes(bytes(damaged[:length]).ljust(length, b"\0"))
        hit = {place // SLOT_BYTES for place in flips if place < length}
        hit |= {slot for slot in (0, 1) if length < (slot + 1) * SLOT_BYTES}
        if len(hit) == 2 or length > FILE_BYTES:
            with pytest.raises(BusError, match="damaged, or not a position file"):
                reopened(path)
        else:
            assert reopened(path) in many[-2:]


def test_a_slot_that_is_damaged_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "position"
    written(path, Position(1, 1), Position(1, 2))
    data = path.read_bytes()
    path.write_bytes(bytes(SLOT_BYTES) + data[SLOT_BYTES:])
    left = reopened(path)
    written(path, Position(1, 3), Position(1, 4), Position(1, 5))
    assert left in (Position(1, 1), Position(1, 2))
    assert reopened(path) == Position(1, 5)


@pytest.mark.parametrize("content", [b"", b"station_id = 'test'\n" * 10, bytes(FILE_BYTES)])
def test_another_file_is_not_taken_for_one_and_not_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "position"
    path.write_bytes(content)
    with pytest.raises(BusError, match=r"not a position file.*Delete it"):
        PositionFile(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["", "missing/position"])
def test_where_no_file_can_be_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(BusError, match="cannot be opened"):
        PositionFile(tmp_path / name)


def test_two_readers_do_not_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "position"
    first = PositionFile(path)
    with pytest.raises(BusError, match="in use"):
        PositionFile(path)
    first.write(Position(1, 1))
    first.close()
    assert reopened(path) == Position(1, 1)


WRITER = """
import sys
from pathlib import Path
from edge.bus.position import Position, PositionFile

file = PositionFile(Path(sys.argv[1]))
for seq in range(1, 10_000_000):
    file.write(Position(1, seq))
    if seq % 64 == 0:
        sys.stdout.write(f"{seq}\\n")
        sys.stdout.flush()
"""


def test_a_writer_that_is_killed_loses_nothing_that_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "position"
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            for _ in range(20):
                told = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            with contextlib.suppress(ValueError):
                while line := process.stdout.readline():
                    told = int(line)
        found = reopened(path)
        assert found is not None and told <= found.seq <= told + 64

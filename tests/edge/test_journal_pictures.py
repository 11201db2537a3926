"""Kept pictures come back pixel by pixel, stay within the quota, and accepted parts make room for rejected ones."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge.journal.pictures import PictureNotKept, PictureStore, find_picture
from edge.types import Picture
from tests.edge.journals import on_a_small_disk

PLENTY = 10**9


def noise(seed: int, rows: int = 8) -> Picture:
    """A picture that PNG cannot make smaller; `rows` makes the size."""
    return np.random.default_rng(seed).integers(0, 256, (rows, 64, 3), np.uint8)


def size_of(pixels: Picture) -> int:
    with tempfile.TemporaryDirectory() as folder:
        kept = PictureStore(Path(folder), PLENTY)
        kept.keep(1, 1, pixels, True)
        return kept.total_bytes


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder / "pictures")) for path in (folder / "pictures").rglob("*.*"))


def refuse(error_number: int) -> OSError:
    return OSError(error_number, os.strerror(error_number))


@given(pixels=arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
@settings(max_examples=30)
def test_a_picture_is_kept_pixel_by_pixel(pixels: Picture) -> None:
    with tempfile.TemporaryDirectory() as folder:
        kept = PictureStore(Path(folder), PLENTY)
        kept.keep(5, 9, pixels, True)
        path = kept.find(5, 9)
        assert path == find_picture(Path(folder), 5, 9) == Path(folder) / "pictures" / "5" / "9-reject.png"
        read = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert read is not None and np.array_equal(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), pixels)


def test_accepted_parts_go_before_rejected_ones_and_the_oldest_first(tmp_path: Path) -> None:
    kept = PictureStore(tmp_path, 4 * size_of(noise(0)) + 50)
    for seq, rejected in enumerate((True, False, True, False, False), start=1):
        kept.keep(1, seq, noise(0), rejected)
    assert names_in(tmp_path) == ["1/1-reject.png", "1/3-reject.png", "1/4-accept.png", "1/5-accept.png"]
    for seq in (6, 7, 8):
        kept.keep(2, seq, noise(0), True)
    assert names_in(tmp_path) == ["1/3-reject.png", "2/6-reject.png", "2/7-reject.png", "2/8-reject.png"]
    kept.keep(2, 9, noise(0), False)
    assert kept.find(2, 9) is None


def test_an_epoch_without_pictures_leaves_no_folder(tmp_path: Path) -> None:
    kept = PictureStore(tmp_path, size_of(noise(0)) + 50)
    for epoch in (1, 2, 3):
        kept.keep(epoch, 1, noise(0), True)
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["3"]


def test_a_picture_kept_again_replaces_the_other(tmp_path: Path) -> None:
    kept = PictureStore(tmp_path, PLENTY)
    kept.keep(1, 1, noise(0, 8), False)
    kept.keep(1, 1, noise(0, 16), True)
    assert names_in(tmp_path) == ["1/1-reject.png"] and kept.total_bytes == size_of(noise(0, 16))


def test_a_new_start_finds_what_is_there_and_removes_what_was_not_finished(tmp_path: Path) -> None:
    kept = PictureStore(tmp_path, PLENTY)
    for seq in (1, 2, 3):
        kept.keep(1, seq, noise(seq), seq == 2)
    (tmp_path / "pictures" / "1" / "4-reject.png.part").write_bytes(b"half")
    (tmp_path / "pictures" / "1" / "note.txt").write_bytes(b"the user's own")
    (tmp_path / "pictures" / "notes").mkdir()
    again = PictureStore(tmp_path, kept.total_bytes - 1)
    assert names_in(tmp_path) == ["1/2-reject.png", "1/3-accept.png", "1/note.txt"]
    again.keep(1, 5, noise(0), True)
    assert again.find(1, 3) is None


def test_a_hundred_thousand_pictures_are_found_soon(tmp_path: Path) -> None:
    for epoch in range(1, 21):
        folder = tmp_path / "pictures" / str(epoch)
        folder.mkdir(parents=True)
        (folder / "0-accept.png").write_bytes(b"x")
        for seq in range(1, 5_000):
            os.link(folder / "0-accept.png", folder / f"{seq}-accept.png")
    assert PictureStore(tmp_path, PLENTY).total_bytes == 100_000


def test_a_quota_of_nothing_keeps_nothing(tmp_path: Path) -> None:
    PictureStore(tmp_path, 0).keep(1, 1, noise(0), True)
    assert names_in(tmp_path) == []


def test_a_picture_beyond_the_quota_is_refused_and_displaces_none(tmp_path: Path) -> None:
    kept = PictureStore(tmp_path, size_of(noise(0)) + 50)
    kept.keep(1, 1, noise(0), False)
    with pytest.raises(PictureNotKept, match="larger"):
        kept.keep(1, 2, noise(0, 32), True)
    assert names_in(tmp_path) == ["1/1-accept.png"]


def test_space_can_be_taken_from_accepted_parts(tmp_path: Path) -> None:
    kept = PictureStore(tmp_path, PLENTY)
    for seq in (1, 2, 3):
        kept.keep(1, seq, noise(0), seq == 3)
    size = size_of(noise(0))
    assert kept.free_accepts(size - 1) == size
    assert names_in(tmp_path) == ["1/2-accept.png", "1/3-reject.png"]
    assert kept.free_accepts(PLENTY) == size and kept.free_accepts(PLENTY) == 0


def test_pictures_that_cannot_be_removed_stop_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the quota would be passed without end."""
    kept = PictureStore(tmp_path, size_of(noise(0)) + 50)

    def unlink(path: Path, missing_ok: bool = False) -> None:
        raise refuse(errno.EROFS)

    with monkeypatch.context() as stuck:
        stuck.setattr(Path, "unlink", unlink)
        kept.keep(1, 1, noise(0), True)
        kept.keep(1, 2, noise(0), True)
        with pytest.raises(PictureNotKept, match="cannot be removed"):
            kept.keep(1, 3, noise(0), True)
    again = PictureStore(tmp_path, size_of(noise(0)) + 50)
    again.keep(1, 4, noise(0), True)
    assert names_in(tmp_path) == ["1/4-reject.png"]


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PictureNotKept, match="cannot be used"):
        PictureStore(tmp_path / "file", PLENTY)
    kept = PictureStore(tmp_path, PLENTY)
    (tmp_path / "pictures" / "1").touch()
    with pytest.raises(PictureNotKept, match="cannot be written"):
        kept.keep(1, 1, noise(0), True)


FILLS_THE_DISK = """
import sys
from pathlib import Path
import numpy as np
from edge.journal.pictures import PictureNotKept, PictureStore

folder = Path(sys.argv[1])
kept = PictureStore(folder, 1 << 40)
picture = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
for seq in range(1, 101):
    try:
        kept.keep(1, seq, picture, seq % 2 == 0)
    except PictureNotKept as error:
        print(error)
        break
names = [path.name for path in (folder / "pictures").rglob("*.*")]
print(sum("accept" in name for name in names), sum("part" in name for name in names), len(names), seq)
print(sum(path.stat().st_size for path in (folder / "pictures").rglob("*.png")) == kept.total_bytes)
"""


def test_on_a_full_disk_rejected_parts_displace_accepted_ones_and_then_it_is_told(tmp_path: Path) -> None:
    said, counts, agrees = on_a_small_disk(FILLS_THE_DISK, 2, tmp_path).splitlines()
    assert "No space left" in said and agrees == "True"
    accepts, unfinished, names, seq = map(int, counts.split())
    assert accepts == unfinished == 0
    # The disk holds about as many rejects as it would have held pictures at all.
    assert names == (seq - 1) // 2 > 10


class Pictures(RuleBasedStateMachine):
    """The folder beside a dictionary of sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.quota = 5 * SIZES[8]
        self.kept = PictureStore(self.folder, self.quota)
        self.sizes: dict[tuple[int, int, bool], int] = {}

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(
        epoch=st.integers(1, 3), seq=st.integers(1, 8), rows=st.sampled_from([1, 4, 8, 16, 48]), rejected=st.booleans()
    )
    def keep(self, epoch: int, seq: int, rows: int, rejected: bool) -> None:
        try:
            self.kept.keep(epoch, seq, noise(0, rows), rejected)
        except PictureNotKept:
            assert SIZES[rows] > self.quota
            return
        self.sizes.pop((epoch, seq, not rejected), None)
        self.sizes[epoch, seq, rejected] = SIZES[rows]
        self.prune()

    @rule(wanted=st.integers(0, 30_000))
    def free(self, wanted: int) -> None:
        freed = 0
        for name in sorted(name for name in self.sizes if not name[2]):
            if freed < wanted:
                freed += self.sizes.pop(name)
        assert self.kept.free_accepts(wanted) == freed

    @rule(pictures=st.integers(1, 8))
    def reopen(self, pictures: int) -> None:
        self.quota = pictures * SIZES[8]
        self.kept = PictureStore(self.folder, self.quota)
        self.prune()

    def prune(self) -> None:
        for name in sorted(self.sizes, key=lambda name: (name[2], name)):
            if sum(self.sizes.values()) > self.quota:
                del self.sizes[name]

    @invariant()
    def folder_and_model_agree(self) -> None:
        expected = {f"{e}/{s}-{'reject' if bad else 'accept'}.png": size for (e, s, bad), size in self.sizes.items()}
        there = {name: (self.folder / "pictures" / name).stat().st_size for name in names_in(self.folder)}
        assert there == expected
        assert self.kept.total_bytes == sum(expected.values()) <= self.quota
        assert all((self.kept.find(e, s) is not None) for e, s, _ in self.sizes)


SIZES = {rows: size_of(noise(0, rows)) for rows in (1, 4, 8, 16, 48)}
TestPictures = Pictures.TestCase
TestPictures.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)

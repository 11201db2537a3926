"""Kept pictures: lossless PNG files, one a part, within a quota. Accepted parts make room for rejected ones."""

from __future__ import annotations

import contextlib
import errno
import heapq
import os
import re
import threading
from pathlib import Path

import cv2

from edge.errors import JournalError
from edge.types import Picture

FOLDER_NAME = "pictures"
PNG_EFFORT = 1
UNFINISHED = ".part"
REMEDY = "Free some space, or set journal.pictures_mb to what the disk can hold."
_NUMBER = "(0|[1-9][0-9]{0,15})"
_EPOCH = re.compile(_NUMBER)
_PICTURE = re.compile(f"{_NUMBER}-(accept|reject)\\.png")

Name = tuple[int, int, bool]
"""(epoch, seq, rejected): what a picture is called."""


class PictureNotKept(JournalError):  # noqa: N818 - what is the case, as the other errors
    """A picture that should have been kept was not."""


def find_picture(folder: Path, epoch: int, seq: int) -> Path | None:
    """The kept picture of a verdict in a journal's folder, None if there is none."""
    paths = (_path(folder / FOLDER_NAME, (epoch, seq, rejected)) for rejected in (True, False))
    return next((path for path in paths if path.is_file()), None)


class PictureStore:
    """The pictures of one journal. Safe to use from several threads.

    Beyond the quota the oldest accepted parts go first, then the oldest rejected ones. A quota of 0 keeps none.
    """

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        """Find what is there.

        Args:
            folder: the journal's; the pictures lie in `pictures/EPOCH/SEQ-accept.png` and `SEQ-reject.png` below it.
            quota_bytes: the sum of the files' sizes stays within.

        Raises:
            PictureNotKept: the folder cannot be made or read.
        """
        self._journal = folder
        self._folder = folder / FOLDER_NAME
        self._quota_bytes = quota_bytes
        self._sizes: dict[Name, int] = {}
        self._oldest: dict[bool, list[Name]] = {False: [], True: []}
        self._total_bytes = 0
        self._lock = threading.Lock()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._scan()
        except OSError as error:
            raise PictureNotKept(f"{self._folder} cannot be used ({error.strerror})", REMEDY) from error
        self._prune()

    @property
    def total_bytes(self) -> int:
        """The sum of the files' sizes."""
        return self._total_bytes

    def keep(self, epoch: int, seq: int, pixels: Picture, rejected: bool) -> None:
        """Write a picture `uint8 [H, W, 3]`, RGB, then make room for it; one that is there already is replaced.

        Raises:
            PictureNotKept: it is larger than the quota, the disk is full, or it cannot be written.
        """
        if self._quota_bytes <= 0:
            return
        name = (epoch, seq, rejected)
        try:
            data = _png(pixels)
        except cv2.error as error:
            raise PictureNotKept(f"picture {seq} cannot be written as PNG ({error.err})", REMEDY) from error
        if len(data) > self._quota_bytes:
            raise PictureNotKept(f"picture {seq} is larger ({len(data)} bytes) than all that may be kept", REMEDY)
        with self._lock:
            if self._total_bytes > self._quota_bytes:
                raise PictureNotKept(f"{self._folder} is full and its old pictures cannot be removed", REMEDY)
            self._write(name, data)
            self._add(name, len(data))
            self._remove((epoch, seq, not rejected))
            self._prune()

    def find(self, epoch: int, seq: int) -> Path | None:
        """The kept picture of a verdict, None if there is none."""
        return find_picture(self._journal, epoch, seq)

    def free_accepts(self, wanted_bytes: int) -> int:
        """Remove the oldest accepted parts until so many bytes are free, and tell how many are."""
        with self._lock:
            return self._free(False, wanted_bytes)

    def _write(self, name: Name, data: bytes) -> None:
        try:
            try:
                self._write_whole(name, data)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._free(False, len(data)):
                    raise
                self._write_whole(name, data)
        except OSError as error:
            raise PictureNotKept(f"{_path(self._folder, name)} cannot be written ({error.strerror})", REMEDY) from error

    def _write_whole(self, name: Name, data: bytes) -> None:
        path = _path(self._folder, name)
        beside = path.with_name(path.name + UNFINISHED)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(data)
            beside.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                beside.unlink()
            with contextlib.suppress(OSError):
                path.parent.rmdir()
            raise

    def _add(self, name: Name, size_bytes: int) -> None:
        if name not in self._sizes:
            heapq.heappush(self._oldest[name[2]], name)
        self._total_bytes += size_bytes - self._sizes.get(name, 0)
        self._sizes[name] = size_bytes

    def _prune(self) -> None:
        for rejected in (False, True):
            self._free(rejected, self._total_bytes - self._quota_bytes)

    def _free(self, rejected: bool, wanted_bytes: int) -> int:
        """Remove the oldest of one kind; fewer if one cannot be removed."""
        before, queue = self._total_bytes, self._oldest[rejected]
        while queue and before - self._total_bytes < wanted_bytes:
            if queue[0] in self._sizes and not self._remove(queue[0]):
                break
            heapq.heappop(queue)
        return before - self._total_bytes

    def _remove(self, name: Name) -> bool:
        """False if it is there and cannot be removed. Its place in the queue is left to whoever comes to it."""
        if name not in self._sizes:
            return True
        path = _path(self._folder, name)
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return False
        self._total_bytes -= self._sizes.pop(name)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
        return True

    def _scan(self) -> None:
        with os.scandir(self._folder) as epochs:
            folders = [
                entry for entry in epochs if _EPOCH.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False)
            ]
        for folder in folders:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._note(int(folder.name), entry)
        for queue in self._oldest.values():
            heapq.heapify(queue)

    def _note(self, epoch: int, entry: os.DirEntry[str]) -> None:
        found = _PICTURE.fullmatch(entry.name.removesuffix(UNFINISHED))
        if found is None or not entry.is_file(follow_symlinks=False):
            return
        if entry.name.endswith(UNFINISHED):
            Path(entry.path).unlink(missing_ok=True)
            return
        name = (epoch, int(found[1]), found[2] == "reject")
        self._sizes[name] = entry.stat(follow_symlinks=False).st_size
        self._total_bytes += self._sizes[name]
        self._oldest[name[2]].append(name)


def _path(folder: Path, name: Name) -> Path:
    epoch, seq, rejected = name
    return folder / str(epoch) / f"{seq}-{'reject' if rejected else 'accept'}.png"


def _png(pixels: Picture) -> bytes:
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT])
    return data.tobytes()

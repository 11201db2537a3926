"""The newest verdicts and the open triggers, in memory that outlives the process.

A file of fixed size, mapped into memory, on a file system without a disk (tmpfs): writing to it waits for nothing, and what
was written is still there after a kill -9. It has three parts:

    header   magic, geometry, epoch, head sequence, ring offsets, a note (JSON) about the epoch
    slots    one per open trigger: written when it opens, cleared after its verdict is in the ring
    ring     verdicts that the disk has not taken yet, oldest first

A record counts only once the header's word that names it is written, and that is always the last write.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.errors import JournalError

MAGIC = int.from_bytes(b"LGTAIL", "little")
VERSION = 1
HEADER_BYTES = 8192
NOTE_START = 256
SLOT_COUNT = 4096
SLOT_BYTES = 1024
MEGABYTE = 1 << 20
LARGEST_NUMBER = 2**53 - 1
LARGEST_EPOCH = 4_102_444_800_000
"""Milliseconds to the year 2100. Beyond these no sequence and no epoch was ever published, so it is damage."""
_ALIGN = 8
_FILLER = 0xFFFF_FFFF
_WORD = 8
LONGEST_SLOT = SLOT_BYTES - _WORD
# Words of the header.
_MAGIC, _VERSION, _SLOTS, _RING, _EPOCH, _HEAD_SEQ, _HEAD, _TAIL, _ENDED, _NOTE = range(10)


@dataclass(frozen=True, slots=True)
class Held:
    """What an earlier process left: the epoch and its note, undrained records with their end offsets, open slots."""

    epoch: int
    head_seq: int
    ended: bool
    note: bytes
    records: tuple[tuple[int, bytes], ...]
    slots: tuple[tuple[int, bytes], ...]
    damaged: int


class Tail:
    """See the module. Writers of slots and the writer of the ring may be different threads; each needs its own lock."""

    def __init__(self, path: Path, ring_bytes: int) -> None:
        """Open or make the file and keep it locked.

        Raises:
            JournalError: it cannot be made, is in use, or was written by a newer version.
        """
        self.path = path
        self.set_aside: Path | None = None
        self._file = _open_locked(path)
        try:
            size = os.fstat(self._file).st_size
            if size and not self._is_ours(size):
                self.set_aside = path.with_suffix(".damaged")
                path.replace(self.set_aside)
                damaged, size = self._file, 0
                self._file = _open_locked(path)
                os.close(damaged)
            if size == 0:
                self._make(ring_bytes)
            self._map = mmap.mmap(self._file, 0)
        except BaseException:
            os.close(self._file)
            raise
        self._view = memoryview(self._map)
        self._words = self._view[:NOTE_START].cast("Q")
        self.ring_bytes = int(self._words[_RING])
        self._ring_start = HEADER_BYTES + int(self._words[_SLOTS]) * SLOT_BYTES
        self._free = [n for n in range(int(self._words[_SLOTS])) if not self._slot_word(n)]

    def _is_ours(self, size: int) -> bool:
        """Whether the file is whole and of this version; raises if it is of a newer one."""
        head = os.pread(self._file, NOTE_START, 0)
        words = memoryview(head).cast("Q") if len(head) == NOTE_START else None
        if words is None or words[_MAGIC] != MAGIC:
            return False
        if words[_VERSION] > VERSION:
            raise JournalError(
                f"{self.path} was written by a newer version ({words[_VERSION]}, this software reads {VERSION})",
                "Start the newer software once so that it can finish its work, or delete the file.",
            )
        ring, head_at, tail_at = words[_RING], words[_HEAD], words[_TAIL]
        whole = size == HEADER_BYTES + words[_SLOTS] * SLOT_BYTES + ring and ring > 0 and ring % _ALIGN == 0
        whole = whole and words[_EPOCH] <= LARGEST_EPOCH and words[_HEAD_SEQ] <= LARGEST_NUMBER
        return whole and tail_at <= head_at <= tail_at + ring and head_at % _ALIGN == tail_at % _ALIGN == 0

    def _make(self, ring_bytes: int) -> None:
        size = HEADER_BYTES + SLOT_COUNT * SLOT_BYTES + ring_bytes
        try:
            # Taken now, because writing to a page that the system cannot give kills the process.
            os.posix_fallocate(self._file, 0, size)
        except OSError as error:
            self.path.unlink(missing_ok=True)
            raise JournalError(
                f"{self.path} cannot be made {size // MEGABYTE} MB long ({error.strerror})",
                "Free some memory there, set a smaller journal.tail_mb, or another journal.tail_folder.",
            ) from error
        header = memoryview(bytearray(NOTE_START)).cast("Q")
        header[_VERSION], header[_SLOTS], header[_RING] = VERSION, SLOT_COUNT, ring_bytes
        header[_ENDED] = 1
        os.pwrite(self._file, header.cast("B"), 0)
        os.pwrite(self._file, MAGIC.to_bytes(_WORD, "little"), 0)

    # The epoch.

    def begin(self, epoch: int) -> None:
        """From now on records and slots belong to this epoch, whose sequence starts anew."""
        self._words[_HEAD_SEQ] = 0
        self._words[_EPOCH] = epoch
        self._words[_ENDED] = 0

    def note(self, data: bytes) -> None:
        """Keep a note about the epoch; too long a note is left out."""
        self._words[_NOTE] = 0
        if len(data) <= HEADER_BYTES - NOTE_START:
            self._view[NOTE_START : NOTE_START + len(data)] = data
            self._words[_NOTE] = len(data) << 32 | zlib.crc32(data)

    def end(self) -> None:
        """Every trigger of the epoch has its verdict and no more will come."""
        self._words[_ENDED] = 1

    # Slots.

    def take_slot(self, data: bytes) -> int | None:
        """Keep what is known of an open trigger; None if all slots are taken.

        Raises:
            ValueError: longer than a slot.
        """
        if len(data) > LONGEST_SLOT:
            raise ValueError(f"{len(data)} bytes for a slot")
        if not self._free:
            return None
        number = self._free.pop()
        start = HEADER_BYTES + number * SLOT_BYTES
        self._view[start + _WORD : start + _WORD + len(data)] = data
        self._set_slot_word(number, len(data) << 32 | zlib.crc32(data))
        return number

    def clear_slot(self, number: int) -> None:
        """The trigger has its verdict."""
        self._set_slot_word(number, 0)
        self._free.append(number)

    def _slot_word(self, number: int) -> int:
        start = HEADER_BYTES + number * SLOT_BYTES
        return int.from_bytes(self._view[start : start + _WORD], "little")

    def _set_slot_word(self, number: int, word: int) -> None:
        start = HEADER_BYTES + number * SLOT_BYTES
        self._view[start : start + _WORD] = word.to_bytes(_WORD, "little")

    # The ring.

    def fits(self, length: int) -> bool:
        """Whether a record of this length fits without overwriting one."""
        return self._end_of(length) - int(self._words[_TAIL]) <= self.ring_bytes

    def append(self, data: bytes, seq: int) -> int:
        """Add a record and make `seq` the head; returns its end offset, for `free`.

        Raises:
            ValueError: it does not fit.
        """
        if not self.fits(len(data)):
            raise ValueError("the ring is full")
        head = int(self._words[_HEAD])
        start = self._start_of(len(data))
        if start != head and head % self.ring_bytes:
            self._write_word(head, _FILLER << 32)
        at = self._ring_start + start % self.ring_bytes + _WORD
        self._view[at : at + len(data)] = data
        self._write_word(start, len(data) << 32 | zlib.crc32(data))
        end = start + _padded(len(data))
        self._words[_HEAD] = end
        self._words[_HEAD_SEQ] = seq
        return end

    def free(self, end: int) -> None:
        """The disk has all records up to this end offset."""
        self._words[_TAIL] = max(end, int(self._words[_TAIL]))

    def free_all(self) -> None:
        """Nothing that is in the ring is wanted any more."""
        self._words[_TAIL] = self._words[_HEAD]

    def _start_of(self, length: int) -> int:
        """Where the next record goes: a record is never split at the ring's end."""
        head = int(self._words[_HEAD])
        left = self.ring_bytes - head % self.ring_bytes
        return head if _padded(length) <= left else head + left

    def _end_of(self, length: int) -> int:
        return self._start_of(length) + _padded(length)

    def _write_word(self, offset: int, word: int) -> None:
        at = self._ring_start + offset % self.ring_bytes
        self._view[at : at + _WORD] = word.to_bytes(_WORD, "little")

    # What an earlier process left.

    def held(self) -> Held:
        """Read everything that counts; what does not match its checksum is left out and counted as damaged."""
        records, damaged = [], 0
        for end, data in self._records():
            damaged += data is None
            if data is not None:
                records.append((end, data))
        slots = []
        for number in range(int(self._words[_SLOTS])):
            word = self._slot_word(number)
            start = HEADER_BYTES + number * SLOT_BYTES + _WORD
            data = _checked(self._view[start : start + SLOT_BYTES - _WORD], word) if word else None
            if data is not None:
                slots.append((number, data))
            elif word:
                damaged += 1
                self.clear_slot(number)
        words = self._words
        note = _checked(self._view[NOTE_START:HEADER_BYTES], int(words[_NOTE])) if words[_NOTE] else None
        return Held(
            int(words[_EPOCH]),
            int(words[_HEAD_SEQ]),
            bool(words[_ENDED]),
            note or b"",
            tuple(records),
            tuple(slots),
            damaged,
        )

    def _records(self) -> Iterator[tuple[int, bytes | None]]:
        at, head = int(self._words[_TAIL]), int(self._words[_HEAD])
        while at < head:
            place = at % self.ring_bytes
            left = min(self.ring_bytes - place, head - at)
            start = self._ring_start + place
            word = int.from_bytes(self._view[start : start + _WORD], "little")
            length = word >> 32
            if length == _FILLER:
                at += self.ring_bytes - place
                continue
            if _padded(length) > left:
                yield head, None
                return
            at += _padded(length)
            yield at, _checked(self._view[start + _WORD : start + _WORD + length], word)

    def close(self) -> None:
        """Unmap and unlock; the file stays."""
        self._words.release()
        self._view.release()
        self._map.close()
        os.close(self._file)


def tail_path(tail_folder: Path, journal_folder: Path) -> Path:
    """The tail that belongs to a journal: named after the user and the journal's place."""
    name = zlib.crc32(str(journal_folder.resolve()).encode())
    return tail_folder / f"linegate-{os.getuid()}-{name:08x}.tail"


def _padded(length: int) -> int:
    return (length + _WORD + _ALIGN - 1) // _ALIGN * _ALIGN


def _checked(data: memoryview, word: int) -> bytes | None:
    """The record that a word of length and checksum names; None if it is not there."""
    length = word >> 32
    found = bytes(data[:length])
    return found if len(found) == length and zlib.crc32(found) == word & 0xFFFF_FFFF else None


def _open_locked(path: Path) -> int:
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(
            f"{path} cannot be opened ({error.strerror})", "Name a folder in memory (tmpfs) as journal.tail_folder."
        ) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(file).st_uid != os.getuid():
            raise JournalError(f"{path} belongs to another user", "Delete it, or name another journal.tail_folder.")
    except BlockingIOError as error:
        os.close(file)
        raise JournalError(
            f"{path} is in use", "Another station runs with this journal.folder: give each station its own."
        ) from error
    except BaseException:
        os.close(file)
        raise
    return file

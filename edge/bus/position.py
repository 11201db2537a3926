"""Where a reader of verdicts stands, and a file that remembers it across restarts."""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from edge.errors import BusError

_MAGIC = b"LGPOSIT1"
_FIELDS = struct.Struct("<8sQQQ")
_SUM = struct.Struct("<I")
SLOT_BYTES = 64
FILE_BYTES = 2 * SLOT_BYTES


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Everything up to and with verdict `seq` of `epoch` has been read."""

    epoch: int
    seq: int


_NOTHING = Position(0, 0)


class PositionFile:
    """Remembers a position; for one reader at a time.

    Two slots are written in turn, each with a counter and a checksum: whenever the program is killed, the last position or
    the one before can be read. Nothing is flushed to the disk before `close`: after a power failure an older position may
    be found, so that verdicts are read twice, or none, which is an error.
    """

    def __init__(self, path: Path) -> None:
        """Open the file; make it if there is none.

        Raises:
            BusError: damaged, not a position file, in use, or it cannot be made.
        """
        self.path = path
        try:
            if not path.exists():
                _make(path)
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise BusError(
                f"the position file {path} cannot be opened ({error.strerror})", "Choose a file that can be written."
            ) from error
        try:
            self._lock()
            self._counter, self._position = self._read()
        except BusError:
            self.close()
            raise

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Somebody who made the file at the same moment may have replaced ours.
            alone = os.fstat(self._file).st_ino == self.path.stat().st_ino
        except OSError:
            alone = False
        if not alone:
            raise BusError(f"the position file {self.path} is in use", "Give each reader a position file of its own.")

    def _read(self) -> tuple[int, Position]:
        try:
            data = os.pread(self._file, FILE_BYTES + 1, 0)
        except OSError as error:
            raise BusError(f"{self.path} cannot be read ({error.strerror})", "Name a position file.") from error
        slots = [slot for n in (0, 1) if (slot := _unpack(data[n * SLOT_BYTES : (n + 1) * SLOT_BYTES])) is not None]
        if not slots or len(data) > FILE_BYTES:
            raise BusError(
                f"{self.path} is damaged, or not a position file",
                "Delete it to start anew, and choose where to start: what came since it was written may not be read.",
            )
        return max(slots)

    @property
    def position(self) -> Position | None:
        """What was written last; None if nothing ever was."""
        return None if self._position == _NOTHING else self._position

    def write(self, position: Position) -> None:
        """Remember a position.

        Raises:
            BusError: the file cannot be written.
        """
        if position == self._position:
            return
        counter = self._counter + 1
        try:
            os.pwrite(self._file, _pack(counter, position), counter % 2 * SLOT_BYTES)
        except OSError as error:
            raise BusError(
                f"the position file {self.path} cannot be written ({error.strerror})",
                "Mend the disk, then start the reader again: it goes on after the last position that was written.",
            ) from error
        self._counter, self._position = counter, position

    def close(self) -> None:
        """Flush and close. May be called twice."""
        if self._file >= 0:
            os.fsync(self._file)
            os.close(self._file)
            self._file = -1


def _pack(counter: int, position: Position) -> bytes:
    fields = _FIELDS.pack(_MAGIC, counter, position.epoch, position.seq).ljust(SLOT_BYTES - _SUM.size, b"\0")
    return fields + _SUM.pack(zlib.crc32(fields))


def _unpack(slot: bytes) -> tuple[int, Position] | None:
    """The counter and the position in a slot; None if it is damaged."""
    if len(slot) != SLOT_BYTES or zlib.crc32(slot[: -_SUM.size]) != _SUM.unpack(slot[-_SUM.size :])[0]:
        return None
    magic, counter, epoch, seq = _FIELDS.unpack_from(slot)
    return (counter, Position(epoch, seq)) if magic == _MAGIC else None


def _make(path: Path) -> None:
    """A file with nothing in it appears whole, or not at all."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.new")
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(file, _pack(0, _NOTHING) + _pack(1, _NOTHING))
        os.fsync(file)
    finally:
        os.close(file)
    draft.replace(path)

"""Flip one bit of a file in place, and put it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def flipped_bit(path: Path, place: float, bit: int) -> Iterator[None]:
    """Within this block one bit of `path` is wrong: `place` is its position as a share of the file, in [0, 1)."""
    position = int(place * path.stat().st_size)
    _flip(path, position, bit)
    try:
        yield
    finally:
        _flip(path, position, bit)


def _flip(path: Path, position: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        value = file.read(1)[0]
        file.seek(position)
        file.write(bytes([value ^ 1 << bit]))

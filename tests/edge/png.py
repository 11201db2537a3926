"""PNG files written by hand from the specification, so that reading is not tested with the library that reads."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(name: bytes, data: bytes) -> bytes:
    """One chunk with its length and CRC."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16], colour: int, extra: bytes = b"") -> bytes:
    """A PNG of `uint8` or `uint16 [H, W]` or `[H, W, C]`, channels in the order of the specification (R, G, B, A).

    Args:
        pixels: what each channel holds.
        colour: a colour type of the specification that fits.
        extra: chunks before the image data.
    """
    height, width = pixels.shape[:2]
    big_endian = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder(">")))
    rows = b"".join(b"\x00" + row.tobytes() for row in big_endian)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.dtype.itemsize, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", header), extra, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return SIGNATURE + b"".join(parts)

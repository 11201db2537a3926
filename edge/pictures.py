"""Read picture files as 8-bit RGB, or refuse. A picture is never silently misread."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edge.errors import PictureError, UsageError
from edge.types import Picture

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
SMALLEST_SIDE_PX = 32
WHITE_16_BIT = 65_535
_TAIL_BYTES = 4096
_END_MARKERS = {".png": b"IEND", ".jpg": b"\xff\xd9", ".jpeg": b"\xff\xd9"}
_SIGNATURES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg"}


def list_pictures(folder: Path) -> list[Path]:
    """All picture files directly in `folder`, by name; hidden files are left out.

    Raises:
        UsageError: the folder does not exist or holds no picture file.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder", "Name a folder of pictures.")
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    for path in found:
        check_name(path)
    if not found:
        raise UsageError(f"{folder} holds no pictures", f"Put pictures there ({', '.join(sorted(SUFFIXES))}).")
    return found


def check_name(path: Path) -> None:
    """Refuse a name that no message and no report could carry.

    Raises:
        UsageError: the name is not UTF-8.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise UsageError(f"the file name {str(path)!a} is not UTF-8", "Rename the file.") from error


def read_picture(path: Path, bit_depth: int | None = None) -> Picture:
    """Read `path` as `uint8 [H, W, 3]` RGB.

    Grey pictures are repeated over three channels, opaque alpha is dropped. Pictures of more than 8 bits need
    `bit_depth` (the camera's, e.g. 12), because the file does not say which value is white.

    Raises:
        PictureError: unreadable, cut short, several pages, transparent, tiny, or of a depth that is not known.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PictureError(
            f"{path} cannot be read ({error.strerror})", "Check the path and its permissions."
        ) from error
    return decode_picture(data, str(path), bit_depth)


def decode_picture(data: bytes, name: str, bit_depth: int | None = None) -> Picture:
    """Decode the bytes of one picture file; `name` is only for messages. See `read_picture`."""
    if not _whole(data):
        raise PictureError(f"{name} is cut short", "Copy the file again from its source.")
    if _animated(data):
        raise PictureError(f"{name} is animated", "Save each picture as a file of its own.")
    try:
        count, raw = _decode(data)
    except cv2.error as error:
        raise PictureError(f"{name} cannot be decoded ({error.err})", "Save it again as PNG.") from error
    if raw is None:
        raise PictureError(f"{name} is not a picture", "Replace it by a PNG, JPEG, BMP, TIFF or WebP file.")
    if count > 1:
        raise PictureError(f"{name} holds {count} pictures", "Save each page as a file of its own.")
    if min(raw.shape[:2]) < SMALLEST_SIDE_PX:
        size = f"{raw.shape[1]} x {raw.shape[0]}"
        raise PictureError(
            f"{name} is only {size} pixels", f"Use pictures of at least {SMALLEST_SIDE_PX} pixels a side."
        )
    return _to_rgb(_to_8_bit(raw, name, bit_depth), name)


def _whole(data: bytes) -> bool:
    """False for a PNG or JPEG without its end marker: OpenCV would fill the missing part with grey."""
    for signature, suffix in _SIGNATURES.items():
        if data.startswith(signature):
            return _END_MARKERS[suffix] in data[-_TAIL_BYTES:]
    return True


def _animated(data: bytes) -> bool:
    """True for an animated PNG or WebP, of which OpenCV would silently take the first picture."""
    png = data.startswith(b"\x89PNG") and b"acTL" in data[:_TAIL_BYTES]
    return png or (data[8:12] == b"WEBP" and b"ANIM" in data[:_TAIL_BYTES])


def _decode(data: bytes) -> tuple[int, np.ndarray | None]:
    buffer = np.frombuffer(data, dtype=np.uint8)
    if buffer.size == 0:
        return 0, None
    tiff = data[:4] in (b"II*\x00", b"MM\x00*")
    if tiff:
        complete, pages = cv2.imdecodemulti(buffer, cv2.IMREAD_UNCHANGED)
        return (len(pages), pages[0]) if complete and len(pages) else (0, None)
    return 1, cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)


def _to_8_bit(raw: np.ndarray, name: str, bit_depth: int | None) -> Picture:
    if raw.dtype == np.uint8:
        return raw
    if raw.dtype != np.uint16:
        raise PictureError(f"{name} has {raw.dtype} pixels", "Save it with 8 bits a channel.")
    if bit_depth is None:
        raise PictureError(
            f"{name} has 16-bit pixels and the file does not say which value is white",
            "Give the camera's bit depth (--bit-depth 10, 12, 14 or 16; bit_depth in a station file), or save it with 8 bits.",
        )
    if raw.ndim == 3 and raw.shape[2] == 4:
        if int(raw[..., 3].min()) < WHITE_16_BIT:
            raise PictureError(f"{name} has transparent pixels", "Flatten it: no camera delivers transparency.")
        raw = raw[..., :3]
    if int(raw.max()) >= 1 << bit_depth:
        raise PictureError(
            f"{name} holds values beyond {bit_depth} bits", "Give the bit depth that the camera really has."
        )
    return (raw >> (bit_depth - 8)).astype(np.uint8)


def _to_rgb(pixels: Picture, name: str) -> Picture:
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    if channels == 1:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), dtype=np.uint8)
    if channels == 3:
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), dtype=np.uint8)
    if channels == 4:
        if int(pixels[..., 3].min()) < 255:
            raise PictureError(f"{name} has transparent pixels", "Flatten it: no camera delivers transparency.")
        return np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), dtype=np.uint8)
    raise PictureError(f"{name} has {channels} channels", "Use grey, RGB or opaque RGBA pictures.")

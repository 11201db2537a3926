"""A picture is read as what it is, or refused."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.errors import PictureError, UsageError
from edge.pictures import decode_picture, list_pictures, read_picture
from edge.types import Picture
from tests.edge.png import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, SIGNATURE, chunk, png


def noise(channels: int, side: int = 40) -> Picture:
    shape = (side, side + 8, channels)
    return np.random.default_rng(channels).integers(0, 256, shape, dtype=np.uint8)


def encoded(suffix: str, pixels: NDArray[np.integer[Any] | np.floating[Any]], *settings: int) -> bytes:
    done, data = cv2.imencode(suffix, pixels, settings)
    assert done
    return data.tobytes()


def whole(suffix: str) -> bytes:
    return encoded(suffix, noise(3))


def test_rgb_keeps_its_pixels_and_colour_order() -> None:
    pixels = noise(3)
    assert np.array_equal(decode_picture(png(pixels, RGB), "rgb"), pixels)


def test_jpeg_keeps_its_colour_order() -> None:
    orange_in_bgr = np.full((40, 40, 3), (20, 120, 240), np.uint8)
    picture = decode_picture(encoded(".jpg", orange_in_bgr), "orange")
    assert np.abs(picture.mean(axis=(0, 1)) - (240, 120, 20)).max() < 4


def test_grey_is_repeated_over_three_channels() -> None:
    pixels = noise(1)
    assert np.array_equal(decode_picture(png(pixels[..., 0], GREY), "grey"), pixels.repeat(3, axis=2))


def test_opaque_alpha_is_dropped() -> None:
    pixels = noise(4)
    pixels[..., 3] = 255
    assert np.array_equal(decode_picture(png(pixels, RGBA), "rgba"), pixels[..., :3])


def test_opaque_grey_alpha_is_read_as_grey() -> None:
    pixels = noise(2)
    pixels[..., 1] = 255
    assert np.array_equal(decode_picture(png(pixels, GREY_ALPHA), "la"), pixels[..., :1].repeat(3, axis=2))


def test_palette_is_looked_up() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    indices = noise(1)[..., 0]
    data = png(indices, PALETTE, chunk(b"PLTE", colours.tobytes()))
    assert np.array_equal(decode_picture(data, "palette"), colours[indices])


def test_one_transparent_pixel_is_refused() -> None:
    pixels = noise(4)
    pixels[..., 3] = 255
    pixels[7, 9, 3] = 254
    with pytest.raises(PictureError, match="transparent"):
        decode_picture(png(pixels, RGBA), "rgba")


def test_a_transparent_palette_colour_is_refused() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    extra = chunk(b"PLTE", colours.tobytes()) + chunk(b"tRNS", bytes([0]))
    indices = noise(1)[..., 0]
    indices[0, 0] = 0
    with pytest.raises(PictureError, match="transparent"):
        decode_picture(png(indices, PALETTE, extra), "palette")


def test_16_bit_without_a_depth_is_refused_with_the_remedy() -> None:
    pixels = noise(1)[..., 0].astype(np.uint16) * 16
    with pytest.raises(PictureError, match="bit-depth"):
        decode_picture(png(pixels, GREY), "deep")


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_deep_grey_is_scaled_by_the_camera_depth(bits: int) -> None:
    expected = np.arange(40 * 40, dtype=np.uint16).reshape(40, 40) % 256
    lowest, highest = expected << (bits - 8), (expected << (bits - 8)) + (1 << (bits - 8)) - 1
    for pixels in (lowest, highest):
        picture = decode_picture(png(pixels.astype(np.uint16), GREY), "deep", bits)
        assert np.array_equal(picture, expected.astype(np.uint8)[..., np.newaxis].repeat(3, axis=2))


def test_deep_rgb_keeps_its_colour_order() -> None:
    pixels = noise(3)
    assert np.array_equal(
        decode_picture(png((pixels.astype(np.uint16) << 8).astype(np.uint16), RGB), "deep", 16), pixels
    )


def test_a_value_beyond_the_camera_depth_is_refused() -> None:
    pixels = np.full((40, 40), 4095, np.uint16)
    assert decode_picture(png(pixels, GREY), "deep", 12).max() == 255
    pixels[3, 4] = 4096
    with pytest.raises(PictureError, match="beyond 12 bits"):
        decode_picture(png(pixels, GREY), "deep", 12)


def test_8_bit_is_not_scaled_whatever_depth_is_given() -> None:
    pixels = noise(3)
    assert np.array_equal(decode_picture(png(pixels, RGB), "rgb", 12), pixels)


@pytest.mark.parametrize("shape", [(31, 200), (200, 31), (1, 1)])
def test_tiny_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(PictureError, match=f"only {shape[1]} x {shape[0]} pixels"):
        decode_picture(png(np.zeros(shape, np.uint8), GREY), "tiny")


def test_the_smallest_side_is_accepted() -> None:
    assert decode_picture(png(np.zeros((32, 32), np.uint8), GREY), "small").shape == (32, 32, 3)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int16])
def test_tiff_with_other_than_unsigned_pixels_is_refused(
    kind: type[np.float32] | type[np.float64] | type[np.int16],
) -> None:
    data = encoded(".tiff", np.ones((40, 40), kind))
    with pytest.raises(PictureError, match=r"pixels|not a picture"):
        decode_picture(data, "float.tiff", 16)


def test_multi_page_tiff_is_refused() -> None:
    done, data = cv2.imencodemulti(".tiff", [noise(3), noise(3)])
    assert done
    with pytest.raises(PictureError, match="holds 2 pictures"):
        decode_picture(data.tobytes(), "pages.tiff")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff", ".webp"])
@given(share=st.floats(0.01, 1.0, exclude_max=True))
def test_a_file_cut_short_anywhere_is_refused(suffix: str, share: float) -> None:
    data = whole(suffix)
    assert decode_picture(data, suffix).shape == noise(3).shape
    with pytest.raises(PictureError):
        decode_picture(data[: int(len(data) * share)], suffix)


def test_a_jpeg_with_a_zeroed_tail_is_refused() -> None:
    data = encoded(".jpg", noise(3, side=400))
    with pytest.raises(PictureError, match="cut short"):
        decode_picture(data[: len(data) // 2] + bytes(len(data) // 2), "zeroed.jpg")


@pytest.mark.parametrize("data", [b"", b"a letter, not a picture\n", SIGNATURE + chunk(b"IEND", b"")])
def test_what_is_no_picture_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "letter.png"
    path.write_bytes(data)
    with pytest.raises(PictureError, match=r"letter\.png"):
        read_picture(path)


def test_a_picture_that_claims_to_be_too_large_for_any_memory_is_refused() -> None:
    header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, GREY, 0, 0, 0)
    data = SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    with pytest.raises(PictureError, match="huge"):
        decode_picture(data, "huge.png")
    bitmap = bytearray(whole(".bmp"))
    bitmap[18:26] = struct.pack("<ii", 2**30, 2**30)
    with pytest.raises(PictureError, match="huge"):
        decode_picture(bytes(bitmap), "huge.bmp")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.png", tmp_path):
        with pytest.raises(PictureError, match="cannot be read"):
            read_picture(path)


def test_a_path_outside_ascii_is_read(tmp_path: Path) -> None:
    path = tmp_path / "Prüfling 電池 №7.png"
    path.write_bytes(png(noise(3), RGB))
    assert np.array_equal(read_picture(path), noise(3))


SIGNATURES = (b"", SIGNATURE, b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*", b"RIFF\x24\x00\x00\x00WEBP")


@given(start=st.sampled_from(SIGNATURES), rest=st.binary(max_size=400), depth=st.sampled_from((None, 9, 12, 16)))
def test_arbitrary_bytes_are_a_picture_or_a_picture_error(start: bytes, rest: bytes, depth: int | None) -> None:
    try:
        picture = decode_picture(start + rest, "fuzz", depth)
    except PictureError as error:
        assert "fuzz" in error.what and error.remedy
    else:
        assert picture.dtype == np.uint8 and picture.shape[2] == 3


@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_a_png_is_never_misread(position: float, bit: int) -> None:
    data = bytearray(png(noise(3), RGB))
    data[int(position * len(data))] ^= 1 << bit
    try:
        picture = decode_picture(bytes(data), "flipped")
    except PictureError:
        return
    assert np.array_equal(picture, noise(3))


def test_pictures_of_a_folder_come_by_name_without_hidden_and_other_files(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.tif", ".hidden.png", "notes.txt", "d.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == ["a.jpeg", "b.PNG", "c.tif", "d.webp"]


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="holds no pictures"):
        list_pictures(tmp_path)
    with pytest.raises(UsageError, match="not a folder"):
        list_pictures(tmp_path / "notes.txt")


def test_a_file_name_that_no_message_can_carry_is_refused(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"part-\xff.png")).write_bytes(png(noise(3), RGB))
    except OSError:
        pytest.skip("this file system allows no such name")
    with pytest.raises(UsageError, match="not UTF-8") as caught:
        list_pictures(tmp_path)
    assert str(caught.value).isascii()

"""Read the shots of one product, and refuse what cannot make a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge.errors import ShotsError, UsageError
from edge.pictures import list_pictures, read_picture
from edge.sealed import sha256_of
from edge.types import Picture

LARGEST_SIZE_RATIO = 2.0
LARGEST_ASPECT_RATIO = 1.5


@dataclass(frozen=True)
class Shot:
    """One calibration picture; `sha256` is over its pixels, so a renamed or re-saved copy is recognised."""

    path: Path
    picture: Picture
    sha256: str


@dataclass(frozen=True)
class ShotSet:
    """All shots that count, and those left out because an identical one is there."""

    shots: tuple[Shot, ...]
    duplicates: tuple[tuple[Path, Path], ...]


def read_shots(folder: Path, bit_depth: int | None, mixed_sizes: bool) -> ShotSet:
    """Read every picture in `folder`.

    Raises:
        ShotsError: no shots, or pictures of very different sizes while `mixed_sizes` is not set.
        PictureError: one of them is no picture.
    """
    try:
        paths = list_pictures(folder)
    except UsageError as error:
        raise ShotsError(error.what, "Put at least one, better eight, pictures of normal parts there.") from error
    kept: dict[str, Shot] = {}
    duplicates: list[tuple[Path, Path]] = []
    for path in paths:
        picture = read_picture(path, bit_depth)
        key = pixel_hash(picture)
        if key in kept:
            duplicates.append((path, kept[key].path))
        else:
            kept[key] = Shot(path, picture, key)
    shots = tuple(kept.values())
    if len(shots) == 1 and duplicates:
        raise ShotsError(
            f"all {len(paths)} shots are the same picture",
            "Take shots of different parts; one part shows no variation.",
        )
    if not mixed_sizes:
        _check_sizes(shots)
    return ShotSet(shots, tuple(duplicates))


def pixel_hash(picture: Picture) -> str:
    """Names a picture by its pixels, so that a renamed or losslessly saved copy has the same name."""
    return sha256_of(str(picture.shape).encode() + picture.tobytes())


def _check_sizes(shots: tuple[Shot, ...]) -> None:
    """Pictures of one product from one camera are alike in size; others were mixed up."""
    by_area = sorted(shots, key=lambda s: s.picture.shape[0] * s.picture.shape[1])
    by_aspect = sorted(shots, key=lambda s: s.picture.shape[1] / s.picture.shape[0])
    for small, large, ratio, most in (
        (by_area[0], by_area[-1], _area(by_area[-1]) / _area(by_area[0]), LARGEST_SIZE_RATIO),
        (by_aspect[0], by_aspect[-1], _aspect(by_aspect[-1]) / _aspect(by_aspect[0]), LARGEST_ASPECT_RATIO),
    ):
        if ratio > most:
            raise ShotsError(
                f"the shots differ in size: {small.path.name} is {_size(small)}, {large.path.name} is {_size(large)}",
                "Use pictures of one camera and one cut-out, or give --mixed-sizes if the parts really differ so much.",
            )


def _area(shot: Shot) -> float:
    return float(shot.picture.shape[0] * shot.picture.shape[1])


def _aspect(shot: Shot) -> float:
    return float(shot.picture.shape[1] / shot.picture.shape[0])


def _size(shot: Shot) -> str:
    return f"{shot.picture.shape[1]} x {shot.picture.shape[0]}"

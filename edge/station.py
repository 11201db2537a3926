"""station.toml to typed settings. An unknown key is an error."""

from __future__ import annotations

import difflib
import ipaddress
import re
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from edge.errors import StationError
from edge.sealed import digest

SCHEMA_VERSION = 1
LARGEST_PORT = 65_535
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class CameraSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[camera]`: a replay of a folder or a video."""

    type: str
    source: str
    rate_hz: Annotated[float, Meta(ge=0.001, le=10_000)]
    id: Name = "cam0"
    loop: bool = False
    bit_depth: Annotated[int, Meta(ge=9, le=16)] | None = None


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[model]`: the package and how to run it; 0 threads is one a core."""

    package: str
    threads: Annotated[int, Meta(ge=0, le=256)] = 0


class RecipeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[recipe]`: a revision's folder, or a product's for its newest revision."""

    path: str


class PipelineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[pipeline]`: the deadline counts from the trigger; `queue_frames` may wait for the encoder."""

    deadline_ms: Annotated[float, Meta(gt=0, le=3_600_000)] = 500.0
    queue_frames: Annotated[int, Meta(ge=1, le=1024)] = 4


class BusSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[bus]`: where verdicts are published."""

    endpoint: str = "tcp://127.0.0.1:5556"
    heartbeat_ms: Annotated[float, Meta(ge=10, le=60_000)] = 500.0
    wait_for_subscriber_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    allow_remote_plaintext: bool = False


class Station(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One camera position: the whole station file, with its paths made absolute."""

    station_id: Name
    camera: CameraSettings
    model: ModelSettings
    recipe: RecipeSettings
    pipeline: PipelineSettings = PipelineSettings()
    bus: BusSettings = BusSettings()
    schema_version: int = SCHEMA_VERSION


def load_station(path: Path) -> Station:
    """Read and check a station file. Relative paths in it are relative to its folder.

    Raises:
        StationError: missing, not TOML, an unknown key, a wrong value, or a setting that would be unsafe.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise StationError(f"{path} cannot be read ({error.strerror})", "Name a station file.") from error
    try:
        station = msgspec.toml.decode(data, type=Station)
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StationError(f"{path}: {error}", _hint(str(error))) from error
    if station.schema_version != SCHEMA_VERSION:
        raise StationError(
            f"{path} has schema_version {station.schema_version}", f"This software reads {SCHEMA_VERSION}."
        )
    if station.camera.type != "replay":
        raise StationError(f"{path}: camera type {station.camera.type!r} is not known", 'Use type = "replay".')
    _check_endpoint(path, station.bus)
    return _absolute(station, path.resolve().parent)


def config_hash(station: Station) -> str:
    """Names the settings in every verdict."""
    return digest(station)


def _hint(message: str) -> str:
    """For an unknown key, the known key that looks most like it."""
    unknown = re.search(r"unknown field `(.*?)`(?: - at `\$\.(\w+))?", message)
    if unknown is None:
        return "Correct the station file."
    sections: dict[str, type[msgspec.Struct]] = {
        "camera": CameraSettings,
        "model": ModelSettings,
        "recipe": RecipeSettings,
        "pipeline": PipelineSettings,
        "bus": BusSettings,
    }
    known = sections.get(unknown[2] or "", Station).__struct_fields__
    close = difflib.get_close_matches(unknown[1], known, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known keys there: {', '.join(known)}."


def _check_endpoint(path: Path, bus: BusSettings) -> None:
    """Plaintext verdicts leave the machine only when the station file says so."""
    if bus.endpoint.startswith("ipc://") or bus.allow_remote_plaintext:
        return
    tcp = re.fullmatch(r"tcp://(.+):(\*|\d{1,5})", bus.endpoint)
    if tcp is None or (tcp[2] != "*" and int(tcp[2]) > LARGEST_PORT):
        raise StationError(
            f"{path}: bus.endpoint {bus.endpoint!r} is not an endpoint", "Use tcp://127.0.0.1:PORT or ipc://PATH."
        )
    host = tcp[1].strip("[]")
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host in ("localhost", "lo")
    if not loopback:
        raise StationError(
            f"{path}: bus.endpoint {bus.endpoint} is open to the network without encryption",
            "Bind 127.0.0.1, or set bus.allow_remote_plaintext = true if the network is trusted.",
        )


def _absolute(station: Station, base: Path) -> Station:
    replace = msgspec.structs.replace
    return replace(
        station,
        camera=replace(station.camera, source=str(base / station.camera.source)),
        model=replace(station.model, package=str(base / station.model.package)),
        recipe=replace(station.recipe, path=str(base / station.recipe.path)),
    )

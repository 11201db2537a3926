"""station.toml to typed settings. An unknown key is an error."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta

from edge.bus.endpoints import is_remote, sibling
from edge.errors import StationError
from edge.sealed import digest

SCHEMA_VERSION = 1
S = TypeVar("S", bound=msgspec.Struct)
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]


class CameraSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[camera]`: a replay of a folder or a video.

    `trigger`: "timer" fires by itself at `rate_hz`; "software" takes a frame for each trigger of the control endpoint.
    """

    type: str
    source: str
    rate_hz: Annotated[float, Meta(ge=0.001, le=10_000)]
    id: Name = "cam0"
    loop: bool = False
    bit_depth: Annotated[int, Meta(ge=9, le=16)] | None = None
    trigger: Literal["timer", "software"] = "timer"


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[model]`: the package and how to run it; 0 threads is one a core."""

    package: str
    threads: Annotated[int, Meta(ge=0, le=256)] = 0


class RecipeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[recipe]`: what is active at the start, and where the control endpoint finds others.

    `path` is a revision's folder, or a product's for its newest revision; without it the station waits for a recipe.
    `root` holds one folder a product; without it the folder that holds the product of `path`.
    """

    path: str = ""
    root: str = ""


class PipelineSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[pipeline]`: the deadline counts from the trigger; `queue_frames` may wait for the encoder.

    A trigger sooner than `min_interval_ms` after the last one is an overload. `start`: "continuous" judges whatever comes;
    "single" waits in Ready and judges one part a software trigger.
    """

    deadline_ms: Annotated[float, Meta(gt=0, le=3_600_000)] = 500.0
    queue_frames: Annotated[int, Meta(ge=1, le=1024)] = 4
    min_interval_ms: Annotated[float, Meta(ge=0, le=60_000)] = 0.0
    start: Literal["continuous", "single"] = "continuous"


class BusSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[bus]`: where verdicts are published, replayed, and where the station takes commands.

    An empty endpoint for replay or control is the next or the one after the next to `endpoint`: see `edge.bus.endpoints`.
    """

    endpoint: str = "tcp://127.0.0.1:5556"
    heartbeat_ms: Annotated[float, Meta(ge=10, le=60_000)] = 500.0
    wait_for_subscriber_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    allow_remote_plaintext: bool = False
    replay_endpoint: str = ""
    control_endpoint: str = ""


class JournalSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[journal]`: what is kept, and for how long.

    The newest `entries` verdicts, `pictures_mb` of pictures: all rejects, and every `keep_accepts_every`-th accept (0: none).
    `tail_folder` holds, in memory, what the disk has not taken yet; it must outlive the process.
    """

    enabled: bool = True
    folder: str = "journal"
    entries: Annotated[int, Meta(ge=1_000, le=100_000_000)] = 200_000
    pictures_mb: Annotated[int, Meta(ge=0, le=10_000_000)] = 2_000
    keep_accepts_every: Annotated[int, Meta(ge=0)] = 50
    tail_folder: str = "/dev/shm"  # noqa: S108 - the file is the user's own, and locked
    tail_mb: Annotated[int, Meta(ge=1, le=1024)] = 16


class SecuritySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[security]`: CURVE keys and signatures; `linegate keys` makes them.

    `secret_key` turns CURVE on. Then `subscribers` and `operators` are folders of the public keys that may read verdicts, and
    that may command the station. `signers` is a folder of minisign public keys: recipes and packages must be signed by one.
    """

    secret_key: str = ""
    subscribers: str = ""
    operators: str = ""
    signers: str = ""


class SupervisorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[supervisor]`: how often camera, engine and publisher may each be restarted within a time before it is for good.

    A stage that has not come round for `hang_s` hangs.
    """

    restarts: Annotated[int, Meta(ge=0, le=1000)] = 5
    within_s: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    hang_s: Annotated[float, Meta(gt=0, le=3600)] = 5.0


class MetricsSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[metrics]`: Prometheus metrics on this port of the loopback interface; 0 is none."""

    port: Annotated[int, Meta(ge=0, le=65_535)] = 0


class Station(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One camera position: the whole station file, with its paths made absolute."""

    station_id: Name
    camera: CameraSettings
    model: ModelSettings
    recipe: RecipeSettings = RecipeSettings()
    pipeline: PipelineSettings = PipelineSettings()
    bus: BusSettings = BusSettings()
    journal: JournalSettings = JournalSettings()
    security: SecuritySettings = SecuritySettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    metrics: MetricsSettings = MetricsSettings()
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
        # A quoted key may hold anything, also what moves the cursor.
        said = "".join(c if c.isprintable() else "?" for c in str(error))
        raise StationError(f"{path}: {said}", _hint(said)) from error
    if station.schema_version != SCHEMA_VERSION:
        raise StationError(
            f"{path} has schema_version {station.schema_version}", f"This software reads {SCHEMA_VERSION}."
        )
    if station.camera.type != "replay":
        raise StationError(f"{path}: camera type {station.camera.type!r} is not known", 'Use type = "replay".')
    _check_endpoints(path, station)
    if station.security.signers and not station.journal.enabled:
        raise StationError(
            f"{path}: security.signers needs the journal, which remembers what was active",
            "Set journal.enabled = true, or leave security.signers out.",
        )
    return _absolute(station, path.resolve().parent)


def config_hash(station: Station) -> str:
    """Names the settings in every verdict."""
    return digest(station)


def _hint(message: str) -> str:
    """For an unknown key, the known key that looks most like it."""
    unknown = re.search(r"unknown field `(.*?)`(?: - at `\$\.(\w+))?", message)
    if unknown is None:
        return "Correct the station file."
    section = msgspec.structs.fields(Station)
    kinds = {f.name: f.type for f in section if isinstance(f.type, type) and issubclass(f.type, msgspec.Struct)}
    known = kinds.get(unknown[2] or "", Station).__struct_fields__
    close = difflib.get_close_matches(unknown[1], known, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known keys there: {', '.join(known)}."


def _check_endpoints(path: Path, station: Station) -> None:
    """Plaintext verdicts leave the machine only when the station file says so."""
    for name, endpoint in zip(("endpoint", "replay_endpoint", "control_endpoint"), endpoints(station.bus), strict=True):
        try:
            open_to_network = is_remote(endpoint)
        except ValueError as error:
            raise StationError(
                f"{path}: bus.{name} {endpoint!r} is not an endpoint", "Use tcp://127.0.0.1:PORT or ipc://PATH."
            ) from error
        if open_to_network and not station.security.secret_key and not station.bus.allow_remote_plaintext:
            raise StationError(
                f"{path}: bus.{name} {endpoint} is open to the network without encryption",
                "Bind 127.0.0.1, turn CURVE on (`linegate keys`), or set bus.allow_remote_plaintext = true if the network "
                "is trusted.",
            )
        # Of a wildcard port each takes another one. ZeroMQ would let the last one take over an ipc path from the others.
        if not endpoint.endswith((":*", ":0")) and endpoints(station.bus).count(endpoint) > 1:
            raise StationError(
                f"{path}: bus.{name} {endpoint} is another endpoint of this station too", "Give each its own."
            )


def endpoints(bus: BusSettings) -> tuple[str, str, str]:
    """Where to bind the feed, replay and control."""
    replay = bus.replay_endpoint or sibling(bus.endpoint, 1)
    return bus.endpoint, replay, bus.control_endpoint or sibling(bus.endpoint, 2)


def _absolute(station: Station, base: Path) -> Station:
    """The station with every path made absolute; an empty one stays empty."""

    def absolute(settings: S, *names: str) -> S:
        paths = {name: str(base / getattr(settings, name)) for name in names if getattr(settings, name)}
        return msgspec.structs.replace(settings, **paths)

    return msgspec.structs.replace(
        station,
        camera=absolute(station.camera, "source"),
        model=absolute(station.model, "package"),
        recipe=absolute(station.recipe, "path", "root"),
        journal=absolute(station.journal, "folder", "tail_folder"),
        security=absolute(station.security, "secret_key", "subscribers", "operators", "signers"),
    )

"""A gateway's file to typed settings. An unknown key is an error."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edge.bus.endpoints import is_remote, sibling
from edge.bus.requests import ProductName
from edge.errors import GatewayError
from edge.sealed import digest

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
Port = Annotated[int, Meta(ge=0, le=65_535)]
Milliseconds = Annotated[float, Meta(ge=50, le=600_000)]


class BusLinkSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[bus]`: the station to connect to. `key` and `server_key` are files, for a station with CURVE.

    station_id: the station that must answer there; the first one that is heard if empty.
    After `silence_ms` without a heartbeat the station is taken for dead: at least twice its `bus.heartbeat_ms`.
    """

    endpoint: str = "tcp://127.0.0.1:5556"
    station_id: str = ""
    replay_endpoint: str = ""
    control_endpoint: str = ""
    key: str = ""
    server_key: str = ""
    silence_ms: Milliseconds = 1_500.0


class PlcSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[plc]`: the handshake.

    heartbeat_ms: the PLC's heartbeat must change within this time; 0 does not demand one, and takes the first trigger number
        after a start for an old one.
    queue: results that are held for a PLC that is slow to acknowledge.
    ack_ms: a result that is not acknowledged by then is not to be accepted any more.
    trigger_ms: a trigger of the PLC that has no verdict by then is rejected.
    answer_ms: how long the station may take to take a trigger.
    recipe_ms: how long the station may take to change the recipe.
    triggers_in_flight: so many triggers of the PLC may wait for their results.
    allow_simulated: whether a picture from a replay may open the gate: for trials alone.
    """

    heartbeat_ms: Annotated[float, Meta(ge=0, le=600_000)] = 2_000.0
    queue: Annotated[int, Meta(ge=1, le=64)] = 8
    ack_ms: Milliseconds = 2_000.0
    trigger_ms: Milliseconds = 5_000.0
    answer_ms: Milliseconds = 500.0
    recipe_ms: Milliseconds = 60_000.0
    triggers_in_flight: Annotated[int, Meta(ge=1, le=64)] = 1
    allow_simulated: bool = False


class RecipeNumber(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[[recipes]]`: a PLC's number for a product; without a revision its newest."""

    number: Annotated[int, Meta(ge=1, le=65_535)]
    product: ProductName
    revision: Annotated[int, Meta(ge=1, le=999_999)] | None = None


class ModbusSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[modbus]`: the server.

    unit_id: 0 answers any. allow: addresses of the machines that may connect; none is all.
    byte_order, word_order: of values that fill more than one register, and of text.
    """

    host: str = "127.0.0.1"
    port: Port = 502
    unit_id: Annotated[int, Meta(ge=0, le=247)] = 0
    byte_order: Literal["big", "little"] = "big"
    word_order: Literal["big", "little"] = "big"
    allow: tuple[str, ...] = ()
    connections: Annotated[int, Meta(ge=1, le=256)] = 16


class OpcUaSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[opcua]`: the server.

    security: "encrypted" offers SignAndEncrypt alone; "open" offers plaintext too.
    certificate, private_key: the server's own (DER or PEM); without them a self-signed pair is made in `pki`.
    pki: folder with `trusted/` (client certificates that may connect) and what was refused.
    users: file of users, made by `linegate gateway user`.
    anonymous: whether a client may come without a name: then its certificate alone must do.
    results: so many results are held for GetResultById.
    """

    host: str = "127.0.0.1"
    port: Port = 4840
    security: Literal["encrypted", "open"] = "encrypted"
    certificate: str = ""
    private_key: str = ""
    pki: str = "pki"
    users: str = ""
    anonymous: bool = False
    sessions: Annotated[int, Meta(ge=1, le=256)] = 32
    results: Annotated[int, Meta(ge=10, le=100_000)] = 1_000


class MqttSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`[mqtt]`: the broker that telemetry goes to.

    ca_file turns TLS on; password_file holds the password on one line. position_file remembers what the broker has.
    """

    host: str = "127.0.0.1"
    port: Port = 1883
    topic: Annotated[str, Meta(pattern=r"^[^+#\x00/][^+#\x00]{0,200}\Z")] = "linegate"
    user: str = ""
    password_file: str = ""
    ca_file: str = ""
    certificate: str = ""
    private_key: str = ""
    position_file: str = "mqtt.position"


class GatewaySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One gateway: the whole file, with its paths made absolute. A file may have a section for each protocol."""

    name: Name = "gateway"
    bus: BusLinkSettings = BusLinkSettings()
    plc: PlcSettings = PlcSettings()
    recipes: tuple[RecipeNumber, ...] = ()
    modbus: ModbusSettings = ModbusSettings()
    opcua: OpcUaSettings = OpcUaSettings()
    mqtt: MqttSettings = MqttSettings()

    @property
    def replay_endpoint(self) -> str:
        """Where the station answers for earlier verdicts."""
        return self.bus.replay_endpoint or sibling(self.bus.endpoint, 1)

    @property
    def control_endpoint(self) -> str:
        """Where the station takes commands."""
        return self.bus.control_endpoint or sibling(self.bus.endpoint, 2)

    def checksum(self, station_config: str) -> int:
        """32 bits that change with any setting of the gateway or, by its `config_hash`, of the station."""
        return int(digest({"gateway": self, "station": station_config})[:8], 16)


def load_gateway(path: Path) -> GatewaySettings:
    """Read and check a gateway's file. Relative paths in it are relative to its folder.

    Raises:
        GatewayError: missing, not TOML, an unknown key, a wrong value, or settings that contradict each other.
    """
    try:
        settings = msgspec.toml.decode(path.read_bytes(), type=GatewaySettings)
    except OSError as error:
        raise GatewayError(f"{path} cannot be read ({error.strerror})", "Name a gateway's file.") from error
    except (msgspec.ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        said = "".join(c if c.isprintable() else "?" for c in str(error))
        raise GatewayError(f"{path}: {said}", _hint(said)) from error
    numbers = [recipe.number for recipe in settings.recipes]
    twice = next((number for number in numbers if numbers.count(number) > 1), None)
    if twice is not None:
        raise GatewayError(f"{path}: recipe number {twice} is there twice", "Give each recipe its own number.")
    for recipe in settings.recipes:
        same = [other.revision for other in settings.recipes if other.product == recipe.product]
        if len(same) > 1 and (None in same or same.count(recipe.revision) > 1):
            raise GatewayError(
                f"{path}: recipes of {recipe.product} overlap: nobody could tell which number is active",
                "Give each number of a product its own revision.",
            )
    for endpoint in (settings.bus.endpoint, settings.replay_endpoint, settings.control_endpoint):
        if not _is_there_to_connect(endpoint):
            raise GatewayError(
                f"{path}: {endpoint} is not an endpoint of a station",
                "Use tcp://HOST:PORT or ipc://PATH as the station's file has it; replay and control are the next two ports.",
            )
    if bool(settings.bus.key) != bool(settings.bus.server_key):
        raise GatewayError(f"{path}: bus.key and bus.server_key belong together", "Name both, or neither.")
    return _absolute(settings, path.resolve().parent)


def _is_there_to_connect(endpoint: str) -> bool:
    """Whether a station can be there: not at a port that is chosen when it starts."""
    try:
        is_remote(endpoint)
    except ValueError:
        return False
    return not endpoint.endswith((":0", ":*"))


def _hint(message: str) -> str:
    """For an unknown key, the known key that looks most like it."""
    unknown = re.search(r"unknown field `(.*?)`(?: - at `\$\.(\w+))?", message)
    if unknown is None:
        return "Correct the gateway's file."
    sections = {field.name: field.type for field in msgspec.structs.fields(GatewaySettings)}
    section = sections.get(unknown[2] or "")
    if unknown[2] == "recipes":
        section = RecipeNumber
    is_table = isinstance(section, type) and issubclass(section, msgspec.Struct)
    known = section.__struct_fields__ if is_table else GatewaySettings.__struct_fields__  # type: ignore[union-attr]
    close = difflib.get_close_matches(unknown[1], known, n=1)
    return f"Did you mean `{close[0]}`?" if close else f"Known keys there: {', '.join(known)}."


def _absolute(settings: GatewaySettings, base: Path) -> GatewaySettings:
    """The settings with every path made absolute; an empty one stays empty."""
    paths = {
        "bus": ("key", "server_key"),
        "opcua": ("certificate", "private_key", "pki", "users"),
        "mqtt": ("password_file", "ca_file", "certificate", "private_key", "position_file"),
    }
    changed = {}
    for section, names in paths.items():
        part = getattr(settings, section)
        own = {name: str(base / getattr(part, name)) for name in names if getattr(part, name)}
        changed[section] = msgspec.structs.replace(part, **own)
    return msgspec.structs.replace(settings, **changed)

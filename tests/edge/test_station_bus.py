"""What a station file says about bus, journal, keys and restarts is taken exactly, or refused with the way out."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import zmq

from edge.bus.messages import StateMessage
from edge.errors import StationError
from edge.station import BusSettings, Station, endpoints, load_station
from tests.edge.fakes import PATIENCE_S
from tests.edge.operated import operated, write_recipe

GOOD = """
station_id = "press-4"
[camera]
type = "replay"
source = "parts"
rate_hz = 12.5
[model]
package = "lite"
"""
SECTIONS = {
    "camera": ("trigger", '"software"', "triger"),
    "model": ("threads", "2", "thread"),
    "recipe": ("root", '"recipes"', "rooot"),
    "pipeline": ("min_interval_ms", "5.5", "min_intervall_ms"),
    "bus": ("control_endpoint", '"ipc:///run/control"', "controll_endpoint"),
    "journal": ("keep_accepts_every", "0", "keep_accept_every"),
    "security": ("operators", '"keys/operators"', "operator"),
    "supervisor": ("within_s", "30.0", "within"),
    "metrics": ("port", "9100", "ports"),
}


def load(text: str) -> Station:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "station.toml"
        path.write_text(text)
        return load_station(path)


def with_key(section: str, line: str) -> str:
    """The good file with one more line in a section."""
    head = f"[{section}]\n"
    return GOOD.replace(head, f"{head}{line}\n") if head in GOOD else f"{GOOD}{head}{line}\n"


def refused(text: str) -> StationError:
    with pytest.raises(StationError) as caught:
        load(text)
    assert "station.toml" in caught.value.what and caught.value.remedy and "\n" not in str(caught.value)
    return caught.value


def test_every_section_but_camera_and_model_may_be_left_out() -> None:
    station = load(GOOD)
    assert (station.recipe.path, station.pipeline.start, station.journal.enabled) == ("", "continuous", True)
    assert endpoints(station.bus) == tuple(f"tcp://127.0.0.1:{port}" for port in (5556, 5557, 5558))
    assert (station.security.secret_key, station.metrics.port, station.supervisor.restarts) == ("", 0, 5)


@pytest.mark.parametrize("section", SECTIONS)
def test_every_section_takes_its_keys_and_hints_at_a_misspelt_one(section: str) -> None:
    key, value, wrong = SECTIONS[section]
    assert str(getattr(getattr(load(with_key(section, f"{key} = {value}")), section), key)).endswith(value.strip('"'))
    error = refused(with_key(section, f"{wrong} = {value}"))
    assert error.remedy == f"Did you mean `{key}`?"
    everything = refused(with_key(section, "zzzzzz = 1")).remedy
    assert everything.startswith("Known keys there: ") and key in everything


@pytest.mark.parametrize(
    ("section", "line", "named"),
    [
        ("camera", 'trigger = "plc"', "camera.trigger"),
        ("pipeline", 'start = "twice"', "pipeline.start"),
        ("pipeline", "min_interval_ms = -1", "pipeline.min_interval_ms"),
        ("journal", "entries = 999", "journal.entries"),
        ("journal", "tail_mb = 0", "journal.tail_mb"),
        ("journal", "pictures_mb = -1", "journal.pictures_mb"),
        ("journal", 'enabled = "no"', "journal.enabled"),
        ("supervisor", "restarts = -1", "supervisor.restarts"),
        ("supervisor", "hang_s = 0", "supervisor.hang_s"),
        ("supervisor", "within_s = nan", "supervisor.within_s"),
        ("metrics", "port = 65536", "metrics.port"),
        ("bus", "heartbeat_ms = 5", "bus.heartbeat_ms"),
    ],
)
def test_a_wrong_value_is_refused_and_its_key_named(section: str, line: str, named: str) -> None:
    assert named in refused(with_key(section, line)).what


@pytest.mark.parametrize("key", ['"a\\nb"', '"\\u001b[2J"', '"' + "x" * 300 + '"'])
def test_an_odd_key_is_refused_on_one_line(key: str) -> None:
    assert str(refused(with_key("bus", f"{key} = 1"))).isprintable()


def test_a_station_id_that_ends_in_a_line_feed_is_refused() -> None:
    refused(GOOD.replace('"press-4"', '"press-4\\n"'))


def test_relative_paths_start_at_the_file_and_those_left_out_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(GOOD + '[security]\nsecret_key = "keys/a"\n[journal]\nfolder = "j"\n')
    station = load_station(path)
    assert (station.security.secret_key, station.journal.folder) == (str(tmp_path / "keys/a"), str(tmp_path / "j"))
    assert station.journal.tail_folder == "/dev/shm"  # noqa: S108 - what the default is
    assert (station.security.subscribers, station.recipe.path, station.recipe.root) == ("", "", "")


OPEN = "tcp://0.0.0.0:7000"


@pytest.mark.parametrize("name", ["endpoint", "replay_endpoint", "control_endpoint"])
def test_each_endpoint_that_is_open_to_the_network_needs_keys_or_consent(name: str) -> None:
    line = f'{name} = "{OPEN}"'
    error = refused(with_key("bus", line))
    assert f"bus.{name} {OPEN}" in error.what
    assert "linegate keys" in error.remedy and "allow_remote_plaintext" in error.remedy
    assert OPEN in endpoints(load(with_key("bus", f"{line}\nallow_remote_plaintext = true")).bus)
    assert OPEN in endpoints(load(with_key("bus", line) + '[security]\nsecret_key = "keys/a"\n').bus)


@pytest.mark.parametrize("name", ["replay_endpoint", "control_endpoint"])
@pytest.mark.parametrize("value", ["5557", "udp://127.0.0.1:5", "tcp://127.0.0.1:99999", "ipc://"])
def test_what_is_no_endpoint_is_refused_by_name(name: str, value: str) -> None:
    assert f"bus.{name} {value!r}" in refused(with_key("bus", f'{name} = "{value}"')).what


def test_a_feed_on_the_last_port_has_no_room_for_the_others() -> None:
    assert "bus.replay_endpoint" in refused(with_key("bus", 'endpoint = "tcp://127.0.0.1:65535"')).what
    assert "bus.control_endpoint" in refused(with_key("bus", 'endpoint = "tcp://127.0.0.1:65534"')).what


@pytest.mark.parametrize("endpoint", ["ipc:///run/bus", "tcp://127.0.0.1:5556"])
@pytest.mark.parametrize("name", ["replay_endpoint", "control_endpoint"])
def test_two_sockets_on_one_endpoint_are_refused(endpoint: str, name: str) -> None:
    error = refused(with_key("bus", f'endpoint = "{endpoint}"\n{name} = "{endpoint}"'))
    assert endpoint in error.what and "another endpoint of this station" in error.what


def test_ports_that_the_system_chooses_are_not_the_same() -> None:
    load(with_key("bus", 'endpoint = "tcp://127.0.0.1:*"\nreplay_endpoint = "tcp://127.0.0.1:*"'))


@pytest.mark.parametrize("name", ["endpoint", "replay_endpoint", "control_endpoint", ""])
def test_every_heartbeat_says_whether_the_bus_is_open_in_plaintext(endpoint: str, tmp_path: Path, name: str) -> None:
    write_recipe(tmp_path / "recipes")
    named = {"endpoint": endpoint, **({name: "tcp://0.0.0.0:*"} if name else {})}
    if name == "endpoint":
        named.update(replay_endpoint=f"{endpoint}-replay", control_endpoint=f"{endpoint}-control")
    bus = BusSettings(**named, heartbeat_ms=20.0, wait_for_subscriber_s=PATIENCE_S, allow_remote_plaintext=True)
    with operated(endpoint, tmp_path, bus=bus) as station:
        station.beats(5)
        assert {beat.plaintext_remote for beat in station.line.heartbeats} == {bool(name)}


def test_the_state_names_the_ports_that_were_taken(endpoint: str, tmp_path: Path) -> None:
    write_recipe(tmp_path / "recipes")
    wild = "tcp://127.0.0.1:*"
    bus = BusSettings(endpoint, 20.0, PATIENCE_S, replay_endpoint=wild, control_endpoint=wild)
    with operated(endpoint, tmp_path, bus=bus) as station:
        state = station.states[-1]
        assert isinstance(state, StateMessage) and "*" not in state.replay_endpoint + state.control_endpoint
        assert state.replay_endpoint != state.control_endpoint == station.line.supervisor.control_endpoint
        with zmq.Context() as context, context.socket(zmq.REQ) as plc:
            plc.setsockopt(zmq.LINGER, 0)
            plc.connect(state.control_endpoint)
            plc.send(b'{"command":"status"}')
            assert plc.poll(round(PATIENCE_S * 1000)) and b'"station_id":"test"' in plc.recv()

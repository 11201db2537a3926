"""A station file says exactly what is meant, or is refused with the way out."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.errors import StationError
from edge.station import SecuritySettings, Station, config_hash, endpoints, load_station

GOOD = """
station_id = "press-4"

[camera]
type = "replay"
source = "parts"
rate_hz = 12.5
id = "top"

[model]
package = "../packages/lite"

[recipe]
path = "/recipes/cell"

[pipeline]
deadline_ms = 80

[bus]
endpoint = "tcp://127.0.0.1:5600"
"""


def load(text: str | bytes) -> Station:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "station.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_station(path)


def with_endpoint(endpoint: str, more: str = "") -> str:
    return GOOD.replace("tcp://127.0.0.1:5600", endpoint) + more


def refused(text: str | bytes) -> StationError:
    with pytest.raises(StationError) as caught:
        load(text)
    assert "station.toml" in caught.value.what and caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_good_file_is_read_with_defaults() -> None:
    station = load(GOOD)
    assert (station.station_id, station.camera.id, station.camera.rate_hz) == ("press-4", "top", 12.5)
    assert (station.pipeline.deadline_ms, station.pipeline.queue_frames) == (80.0, 4)
    assert (station.bus.heartbeat_ms, station.bus.allow_remote_plaintext) == (500.0, False)
    assert (station.camera.loop, station.camera.bit_depth, station.model.threads) == (False, None, 0)
    assert (station.camera.trigger, station.pipeline.start, station.pipeline.min_interval_ms) == (
        "timer",
        "continuous",
        0.0,
    )
    assert (station.journal.enabled, station.journal.entries, station.journal.keep_accepts_every) == (True, 200_000, 50)
    assert (station.supervisor.restarts, station.supervisor.within_s, station.supervisor.hang_s) == (5, 60.0, 5.0)
    assert (station.security, station.metrics.port) == (SecuritySettings(), 0)


SECTIONS = """
[journal]
folder = "kept"
tail_folder = "/mem"

[security]
secret_key = "keys/station.key_secret"
subscribers = "keys/subscribers"
operators = "/etc/operators"
signers = ""
"""


def test_paths_of_all_sections_start_at_the_file_and_empty_ones_stay_empty(tmp_path: Path) -> None:
    path = tmp_path / "station.toml"
    path.write_text(GOOD + SECTIONS)
    station = load_station(path)
    assert (Path(station.journal.folder), station.journal.tail_folder) == (tmp_path / "kept", "/mem")
    security = station.security
    assert Path(security.secret_key) == tmp_path / "keys" / "station.key_secret"
    assert Path(security.subscribers) == tmp_path / "keys" / "subscribers"
    assert (security.operators, security.signers, station.recipe.root) == ("/etc/operators", "", "")


def test_replay_and_control_lie_beside_the_feed_unless_they_are_named() -> None:
    assert endpoints(load(GOOD).bus) == tuple(f"tcp://127.0.0.1:{port}" for port in (5600, 5601, 5602))
    named = load(with_endpoint("ipc:///run/bus", 'control_endpoint = "tcp://127.0.0.1:9"\n'))
    assert endpoints(named.bus) == ("ipc:///run/bus", "ipc:///run/bus-replay", "tcp://127.0.0.1:9")


def test_relative_paths_start_at_the_file_and_absolute_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "stations" / "station.toml"
    path.parent.mkdir()
    path.write_text(GOOD)
    station = load_station(path)
    assert Path(station.camera.source) == tmp_path / "stations" / "parts"
    assert Path(station.model.package).resolve() == tmp_path / "packages" / "lite"
    assert station.recipe.path == "/recipes/cell"


def test_relative_paths_do_not_depend_on_where_linegate_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "station.toml").write_text(GOOD)
    elsewhere = load_station(tmp_path / "station.toml")
    monkeypatch.chdir(tmp_path)
    assert load_station(Path("station.toml")) == elsewhere


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("deadline_ms = 80", "deadlin_ms = 80"),
        ("endpoint =", "endpiont ="),
        ("rate_hz = 12.5", "rate_hz = 12.5\nlop = true"),
        ('station_id = "press-4"', 'station_id = "press-4"\nstation_ids = 3'),
    ],
)
def test_an_unknown_key_is_refused_with_the_likely_one(wrong: str, right: str) -> None:
    error = refused(GOOD.replace(wrong, right))
    key = {"deadlin": "deadline_ms", "endpi": "endpoint", "rate_h": "loop", "station": "station_id"}
    meant = next(name for start, name in key.items() if right.startswith(start))
    assert error.remedy == f"Did you mean `{meant}`?"


def test_an_unknown_key_like_no_other_gets_the_list() -> None:
    error = refused(GOOD + "\nzzz = 1\n")
    assert "zzz" in error.what and "heartbeat_ms" in error.remedy


def test_an_unknown_section_is_refused() -> None:
    error = refused(GOOD + "\n[pipelin]\nx = 1\n")
    assert "pipelin" in error.what and error.remedy == "Did you mean `pipeline`?"


@pytest.mark.parametrize(
    ("good", "bad", "named"),
    [
        ("12.5", '"fast"', "camera.rate_hz"),
        ("12.5", "0", "camera.rate_hz"),
        ("12.5", "-1", "camera.rate_hz"),
        ("12.5", "nan", "camera.rate_hz"),
        ("12.5", "inf", "camera.rate_hz"),
        ("12.5", "1e-320", "camera.rate_hz"),
        ("= 80", "= 0", "pipeline.deadline_ms"),
        ("= 80", "= true", "pipeline.deadline_ms"),
        ("= 80", "= 80\nqueue_frames = 0", "pipeline.queue_frames"),
        ("= 80", "= 80\nqueue_frames = 1.5", "pipeline.queue_frames"),
        ('"top"', '"a b"', "camera.id"),
        ('"top"', '"top"\nbit_depth = 8', "camera.bit_depth"),
        ('"top"', '"top"\nbit_depth = 17', "camera.bit_depth"),
        ('"top"', '"top"\ntrigger = "button"', "camera.trigger"),
        ("= 80", '= 80\nstart = "later"', "pipeline.start"),
        ("= 80", "= 80\nmin_interval_ms = -1", "pipeline.min_interval_ms"),
        ("= 80", "= 80\n[journal]\nentries = 999", "journal.entries"),
        ("= 80", "= 80\n[journal]\ntail_mb = 0", "journal.tail_mb"),
        ("= 80", "= 80\n[supervisor]\nrestarts = -1", "supervisor.restarts"),
        ("= 80", "= 80\n[supervisor]\nhang_s = 0", "supervisor.hang_s"),
        ("= 80", "= 80\n[metrics]\nport = 65536", "metrics.port"),
        ('"press-4"', '"../press"', "station_id"),
        ('"press-4"', '""', "station_id"),
        ('"parts"', "3", "camera.source"),
    ],
)
def test_a_wrong_value_is_refused_and_its_key_named(good: str, bad: str, named: str) -> None:
    assert named in refused(GOOD.replace(good, bad, 1)).what


@pytest.mark.parametrize("line", ['station_id = "press-4"', 'source = "parts"', "rate_hz = 12.5", "package ="])
def test_a_missing_key_is_named(line: str) -> None:
    text = "".join(kept for kept in GOOD.splitlines(keepends=True) if not kept.startswith(line))
    assert line.partition(" ")[0] in refused(text).what


def test_without_a_recipe_the_station_waits_for_one() -> None:
    station = load(GOOD.replace('path = "/recipes/cell"', ""))
    assert (station.recipe.path, station.recipe.root) == ("", "")


def test_another_camera_type_is_refused() -> None:
    assert "gige" in refused(GOOD.replace('"replay"', '"gige"')).what


def test_another_schema_version_is_refused() -> None:
    assert "schema_version 2" in refused("schema_version = 2\n" + GOOD).what


@pytest.mark.parametrize("text", ["", "not toml at all", "[camera", GOOD + GOOD, b"\xff\xfe\x00", "a = 1979-05-27"])
def test_what_is_no_station_file_is_refused(text: str | bytes) -> None:
    assert refused(text).remedy


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(StationError, match="cannot be read"):
            load_station(path)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5556", "tcp://127.0.0.9:1", "tcp://localhost:80", "ipc:///tmp/bus"]
)
def test_an_endpoint_on_this_machine_is_taken(endpoint: str) -> None:
    assert load(with_endpoint(endpoint)).bus.endpoint == endpoint


OPEN = ("tcp://0.0.0.0:5556", "tcp://*:5556", "tcp://192.168.1.7:5556", "tcp://eth0:5556", "tcp://[::]:5556")


@pytest.mark.parametrize("endpoint", OPEN)
def test_an_endpoint_open_to_the_network_needs_consent(endpoint: str) -> None:
    assert "allow_remote_plaintext" in refused(with_endpoint(endpoint)).remedy
    station = load(with_endpoint(endpoint, "allow_remote_plaintext = true\n"))
    assert station.bus.endpoint == endpoint


@pytest.mark.parametrize("endpoint", OPEN)
@pytest.mark.parametrize("name", ["replay_endpoint", "control_endpoint"])
def test_replay_and_control_open_to_the_network_need_consent_too(name: str, endpoint: str) -> None:
    more = f'{name} = "{endpoint}"\n'
    error = refused(GOOD + more)
    assert f"bus.{name}" in error.what and "allow_remote_plaintext" in error.remedy
    assert load(GOOD + more + "allow_remote_plaintext = true\n")


@pytest.mark.parametrize("endpoint", OPEN)
def test_with_a_secret_key_an_endpoint_may_be_open_to_the_network(endpoint: str) -> None:
    assert load(with_endpoint(endpoint, SECTIONS)).bus.endpoint == endpoint


@pytest.mark.parametrize("name", ["replay_endpoint", "control_endpoint"])
def test_what_is_no_endpoint_for_replay_or_control_is_refused_and_named(name: str) -> None:
    assert f"bus.{name}" in refused(GOOD + f'{name} = "5556"\n').what


def test_a_feed_on_the_last_port_leaves_none_for_replay() -> None:
    assert "bus.replay_endpoint" in refused(with_endpoint("tcp://127.0.0.1:65535")).what


@pytest.mark.parametrize("endpoint", ["", "5556", "tcp://127.0.0.1", "udp://127.0.0.1:5", "tcp://127.0.0.1:99999"])
def test_what_is_no_endpoint_is_refused(endpoint: str) -> None:
    assert "endpoint" in refused(with_endpoint(endpoint)).what


def test_the_config_hash_follows_the_settings_and_nothing_else() -> None:
    station = load_in_place(GOOD)
    assert config_hash(station) == config_hash(load_in_place("# a comment\n" + GOOD))
    assert config_hash(station) != config_hash(load_in_place(GOOD.replace("= 80", "= 81")))


def load_in_place(text: str) -> Station:
    path = Path(tempfile.gettempdir()) / "linegate-test-station.toml"
    path.write_text(text)
    try:
        return load_station(path)
    finally:
        path.unlink()


@given(data=st.binary(max_size=200))
@example(data=b"a = " + b"[" * 1000 + b"]" * 1000)
def test_arbitrary_bytes_raise_nothing_but_a_station_error(data: bytes) -> None:
    with pytest.raises(StationError):
        load(data)


@given(place=st.floats(0, 1), junk=st.text(max_size=20))
def test_junk_anywhere_in_a_good_file_raises_nothing_but_a_station_error(place: float, junk: str) -> None:
    cut = int(place * len(GOOD))
    try:
        load((GOOD[:cut] + junk + GOOD[cut:]).encode("utf-8", "surrogatepass"))
    except StationError as error:
        assert error.remedy

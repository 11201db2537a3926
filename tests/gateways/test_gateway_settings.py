"""A gateway's file is read whole or refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import GatewayError
from edge.gateways.settings import GatewaySettings, RecipeNumber, load_gateway


def written(folder: Path, text: str) -> Path:
    path = folder / "press-3.toml"
    path.write_text(text)
    return path


def test_an_empty_file_is_a_gateway_of_a_station_on_this_machine(tmp_path: Path) -> None:
    settings = load_gateway(written(tmp_path, ""))
    assert settings.bus.endpoint == "tcp://127.0.0.1:5556" and settings.control_endpoint == "tcp://127.0.0.1:5558"


def test_every_key_is_taken_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    text = """
        name = "press-3"
        [bus]
        endpoint = "tcp://127.0.0.1:6000"
        key = "keys/plc.key_secret"
        server_key = "keys/station.key"
        [plc]
        queue = 4
        [[recipes]]
        number = 3
        product = "bracket"
        revision = 2
        [modbus]
        port = 1502
        word_order = "little"
        [opcua]
        pki = "certificates"
        [mqtt]
        host = "broker"
    """
    settings = load_gateway(written(tmp_path, text))
    assert settings.recipes == (RecipeNumber(3, "bracket", 2),) and settings.plc.queue == 4
    assert settings.bus.key == str(tmp_path / "keys/plc.key_secret") and settings.modbus.word_order == "little"
    assert settings.opcua.pki == str(tmp_path / "certificates") and settings.opcua.users == ""
    assert settings.mqtt.host == "broker" and settings.control_endpoint == "tcp://127.0.0.1:6002"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[modbus]\nprot = 5", "Did you mean `port`?"),
        ("[[recipes]]\nnumber = 1\nproduct = 'a'\nrevison = 2", "Did you mean `revision`?"),
        ("nmae = 'x'", "Did you mean `name`?"),
        ("[modbus]\nport = 70000", "<= 65535"),
        ("[plc]\nqueue = 0", ">= 1"),
        ("[modbus]\nword_order = 'middle'", "middle"),
        (
            "[[recipes]]\nnumber = 1\nproduct = 'a'\n[[recipes]]\nnumber = 1\nproduct = 'b'",
            "recipe number 1 is there twice",
        ),
        ("[[recipes]]\nnumber = 1\nproduct = 'a'\n[[recipes]]\nnumber = 2\nproduct = 'a'\nrevision = 2", "overlap"),
        ("[bus]\nendpoint = 'tcp://127.0.0.1:0'", "is not an endpoint of a station"),
        ("[bus]\nendpoint = 'inproc://x'", "is not an endpoint of a station"),
        ("[bus]\nendpoint = 'tcp://127.0.0.1:65535'", "tcp://127.0.0.1:65536 is not an endpoint"),
        ("[bus]\nkey = 'plc.key_secret'", "bus.key and bus.server_key belong together"),
        ("[mqtt]\ntopic = 'a/#'", "topic"),
        ("not toml", "press-3.toml"),
        ("\x00", "press-3.toml"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(GatewayError) as caught:
        load_gateway(written(tmp_path, text))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="cannot be read"):
        load_gateway(tmp_path / "nothing.toml")


def test_the_checksum_is_the_same_in_another_folder_and_process(tmp_path: Path) -> None:
    assert GatewaySettings().checksum("") == GatewaySettings().checksum("")
    assert 0 <= GatewaySettings().checksum("x") < 2**32

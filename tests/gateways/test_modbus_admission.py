"""Who may connect, who has to go when it is full, and who may write. Time is what the test says."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import msgspec
import pytest

from edge.errors import GatewayError
from edge.gateways.modbus.admission import Admission, PacedLog
from edge.gateways.settings import GatewaySettings, ModbusSettings, PlcSettings


@dataclass(eq=False)
class FakePeer:
    name: str
    asked: int = 0
    heard_s: float = 0.0


def admission(heartbeat_ms: float = 2_000.0, **modbus: object) -> Admission:
    settings = msgspec.convert({"modbus": modbus}, GatewaySettings)
    return Admission(msgspec.structs.replace(settings, plc=PlcSettings(heartbeat_ms=heartbeat_ms)))


@pytest.mark.parametrize(
    ("allow", "address", "admitted"),
    [
        ([], "203.0.113.9", True),
        (["192.168.0.10"], "192.168.0.10", True),
        (["192.168.0.10"], "192.168.0.11", False),
        (["192.168.0.0/24", "10.0.0.1"], "192.168.0.11", True),
        (["192.168.0.0/24", "10.0.0.1"], "10.0.0.1", True),
        (["192.168.0.10"], "::ffff:192.168.0.10", True),
        (["192.168.0.10"], "::1", False),
        (["fe80::/10"], "fe80::1%eth0", True),
    ],
)
def test_only_those_on_the_list_may_connect(allow: list[str], address: str, admitted: bool) -> None:
    assert admission(allow=allow).admits(address) is admitted


@pytest.mark.parametrize("entry", ["plc-1", "192.168.0.300", "192.168.0.10/24", "", "192.168.0.*"])
def test_an_entry_that_is_no_address_is_an_error_and_not_a_guess(entry: str) -> None:
    with pytest.raises(GatewayError, match=r"modbus\.allow: .* is no address"):
        admission(allow=[entry])


def test_when_it_is_full_the_one_that_was_silent_longest_goes() -> None:
    door = admission(connections=2)
    old, fresh, new = FakePeer("old", 5, 1.0), FakePeer("fresh", 5, 9.0), FakePeer("new", 0, 10.0)
    assert door.enter(fresh, 0.0) is None
    assert door.enter(old, 0.0) is None
    assert door.enter(new, 10.0) is old


def test_those_that_never_asked_go_before_those_that_did() -> None:
    door = admission(connections=2)
    reader, idler, new = FakePeer("reader", 5, 1.0), FakePeer("idler", 0, 9.0), FakePeer("new", 0, 10.0)
    door.enter(reader, 0.0)
    door.enter(idler, 0.0)
    assert door.enter(new, 10.0) is idler


def test_whoever_owns_the_command_block_stays_and_if_nobody_else_is_there_the_new_one_goes() -> None:
    door = admission(connections=1)
    plc, new = FakePeer("plc"), FakePeer("new", 0, 1.0)
    door.enter(plc, 0.0)
    door.wrote(plc, 0.0)
    assert door.enter(new, 1.0) is new
    assert door.enter(new, 1.0) is new


def test_a_plc_that_died_without_a_word_does_not_keep_its_successor_out() -> None:
    door = admission(connections=1)
    dead, new = FakePeer("dead", 9, 0.0), FakePeer("new", 0, 2.5)
    door.enter(dead, 0.0)
    door.wrote(dead, 0.0)
    assert door.enter(new, 2.5) is dead
    assert door.may_write(new, 2.5)


def test_whoever_writes_first_owns_the_command_block_until_it_leaves() -> None:
    door = admission()
    one, other = FakePeer("one"), FakePeer("other")
    assert door.may_write(one, 0.0)
    assert door.wrote(one, 0.0)
    assert not door.may_write(other, 1.0)
    assert door.may_write(one, 1.0)
    assert not door.wrote(one, 1.0)
    door.leave(one)
    assert door.may_write(other, 1.0)


@pytest.mark.parametrize(("heartbeat_ms", "until_s"), [(0.0, 2.0), (500.0, 2.0), (2_000.0, 2.0), (10_000.0, 10.0)])
def test_an_owner_that_writes_nothing_for_long_loses_the_block(heartbeat_ms: float, until_s: float) -> None:
    door = admission(heartbeat_ms)
    one, other = FakePeer("one"), FakePeer("other")
    door.wrote(one, 5.0)
    assert not door.may_write(other, 5.0 + until_s)
    assert door.may_write(other, 5.001 + until_s)
    assert door.wrote(other, 5.001 + until_s)
    assert not door.may_write(one, 5.002 + until_s)


def test_a_flood_is_logged_once_a_second_with_what_was_left_out(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    paced = PacedLog(logging.getLogger("linegate.test"), lambda: now)
    with caplog.at_level(logging.INFO):
        for tenth in range(25):
            now = tenth / 10
            paced.note("connection_refused", address="203.0.113.9")
        paced.note("another", address="203.0.113.9")
    told = [(record.getMessage(), record.__dict__["linegate_fields"]["left_out"]) for record in caplog.records]
    assert told == [
        ("connection_refused", 0),
        ("connection_refused", 9),
        ("connection_refused", 9),
        ("another", 0),
    ]


def test_settings_without_a_list_let_everybody_in() -> None:
    assert ModbusSettings().allow == ()

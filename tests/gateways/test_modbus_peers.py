"""Clients that we did not write: `mbpoll`, and libmodbus in a PLC in C that is built with the map as it is printed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.gateways.codes import JudgementCode, OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.modbus.layout import COMMAND_FIELD, STATUS_FIELD, STATUS_SIZE, Order, decode_status
from edge.gateways.settings import ModbusSettings, PlcSettings
from edge.types import Judgement
from tests.gateways.modbus_peer import (
    Client,
    Gateway,
    MissingError,
    PlcProcess,
    build_plc,
    mbpoll,
    online_plc,
    registers_in,
    running_gateway,
)
from tests.gateways.station import FakeStation, settings_for

LONG_MS = 60_000.0
HOST = "127.0.0.1"


@pytest.fixture
def gateway(station: FakeStation) -> Iterator[Gateway]:
    with running_gateway(settings_for(station)) as running:
        yield running


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The PLC in C."""
    try:
        return build_plc(tmp_path_factory.mktemp("plc"))
    except MissingError as missing:
        pytest.skip(str(missing))


# mbpoll


@pytest.mark.parametrize("kind", ["3", "4"])
def test_mbpoll_reads_the_whole_block_in_one_go(station: FakeStation, gateway: Gateway, kind: str) -> None:
    with online_plc(gateway) as plc:
        message = station.judge(Judgement.NOT_OK, part_id="A-17", score=2.5)
        plc.until(result_valid=True)
        status, said = mbpoll(gateway.port, "-t", kind, "-r", "0", "-c", str(STATUS_SIZE), HOST)
        assert status == 0, said
        registers = registers_in(said)
        assert list(registers) == list(range(STATUS_SIZE))
        values = decode_status(list(registers.values()), Order())
        assert (values["part_id"], values["judgement"], values["score"]) == ("A-17", JudgementCode.NOT_OK, 2.5)
        assert values["station_seq"] == message.seq


def test_mbpoll_reads_a_value_of_two_registers_as_a_number(station: FakeStation, gateway: Gateway) -> None:
    with online_plc(gateway) as plc:
        station.judge(latency_us=70_001)
        plc.until(result_valid=True)
        address = STATUS_FIELD["latency"].address
        status, said = mbpoll(gateway.port, "-t", "4:int", "-B", "-r", str(address), HOST)
        assert (status, registers_in(said)) == (0, {address: 70_001})


def test_mbpoll_acknowledges_a_result(station: FakeStation) -> None:
    # Without a heartbeat, so that mbpoll may be the only one that writes.
    settings = settings_for(station, plc=PlcSettings(heartbeat_ms=0, ack_ms=LONG_MS))
    with running_gateway(settings) as gateway, Client(gateway.port) as screen:
        screen.until(beats=False, online=True)
        station.judge(part_id="one")
        station.judge(part_id="two")
        held = screen.until(beats=False, queue_depth=2)
        ack = str(COMMAND_FIELD["ack_number"].address)
        status, said = mbpoll(gateway.port, "-t", "4", "-r", ack, HOST, str(held["result_number"]))
        assert (status, "Written 1 references" in said) == (0, True), said
        assert screen.status()["part_id"] == "two"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["-t", "4", "-r", "0", HOST, "1"], "Illegal data address"),
        (["-t", "4", "-r", "205", HOST, "1"], "Illegal data address"),
        (["-t", "4", "-r", "300", "-c", "1", HOST], "Illegal data address"),
        (["-t", "4", "-r", "80", "-c", "10", HOST], "Illegal data address"),
        (["-t", "0", "-r", "0", HOST], "Illegal function"),
        (["-t", "1", "-r", "0", HOST], "Illegal function"),
        (["-t", "0", "-r", "200", HOST, "1"], "Illegal function"),
    ],
)
def test_mbpoll_is_told_what_it_may_not_do(gateway: Gateway, words: list[str], answer: str) -> None:
    status, said = mbpoll(gateway.port, *words)
    assert (status, answer in said) == (1, True), said


def test_mbpoll_of_another_unit_is_told_so(station: FakeStation) -> None:
    with running_gateway(settings_for(station, modbus=ModbusSettings(port=0, unit_id=17))) as gateway:
        status, said = mbpoll(gateway.port, "-a", "18", "-t", "4", "-r", "0", HOST)
        assert (status, "Target device failed to respond" in said) == (1, True), said
        assert mbpoll(gateway.port, "-a", "17", "-t", "4", "-r", "0", HOST)[0] == 0


def test_mbpoll_as_a_second_master_is_told_that_the_block_is_taken(gateway: Gateway) -> None:
    with Client(gateway.port) as master:
        master.beat()
        status, said = mbpoll(gateway.port, "-t", "4", "-r", "200", HOST, "5")
        assert (status, "Slave device or server is busy" in said) == (1, True), said


# libmodbus


def test_the_plc_sees_every_result_once_and_in_order(station: FakeStation, gateway: Gateway, program: Path) -> None:
    with PlcProcess(program, gateway.port, "--poll-ms", "2", "--results", "60") as plc:
        plc.next("state", online="1")
        for number in range(60):
            judgement = Judgement.NOT_OK if number % 3 else Judgement.OK
            station.judge(judgement, part_id=f"Teil {number}")
            # As fast as it takes them, so that the queue holds.
            plc.next("result", part=f"Teil {number}")
        sums = plc.next("done")
        results = plc.all("result")
        assert [result["part"] for result in results] == [f"Teil {number}" for number in range(60)]
        assert [result["accept"] for result in results] == ["0" if number % 3 else "1" for number in range(60)]
        assert [result["seq"] for result in results] == [str(seq) for seq in range(1, 61)]
        assert (sums["results"], sums["torn"], sums["gaps"], sums["overwritten"]) == ("60", "0", "0", "0")


@pytest.mark.parametrize("byte", ["big", "little"])
@pytest.mark.parametrize("word", ["big", "little"])
def test_the_plc_triggers_with_part_ids_in_any_order_of_bytes(
    station: FakeStation, program: Path, byte: str, word: str
) -> None:
    modbus = ModbusSettings(port=0, byte_order=byte, word_order=word)  # type: ignore[arg-type]
    words = [f"--little-{name}s" for name, order in (("byte", byte), ("word", word)) if order == "little"]
    plays = ["--poll-ms", "2", "--trigger-ms", "1", "--part", "A-", "--results", "5", *words]
    with (
        running_gateway(settings_for(station, modbus=modbus)) as gateway,
        PlcProcess(program, gateway.port, *plays) as plc,
    ):
        plc.next("done")
        results = plc.all("result")
        assert [(result["trigger"], result["part"]) for result in results] == [
            (str(number), f"A-{number}") for number in range(1, 6)
        ]
        assert {(result["score"], result["epoch"]) for result in results} == {("1000", str(station.epoch))}
        assert {taken["status"] for taken in plc.all("taken")} == {str(int(TriggerStatus.TAKEN))}
        assert [trigger.part_id for trigger in station.triggers] == [f"A-{number}" for number in range(1, 6)]


def test_a_plc_that_is_started_again_triggers_the_next_part(
    station: FakeStation, gateway: Gateway, program: Path
) -> None:
    plays = ["--poll-ms", "2", "--trigger-ms", "1", "--results", "2"]
    for _ in range(2):
        with PlcProcess(program, gateway.port, *plays) as plc:
            plc.next("done")
            assert [result["accept"] for result in plc.all("result")] == ["1", "1"]
    # What a client writes first may be from long ago: it is told that its first trigger was not taken.
    assert [trigger.part_id for trigger in station.triggers] == ["part-1", "part-2", "part-4", "part-5"]


@pytest.mark.parametrize(
    ("number", "status", "active"), [(2, RecipeStatus.ACTIVE, 2), (9, RecipeStatus.UNKNOWN_NUMBER, 1)]
)
def test_the_plc_changes_the_recipe_by_its_number(
    gateway: Gateway, program: Path, number: int, status: RecipeStatus, active: int
) -> None:
    with Client(gateway.port) as screen:
        screen.until(beats=False, recipe_number=1)
    with PlcProcess(program, gateway.port, "--recipe", str(number)) as plc:
        told = plc.next("recipe")
        assert (told["status"], told["active"]) == (str(int(status)), str(active))
        if status is RecipeStatus.ACTIVE:
            plc.next("state", online="1")
        else:
            plc.next("state", online="0", reason=str(int(OnlineReason.RECIPE_DIFFERS)))


def test_a_plc_that_stalls_finds_the_overrun_latched_and_nothing_overwritten_or_accepted(
    station: FakeStation, program: Path
) -> None:
    settings = settings_for(station, plc=PlcSettings(heartbeat_ms=LONG_MS, ack_ms=LONG_MS, queue=4))
    plays = ["--poll-ms", "2", "--stall-after", "1", "--stall-s", "1", "--reset"]
    with running_gateway(settings) as gateway, Client(gateway.port) as screen:
        with PlcProcess(program, gateway.port, *plays) as plc:
            plc.next("state", online="1")
            station.judge(part_id="before")
            plc.next("result", part="before", accept="1")
            # It is acknowledged before the stall.
            screen.until(beats=False, queue_depth=0)
            for number in range(8):
                station.judge(part_id=f"held {number}")
            screen.until(beats=False, overrun=True, queue_depth=4)
            plc.next("state", overrun="1", online="0")
            held = [plc.next("result") for _ in range(4)]
            assert plc.all("state")[-1]["overrun"] == "0"
            station.judge(part_id="after")
            plc.next("result", part="after", accept="1")
            sums = plc.stop()
        assert [(result["part"], result["accept"]) for result in held] == [(f"held {n}", "0") for n in range(4)]
        assert {result["reason"] for result in held} == {str(int(ReasonCode.OVERRUN))}
        # One gap: the four that found no room.
        assert (sums["results"], sums["overwritten"], sums["torn"], sums["gaps"]) == ("6", "0", "0", "1")


def test_the_plc_sees_a_station_that_falls_silent_and_comes_back(
    station: FakeStation, gateway: Gateway, program: Path
) -> None:
    with PlcProcess(program, gateway.port, "--poll-ms", "2", "--keep") as plc:
        plc.next("state", online="1")
        station.judge(part_id="held")
        plc.next("result", part="held", accept="1")
        station.hush()
        plc.next("state", online="0", reason=str(int(OnlineReason.BUS_SILENT)))
        station.speak()
        plc.next("state", online="1")
        assert plc.stop()["overwritten"] == "0"


def test_the_plc_sees_a_gateway_that_ends_and_another_one_that_begins(station: FakeStation, program: Path) -> None:
    with running_gateway(settings_for(station)) as gateway:
        plc = PlcProcess(program, gateway.port, "--poll-ms", "2", "--patient")
        port = gateway.port
        with plc:
            session = plc.next("state", online="1")["session"]
            gateway.close()
            plc.next("state", online="0", reason="-1")
            with running_gateway(settings_for(station, modbus=ModbusSettings(port=port))):
                assert plc.next("state", online="1")["session"] != session
                station.judge(part_id="again")
                plc.next("result", part="again", accept="1")
                assert plc.stop()["gaps"] == "0"

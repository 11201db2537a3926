"""What may be read and written, in which order of bytes and words, and that nothing is read torn."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import pytest

from edge.gateways.modbus.layout import (
    COMMAND_FIELD,
    COMMAND_SIZE,
    COMMAND_START,
    STATUS_FIELD,
    STATUS_SIZE,
    Order,
    encode_command,
)
from edge.gateways.settings import ModbusSettings
from tests.gateways.modbus_peer import (
    BIG,
    ILLEGAL_ADDRESS,
    Client,
    Gateway,
    Refused,
    frame,
    online_plc,
    read_request,
    running_gateway,
    write_request,
)
from tests.gateways.station import FakeStation, settings_for


@pytest.fixture
def gateway(station: FakeStation) -> Iterator[Gateway]:
    with running_gateway(settings_for(station)) as running:
        yield running


@pytest.fixture
def plc(gateway: Gateway) -> Iterator[Client]:
    """A PLC that is online."""
    with online_plc(gateway) as client:
        yield client


@pytest.mark.parametrize(
    ("address", "count"),
    [
        (0, 1),
        (0, STATUS_SIZE),
        (STATUS_SIZE, 1),
        (COMMAND_START - 1, 2),
        (COMMAND_START, COMMAND_SIZE + 1),
        (COMMAND_START + COMMAND_SIZE, 1),
        (65_535, 1),
        (COMMAND_FIELD["encoder_count"].address, 1),
        (COMMAND_FIELD["encoder_count"].address + 1, 1),
        (COMMAND_FIELD["trigger_part_id"].address, 15),
        (COMMAND_FIELD["trigger_part_id"].address + 1, 16),
        (COMMAND_START, 5),
    ],
)
def test_what_is_not_to_be_written_is_refused_and_nothing_changes(gateway: Gateway, address: int, count: int) -> None:
    with Client(gateway.port) as client:
        client.write(COMMAND_START, [0, 0, 0, 0])
        before = client.read(COMMAND_START, COMMAND_SIZE)
        with pytest.raises(Refused) as refused:
            client.write(address, [21_845] * count)
        assert refused.value.code == ILLEGAL_ADDRESS
        assert client.read(COMMAND_START, COMMAND_SIZE) == before
        assert client.status()["plc_heartbeat_echo"] == 0


@pytest.mark.parametrize(
    ("address", "count"), [(STATUS_SIZE, 1), (0, STATUS_SIZE + 1), (100, 20), (190, 20), (223, 1), (65_535, 2)]
)
def test_registers_that_are_none_cannot_be_read(gateway: Gateway, address: int, count: int) -> None:
    with Client(gateway.port) as client, pytest.raises(Refused) as refused:
        client.read(address, count)
    assert refused.value.code == ILLEGAL_ADDRESS


def test_the_command_block_reads_back_what_was_written(plc: Client) -> None:
    encoder, part_id = encode_command("encoder_count", -5, BIG), encode_command("trigger_part_id", "A-17", BIG)
    block = [7, 0, 0, 0, *encoder, *part_id, 0]
    plc.write(COMMAND_START, block)
    assert plc.read(COMMAND_START, COMMAND_SIZE) == block
    assert plc.read(COMMAND_START, COMMAND_SIZE, function=4) == block


def test_input_registers_show_the_same_as_holding_registers(plc: Client) -> None:
    for address in (COMMAND_START, STATUS_FIELD["session"].address):
        assert plc.read(address, 1, function=4) == plc.read(address, 1, function=3) != [0]


def test_a_write_with_a_read_is_read_after_it_was_written(station: FakeStation, plc: Client) -> None:
    station.judge(part_id="one")
    station.judge(part_id="two")
    held = plc.until(queue_depth=2)
    ack = COMMAND_FIELD["ack_number"].address
    data = read_request(0, STATUS_SIZE)[1:] + write_request(ack, [int(str(held["result_number"]))])[1:]
    answer = plc.ask(b"\x17" + data)
    assert int.from_bytes(answer[2:4], "big") == int(str(held["result_number"])) % 65_535 + 1
    assert plc.status()["part_id"] == "two"


def test_a_write_with_a_read_that_is_illegal_writes_nothing(plc: Client) -> None:
    before = plc.status()["plc_heartbeat_echo"]
    data = read_request(150, 1)[1:] + write_request(COMMAND_START, [4_711])[1:]
    with pytest.raises(Refused) as refused:
        plc.ask(b"\x17" + data)
    assert refused.value.code == ILLEGAL_ADDRESS
    assert plc.status()["plc_heartbeat_echo"] == before


@pytest.mark.parametrize("byte", ["big", "little"])
@pytest.mark.parametrize("word", ["big", "little"])
def test_a_plc_of_any_byte_and_word_order_plays(station: FakeStation, byte: str, word: str) -> None:
    modbus = ModbusSettings(port=0, byte_order=byte, word_order=word)  # type: ignore[arg-type]
    order = Order(byte, word)  # type: ignore[arg-type]
    with running_gateway(settings_for(station, modbus=modbus)) as gateway, online_plc(gateway, order) as plc:
        plc.set(encoder_count=-70_000, trigger_part_id="Teil-№7", trigger_number=3)
        status = plc.until(result_valid=True, trigger_ack_bit=True)
        assert (status["part_id"], status["score"], status["epoch"]) == ("Teil-№7", 0.1, station.epoch)
        assert (station.triggers[0].part_id, station.triggers[0].encoder_count) == ("Teil-№7", -70_000)


def test_no_read_of_the_block_is_torn_while_results_come_and_go(station: FakeStation, gateway: Gateway) -> None:
    ending = threading.Event()
    wanted = 300

    def judge() -> None:
        while not ending.wait(0.002):
            station.judge()

    judging = threading.Thread(target=judge)
    with online_plc(gateway) as plc, Client(gateway.port) as reader:
        judging.start()
        try:
            seen: set[int] = set()
            for turn in itertools.count():
                # The reader's requests and the acknowledging PLC's come in any order.
                reader.socket.sendall(frame(1, read_request(0, STATUS_SIZE)))
                status = plc.status()
                number = int(str(status["result_number"]))
                if number:
                    plc.set(ack_number=number)
                if status["overrun"]:
                    plc.set(command=turn % 2)
                assert reader.answer()[0] == 1
                for read in (status, reader.status()):
                    assert read["result_number"] == read["result_number_end"]
                    assert read["part_id"] == (f"part-{read['station_seq']}" if read["result_valid"] else "")
                    seen.add(int(str(read["station_seq"])))
                plc.beat()
                if len(seen) > wanted:
                    break
        finally:
            ending.set()
            judging.join()

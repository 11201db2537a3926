"""The handshake over OPC UA, with a client that we did not write."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from edge.gateways.codes import FaultCode, OnlineReason, TriggerStatus
from edge.gateways.settings import OpcUaSettings, PlcSettings
from tests.conftest import free_port
from tests.gateways.opcua_peer import Gateway, Message, NodePlc, node_plc, running_gateway
from tests.gateways.station import FakeStation, running_station

PLC = PlcSettings(heartbeat_ms=5_000.0, ack_ms=60_000.0, answer_ms=5_000.0, trigger_ms=30_000.0, queue=2)
OPEN = OpcUaSettings(security="open", anonymous=True)


@pytest.fixture(scope="module")
def station() -> Iterator[FakeStation]:
    """One for all tests here: each leaves it as it was."""
    with running_station(f"tcp://127.0.0.1:{free_port()}") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(station: FakeStation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """An open gateway that holds two results."""
    with running_gateway(station, tmp_path_factory.mktemp("gateway"), OPEN, plc=PLC) as running:
        yield running


@pytest.fixture
def plc(gateway: Gateway) -> Iterator[NodePlc]:
    """A PLC that beats, and does nothing by itself; what others left behind is cleared."""
    with node_plc(gateway, events=["server"]) as running:
        running.ready().take_over()
        yield running


def test_a_result_is_held_until_its_number_is_acknowledged(station: FakeStation, plc: NodePlc) -> None:
    station.judge(part_id="a")
    station.judge(part_id="b")
    first, second = (event["ResultNumber"] for event in plc.collect(2))
    names = ("ResultNumber", "ResultValid", "Accept", "PartId", "QueueDepth", "ResultNumberEnd")
    assert plc.read(*names) == [first, True, True, "a", 2, first]
    assert plc.write(AckNumber=("UInt16", second)) == ["Good"]
    assert plc.read(*names)[:2] == [first, True], "a wrong number releases nothing"
    assert plc.read("FaultCode") == [FaultCode.WRONG_ACK]
    assert plc.call("Handshake.Acknowledge", {"type": "UInt16", "value": first})["outputs"] == [True, True]
    assert plc.read(*names) == [second, True, True, "b", 1, second]
    whole = plc.do("read", nodes=["Handshake.Result"])["values"][0]
    assert (whole["type"], whole["partId"]["id"], whole["resultContent"][0]["value"]) == ("ResultDataType", "b", second)
    assert plc.call("Handshake.Acknowledge", {"type": "UInt16", "value": second})["outputs"] == [True, True]
    assert plc.read(*names) == [0, False, False, "", 0, 0]


def test_an_overrun_latches_withdraws_and_overwrites_nothing(station: FakeStation, plc: NodePlc) -> None:
    for part in "abcd":
        station.judge(part_id=part)
    events = plc.collect(4)
    assert [event["Accept"] for event in events] == [True, True, False, False]
    assert plc.read("Overrun", "Online", "Accept", "PartId") == [True, False, False, "a"]
    for event in events[:2]:
        outputs = plc.call("Handshake.Acknowledge", {"type": "UInt16", "value": event["ResultNumber"]})["outputs"]
        assert outputs == [True, False], "an acceptance does not come back"
    assert plc.read("Overrun", "Online") == [True, False]
    assert plc.call("Handshake.Reset")["status"] == "Good"
    assert plc.read("Overrun", "Online") == [False, True]


def test_a_station_that_falls_silent_takes_the_acceptance_with_it(station: FakeStation, plc: NodePlc) -> None:
    station.judge(part_id="a")
    plc.collect(1)
    assert plc.read("Online", "Accept") == [True, True]
    plc.do("watch", node="Handshake.Accept")
    station.hush()
    plc.until(lambda message: message["what"] == "value" and message["value"] is False)
    assert plc.read("Online", "Accept", "OnlineReason", "PartId") == [False, False, OnlineReason.BUS_SILENT, "a"]
    station.speak()
    plc.wait_for("Online", True)
    assert plc.read("Accept") == [False]


def test_a_trigger_takes_its_part_from_the_same_write_in_any_order(station: FakeStation, plc: NodePlc) -> None:
    done = plc.write(TriggerNumber=("UInt16", 7), TriggerPartId=("String", "p7"), EncoderCount=("Int32", -5))
    assert done == ["Good"] * 3
    event = plc.collect(1)[0]
    assert (event["PartId"]["id"], event["TriggerNumber"]) == ("p7", 7)
    assert [(asked.part_id, asked.encoder_count) for asked in station.triggers[-1:]] == [("p7", -5)]
    assert plc.read("TriggerAck", "TriggerStatus", "TriggerNumberEcho") == [7, TriggerStatus.TAKEN, 7]
    args: list[Message] = [
        {"type": "UInt16", "value": 8},
        {"type": "String", "value": "p8"},
        {"type": "Int32", "value": 1},
    ]
    plc.write(AckNumber=("UInt16", event["ResultNumber"]))
    assert plc.call("Handshake.Trigger", *args)["outputs"] == [TriggerStatus.TAKEN]
    assert plc.collect(2)[1]["PartId"]["id"] == "p8"


def test_what_must_not_be_written_is_not(station: FakeStation, plc: NodePlc) -> None:
    assert plc.write(Accept=("Boolean", True)) == ["BadNotWritable"]
    assert plc.write(Nonsense=("Boolean", True)) == ["BadNodeIdUnknown"]
    assert plc.write(AckNumber=("Int32", 1)) == ["BadTypeMismatch"]
    assert plc.write(Command=("UInt16", 4)) == ["BadOutOfRange"]
    asked = len(station.triggers)
    long = plc.write(TriggerNumber=("UInt16", 9), TriggerPartId=("String", "x" * 33))
    assert long == ["BadInvalidState", "BadOutOfRange"], "half a trigger is none"
    assert plc.do("read", nodes=["Handshake.Nonsense"])["status"] == ["BadNodeIdUnknown"]
    assert plc.call("Handshake.Acknowledge", {"type": "String", "value": "1"})["status"] == "BadInvalidArgument"
    assert plc.call("Handshake.Acknowledge")["status"] == "BadArgumentsMissing"
    assert len(station.triggers) == asked
    assert plc.read("Online") == [True]


def test_one_master_at_a_time(gateway: Gateway, plc: NodePlc) -> None:
    with node_plc(gateway, heartbeatMs=0) as other:
        other.ready()
        assert other.write(Command=("UInt16", 2)) == ["BadUserAccessDenied"]
        assert other.call("Handshake.Reset")["status"] == "BadUserAccessDenied"
        assert other.read("Online") == [True]
        plc.close()
        deadline = time.monotonic() + 30
        while other.write(PlcHeartbeat=("UInt16", 1)) != ["Good"]:
            assert time.monotonic() < deadline


def test_the_numbers_at_both_ends_of_one_read_are_the_same(station: FakeStation, gateway: Gateway) -> None:
    with node_plc(gateway, events=["server"], ack="write") as plc, node_plc(gateway, heartbeatMs=0) as reader:
        plc.ready().take_over()
        reader.ready()
        for _ in range(10):
            station.judge()
            nodes = ["Handshake.ResultNumber", "Handshake.PartId", "Handshake.ResultNumberEnd"]
            assert reader.do("tear", times=30, nodes=nodes)["torn"] == 0
        plc.collect(10)


def test_a_new_session_reads_values_of_now_and_types_of_the_table(plc: NodePlc) -> None:
    names = ["Online", "ResultNumber", "Epoch", "Score", "PartId", "BoxArea", "EncoderCount"]
    read = plc.do("read", nodes=[f"Handshake.{name}" for name in names])
    assert read["types"] == ["Boolean", "UInt16", "UInt64", "Null", "String", "UInt32", "Int32"]
    assert read["status"][3] == "BadNoData"

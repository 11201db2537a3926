"""The handshake as a PLC meets it in the registers: a station on the bus at one end, a Modbus client at the other."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.bus.messages import State
from edge.gateways.codes import FaultCode, JudgementCode, OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.modbus.layout import COMMAND_FIELD, Order, encode_command
from edge.gateways.settings import PlcSettings
from edge.gateways.signals import Value
from edge.types import Judgement, Region
from tests.gateways.modbus_peer import Client, Gateway, online_plc, running_gateway
from tests.gateways.station import FakeStation, settings_for

LONG_MS = 60_000.0
BIG = Order()


@pytest.fixture
def gateway(station: FakeStation) -> Iterator[Gateway]:
    with running_gateway(settings_for(station)) as running:
        yield running


@pytest.fixture
def plc(gateway: Gateway) -> Iterator[Client]:
    """A PLC that is online."""
    with online_plc(gateway) as client:
        yield client


def trigger_block(number: int, part_id: str, encoder_count: int) -> list[int]:
    """The registers from the encoder count to the trigger number."""
    values: dict[str, Value] = {"encoder_count": encoder_count, "trigger_part_id": part_id, "trigger_number": number}
    return [register for name, value in values.items() for register in encode_command(name, value, BIG)]


def test_at_power_on_without_a_station_everything_says_reject(endpoint: str) -> None:
    absent = FakeStation(endpoint)
    absent.close()
    with running_gateway(settings_for(absent)) as gateway, Client(gateway.port) as client:
        status = client.status()
        assert status["status"] == 0
        assert status["online_reason"] == OnlineReason.WAITING
        assert (status["result_number"], status["judgement"], status["score"]) == (0, JudgementCode.NONE, None)
        assert 1 <= int(str(status["session"])) <= 65_535


def test_a_station_is_not_enough_the_plc_must_live_too(gateway: Gateway) -> None:
    with Client(gateway.port) as client:
        client.until(beats=False, online_reason=OnlineReason.PLC_SILENT, online=False)
        client.set(plc_heartbeat=1)
        assert client.status()["online"] is False
        client.set(plc_heartbeat=1)
        assert client.status()["online"] is False
        client.set(plc_heartbeat=2)
        assert client.status()["online"] is True


def test_a_result_is_there_with_all_that_belongs_to_it(station: FakeStation, plc: Client) -> None:
    regions = (Region(1, 2, 3, 4, 10, 1.0), Region(11, 12, 13, 14, 150, 2.0))
    message = station.judge(
        Judgement.NOT_OK,
        part_id="A-17",
        regions=regions,
        score=1.25,
        threshold=1.0,
        trigger_seq=9,
        latency_us=70_000,
        is_simulated=True,
    )
    status = plc.until(result_valid=True)
    wanted = {
        "judgement": JudgementCode.NOT_OK,
        "reason": ReasonCode.DEFECT,
        "accept": False,
        "part_id": "A-17",
        "score": 1.25,
        "threshold": 1.0,
        "region_count": 2,
        "box_x": 11,
        "box_y": 12,
        "box_width": 13,
        "box_height": 14,
        "box_area": 150,
        "station_seq": message.seq,
        "station_trigger": 9,
        "latency": 70_000,
        "epoch": message.epoch,
        "result_recipe": 1,
        "recipe_number": 1,
        "trigger_number_echo": 0,
        "simulated": True,
        "queue_depth": 1,
        "not_ok_count": 1,
    }
    status = plc.wait(lambda found: found["not_ok_count"] == 1)
    assert {name: status[name] for name in wanted} == wanted
    assert status["result_number"] == status["result_number_end"] != 0


def test_a_result_is_held_until_its_number_is_acknowledged(station: FakeStation, plc: Client) -> None:
    first = plc.status()["session"]
    assert isinstance(first, int)
    for name in ("one", "two"):
        station.judge(part_id=name)
    held = plc.until(queue_depth=2)
    assert (held["part_id"], held["accept"], held["result_number"]) == ("one", True, first % 65_535 + 1)
    plc.set(ack_number=0)
    assert plc.status()["part_id"] == "one"
    plc.set(ack_number=held["result_number"])
    after = plc.status()
    assert (after["part_id"], after["queue_depth"]) == ("two", 1)
    assert after["result_number"] == int(str(held["result_number"])) % 65_535 + 1
    # A PLC that writes in cycles repeats itself.
    plc.set(ack_number=held["result_number"])
    assert plc.status()["part_id"] == "two"
    plc.set(ack_number=after["result_number"])
    last = plc.status()
    assert (last["result_valid"], last["accept"], last["result_number"], last["part_id"]) == (False, False, 0, "")
    assert last["wrong_ack_count"] == 0


def test_a_wrong_number_releases_nothing_and_is_a_fault(station: FakeStation, plc: Client) -> None:
    station.judge(part_id="one")
    number = plc.until(result_valid=True)["result_number"]
    plc.set(ack_number=int(str(number)) % 65_535 + 1)
    status = plc.status()
    assert (status["result_number"], status["part_id"]) == (number, "one")
    assert (status["wrong_ack_count"], status["fault_code"], status["fault"]) == (1, FaultCode.WRONG_ACK, True)
    plc.set(command=1)
    assert plc.status()["fault"] is False


def test_an_overrun_is_latched_overwrites_nothing_and_accepts_nothing_until_reset(station: FakeStation) -> None:
    settings = settings_for(station, plc=PlcSettings(heartbeat_ms=LONG_MS, ack_ms=LONG_MS, queue=3))
    with running_gateway(settings) as gateway, online_plc(gateway) as plc:
        for part in range(3):
            station.judge(part_id=f"held-{part}")
        before = plc.until(queue_depth=3)
        assert (before["accept"], before["part_id"]) == (True, "held-0")
        station.judge(part_id="too many")
        status = plc.until(overrun=True)
        assert (status["online"], status["online_reason"]) == (False, OnlineReason.OVERRUN)
        for part in range(3):
            status = plc.status()
            assert (status["part_id"], status["accept"]) == (f"held-{part}", False)
            assert status["reason"] == ReasonCode.OVERRUN
            plc.set(ack_number=status["result_number"])
        status = plc.status()
        assert (status["overrun"], status["overrun_count"], status["queue_depth"]) == (True, 1, 0)
        assert (status["ready"], status["fault_code"]) == (False, FaultCode.OVERRUN)
        plc.set(command=1)
        status = plc.status()
        assert (status["overrun"], status["online"]) == (False, True)
        plc.set(command=0)
        station.judge(part_id="fine again")
        status = plc.until(result_valid=True)
        assert (status["part_id"], status["accept"]) == ("fine again", True)
        # The one that found no room had a number, so that the PLC sees a gap.
        assert (int(str(status["result_number"])) - int(str(before["result_number"]))) % 65_535 == 4


def test_reset_counts_only_when_it_rises(station: FakeStation, plc: Client) -> None:
    plc.set(command=1)
    session = plc.status()["session"]
    assert isinstance(session, int)
    plc.set(ack_number=(session + 7) % 65_535 + 1)
    assert plc.status()["fault"] is True
    plc.set(command=1)
    assert plc.status()["fault"] is True
    plc.set(command=0)
    plc.set(command=1)
    assert plc.status()["fault"] is False


def test_stop_accepts_nothing_while_it_is_set(station: FakeStation, plc: Client) -> None:
    station.judge()
    assert plc.until(result_valid=True)["accept"] is True
    plc.set(command=2)
    status = plc.status()
    assert (status["online_reason"], status["accept"]) == (OnlineReason.STOPPED, False)
    plc.set(command=0)
    status = plc.status()
    assert (status["online"], status["accept"], status["reason"]) == (True, False, ReasonCode.NOT_ONLINE)


@pytest.mark.parametrize("how", ["hushed", "halted", "restarted", "observing"])
def test_a_station_that_goes_takes_the_acceptance_with_it(station: FakeStation, plc: Client, how: str) -> None:
    station.judge(part_id="one")
    held = plc.until(result_valid=True)
    assert held["accept"] is True
    if how == "hushed":
        station.hush()
    elif how == "halted":
        station.state(State.HALTED)
    elif how == "restarted":
        station.restart()
    else:
        station.observe()
    status = plc.wait(lambda found: found["accept"] is False)
    assert (status["part_id"], status["result_number"]) == ("one", held["result_number"])
    assert status["reason"] != ReasonCode.NONE
    if how == "hushed":
        assert (status["online_reason"], status["fault_code"]) == (OnlineReason.BUS_SILENT, FaultCode.BUS_SILENT)
        station.speak()
    if how in ("hushed", "restarted"):
        status = plc.until(online=True)
        assert status["accept"] is False


def test_a_plc_that_stops_beating_is_noticed_by_whoever_reads(station: FakeStation) -> None:
    settings = settings_for(station, plc=PlcSettings(heartbeat_ms=300.0, ack_ms=LONG_MS))
    with running_gateway(settings) as gateway, online_plc(gateway) as plc, Client(gateway.port) as screen:
        station.judge()
        assert plc.wait(lambda found: found["result_valid"] is True)["accept"] is True
        status = screen.until(beats=False, online=False)
        assert (status["online_reason"], status["accept"]) == (OnlineReason.PLC_SILENT, False)
        assert status["plc_alive"] is False


@pytest.mark.parametrize("writes", ["one by one", "all at once"])
def test_a_trigger_takes_its_part_id_to_the_station_and_its_result_back(
    station: FakeStation, plc: Client, writes: str
) -> None:
    if writes == "one by one":
        plc.set(encoder_count=-5, trigger_part_id="A-17", trigger_number=7)
    else:
        plc.write(COMMAND_FIELD["encoder_count"].address, trigger_block(7, "A-17", -5))
    status = plc.until(result_valid=True, trigger_ack_bit=True)
    assert (status["trigger_ack"], status["trigger_status"]) == (7, TriggerStatus.TAKEN)
    assert (status["part_id"], status["trigger_number_echo"], status["accept"]) == ("A-17", 7, True)
    (trigger,) = station.triggers
    assert (trigger.part_id, trigger.encoder_count) == ("A-17", -5)


def test_without_an_encoder_count_the_trigger_has_none(station: FakeStation, plc: Client) -> None:
    plc.set(trigger_number=1)
    plc.until(result_valid=True)
    assert station.triggers[0].encoder_count is None


def test_the_same_trigger_number_again_is_no_trigger(station: FakeStation, plc: Client) -> None:
    block = trigger_block(7, "A-17", 0)
    for _ in range(5):
        plc.write(COMMAND_FIELD["encoder_count"].address, block)
    number = plc.until(result_valid=True)["result_number"]
    plc.write(COMMAND_FIELD["encoder_count"].address, block)
    plc.set(ack_number=number, trigger_number=8)
    assert plc.until(result_valid=True)["trigger_number_echo"] == 8
    assert len({command.trigger_id for command in station.triggers}) == 2


def test_a_refused_trigger_is_told_and_gets_no_result(station: FakeStation, plc: Client) -> None:
    station.refuses = "no"
    plc.set(trigger_number=1)
    status = plc.until(trigger_status=TriggerStatus.REFUSED)
    assert (status["trigger_ack"], status["trigger_ack_bit"], status["result_valid"]) == (1, False, False)
    assert (status["missed_triggers"], status["fault_code"]) == (1, FaultCode.TRIGGER_MISSED)


def test_a_trigger_while_another_waits_is_not_taken(station: FakeStation, plc: Client) -> None:
    station.judges_triggers = False
    plc.set(trigger_number=1)
    status = plc.until(trigger_status=TriggerStatus.TAKEN)
    assert (status["busy"], status["ready"]) == (True, False)
    plc.set(trigger_number=2)
    status = plc.status()
    assert (status["trigger_ack"], status["trigger_status"]) == (2, TriggerStatus.NOT_READY)


def test_a_recipe_number_that_nobody_knows_changes_nothing_and_rejects(station: FakeStation, plc: Client) -> None:
    plc.set(recipe_wanted=9)
    status = plc.status()
    assert (status["recipe_status"], status["recipe_wanted_echo"]) == (RecipeStatus.UNKNOWN_NUMBER, 9)
    assert (status["recipe_number"], status["online"]) == (1, False)
    assert status["fault_code"] == FaultCode.RECIPE_UNKNOWN
    station.judge()
    assert plc.until(result_valid=True)["accept"] is False
    assert station.prepared == []


def test_a_changeover_rejects_until_the_other_recipe_is_active(station: FakeStation, plc: Client) -> None:
    old_hash = plc.status()["recipe_hash"]
    station.judge(part_id="old")
    assert plc.until(result_valid=True)["accept"] is True
    plc.set(recipe_wanted=2)
    assert plc.status()["accept"] is False
    status = plc.until(recipe_number=2, recipe_status=RecipeStatus.ACTIVE, online=True)
    assert (status["accept"], status["reason"]) == (False, ReasonCode.WRONG_RECIPE)
    assert status["recipe_hash"] == int("e" * 16, 16) != old_hash
    plc.set(ack_number=status["result_number"])
    station.judge(part_id="new")
    status = plc.until(result_valid=True)
    assert (status["part_id"], status["accept"], status["result_recipe"]) == ("new", True, 2)

"""State machine, results and recipes of the vision system, with a client that we did not write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from edge.bus.messages import State
from edge.gateways.codes import OnlineReason, RecipeStatus
from edge.gateways.opcua.methods import MethodError
from edge.gateways.settings import OpcUaSettings
from edge.types import Judgement
from tests.conftest import free_port
from tests.gateways.opcua_peer import Gateway, Message, NodePlc, node_plc, running_gateway
from tests.gateways.station import FakeStation, running_station

TOP = "VisionSystem.VisionStateMachine"
MODE = f"{TOP}.AutomaticModeStateMachine"
RESULTS, RECIPES = "VisionSystem.ResultManagement", "VisionSystem.RecipeManagement"
NO_REASON: tuple[Message, ...] = ({"type": "Int32", "value": 0}, {"type": "String", "value": "test"})
NULL: Message = {"type": "ExtensionObject", "value": None}
MEAS, PART, EXTERNAL, INTERNAL, PRODUCT, JOB, RESULT_ID = 3015, 3004, 3002, 3013, 3003, 3016, 3021


@pytest.fixture(scope="module")
def station() -> Iterator[FakeStation]:
    """One for all tests here: each leaves it as it was."""
    with running_station(f"tcp://127.0.0.1:{free_port()}") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(station: FakeStation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """An open gateway that remembers ten results."""
    settings = OpcUaSettings(security="open", anonymous=True, results=10)
    with running_gateway(station, tmp_path_factory.mktemp("gateway"), settings) as running:
        yield running


@pytest.fixture
def plc(station: FakeStation, gateway: Gateway) -> Iterator[NodePlc]:
    """A PLC that acknowledges what comes."""
    station.refuses = ""
    with node_plc(gateway, events=["vision"], ack="call") as running:
        running.ready().take_over()
        yield running


def states(plc: NodePlc) -> list[Any]:
    """Of the two state machines."""
    return list(plc.do("read", nodes=[f"{TOP}.CurrentState", f"{MODE}.CurrentState"])["values"])


def changed_to(plc: NodePlc, state: str) -> Message:
    """The event that says so."""
    return plc.until(lambda message: message["what"] == "event" and message["ToState"] == state)


def of(kind: int, identifier: str) -> Message:
    """An identifying structure."""
    return {"structure": kind, "value": {"id": identifier}}


def job(part: str = "") -> tuple[Message, ...]:
    """The inputs of StartSingleJob."""
    return (NULL, of(PART, part), NULL, NULL, {"type": "Variant", "value": [], "array": True})


def test_the_state_machine_follows_the_station_and_says_so(station: FakeStation, plc: NodePlc) -> None:
    names = [text["text"] for text in states(plc)]
    assert names == ["Operational", "ContinuousExecution"]
    station.state(State.INITIALIZED)
    event = changed_to(plc, "Initialized")
    assert event["FromState"] == "ContinuousExecution"
    station.state(State.CONTINUOUS_EXECUTION)
    changed_to(plc, "ContinuousExecution")
    station.hush()
    assert changed_to(plc, "Error")["Transition"] == "OperationalToErrorAuto"
    assert plc.call(f"{MODE}.StartSingleJob", *job())["status"] == "BadInvalidState"
    station.speak()
    changed_to(plc, "Operational")


def test_stop_halt_and_reset_do_what_they_say(station: FakeStation, plc: NodePlc) -> None:
    assert plc.call(f"{MODE}.Stop", *NO_REASON) | {"id": 0} == {
        "what": "answer",
        "id": 0,
        "status": "Good",
        "outputs": [0],
    }
    assert [text["text"] for text in states(plc)] == ["Operational", "Ready"]
    station.judge(part_id="stopped")
    assert plc.collect(1, "vision")[0]["Accept"] is False
    assert plc.call(f"{MODE}.StartContinuous", *job())["outputs"][1] == MethodError.NONE
    plc.wait_for("Online", True)
    assert plc.call(f"{TOP}.Halt", *NO_REASON)["outputs"] == [0]
    assert plc.write(Command=("UInt16", 0)) == ["Good"]
    assert states(plc)[0]["text"] == "Halted"
    assert plc.call(f"{RECIPES}.PrepareRecipe", of(EXTERNAL, "bracket"), NULL)["status"] == "BadInvalidState"
    assert plc.call(f"{MODE}.Stop", *NO_REASON)["outputs"] == [0]
    assert plc.read("RecipeWanted", "Online") == [0, False]
    assert plc.call(f"{MODE}.StartContinuous", *job())["status"] == "BadInvalidState"
    assert plc.read("Online") == [False]
    assert plc.call(f"{TOP}.Reset", *NO_REASON)["outputs"] == [0]
    plc.wait_for("Online", True)
    simulate: list[Message] = [{"type": "Boolean", "value": True}, *NO_REASON]
    assert plc.call(f"{MODE}.SimulationMode", *simulate)["outputs"] == [MethodError.NOT_SUPPORTED]
    configure = plc.call("VisionSystem.ConfigurationManagement.GetConfigurationList")
    assert configure["status"] == "BadNotSupported"


def test_a_stop_by_method_and_the_plcs_own_are_two(plc: NodePlc) -> None:
    assert plc.call(f"{MODE}.Stop", *NO_REASON)["outputs"] == [0]
    for _ in range(3):
        assert plc.write(Command=("UInt16", 0)) == ["Good"]
        assert plc.read("Online") == [False], "a cyclic 0 is no start"
    assert plc.write(Command=("UInt16", 2)) == ["Good"]
    assert plc.call(f"{MODE}.StartContinuous", *job())["outputs"][1] == MethodError.NONE
    assert plc.read("Online") == [False], "the PLC still says stop"
    assert plc.write(Command=("UInt16", 0)) == ["Good"]
    plc.wait_for("Online", True)


def test_a_stop_during_an_error_outlasts_it(station: FakeStation, plc: NodePlc) -> None:
    station.hush()
    changed_to(plc, "Error")
    assert plc.call(f"{MODE}.Stop", *NO_REASON)["outputs"] == [0]
    station.speak()
    changed_to(plc, "Operational")
    assert plc.read("Online", "OnlineReason") == [False, OnlineReason.STOPPED]
    assert plc.call(f"{MODE}.StartContinuous", *job())["outputs"][1] == MethodError.NONE
    plc.wait_for("Online", True)


def test_a_single_job_names_the_job_of_its_result(station: FakeStation, plc: NodePlc) -> None:
    started = plc.call(f"{MODE}.StartSingleJob", *job("p1"))
    assert started["outputs"][1] == MethodError.NONE
    assert started["outputs"][0]["type"] == "JobIdDataType"
    event = plc.collect(1, "vision")[0]
    assert (event["JobId"]["id"], event["PartId"]["id"]) == (started["outputs"][0]["id"], "p1")
    assert event["TriggerNumber"] == 0
    plc.wait_for("Ready", True)
    station.refuses = "not now"
    assert plc.call(f"{MODE}.StartSingleJob", *job("p2"))["outputs"][1] == MethodError.REFUSED


def test_a_single_job_makes_no_new_trigger_of_the_plcs_old_number(station: FakeStation, plc: NodePlc) -> None:
    plc.write(TriggerNumber=("UInt16", 7), TriggerPartId=("String", "p7"))
    plc.collect(1, "vision")
    plc.wait_for("Ready", True)
    assert plc.call(f"{MODE}.StartSingleJob", *job("p8"))["outputs"][1] == MethodError.NONE
    plc.collect(2, "vision")
    plc.wait_for("Ready", True)
    asked = len(station.triggers)
    plc.write(TriggerNumber=("UInt16", 7), TriggerPartId=("String", "p7"))
    plc.write(TriggerNumber=("UInt16", 8), TriggerPartId=("String", "p9"))
    assert plc.collect(3, "vision")[2]["PartId"]["id"] == "p9"
    assert [trigger.part_id for trigger in station.triggers[asked:]] == ["p9"]


def test_results_can_be_asked_for_and_are_typed(station: FakeStation, plc: NodePlc) -> None:
    for part in range(12):
        station.judge(Judgement.OK if part % 2 else Judgement.NOT_OK, part_id=f"p{part}")
        plc.collect(part + 1, "vision")
    last = plc.events("vision")[-1]["ResultId"]["id"]
    never = {"type": "Int32", "value": 0}
    handle, result, error = plc.call(f"{RESULTS}.GetResultById", of(RESULT_ID, last), never)["outputs"]
    assert (result["type"], result["partId"]["id"], result["isSimulated"], error) == ("ResultDataType", "p11", False, 0)
    assert plc.call(f"{RESULTS}.ReleaseResultHandle", {"type": "UInt32", "value": handle})["outputs"] == [0]
    first = plc.events("vision")[0]["ResultId"]["id"]
    forgotten = plc.call(f"{RESULTS}.GetResultById", of(RESULT_ID, first), never)["outputs"]
    assert forgotten[1:] == [None, MethodError.UNKNOWN_RESULT]
    components = plc.call(f"{RESULTS}.GetResultComponentsById", of(RESULT_ID, last), never)["outputs"]
    assert components[6]["id"] == "p11"

    def listed(*, most: int = 0, **filters: Message) -> list[Any]:
        names = ("meas", "part", "external", "internal", "x", "y", "product", "job")
        inputs = [filters.get(name, NULL) for name in names]
        numbers = [{"type": "UInt32", "value": most}, {"type": "UInt32", "value": 0}, never]
        answer = plc.call(f"{RESULTS}.GetResultListFiltered", never, *inputs, *numbers)
        return list(answer["outputs"])

    assert [r["partId"]["id"] for r in listed()[3]] == [f"p{part}" for part in range(11, 1, -1)]
    assert [r["partId"]["id"] for r in listed(most=2)[3]] == ["p11", "p10"]
    assert listed(most=2)[0] is False
    assert [r["partId"]["id"] for r in listed(part=of(PART, "p5"))[3]] == ["p5"]
    assert listed(external=of(EXTERNAL, "bracket"))[1] == 0


def test_a_recipe_is_prepared_by_name_or_number_and_an_unknown_one_changes_nothing(
    station: FakeStation, plc: NodePlc
) -> None:
    unknown = plc.call(f"{RECIPES}.PrepareRecipe", of(EXTERNAL, "nut"), NULL)["outputs"]
    assert unknown == [None, False, MethodError.UNKNOWN_RECIPE]
    assert plc.read("RecipeNumber", "Online") == [1, True]
    known = plc.call(f"{RECIPES}.PrepareRecipe", of(EXTERNAL, "bracket"), NULL)["outputs"]
    assert (known[0]["type"], known[0]["id"], known[2]) == ("RecipeIdInternalDataType", "2", MethodError.NONE)
    plc.wait_for("RecipeStatus", RecipeStatus.ACTIVE)
    assert plc.read("RecipeNumber", "Online") == [2, True]
    plc.until(lambda message: message["what"] == "event" and (message["ExternalId"] or {}).get("id") == "bracket")
    assert plc.call(f"{RECIPES}.PrepareRecipe", NULL, of(INTERNAL, "1"))["outputs"][2] == MethodError.NONE
    plc.wait_for("RecipeNumber", 1)
    station.refuses = "no"
    failed = plc.call(f"{RECIPES}.PrepareRecipe", of(EXTERNAL, "bracket"), NULL)["outputs"]
    assert failed[2] == MethodError.RECIPE_FAILED
    assert plc.call(f"{RECIPES}.UnprepareRecipe", of(EXTERNAL, "board"), NULL)["status"] == "BadNotSupported"
    every = [NULL, NULL, {"type": "Int32", "value": 2}, {"type": "UInt32", "value": 0}, {"type": "UInt32", "value": 0}]
    listed = plc.call(f"{RECIPES}.GetRecipeListFiltered", *every, {"type": "Int32", "value": 0})["outputs"]
    assert [recipe["id"] for recipe in listed[3]] == ["1", "2"]
    assert plc.do("browse", node=f"{RECIPES}.Recipes")["names"] == ["1 board", "2 bracket"]

"""A station says in which state it is, at every change, and whoever joins late hears it too."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec
import pytest

from edge.bus.messages import Mode, State, StateMessage
from edge.bus.requests import ModeCommand, PrepareCommand, StopCommand
from edge.bus.subscriber import Subscriber
from edge.errors import CameraError
from edge.station import BusSettings, PipelineSettings
from edge.types import Judgement, Reason
from tests.edge.fakes import PATIENCE_S, normal_part
from tests.edge.line import LONG_MS, assert_counts_agree
from tests.edge.operated import Operated, operated, write_recipe

SINGLE = PipelineSettings(LONG_MS, 64, start="single")


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    write_recipe(tmp_path / "recipes")
    return tmp_path / "recipes"


def told(station: Operated) -> list[str]:
    """The states in the order in which they were told; a subscriber that joins may have the last one told again."""
    said = [s.state.value for s in station.states]
    return [state for n, state in enumerate(said) if n == 0 or said[n - 1] != state]


def until(station: Operated, state: State) -> StateMessage:
    station.line.read_until(lambda: station.states[-1].state is state)
    return station.states[-1]


def test_a_station_with_a_recipe_goes_from_starting_to_judging_to_halted(
    endpoint: str, tmp_path: Path, recipes: Path
) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        station.verdict_of(station.trigger())
        station.ask(StopCommand())
        assert station.line.wait().state is State.HALTED
        assert told(station) == ["Preoperational", "ContinuousExecution", "Halted"]
        assert station.line.heartbeats[-1].state is State.HALTED
        assert {s.detail for s in station.states} == {""}


def test_a_station_that_fails_ends_in_error_and_says_why(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.break_with(CameraError("the cable is out", "Plug it in."))
        assert station.line.wait().state is State.ERROR
        assert told(station)[-1] == "Error" and "the cable is out" in station.states[-1].detail


def test_without_a_recipe_every_trigger_is_refused_until_one_is_active(
    endpoint: str, tmp_path: Path, recipes: Path
) -> None:
    with operated(endpoint, tmp_path, path="") as station:
        state = until(station, State.INITIALIZED)
        assert (state.product, state.recipe_revision, state.recipe_hash) == ("", 0, "")
        station.line.camera.fire_shows = normal_part()
        verdict = station.verdict_of(station.trigger("t-1"))
        assert (verdict.judgement, verdict.reason, verdict.accept, verdict.score) == (
            Judgement.NOT_DECIDABLE,
            Reason.NO_RECIPE,
            False,
            None,
        )
        assert (verdict.recipe_hash, verdict.bank_hash, station.line.camera.fired) == ("", "", [])
        prepared = station.ask(PrepareCommand(product="board"))
        assert station.status().state is State.INITIALIZED
        assert station.verdict_of(station.trigger()).reason is Reason.NO_RECIPE
        assert station.change().trigger_seq == 3
        assert until(station, State.CONTINUOUS_EXECUTION).recipe_hash == prepared.recipe_hash
        assert station.verdict_of(station.trigger()).accept
        station.beats(2)
        assert assert_counts_agree(station.line).not_decidable == 2
        assert station.line.heartbeats[-1].state is State.CONTINUOUS_EXECUTION


def test_observing_begun_without_a_recipe_goes_on_with_the_first_one(
    endpoint: str, tmp_path: Path, recipes: Path
) -> None:
    with operated(endpoint, tmp_path, path="") as station:
        station.ask(ModeCommand(mode=Mode.OBSERVE))
    with operated(endpoint, tmp_path, path="") as station:
        station.line.camera.fire_shows = normal_part()
        assert station.status().mode is Mode.OBSERVE, "nobody told it to move the gate again"
        station.change()
        verdict = station.verdict_of(station.trigger())
        assert (verdict.judgement, verdict.accept, verdict.is_test) == (Judgement.OK, False, True)


def test_a_single_station_is_ready_executes_and_is_ready_again(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path, pipeline=SINGLE) as station:
        until(station, State.READY)
        for _ in range(2):
            reply = station.trigger()
            until(station, State.SINGLE_EXECUTION)
            station.line.camera.show_frame(station.line.camera.fired[-1], normal_part())
            assert station.verdict_of(reply).accept
            until(station, State.READY)
        assert told(station) == ["Preoperational", *["Ready", "SingleExecution"] * 2, "Ready"]


def test_a_single_station_without_a_recipe_is_not_ready(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path, path="", pipeline=SINGLE) as station:
        until(station, State.INITIALIZED)
        station.change()
        until(station, State.READY)
        assert told(station) == ["Preoperational", "Initialized", "Ready"]


def test_a_state_is_told_once_until_it_changes(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        for _ in range(5):
            station.verdict_of(station.trigger())
        station.beats(5)
        different = {msgspec.structs.replace(state, wall_us=0) for state in station.states}
        repeats = len({state.wall_us for state in station.states})
        assert (len(different), repeats) == (2, 2)


def test_whoever_joins_late_hears_the_last_state(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station, contextlib.closing(Subscriber(endpoint)) as late:
        found: StateMessage | None = None
        while found is None:
            received = late.receive(round(PATIENCE_S * 1000))
            assert received is not None, "nothing came"
            found = received[0] if isinstance(received[0], StateMessage) else None
        assert found == station.states[-1], "the very message, not a new one"
        assert found.control_endpoint == station.line.supervisor.control_endpoint
        assert found.epoch == station.line.supervisor.epoch


def test_the_heartbeat_goes_on_however_long_nothing_happens(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    bus = BusSettings(endpoint, 10.0, wait_for_subscriber_s=PATIENCE_S)
    with operated(endpoint, tmp_path, deadline_ms=20.0, bus=bus) as station:
        # Three times as long as a stage may stall.
        station.beats(10)
        assert station.line.heartbeats[-1].state is State.CONTINUOUS_EXECUTION

"""What the station sends reaches the PLC's image, and what the PLC asks reaches the station, over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import pytest

from edge.bus.endpoints import sibling
from edge.bus.messages import State
from edge.errors import BusError
from edge.gateways.codes import OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.link import Link
from edge.gateways.results import Result
from edge.gateways.settings import BusLinkSettings, GatewaySettings, PlcSettings
from tests.edge.feed import Kept, MemoryHistory, Serving
from tests.gateways.station import PATIENCE_S, FakeStation, running_station, settings_for

BEAT_S = 0.02


async def until(there: Callable[[], bool]) -> None:
    """Wait for something that is to come."""

    async def look() -> None:
        while not there():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(look(), PATIENCE_S)


async def beating(link: Link) -> None:
    """The PLC's heartbeat."""
    count = 0
    while True:
        count = (count + 1) % 65_536
        link.plc_heartbeat(count)
        await asyncio.sleep(BEAT_S)


def linked(settings: GatewaySettings, test: Callable[[Link], Coroutine[Any, Any, None]]) -> None:
    """Run a test with a link whose PLC lives."""

    async def main() -> None:
        async with Link(settings) as link:
            heart = asyncio.ensure_future(beating(link))
            try:
                await test(link)
            finally:
                heart.cancel()

    asyncio.run(main())


def test_a_verdict_comes_through_and_is_taken_once(station: FakeStation) -> None:
    heard: list[Result] = []

    async def test(link: Link) -> None:
        link.on_result(heard.append)
        await until(lambda: link.image().online)
        station.judge(part_id="A-1")
        await until(lambda: link.image().result is not None)
        result = link.image().result
        assert result is not None and result.part_id == "A-1" and link.image().accept
        link.acknowledge(result.number)
        assert link.image().result is None and heard == [result]

    linked(settings_for(station), test)


def test_a_hushed_station_takes_the_gateway_offline_and_it_comes_back(station: FakeStation) -> None:
    async def test(link: Link) -> None:
        await until(lambda: link.image().online)
        station.judge()
        await until(lambda: link.image().accept)
        station.hush()
        await until(lambda: link.image().online_reason is OnlineReason.BUS_SILENT)
        assert not link.image().accept
        station.speak()
        await until(lambda: link.image().online)
        assert not link.image().accept, "an acceptance came back"

    linked(settings_for(station), test)


def test_a_station_that_starts_later_or_again_is_found(endpoint: str) -> None:
    first = FakeStation(endpoint)
    settings = settings_for(first)
    first.close()

    async def test(link: Link) -> None:
        assert link.image().online_reason is OnlineReason.WAITING
        for _ in range(2):
            with running_station(endpoint):
                await until(lambda: link.image().online)
            await until(lambda: not link.image().online)

    linked(settings, test)


def test_a_trigger_gets_its_result(station: FakeStation) -> None:
    async def test(link: Link) -> None:
        await until(lambda: link.image().ready)
        link.trigger(7, "A-1", 42)
        await until(lambda: link.image().result is not None)
        await until(lambda: link.image().trigger_status is TriggerStatus.TAKEN)
        result = link.image().result
        assert result is not None and (result.trigger_number, result.part_id) == (7, "A-1")

    linked(settings_for(station), test)
    (asked,) = {command.trigger_id for command in station.triggers}
    assert asked and station.triggers[0].encoder_count == 42


def test_a_trigger_that_the_station_refuses_is_told_to_the_plc(station: FakeStation) -> None:
    station.refuses = "this station's camera triggers itself"

    async def test(link: Link) -> None:
        await until(lambda: link.image().ready)
        link.trigger(7, "")
        await until(lambda: link.image().trigger_status is TriggerStatus.REFUSED)

    linked(settings_for(station), test)


def test_a_station_that_does_not_answer_is_asked_again_with_the_same_id_and_given_up(station: FakeStation) -> None:
    station.is_deaf = True
    plc = msgspec.structs.replace(settings_for(station).plc, answer_ms=500.0)

    async def test(link: Link) -> None:
        await until(lambda: link.image().ready)
        link.trigger(7, "")
        await until(lambda: link.image().trigger_status is TriggerStatus.NO_ANSWER)
        station.is_deaf = False
        # Its verdict comes although the PLC was told to reject the part: it opens no gate.
        await until(lambda: link.image().counts.results == 1)
        assert link.image().result is None

    linked(settings_for(station, plc=plc), test)
    assert len({command.trigger_id for command in station.triggers}) == 1


def test_a_changeover_is_done_at_the_station(station: FakeStation) -> None:
    async def test(link: Link) -> None:
        await until(lambda: link.image().ready)
        link.want_recipe(2)
        assert link.image().online_reason is OnlineReason.CHANGEOVER
        await until(lambda: link.image().recipe_status is RecipeStatus.ACTIVE)
        assert (link.image().recipe_number, link.image().product) == (2, "bracket") and link.image().online

    linked(settings_for(station), test)
    assert station.prepared == ["bracket"]


def test_a_plc_that_thinks_better_of_it_gets_what_it_wanted_last(station: FakeStation) -> None:
    async def test(link: Link) -> None:
        await until(lambda: link.image().ready)
        for number in (2, 1, 2, 0, 2):
            link.want_recipe(number)
        await until(lambda: link.image().recipe_status is RecipeStatus.ACTIVE)
        assert link.image().recipe_number == 2

    linked(settings_for(station), test)


def test_a_changeover_that_the_station_refuses_has_failed(station: FakeStation) -> None:
    async def test(link: Link) -> None:
        await until(lambda: link.image().ready)
        station.refuses = "the recipe is damaged"
        link.want_recipe(2)
        await until(lambda: link.image().recipe_status is RecipeStatus.FAILED)
        assert not link.image().online

    linked(settings_for(station), test)


def test_commands_reset_on_the_rising_edge_and_stop_while_set(station: FakeStation) -> None:
    plc = msgspec.structs.replace(settings_for(station).plc, queue=1)

    async def test(link: Link) -> None:
        await until(lambda: link.image().online)
        link.command(reset=True, stop=False)
        for _ in range(2):
            station.judge()
        await until(lambda: link.image().overrun)
        link.command(reset=True, stop=False)
        assert link.image().overrun, "it was set before"
        link.command(reset=False, stop=True)
        link.command(reset=True, stop=True)
        assert not link.image().overrun and link.image().online_reason is OnlineReason.STOPPED
        link.command(reset=True, stop=False)
        await until(lambda: link.image().online)

    linked(settings_for(station, plc=plc), test)


def test_what_is_lost_on_the_bus_is_a_reject(station: FakeStation) -> None:
    async def test(link: Link) -> None:
        await until(lambda: link.image().online)
        station.judge()
        await until(lambda: link.image().queue_depth == 1)
        station.lose(2)
        await until(lambda: link.image().queue_depth == 3)
        seen = []
        while (result := link.image().result) is not None:
            seen.append(result.reason)
            link.acknowledge(result.number)
        assert seen == [ReasonCode.NONE, ReasonCode.LOST, ReasonCode.LOST]

    linked(settings_for(station), test)


def test_a_station_that_stops_is_told(station: FakeStation) -> None:
    async def test(link: Link) -> None:
        await until(lambda: link.image().online)
        station.state(State.HALTED)
        await until(lambda: link.image().online_reason is OnlineReason.NOT_RUNNING)
        assert link.image().station_state is State.HALTED

    linked(settings_for(station), test)


@pytest.mark.parametrize("which", ["endpoint", "control_endpoint"])
def test_what_is_no_endpoint_is_said(which: str) -> None:
    bus = msgspec.structs.replace(BusLinkSettings(), **{which: "nonsense"})

    async def main() -> None:
        with pytest.raises(BusError, match="nonsense is not an endpoint"):
            Link(GatewaySettings(bus=bus, plc=PlcSettings()))

    asyncio.run(main())


def test_a_state_that_was_lost_is_asked_for_again(endpoint: str) -> None:
    with running_station(endpoint) as station:

        async def test(link: Link) -> None:
            await until(lambda: link.image().online)
            station.change_silently("bracket", 1)
            for _ in range(3):
                station.judge()
            await until(lambda: link.image().product == "bracket")

        linked(settings_for(station), test)


def test_what_nobody_was_there_to_take_does_not_reach_the_station_that_comes_later(endpoint: str) -> None:
    first = FakeStation(endpoint)
    settings = settings_for(first)

    async def test(link: Link) -> None:
        await until(lambda: link.image().ready)
        first.close()
        link.trigger(7, "lost")
        await until(lambda: link.image().trigger_status is TriggerStatus.NO_ANSWER)
        with running_station(endpoint) as second:
            await until(lambda: link.image().online)
            assert [command.part_id for command in second.triggers] == []

    linked(settings, test)


def test_a_recipe_that_the_plc_wants_before_the_station_is_there_is_changed_when_it_is(endpoint: str) -> None:
    first = FakeStation(endpoint)
    settings = settings_for(first)
    first.close()

    async def test(link: Link) -> None:
        link.want_recipe(2)
        with running_station(endpoint):
            await until(lambda: link.image().recipe_status is RecipeStatus.ACTIVE)
            assert link.image().recipe_number == 2

    linked(settings, test)


def test_a_job_is_judged_beside_the_plcs_triggers(station: FakeStation) -> None:
    async def test(link: Link) -> None:
        assert await link.start_job("early") == ("", TriggerStatus.NOT_READY)
        await until(lambda: link.image().ready)
        trigger_id, status = await link.start_job("J-1")
        assert status is TriggerStatus.TAKEN
        await until(lambda: link.image().result is not None)
        result = link.image().result
        assert result is not None and result.message is not None
        assert (result.trigger_number, result.part_id, result.message.trigger_id) == (0, "J-1", trigger_id)

    linked(settings_for(station), test)


def test_the_end_of_a_run_that_nobody_heard_is_asked_of_the_journal(endpoint: str) -> None:
    journal = MemoryHistory()

    async def main() -> None:
        with running_station(endpoint) as station:
            journal.kept = {station.epoch: Kept(head_seq=5, ended=True)}
            async with Link(settings_for(station)) as link:
                heart = asyncio.ensure_future(beating(link))
                await until(lambda: link.image().online)
                station.judge()
                await until(lambda: link.image().counts.results == 1)
                station.restart()
                await until(lambda: link.image().counts.lost == 4)
                heart.cancel()

    serving = Serving(sibling(endpoint, 1), journal)
    try:
        asyncio.run(main())
    finally:
        serving.stop()

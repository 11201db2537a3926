"""The handshake does what its rules say, whatever the protocol."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from edge.bus.messages import Mode, State
from edge.gateways.codes import FaultCode, JudgementCode, OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.handshake import Handshake
from edge.gateways.results import LARGEST_NUMBER, after
from edge.gateways.settings import GatewaySettings, PlcSettings, RecipeNumber
from edge.gateways.triggers import Triggers
from edge.types import Judgement, Region
from tests.edge import feed
from tests.gateways.plc import ACK_MS, BEAT_MS, PLC_MS, QUEUE, SETTINGS, SILENCE_MS, TRIGGER_MS, Bench
from tests.gateways.station import BOARD, BRACKET


@pytest.fixture
def bench() -> Bench:
    return Bench().go_online()


def shown(bench: Bench) -> tuple[JudgementCode, bool, ReasonCode]:
    result = bench.image.result
    assert result is not None
    return result.judgement, bench.image.accept, result.reason


def recipe_of(bench: Bench) -> tuple[RecipeStatus, int]:
    return bench.image.recipe_status, bench.image.recipe_number


GOOD = (JudgementCode.OK, True, ReasonCode.NONE)


def withheld(reason: ReasonCode) -> tuple[JudgementCode, bool, ReasonCode]:
    return JudgementCode.OK, False, reason


# Results.


def test_at_power_on_everything_says_reject() -> None:
    image = Handshake(SETTINGS, "boot", 1).image(0)
    assert not (image.online or image.ready or image.accept) and image.result is None
    assert image.online_reason is OnlineReason.WAITING and image.plc_alive is False


def test_a_result_is_held_until_its_number_is_acknowledged(bench: Bench) -> None:
    bench.judge()
    first = bench.image.result
    bench.judge(Judgement.NOT_OK)
    assert bench.image.result == first and bench.image.queue_depth == 2
    bench.ack()
    assert shown(bench) == (JudgementCode.NOT_OK, False, ReasonCode.DEFECT)
    bench.ack()
    assert bench.image.result is None and bench.image.queue_depth == 0


def test_the_part_its_score_and_its_largest_region_are_shown(bench: Bench) -> None:
    regions = (Region(1, 2, 3, 4, 10, 1.5), Region(5, 6, 7, 8, 40, 1.2), Region(0, 0, 1, 1, 1, 9.0))
    bench.judge(Judgement.NOT_OK, part_id="A-17", score=2.5, regions=regions)
    result = bench.image.result
    assert result is not None
    assert (result.part_id, result.score, result.threshold) == ("A-17", 2.5, 1.0)
    assert (result.region_count, result.box, result.area_px) == (3, (5, 6, 7, 8), 40)
    assert (result.epoch, result.seq, result.recipe_number) == (bench.epoch, 1, 1)


def test_acknowledging_the_same_number_again_releases_nothing_more(bench: Bench) -> None:
    bench.judge()
    bench.judge()
    number = bench.ack().number
    for _ in range(3):
        bench.handshake.acknowledge(number, bench.now_ns)
    assert bench.image.queue_depth == 1 and bench.image.fault is FaultCode.NONE


def test_a_wrong_number_releases_nothing_and_is_counted_once(bench: Bench) -> None:
    bench.judge()
    for _ in range(3):
        bench.handshake.acknowledge(9, bench.now_ns)
    image = bench.image
    assert image.queue_depth == 1 and shown(bench) == GOOD
    assert image.fault is FaultCode.WRONG_ACK and image.counts.wrong_acks == 1
    bench.ack()
    assert bench.image.result is None
    bench.handshake.reset(bench.now_ns)
    assert bench.image.fault is FaultCode.NONE


def test_zero_acknowledges_nothing(bench: Bench) -> None:
    bench.judge()
    bench.handshake.acknowledge(0, bench.now_ns)
    assert bench.image.queue_depth == 1 and bench.image.fault is FaultCode.NONE


def test_the_second_result_cannot_be_acknowledged_before_the_first(bench: Bench) -> None:
    bench.judge()
    bench.judge()
    first = bench.image.result
    assert first is not None
    bench.handshake.acknowledge(after(first.number), bench.now_ns)
    assert bench.image.result == first and bench.image.fault is FaultCode.WRONG_ACK


def test_numbers_go_from_65535_to_1() -> None:
    bench = Bench(session=LARGEST_NUMBER - 1).go_online()
    numbers = []
    for _ in range(3):
        bench.judge()
        numbers.append(bench.ack().number)
    assert numbers == [LARGEST_NUMBER, 1, 2]


def test_without_acknowledgement_the_acceptance_is_withdrawn_for_good(bench: Bench) -> None:
    bench.judge()
    bench.wait(ACK_MS)
    assert shown(bench) == GOOD
    bench.wait(BEAT_MS)
    assert shown(bench) == withheld(ReasonCode.NOT_ACKNOWLEDGED)
    assert bench.image.fault is FaultCode.NOT_ACKNOWLEDGED and bench.image.counts.withdrawn == 1
    bench.handshake.reset(bench.now_ns)
    assert not bench.image.accept
    bench.ack()
    bench.judge()
    assert shown(bench) == GOOD


def test_until_a_plc_was_heard_nothing_is_held() -> None:
    bench = Bench()
    bench.plc_beats = False
    bench.tell()
    bench.wait(500)
    for _ in range(3 * QUEUE):
        bench.judge()
    image = bench.image
    assert image.result is None and not image.overrun and image.online_reason is OnlineReason.PLC_SILENT
    assert [result.accept for result in bench.announced] == [False] * 3 * QUEUE


def test_a_gateway_that_demands_no_heartbeat_is_online_without_one() -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, plc=PlcSettings(heartbeat_ms=0)))
    bench.plc_beats = False
    bench.go_online()
    bench.judge()
    assert shown(bench) == GOOD


# Overrun.


def test_a_full_queue_overwrites_nothing_latches_and_accepts_nothing(bench: Bench) -> None:
    for _ in range(QUEUE):
        bench.judge()
    assert not bench.image.overrun and shown(bench) == GOOD and not bench.image.ready
    bench.judge()
    image = bench.image
    assert image.overrun and image.online_reason is OnlineReason.OVERRUN and image.fault is FaultCode.OVERRUN
    assert image.counts.overruns == 1 and image.queue_depth == QUEUE
    numbers = [bench.ack() for _ in range(QUEUE)]
    assert [result.number for result in numbers] == list(range(101, 101 + QUEUE))
    assert {(result.accept, result.reason) for result in numbers} == {(False, ReasonCode.OVERRUN)}


def test_an_overrun_lasts_until_reset_and_the_numbers_show_what_was_lost(bench: Bench) -> None:
    for _ in range(QUEUE + 2):
        bench.judge()
    for _ in range(QUEUE):
        bench.ack()
    bench.judge()
    assert shown(bench) == withheld(ReasonCode.OVERRUN)
    assert bench.ack().number == 101 + QUEUE + 2
    bench.handshake.reset(bench.now_ns)
    bench.judge()
    assert shown(bench) == GOOD and not bench.image.overrun


def test_what_finds_no_room_is_announced_as_a_reject(bench: Bench) -> None:
    for _ in range(QUEUE + 1):
        bench.judge()
    assert (bench.announced[-1].accept, bench.announced[-1].reason) == (False, ReasonCode.OVERRUN)


# What must be so for a part to pass.


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda b: b.judge(accept=False), ReasonCode.NOT_ACCEPTED),
        (lambda b: b.judge(is_test=True), ReasonCode.OBSERVED),
        (lambda b: b.judge(deadline_met=False), ReasonCode.LATE),
        (lambda b: b.judge(recipe=BRACKET), ReasonCode.WRONG_RECIPE),
        (lambda b: b.judge(is_simulated=True), ReasonCode.SIMULATED),
        (lambda b: (b.handshake.stop("plc", b.now_ns), b.judge()), ReasonCode.NOT_ONLINE),
        (lambda b: (b.handshake.unreadable(b.now_ns), b.judge()), ReasonCode.NOT_ONLINE),
    ],
)
def test_an_ok_that_is_not_to_be_accepted_says_why(bench: Bench, spoil: object, reason: ReasonCode) -> None:
    assert callable(spoil)
    spoil(bench)
    assert shown(bench) == withheld(reason)


def test_a_recording_opens_the_gate_only_if_the_file_says_so() -> None:
    plc = msgspec.structs.replace(SETTINGS.plc, allow_simulated=True)
    bench = Bench(msgspec.structs.replace(SETTINGS, plc=plc)).go_online()
    bench.judge(is_simulated=True)
    assert shown(bench) == GOOD


def test_a_copy_of_a_verdict_is_no_result(bench: Bench) -> None:
    message = feed.verdict(1, bench.epoch, is_replay=True)
    bench.handshake.verdict(message, bench.now_ns)
    assert bench.image.result is None and bench.announced == []


def test_a_verdict_that_comes_twice_is_one_result(bench: Bench) -> None:
    bench.judge()
    bench.seq -= 1
    bench.judge()
    assert bench.image.queue_depth == 1


def test_when_the_station_falls_silent_the_acceptance_is_withdrawn_for_good(bench: Bench) -> None:
    bench.judge()
    bench.station_beats = False
    bench.wait(SILENCE_MS + BEAT_MS)
    assert bench.image.online_reason is OnlineReason.BUS_SILENT and bench.image.fault is FaultCode.BUS_SILENT
    assert shown(bench) == withheld(ReasonCode.NOT_ONLINE)
    beats = bench.image.heartbeat
    bench.wait(SILENCE_MS)
    assert bench.image.heartbeat == beats, "it must stand still with the station"
    bench.station_beats = True
    bench.wait(5 * BEAT_MS)
    assert bench.image.online and shown(bench) == withheld(ReasonCode.NOT_ONLINE)


def test_time_alone_takes_the_acceptance_away_when_nobody_looked(bench: Bench) -> None:
    bench.judge()
    bench.now_ns += 60_000_000_000
    assert not bench.image.accept and not bench.image.online


def test_without_the_plcs_heartbeat_nothing_is_accepted(bench: Bench) -> None:
    bench.judge()
    bench.plc_beats = False
    bench.wait(PLC_MS + BEAT_MS)
    assert bench.image.online_reason is OnlineReason.PLC_SILENT and not bench.image.plc_alive
    assert shown(bench) == withheld(ReasonCode.NOT_ONLINE)


def test_a_heartbeat_that_is_written_and_does_not_change_is_none(bench: Bench) -> None:
    bench.plc_beats = False
    for _ in range(15):
        bench.wait(BEAT_MS)
        bench.handshake.plc_heartbeat(5, bench.now_ns)
    assert bench.image.online_reason is OnlineReason.PLC_SILENT


def test_a_station_that_only_observes_is_not_online(bench: Bench) -> None:
    bench.mode = Mode.OBSERVE
    bench.tell()
    assert bench.image.online_reason is OnlineReason.OBSERVING
    bench.judge()
    assert shown(bench) == withheld(ReasonCode.OBSERVED)


def test_a_restarted_station_is_not_trusted_before_it_beats_regularly(bench: Bench) -> None:
    bench.judge()
    bench.restart()
    bench.judge()
    assert shown(bench) == withheld(ReasonCode.NOT_ONLINE)
    bench.ack()
    assert shown(bench) == withheld(ReasonCode.NOT_ONLINE)
    bench.ack()
    bench.wait(2 * BEAT_MS)
    bench.judge()
    assert shown(bench) == GOOD


def test_stop_lasts_until_start(bench: Bench) -> None:
    bench.handshake.stop("plc", bench.now_ns)
    bench.wait(1_000)
    assert bench.image.online_reason is OnlineReason.STOPPED
    bench.handshake.start("plc", bench.now_ns)
    assert bench.image.online


def test_one_stop_does_not_end_another(bench: Bench) -> None:
    bench.handshake.stop("method", bench.now_ns)
    bench.handshake.stop("plc", bench.now_ns)
    bench.handshake.start("plc", bench.now_ns)
    assert bench.image.online_reason is OnlineReason.STOPPED
    bench.handshake.start("method", bench.now_ns)
    assert bench.image.online


def test_a_verdict_that_was_held_up_on_its_way_is_not_accepted(bench: Bench) -> None:
    bench.judge(trigger_wall_us=bench.now_ns // 1000 - SILENCE_MS * 1_000)
    assert shown(bench) == withheld(ReasonCode.LATE)


def test_a_verdict_of_an_earlier_epoch_is_not_accepted(bench: Bench) -> None:
    bench.judge()
    bench.ack()
    bench.restart()
    bench.wait(3 * BEAT_MS)
    assert bench.image.online
    bench.epoch, bench.seq = bench.epoch - 1, 1
    bench.judge()
    assert shown(bench) == withheld(ReasonCode.NOT_ONLINE)


def test_another_station_takes_the_gateway_offline(bench: Bench) -> None:
    bench.judge()
    bench.judge(station_id="another")
    assert bench.image.online_reason is OnlineReason.WRONG_STATION and bench.image.queue_depth == 1
    assert bench.image.fault is FaultCode.WRONG_STATION and not bench.image.accept


def test_a_trigger_of_this_gateways_last_run_opens_no_gate(bench: Bench) -> None:
    earlier = Handshake(SETTINGS, "before", 1)
    wish = Triggers(SETTINGS.name, "before").ask(7, "A-1", None, 0)
    assert earlier.image(0).result is None
    bench.judge(trigger_id=wish.trigger_id)
    assert shown(bench) == withheld(ReasonCode.DISOWNED)
    bench.ack()
    bench.judge(trigger_id=Triggers("other", "before").ask(7, "A-1", None, 0).trigger_id)
    assert shown(bench) == GOOD, "another gateway's trigger is another PLC's affair"


def test_result_numbers_follow_what_the_plc_acknowledged_before_the_gateway_started() -> None:
    bench = Bench(session=40)
    bench.handshake.acknowledge(41, bench.now_ns)
    bench.go_online()
    bench.judge()
    for _ in range(3):
        bench.handshake.acknowledge(41, bench.now_ns)
    assert bench.image.queue_depth == 1 and bench.image.fault is FaultCode.NONE
    assert bench.ack().number == 42


# What a PLC writes that was away.


def away(bench: Bench) -> None:
    """The PLC is silent, and comes back; its heartbeat has not changed yet."""
    bench.plc_beats = False
    bench.wait(PLC_MS + 2 * BEAT_MS)
    assert not bench.image.plc_alive
    bench.handshake.plc_heartbeat(1_234, bench.now_ns)


@pytest.mark.parametrize("comes_back", [away, lambda b: b.handshake.new_plc(b.now_ns)])
def test_the_old_block_of_a_plc_that_comes_back_triggers_resets_and_alarms_nothing(
    bench: Bench, comes_back: Callable[[Bench], None]
) -> None:
    first = bench.handshake.trigger(5, "P5", None, bench.now_ns)
    assert first is not None
    bench.judge(trigger_id=first.trigger_id)
    bench.ack()
    for _ in range(QUEUE + 1):
        bench.judge()
    comes_back(bench)
    for _ in range(2):
        bench.handshake.acknowledge(77, bench.now_ns)
        bench.handshake.reset_bit(True, bench.now_ns)
        assert bench.handshake.trigger(9, "P9", None, bench.now_ns) is None
        assert (bench.image.trigger_ack, bench.image.trigger_status) == (9, TriggerStatus.NOT_READY)
        assert bench.image.overrun and bench.image.counts.wrong_acks == bench.image.counts.missed_triggers == 0
        bench.plc_beats = True
        bench.wait(2 * BEAT_MS)
    bench.handshake.reset_bit(False, bench.now_ns)
    bench.handshake.reset_bit(True, bench.now_ns)
    for _ in range(QUEUE):
        bench.ack()
    assert bench.image.online
    assert bench.handshake.trigger(10, "P10", None, bench.now_ns) is not None


def test_a_plc_that_was_away_acknowledges_what_is_held_with_its_first_block(bench: Bench) -> None:
    bench.judge()
    away(bench)
    bench.ack()
    assert bench.image.queue_depth == 0


# What was lost on the way.


def test_the_end_of_a_run_that_was_lost_with_the_connection_is_counted_afterwards(bench: Bench) -> None:
    bench.judge()
    last = bench.epoch
    bench.restart()
    bench.handshake.epoch_had(last, 20, bench.now_ns)
    assert bench.image.counts.lost == 19 and bench.image.fault is FaultCode.RESULTS_LOST
    bench.handshake.epoch_had(last, 20, bench.now_ns)
    assert bench.image.counts.lost == 19


def test_each_verdict_that_is_lost_while_online_is_a_reject_in_its_place(bench: Bench) -> None:
    bench.judge()
    bench.seq += 2
    bench.judge()
    found = [bench.ack() for _ in range(4)]
    assert [result.seq for result in found] == [1, 2, 3, 4]
    assert [result.reason for result in found] == [ReasonCode.NONE, ReasonCode.LOST, ReasonCode.LOST, ReasonCode.NONE]
    assert bench.image.counts.lost == 2 and bench.image.fault is FaultCode.RESULTS_LOST


def test_what_is_lost_while_offline_is_counted_and_leaves_a_gap_in_the_numbers(bench: Bench) -> None:
    bench.station_beats = False
    bench.wait(SILENCE_MS + BEAT_MS)
    bench.seq += 200
    bench.station_beats = True
    bench.wait(5 * BEAT_MS)
    assert bench.image.result is None and not bench.image.overrun and bench.image.counts.lost == 200
    bench.judge()
    assert bench.ack().number == 100 + 201


def test_a_million_lost_verdicts_cost_no_time(bench: Bench) -> None:
    bench.seq += 1_000_000
    bench.judge()
    assert bench.image.counts.lost == 1_000_000 and bench.image.overrun and len(bench.announced) == QUEUE + 2


# Triggers.


def test_a_trigger_is_acknowledged_when_the_station_has_taken_it_and_its_result_names_it(bench: Bench) -> None:
    wish = bench.handshake.trigger(7, "A-1", 42, bench.now_ns)
    assert wish is not None and (wish.part_id, wish.encoder_count) == ("A-1", 42)
    assert bench.image.busy and not bench.image.ready and bench.image.trigger_ack == 0
    assert bench.image.trigger_status is TriggerStatus.PENDING
    bench.handshake.triggered(wish, bench.now_ns)
    assert (bench.image.trigger_ack, bench.image.trigger_status) == (7, TriggerStatus.TAKEN) and bench.image.busy
    bench.judge(trigger_id=wish.trigger_id, part_id="A-1")
    result = bench.image.result
    assert result is not None and result.trigger_number == 7 and not bench.image.busy and bench.image.ready


def test_a_verdict_that_is_faster_than_the_answer_acknowledges_the_trigger(bench: Bench) -> None:
    wish = bench.handshake.trigger(7, "", None, bench.now_ns)
    assert wish is not None
    bench.judge(trigger_id=wish.trigger_id)
    assert (bench.image.trigger_ack, bench.image.trigger_status) == (7, TriggerStatus.TAKEN)
    bench.handshake.not_triggered(wish, TriggerStatus.NO_ANSWER, bench.now_ns)
    assert bench.image.trigger_status is TriggerStatus.TAKEN and shown(bench) == GOOD


def test_a_number_that_is_written_again_is_no_trigger(bench: Bench) -> None:
    assert bench.handshake.trigger(7, "", None, bench.now_ns) is not None
    for _ in range(3):
        assert bench.handshake.trigger(7, "", None, bench.now_ns) is None
    assert bench.image.fault is FaultCode.NONE


def test_a_trigger_while_not_ready_is_refused_and_latched(bench: Bench) -> None:
    first = bench.handshake.trigger(7, "", None, bench.now_ns)
    assert first is not None
    assert bench.handshake.trigger(8, "", None, bench.now_ns) is None
    image = bench.image
    assert (image.trigger_ack, image.trigger_status) == (8, TriggerStatus.NOT_READY)
    assert image.fault is FaultCode.TRIGGER_MISSED and image.counts.missed_triggers == 1


def test_the_trigger_number_that_a_plc_still_writes_after_a_restart_of_the_gateway_is_no_trigger() -> None:
    bench = Bench()
    assert bench.handshake.trigger(55, "", None, bench.now_ns) is None
    bench.go_online()
    assert bench.handshake.trigger(55, "", None, bench.now_ns) is None
    assert bench.image.fault is FaultCode.NONE and bench.image.ready
    assert bench.handshake.trigger(56, "", None, bench.now_ns) is not None


@pytest.mark.parametrize("first", [17, 0])
def test_without_a_heartbeat_the_first_number_is_no_trigger_either(first: int) -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, plc=PlcSettings(heartbeat_ms=0)))
    bench.plc_beats = False
    bench.go_online()
    assert bench.handshake.trigger(first, "", None, bench.now_ns) is None
    assert bench.image.fault is FaultCode.NONE and bench.image.ready
    assert bench.handshake.trigger(18, "", None, bench.now_ns) is not None


def test_a_job_does_not_touch_the_plcs_own_trigger_number(bench: Bench) -> None:
    first = bench.handshake.trigger(7, "", None, bench.now_ns)
    assert first is not None
    bench.judge(trigger_id=first.trigger_id)
    bench.ack()
    job = bench.handshake.start_job("J-1", None, bench.now_ns)
    assert job is not None and job.number == 0 and bench.image.busy
    assert bench.handshake.start_job("J-2", None, bench.now_ns) is None, "not ready"
    bench.handshake.triggered(job, bench.now_ns)
    bench.judge(trigger_id=job.trigger_id)
    assert bench.ack().trigger_number == 0
    assert bench.handshake.trigger(7, "", None, bench.now_ns) is None, "the same number again"
    assert (bench.image.trigger_ack, bench.image.trigger_status) == (7, TriggerStatus.TAKEN)


def test_a_refused_trigger_is_told_and_its_verdict_opens_no_gate(bench: Bench) -> None:
    wish = bench.handshake.trigger(7, "", None, bench.now_ns)
    assert wish is not None
    bench.handshake.not_triggered(wish, TriggerStatus.NO_ANSWER, bench.now_ns)
    assert (bench.image.trigger_ack, bench.image.trigger_status) == (7, TriggerStatus.NO_ANSWER)
    bench.judge(trigger_id=wish.trigger_id)
    assert bench.image.result is None
    assert (bench.announced[-1].accept, bench.announced[-1].reason) == (False, ReasonCode.DISOWNED)
    bench.judge()
    assert bench.ack().number == 101, "what the PLC is not shown leaves no gap"


def test_a_part_without_a_verdict_is_rejected_in_time_and_only_once(bench: Bench) -> None:
    wish = bench.handshake.trigger(7, "A-1", None, bench.now_ns)
    assert wish is not None
    bench.handshake.triggered(wish, bench.now_ns)
    bench.wait(TRIGGER_MS + BEAT_MS)
    result = bench.ack()
    assert (result.reason, result.accept, result.trigger_number, result.part_id) == (
        ReasonCode.NO_RESULT,
        False,
        7,
        "A-1",
    )
    bench.judge(trigger_id=wish.trigger_id)
    assert bench.image.result is None and not bench.image.busy


def test_a_station_that_dies_gets_its_open_triggers_rejected_at_once(bench: Bench) -> None:
    wish = bench.handshake.trigger(7, "A-1", None, bench.now_ns)
    assert wish is not None
    bench.station_beats = False
    bench.wait(SILENCE_MS + BEAT_MS)
    assert bench.ack().reason is ReasonCode.NO_RESULT and not bench.image.busy


def test_several_triggers_may_be_on_their_way_if_the_file_says_so() -> None:
    plc = msgspec.structs.replace(SETTINGS.plc, triggers_in_flight=2)
    bench = Bench(msgspec.structs.replace(SETTINGS, plc=plc)).go_online()
    for number in (1, 2):
        wish = bench.handshake.trigger(number, "", None, bench.now_ns)
        assert wish is not None
        bench.handshake.triggered(wish, bench.now_ns)
    assert not bench.image.ready and bench.handshake.trigger(3, "", None, bench.now_ns) is None


def test_trigger_ids_are_never_used_again(bench: Bench) -> None:
    ids = set()
    for number in range(1, 30):
        wish = bench.handshake.trigger(number, "", None, bench.now_ns)
        assert wish is not None
        ids.add(wish.trigger_id)
        bench.judge(trigger_id=wish.trigger_id)
        bench.ack()
    assert len(ids) == 29 and all(0 < len(i) <= 64 for i in ids)


# Changeover.


def test_during_a_changeover_nothing_is_accepted_and_afterwards_only_the_new_recipe(bench: Bench) -> None:
    wish = bench.handshake.want_recipe(2, bench.now_ns)
    assert wish is not None and (wish.product, wish.revision) == BRACKET[:2]
    assert bench.image.online_reason is OnlineReason.CHANGEOVER and bench.image.busy and not bench.image.ready
    bench.judge()
    assert shown(bench) == withheld(ReasonCode.WRONG_RECIPE)
    bench.ack()
    bench.handshake.recipe_changed(wish, BRACKET[2], bench.now_ns)
    assert recipe_of(bench) == (RecipeStatus.CHANGING, 1), "the feed has not said so yet"
    bench.activate(BRACKET)
    assert recipe_of(bench) == (RecipeStatus.ACTIVE, 2) and bench.image.online
    bench.judge(recipe=BOARD)
    assert shown(bench) == withheld(ReasonCode.WRONG_RECIPE)
    bench.ack()
    bench.judge()
    assert shown(bench) == GOOD


def test_an_unknown_recipe_number_changes_nothing_and_is_not_online(bench: Bench) -> None:
    assert bench.handshake.want_recipe(99, bench.now_ns) is None
    image = bench.image
    assert image.recipe_status is RecipeStatus.UNKNOWN_NUMBER and image.fault is FaultCode.RECIPE_UNKNOWN
    assert image.online_reason is OnlineReason.RECIPE_DIFFERS and image.recipe_number == 1
    bench.handshake.want_recipe(0, bench.now_ns)
    assert bench.image.online and bench.image.fault is FaultCode.NONE


def test_a_changeover_that_fails_is_told_and_not_online(bench: Bench) -> None:
    wish = bench.handshake.want_recipe(2, bench.now_ns)
    assert wish is not None
    bench.handshake.recipe_failed(wish, bench.now_ns)
    assert bench.image.recipe_status is RecipeStatus.FAILED and not bench.image.online
    assert bench.image.fault is FaultCode.RECIPE_FAILED


def test_a_changeover_that_never_ends_has_failed() -> None:
    plc = msgspec.structs.replace(SETTINGS.plc, recipe_ms=1_000)
    bench = Bench(msgspec.structs.replace(SETTINGS, plc=plc)).go_online()
    bench.handshake.want_recipe(2, bench.now_ns)
    bench.wait(1_200)
    assert bench.image.recipe_status is RecipeStatus.FAILED


def test_the_recipe_that_is_active_already_is_not_changed(bench: Bench) -> None:
    assert bench.handshake.want_recipe(1, bench.now_ns) is None
    assert recipe_of(bench) == (RecipeStatus.ACTIVE, 1) and bench.image.online


def test_the_newest_revision_is_asked_for_again_because_there_may_be_a_newer_one() -> None:
    bench = Bench(msgspec.structs.replace(SETTINGS, recipes=(RecipeNumber(1, "board"),))).go_online()
    assert bench.handshake.want_recipe(1, bench.now_ns) is None, "a restarted gateway must not change the recipe"
    bench.handshake.want_recipe(0, bench.now_ns)
    assert bench.handshake.want_recipe(1, bench.now_ns) is not None


def test_a_wish_waits_for_a_station_that_comes_later_than_the_plc() -> None:
    bench = Bench()
    bench.station_beats = False
    wish = bench.handshake.want_recipe(2, bench.now_ns)
    assert wish is not None
    bench.wait(10 * 60_000)
    assert recipe_of(bench)[0] is RecipeStatus.CHANGING and bench.handshake.wants(wish)


def test_a_changeover_whose_answer_was_lost_is_done_if_the_feed_says_so(bench: Bench) -> None:
    bench.handshake.want_recipe(2, bench.now_ns)
    bench.activate(BRACKET)
    bench.wait(61_000)
    assert recipe_of(bench) == (RecipeStatus.ACTIVE, 2) and bench.image.online


def test_another_recipe_than_the_plc_wants_is_not_online(bench: Bench) -> None:
    bench.handshake.want_recipe(1, bench.now_ns)
    assert bench.image.online
    bench.activate(BRACKET)
    assert bench.image.online_reason is OnlineReason.RECIPE_DIFFERS
    bench.judge()
    assert shown(bench) == withheld(ReasonCode.WRONG_RECIPE)


def test_a_new_wish_replaces_the_last_one(bench: Bench) -> None:
    bench.activate(BRACKET)
    first = bench.handshake.want_recipe(1, bench.now_ns)
    bench.handshake.want_recipe(0, bench.now_ns)
    second = bench.handshake.want_recipe(1, bench.now_ns)
    assert first is not None and second is not None
    assert not bench.handshake.wants(first) and bench.handshake.wants(second)
    bench.handshake.recipe_failed(first, bench.now_ns)
    assert recipe_of(bench)[0] is RecipeStatus.CHANGING
    bench.activate(BOARD)
    bench.handshake.recipe_changed(second, BOARD[2], bench.now_ns)
    assert recipe_of(bench)[0] is RecipeStatus.ACTIVE


# Counts and checksum.


def test_the_counts_are_those_of_the_last_heartbeat(bench: Bench) -> None:
    message = feed.heartbeat(10, bench.epoch)
    bench.now_ns += 1
    changed = msgspec.structs.replace(
        message, triggers_seen=10, ok=6, not_ok=2, not_decidable=1, in_flight=1, missed=1, wall_us=bench.now_ns
    )
    bench.handshake.heartbeat(changed, bench.now_ns)
    counts = bench.image.counts
    assert counts.triggers_seen == counts.ok + counts.not_ok + counts.unjudged + counts.in_flight == 10
    assert counts.missed == 1


def test_the_checksum_changes_with_the_gateways_and_the_stations_settings(bench: Bench) -> None:
    other = GatewaySettings(name="other")
    assert SETTINGS.checksum("a") != SETTINGS.checksum("b")
    assert SETTINGS.checksum("a") != other.checksum("a") == GatewaySettings(name="other").checksum("a")
    assert bench.image.settings_checksum == SETTINGS.checksum("d" * 64)


@pytest.mark.parametrize(("state", "fault"), [(State.ERROR, FaultCode.STATION_ERROR), (State.HALTED, FaultCode.NONE)])
def test_a_station_that_ended_is_not_online(bench: Bench, state: State, fault: FaultCode) -> None:
    bench.judge()
    bench.state = state
    bench.wait(BEAT_MS)
    assert not bench.image.online and not bench.image.accept and bench.image.fault is fault

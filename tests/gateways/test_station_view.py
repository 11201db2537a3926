"""A station is taken for live only while it beats, punctually; what never arrived is counted."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.messages import HeartbeatMessage, Mode, State, StateMessage, VerdictMessage
from edge.gateways.codes import OnlineReason
from edge.gateways.station_view import Missing, StationView
from tests.edge import feed

MS = 1_000_000
SILENCE_MS = 1_500
EVERY_MS = 500
WALL_US = 1_700_000_000_000_000


def beat(
    sent_ms: float,
    head_seq: int = 0,
    epoch: int = 5,
    state: State = State.CONTINUOUS_EXECUTION,
    mode: Mode = Mode.JUDGE,
) -> HeartbeatMessage:
    wall_us = WALL_US + round(sent_ms * 1000)
    return msgspec.structs.replace(feed.heartbeat(head_seq, epoch, state), wall_us=wall_us, mode=mode)


def told(epoch: int = 5, **changes: object) -> StateMessage:
    return msgspec.structs.replace(feed.state_message(epoch), **changes)


def verdict(seq: int, epoch: int = 5) -> VerdictMessage:
    return feed.verdict(seq, epoch)


def live_view(until_ms: int = 1_000, epoch: int = 5) -> StationView:
    """A view of a station that has beaten since 0 ms."""
    view = StationView(SILENCE_MS * MS)
    view.state(told(epoch), 0)
    for ms in range(0, until_ms + 1, EVERY_MS):
        view.heartbeat(beat(ms, epoch=epoch), ms * MS)
    return view


def test_nothing_heard_is_waiting() -> None:
    assert StationView(SILENCE_MS * MS).reason(0) is OnlineReason.WAITING


def test_one_heartbeat_is_not_enough_because_it_may_be_a_copy() -> None:
    view = StationView(SILENCE_MS * MS)
    view.state(told(), 0)
    view.heartbeat(beat(0), 0)
    view.heartbeat(beat(0), 100 * MS)
    assert view.reason(100 * MS) is OnlineReason.WAITING
    view.heartbeat(beat(500), 500 * MS)
    assert view.reason(500 * MS) is OnlineReason.ONLINE


def test_a_station_whose_recipe_nobody_told_is_waited_for() -> None:
    view = StationView(SILENCE_MS * MS)
    view.heartbeat(beat(0), 0)
    view.heartbeat(beat(500), 500 * MS)
    assert view.reason(500 * MS) is OnlineReason.WAITING


def test_silence_is_noticed_by_time_alone() -> None:
    view = live_view(1_000)
    assert view.reason(2_500 * MS) is OnlineReason.ONLINE
    assert view.reason(2_501 * MS) is OnlineReason.BUS_SILENT


def test_verdicts_do_not_prove_that_the_station_lives() -> None:
    view = live_view(1_000)
    for seq in range(1, 40):
        view.verdict(verdict(seq), (1_000 + 50 * seq) * MS)
    assert view.reason(2_950 * MS) is OnlineReason.BUS_SILENT


def test_copies_of_a_heartbeat_do_not_prove_that_the_station_lives() -> None:
    view = live_view(1_000)
    for ms in range(1_100, 2_600, 100):
        view.heartbeat(beat(1_000), ms * MS)
    assert view.reason(2_550 * MS) is OnlineReason.BUS_SILENT


@pytest.mark.parametrize("backlog_ms", [1_600, 5_000, 60_000])
def test_what_piled_up_during_a_silence_is_not_taken_for_life(backlog_ms: int) -> None:
    view = live_view(1_000)
    now_ms = 1_000.0 + backlog_ms
    view.reason(round(now_ms * MS))
    for sent_ms in range(1_500, 1_000 + backlog_ms, EVERY_MS):
        now_ms += 0.1
        view.heartbeat(beat(sent_ms), round(now_ms * MS))
        if now_ms - sent_ms > SILENCE_MS / 2 + 20:
            assert view.reason(round(now_ms * MS)) is OnlineReason.WAITING, sent_ms


def test_after_a_burst_has_caught_up_the_station_is_live_again() -> None:
    view = live_view(1_000)
    for step, sent_ms in enumerate(range(1_500, 6_500, EVERY_MS)):
        view.heartbeat(beat(sent_ms), (6_400 + step) * MS)
    view.heartbeat(beat(6_500), 6_510 * MS)
    view.heartbeat(beat(7_000), 7_000 * MS)
    assert view.reason(7_000 * MS) is OnlineReason.ONLINE


def test_one_late_heartbeat_does_not_stop_the_line() -> None:
    view = live_view(1_000)
    view.heartbeat(beat(1_500), 2_100 * MS)
    assert view.reason(2_100 * MS) is OnlineReason.ONLINE
    view.heartbeat(beat(2_000), 2_101 * MS)
    assert view.reason(2_101 * MS) is OnlineReason.ONLINE


@pytest.mark.parametrize("slower", [1.01, 1.2, 1.25, 2.0])
def test_a_feed_that_falls_behind_is_noticed_however_slowly(slower: float) -> None:
    view = live_view(1_000)
    for step in range(1, 400):
        sent_ms = 1_000 + EVERY_MS * step
        arrives_ms = 1_000 + EVERY_MS * step * slower
        view.heartbeat(beat(sent_ms), round(arrives_ms * MS))
        if view.reason(round(arrives_ms * MS)) is OnlineReason.ONLINE:
            assert arrives_ms - sent_ms < SILENCE_MS / 2 * 1.2, "what comes now is old"
    assert view.reason(round(arrives_ms * MS)) is OnlineReason.WAITING


def test_a_verdict_that_was_held_up_is_late_although_the_heartbeats_are_punctual() -> None:
    view = live_view(1_000)
    given = msgspec.structs.replace(verdict(1), trigger_wall_us=WALL_US + 1_000_000, publish_after_us=10_000)
    assert not view.is_late(given, 1_011 * MS)
    assert not view.is_late(given, 1_700 * MS)
    assert view.is_late(given, 1_800 * MS)


def test_another_station_at_the_endpoint_is_told_from_the_first() -> None:
    view = StationView(SILENCE_MS * MS)
    assert not view.is_stranger("press-3") and view.is_stranger("press-4") and not view.is_stranger("press-3")
    assert StationView(SILENCE_MS * MS, "press-4").is_stranger("press-3")


def test_a_station_that_begins_again_with_a_lower_epoch_is_followed_once_the_other_is_silent() -> None:
    view = live_view(1_000)
    for ms in range(1_100, 2_400, 100):
        view.heartbeat(beat(ms, epoch=3), ms * MS)
    assert view.epoch == 5, "the other one may still live"
    for ms in range(2_600, 4_000, 100):
        view.heartbeat(beat(ms, epoch=3), ms * MS)
    view.state(told(3), 4_000 * MS)
    assert view.epoch == 3 and view.reason(4_000 * MS) is OnlineReason.ONLINE


def test_a_state_that_was_lost_is_missed() -> None:
    view = StationView(SILENCE_MS * MS)
    assert not view.lacks_state
    view.heartbeat(beat(0), 0)
    view.heartbeat(beat(500), 500 * MS)
    assert view.lacks_state
    view.state(told(), 500 * MS)
    assert not view.lacks_state
    for seq in range(1, 4):
        view.verdict(msgspec.structs.replace(verdict(seq), recipe_hash="e" * 64), 500 * MS)
    assert view.lacks_state, "a changeover was not told"


@pytest.mark.parametrize("step_ms", [-3_600_000, 3_600_000])
def test_a_stepped_clock_costs_a_few_heartbeats_at_most(step_ms: int) -> None:
    view = live_view(1_000)
    reasons = []
    for ms in range(1_500, 6_000, EVERY_MS):
        view.heartbeat(beat(ms + step_ms), ms * MS)
        reasons.append(view.reason(ms * MS))
    assert set(reasons[4:]) == {OnlineReason.ONLINE}


@given(st.lists(st.integers(-200, 200), min_size=5, max_size=200), st.integers(-100, 100))
def test_jitter_and_drift_of_clocks_never_stop_the_line(jitter_ms: list[int], drift_ppm: int) -> None:
    view = live_view(1_000)
    for step, late_ms in enumerate(jitter_ms):
        sent_ms = 1_500 + EVERY_MS * step
        arrives_ns = round((sent_ms * (1 + drift_ppm / 1e6) + 200 + late_ms) * MS)
        view.heartbeat(beat(sent_ms), arrives_ns)
        assert view.reason(arrives_ns) is OnlineReason.ONLINE


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (State.PREOPERATIONAL, OnlineReason.NOT_RUNNING),
        (State.INITIALIZED, OnlineReason.NO_RECIPE),
        (State.READY, OnlineReason.ONLINE),
        (State.SINGLE_EXECUTION, OnlineReason.ONLINE),
        (State.HALTED, OnlineReason.NOT_RUNNING),
        (State.ERROR, OnlineReason.STATION_ERROR),
    ],
)
def test_the_state_says_whether_parts_are_judged(state: State, reason: OnlineReason) -> None:
    view = live_view(1_000)
    view.heartbeat(beat(1_500, state=state), 1_500 * MS)
    assert view.reason(1_500 * MS) is reason


def test_a_station_that_ended_stays_ended_however_silent() -> None:
    view = live_view(1_000)
    view.heartbeat(beat(1_500, state=State.ERROR), 1_500 * MS)
    assert view.reason(60_000 * MS) is OnlineReason.STATION_ERROR
    assert view.station_state(60_000 * MS) is State.ERROR


def test_one_that_observes_judges_nothing_for_the_gate() -> None:
    view = live_view(1_000)
    view.heartbeat(beat(1_500, mode=Mode.OBSERVE), 1_500 * MS)
    assert view.reason(1_500 * MS) is OnlineReason.OBSERVING


def test_a_new_epoch_must_prove_itself_anew() -> None:
    view = live_view(1_000)
    view.state(told(6), 1_100 * MS)
    assert view.reason(1_100 * MS) is OnlineReason.WAITING
    view.heartbeat(beat(1_200, epoch=6), 1_200 * MS)
    assert view.reason(1_200 * MS) is OnlineReason.WAITING
    view.heartbeat(beat(1_700, epoch=6), 1_700 * MS)
    assert view.reason(1_700 * MS) is OnlineReason.ONLINE


def test_an_older_epoch_says_nothing() -> None:
    view = live_view(1_000)
    for ms in range(1_500, 3_000, EVERY_MS):
        view.heartbeat(beat(ms, epoch=4), ms * MS)
    assert view.reason(2_600 * MS) is OnlineReason.BUS_SILENT and view.epoch == 5


def test_what_cannot_be_read_takes_it_offline_until_heartbeats_can() -> None:
    view = live_view(1_000)
    view.refuse(OnlineReason.UNREADABLE)
    assert view.reason(1_000 * MS) is OnlineReason.UNREADABLE
    view.heartbeat(beat(1_500), 1_500 * MS)
    assert view.reason(1_500 * MS) is OnlineReason.WAITING
    view.heartbeat(beat(2_000), 2_000 * MS)
    assert view.reason(2_000 * MS) is OnlineReason.ONLINE


# What never arrived.


def test_what_was_before_the_first_message_is_not_missing() -> None:
    view = StationView(SILENCE_MS * MS)
    assert view.heartbeat(beat(0, head_seq=700), 0) is None
    assert view.verdict(verdict(701), 0) == (True, None)


def test_what_came_since_an_old_copy_of_a_heartbeat_is_not_missing() -> None:
    view = StationView(SILENCE_MS * MS)
    assert view.heartbeat(beat(0, head_seq=700), 400 * MS) is None
    assert view.verdict(verdict(704), 450 * MS) == (True, None)
    assert view.heartbeat(beat(500, head_seq=704), 500 * MS) is None
    assert view.heartbeat(beat(1_000, head_seq=706), 1_000 * MS) == Missing(5, 705, 2)


def test_a_gap_before_a_verdict_is_missing() -> None:
    view = live_view(1_000)
    assert view.verdict(verdict(1), 0) == (True, None)
    assert view.verdict(verdict(5), 0) == (True, Missing(5, 2, 3))
    assert view.verdict(verdict(6), 0) == (True, None)


def test_a_lost_tail_is_told_by_the_heartbeat() -> None:
    view = live_view(1_000)
    view.verdict(verdict(1), 1_000 * MS)
    assert view.heartbeat(beat(1_500, head_seq=4), 1_500 * MS) == Missing(5, 2, 3)
    assert view.verdict(verdict(4), 1_500 * MS) == (False, None), "it was given up"
    assert view.verdict(verdict(5), 1_500 * MS) == (True, None)


def test_all_of_a_new_epoch_is_owed_to_who_listened_before() -> None:
    view = live_view(1_000)
    assert view.heartbeat(beat(2_000, head_seq=3, epoch=6), 2_000 * MS) == Missing(6, 1, 3)


def test_the_last_verdicts_of_the_epoch_before_still_count() -> None:
    view = live_view(1_000)
    view.verdict(verdict(1), 1_000 * MS)
    view.state(told(6), 1_100 * MS)
    assert view.verdict(verdict(2), 1_200 * MS) == (True, None)
    assert view.verdict(verdict(9, epoch=3), 1_200 * MS) == (False, None)


@given(st.lists(st.tuples(st.sampled_from(["arrives", "lost", "again", "beat"]), st.integers(1, 3)), max_size=60))
def test_every_verdict_is_new_once_or_missing_once(steps: list[tuple[str, int]]) -> None:
    view = live_view(1_000)
    seq, came, missing, now_ms = 0, 0, 0, 1_000
    for what, count in [*steps, ("beat", 1)]:
        for _ in range(count):
            found = None
            if what == "beat":
                now_ms += EVERY_MS
                found = view.heartbeat(beat(now_ms, head_seq=seq), now_ms * MS)
            elif what == "again" and seq:
                fresh, found = view.verdict(verdict(max(1, seq - 1)), now_ms * MS)
                came += fresh
            else:
                seq += 1
                if what == "arrives":
                    fresh, found = view.verdict(verdict(seq), now_ms * MS)
                    came += fresh
            missing += 0 if found is None else found.count
    assert came + missing == seq

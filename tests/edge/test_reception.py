"""A subscriber knows what it missed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.bus.messages import HeartbeatMessage, VerdictMessage
from edge.bus.subscriber import Reception
from tests.edge.feed import copy_of, heartbeat, verdict


def noted(*messages: VerdictMessage | HeartbeatMessage) -> Reception:
    reception = Reception()
    for message in messages:
        reception.note(message)
    return reception


def test_nothing_received_is_nothing_missing() -> None:
    assert Reception().missing == 0


def test_all_received_is_nothing_missing() -> None:
    reception = noted(heartbeat(0), verdict(1), verdict(2), heartbeat(2), verdict(3), heartbeat(3))
    assert (reception.received, reception.missing) == (3, 0)


def test_a_gap_inside_is_missing() -> None:
    assert noted(heartbeat(0), verdict(1), verdict(4)).missing == 2


def test_a_lost_tail_is_missing_once_a_heartbeat_tells_the_head() -> None:
    reception = noted(heartbeat(0), verdict(1), verdict(2))
    assert reception.missing == 0
    reception.note(heartbeat(5))
    assert reception.missing == 3


def test_a_lost_beginning_is_missing_after_a_first_heartbeat() -> None:
    assert noted(heartbeat(0), verdict(3)).missing == 2


def test_all_lost_after_a_first_heartbeat_is_missing() -> None:
    assert noted(heartbeat(0), heartbeat(4)).missing == 4


def test_what_came_before_a_late_joiner_is_not_missing() -> None:
    assert noted(verdict(7), verdict(8), heartbeat(8)).missing == 0
    assert noted(heartbeat(6), verdict(7), verdict(8), heartbeat(8)).missing == 0


def test_a_new_epoch_starts_again_and_keeps_what_the_last_one_missed() -> None:
    reception = noted(heartbeat(0), verdict(1), verdict(4), heartbeat(0, epoch=2), verdict(1, epoch=2))
    assert (reception.epoch, reception.received, reception.missing, reception.earlier_missing) == (2, 1, 0, 2)
    reception.note(heartbeat(3, epoch=2))
    reception.note(verdict(1, epoch=3))
    assert (reception.missing, reception.earlier_missing) == (0, 4)


def test_a_copy_is_not_received_and_hides_no_gap() -> None:
    reception = noted(heartbeat(0), verdict(1), copy_of(verdict(1)), copy_of(verdict(1)), verdict(3))
    assert (reception.received, reception.missing) == (2, 1)


def test_a_copy_tells_a_lost_tail() -> None:
    reception = noted(heartbeat(0), verdict(1), copy_of(verdict(4)))
    assert (reception.received, reception.missing) == (1, 3)


def test_a_copy_for_a_late_joiner_is_where_it_begins() -> None:
    assert noted(copy_of(verdict(7)), verdict(8), heartbeat(8)).missing == 0
    assert noted(copy_of(verdict(7)), verdict(9)).missing == 1


@pytest.mark.parametrize("beats", [(), (heartbeat(0, epoch=2),)])
def test_the_last_verdicts_of_a_crashed_epoch_are_counted_where_they_belong(
    beats: tuple[HeartbeatMessage, ...],
) -> None:
    reception = noted(heartbeat(0), verdict(1), *beats, verdict(3, restart=True), verdict(1, epoch=2))
    assert (reception.epoch, reception.received, reception.missing, reception.earlier_missing) == (2, 1, 0, 1)


def test_a_crashed_epoch_that_was_not_seen_before_is_not_missing() -> None:
    reception = noted(heartbeat(0, epoch=2), verdict(3, restart=True))
    assert (reception.epoch, reception.received, reception.missing, reception.earlier_missing) == (2, 0, 0, 0)
    reception.note(verdict(1, epoch=2))
    assert (reception.received, reception.missing, reception.earlier_missing) == (1, 0, 0)


@given(count=st.integers(1, 60), data=st.data())
def test_whatever_is_lost_is_counted(count: int, data: st.DataObject) -> None:
    lost = data.draw(st.sets(st.integers(1, count)))
    beats = data.draw(st.sets(st.integers(1, count)))
    reception = noted(heartbeat(0))
    for seq in range(1, count + 1):
        if seq not in lost:
            reception.note(verdict(seq))
        if seq in beats:
            reception.note(heartbeat(seq))
            assert reception.missing == len([s for s in lost if s <= seq])
    reception.note(heartbeat(count))
    assert (reception.received, reception.missing) == (count - len(lost), len(lost))

"""Masks' pictures are made beside the verdicts: in order, never holding up who orders, and counted where none is made."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator

import cv2
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edge import press as press_module
from edge.bus.compose import mask_message, mask_reference, verdict_message
from edge.bus.messages import MaskMessage, VerdictMessage
from edge.press import MOST_WAITING, Press
from tests.edge.fakes import PATIENCE_S
from tests.edge.messages import rejected

Mask = NDArray[np.bool_]


class Encoder:
    """Stands while `slow` is not set; `began` tells that it has something in hand."""

    def __init__(self) -> None:
        self.slow = threading.Event()
        self.began = threading.Event()
        self.threads: set[int] = set()

    def __call__(self, verdict: VerdictMessage, mask: Mask) -> tuple[MaskMessage, bytes]:
        """See `mask_message`."""
        self.threads.add(threading.get_ident())
        self.began.set()
        assert self.slow.wait(PATIENCE_S), "nobody let the encoder go on"
        return mask_message(verdict, mask)


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Encoder]:
    """A slow one."""
    slow = Encoder()
    monkeypatch.setattr(press_module, "mask_message", slow)
    yield slow
    slow.slow.set()


@pytest.fixture
def press() -> Iterator[Press]:
    """Closed at the end."""
    made = Press()
    yield made
    made.close()
    if made._thread is not None:
        made._thread.join(PATIENCE_S)
        assert not made._thread.is_alive()


def order(press: Press, seq: int) -> Mask:
    judged = rejected()
    mask = np.zeros((20, 30), np.bool_)
    mask[seq % 20, : 1 + seq % 30] = True
    verdict = msgspec.structs.replace(verdict_message(judged, seq), mask=mask_reference(mask))
    press.order(verdict, mask)
    return mask


def collected(press: Press, count: int) -> list[tuple[int, bytes]]:
    found = []
    for _ in range(count):
        done = press.collect(PATIENCE_S)
        assert done is not None
        found.append((msgspec.json.decode(done[0], type=MaskMessage).seq, done[1]))
    return found


def test_pictures_come_in_the_order_of_their_verdicts(press: Press) -> None:
    masks = {seq: order(press, seq) for seq in range(1, MOST_WAITING + 1)}
    found = collected(press, MOST_WAITING)
    assert [seq for seq, _ in found] == list(masks)
    for seq, png in found:
        assert np.array_equal(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED) == 255, masks[seq])
    assert (press.owed, press.lost, press.collect()) == (0, 0, None)


def test_an_announcement_names_its_mask(press: Press) -> None:
    mask = order(press, 7)
    done = press.collect(PATIENCE_S)
    assert done is not None
    message = msgspec.json.decode(done[0], type=MaskMessage)
    assert (message.seq, message.width, message.height) == (7, 30, 20)
    assert message.sha256 == hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()


def test_who_orders_never_waits_and_what_finds_no_room_is_counted(press: Press, encoder: Encoder) -> None:
    for seq in range(1, MOST_WAITING + 6):
        order(press, seq)
    assert encoder.began.wait(PATIENCE_S)
    assert not encoder.slow.is_set()
    assert (press.owed, press.lost, press.collect()) == (MOST_WAITING, 5, None)
    encoder.slow.set()
    assert [seq for seq, _ in collected(press, MOST_WAITING)] == list(range(1, MOST_WAITING + 1))
    assert (press.owed, press.lost) == (0, 5)
    assert threading.get_ident() not in encoder.threads


def test_there_is_room_again_once_one_is_collected(press: Press) -> None:
    for seq in range(1, MOST_WAITING + 2):
        order(press, seq)
    # Made is not enough: what nobody collects takes room.
    assert press.lost == 1
    assert [seq for seq, _ in collected(press, 1)] == [1]
    order(press, 100)
    order(press, 101)
    assert (press.owed, press.lost) == (MOST_WAITING, 2)
    assert [seq for seq, _ in collected(press, MOST_WAITING)] == [*range(2, MOST_WAITING + 1), 100]


def test_nothing_ready_in_time_is_none_and_stays_owed(press: Press, encoder: Encoder) -> None:
    order(press, 1)
    assert press.collect(0.01) is None
    assert press.owed == 1
    encoder.slow.set()
    assert [seq for seq, _ in collected(press, 1)] == [1]


def test_without_an_order_there_is_no_thread_and_an_end(press: Press) -> None:
    assert press.collect(PATIENCE_S) is None
    press.close()
    assert press._thread is None


def test_what_was_ordered_before_the_end_is_still_made(encoder: Encoder) -> None:
    press = Press()
    for seq in range(1, 4):
        order(press, seq)
    press.close()
    encoder.slow.set()
    assert [seq for seq, _ in collected(press, 3)] == [1, 2, 3]
    assert press._thread is not None
    press._thread.join(PATIENCE_S)
    assert not press._thread.is_alive()

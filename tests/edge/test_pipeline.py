"""Exactly one verdict per trigger, whatever happens to the frame."""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
import pytest

from edge.bus.messages import State
from edge.errors import EngineError
from edge.types import Judgement, Reason
from tests.edge.fakes import blank_part, defective_part, normal_part
from tests.edge.line import Line, assert_counts_agree, by_trigger


def test_each_part_gets_its_own_verdict_in_order(line: Line) -> None:
    line.camera.show(*(defective_part() if number % 3 == 0 else normal_part() for number in range(30)))
    outcome = line.finish()
    verdicts = by_trigger(line)
    assert sorted(verdicts) == list(range(1, 31))
    for trigger_seq, verdict in verdicts.items():
        bad = (trigger_seq - 1) % 3 == 0
        assert verdict.judgement is (Judgement.NOT_OK if bad else Judgement.OK)
        assert verdict.accept is not bad and verdict.part_id == f"part-{trigger_seq}"
    assert assert_counts_agree(line).state is outcome.state is State.HALTED
    assert outcome.counts.triggers_seen == 30 and outcome.fault == ""


def test_a_defect_is_shown_where_it_is(line: Line) -> None:
    line.camera.show(defective_part(row=2, column=5))
    line.finish()
    (verdict,) = line.verdicts
    (region,) = verdict.regions
    assert (region.x, region.y, region.width, region.height, region.area_px) == (40, 16, 8, 8, 64)
    expected = np.zeros((64, 64), np.uint8)
    expected[16:24, 40:48] = 255
    grey = cv2.imdecode(np.frombuffer(line.pngs[verdict.seq], np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(np.asarray(grey), expected)


def test_every_mask_follows_its_verdict_and_carries_its_hash(line: Line) -> None:
    for row in range(5):
        # No more at once than may wait for their pictures: one that finds no room is lost, however slow the machine is.
        line.camera.show(*(defective_part(column, row) for column in range(8)))
        line.read_until(lambda done=8 * (row + 1): len(line.masks) >= done)  # type: ignore[misc]
    line.finish()
    assert [mask.seq for mask in line.masks] == [verdict.seq for verdict in line.verdicts] == list(range(1, 41))
    for mask in line.masks:
        verdict = line.verdicts[mask.seq - 1]
        assert line.messages.index(verdict) < line.messages.index(mask)
        grey = np.asarray(cv2.imdecode(np.frombuffer(line.pngs[mask.seq], np.uint8), cv2.IMREAD_UNCHANGED))
        bits = hashlib.sha256(np.packbits(grey > 0).tobytes()).hexdigest()
        assert verdict.mask is not None and verdict.mask.sha256 == mask.sha256 == bits
        assert grey.shape == (mask.height, mask.width) and (mask.trigger_seq, mask.epoch) == (mask.seq, verdict.epoch)


def test_an_accepted_part_has_no_mask(line: Line) -> None:
    line.camera.show(normal_part(), normal_part())
    line.finish()
    assert line.masks == [] and all(v.mask is None and v.regions == () and v.reason is None for v in line.verdicts)


def test_a_part_that_finds_no_room_is_an_overload_at_once(narrow_line: Line) -> None:
    line = narrow_line
    line.engine.gate.clear()
    line.camera.show(normal_part())
    assert line.engine.entered.wait(60)
    line.camera.show(normal_part(), normal_part(), normal_part())
    overloads = line.read_verdicts(2)
    assert [(v.trigger_seq, v.judgement, v.reason) for v in overloads] == [
        (3, Judgement.NOT_DECIDABLE, Reason.OVERLOAD),
        (4, Judgement.NOT_DECIDABLE, Reason.OVERLOAD),
    ]
    line.engine.gate.set()
    outcome = line.finish()
    verdicts = by_trigger(line)
    assert verdicts[1].accept and verdicts[2].accept and len(verdicts) == 4
    assert assert_counts_agree(line).overruns == outcome.counts.overruns == 2


def test_a_hanging_engine_misses_the_deadline_and_its_late_result_changes_nothing(hasty_line: Line) -> None:
    line = hasty_line
    line.engine.gate.clear()
    line.camera.show(normal_part())
    (verdict,) = line.read_verdicts(1)
    assert (verdict.judgement, verdict.reason, verdict.accept) == (
        Judgement.NOT_DECIDABLE,
        Reason.DEADLINE_MISSED,
        False,
    )
    assert not verdict.deadline_met and verdict.done_after_us is None
    line.engine.gate.set()
    line.read_until(lambda: bool(line.heartbeats) and line.heartbeats[-1].late == 1)
    outcome = line.finish()
    assert line.verdicts == [verdict]
    assert (outcome.counts.ok, outcome.counts.not_decidable, outcome.counts.missed) == (0, 1, 1)
    assert_counts_agree(line)


def test_waiting_parts_miss_their_deadline_too(hasty_line: Line) -> None:
    line = hasty_line
    line.engine.gate.clear()
    line.camera.show(*(normal_part() for _ in range(5)))
    assert {v.reason for v in line.read_verdicts(5)} == {Reason.DEADLINE_MISSED}
    line.engine.gate.set()
    line.finish()
    assert sorted(by_trigger(line)) == [1, 2, 3, 4, 5]
    assert assert_counts_agree(line).missed == 5


def test_a_failing_engine_gives_engine_fault_and_the_line_goes_on(line: Line) -> None:
    def fail_once(call: int) -> None:
        if call == 2:
            raise EngineError("out of memory", "Buy more.")

    line.engine.before_encoding = fail_once
    line.camera.show(normal_part(), normal_part(), normal_part())
    outcome = line.finish()
    verdicts = by_trigger(line)
    assert (verdicts[2].judgement, verdicts[2].reason) == (Judgement.NOT_DECIDABLE, Reason.ENGINE_FAULT)
    assert "out of memory" in verdicts[2].detail and verdicts[2].score is None
    assert verdicts[1].accept and verdicts[3].accept and outcome.fault == ""


@pytest.mark.parametrize("answer", ["fill_score", "fill_map", "fill_unlikeness"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_answer_that_is_no_number_is_not_decidable(line: Line, answer: str, value: float) -> None:
    setattr(line.engine, answer, value)
    line.camera.show(normal_part())
    line.finish()
    (verdict,) = line.verdicts
    assert (verdict.judgement, verdict.reason) == (Judgement.NOT_DECIDABLE, Reason.ENGINE_FAULT)
    assert not verdict.accept and verdict.score is None


def test_a_frame_that_did_not_arrive_whole_is_not_decidable(line: Line) -> None:
    line.camera.show_damaged("12 packets lost")
    line.camera.show(normal_part())
    line.finish()
    verdicts = by_trigger(line)
    assert (verdicts[1].judgement, verdicts[1].reason) == (Judgement.NOT_DECIDABLE, Reason.FRAME_INCOMPLETE)
    assert verdicts[1].detail == "12 packets lost" and verdicts[2].accept
    assert line.engine.calls == 1


def test_an_unfit_picture_is_not_decidable_and_never_reaches_the_engine(line: Line) -> None:
    line.camera.show(blank_part(), normal_part()[:32])
    line.finish()
    assert {(v.judgement, v.reason) for v in line.verdicts} == {(Judgement.NOT_DECIDABLE, Reason.UNFIT_IMAGE)}
    assert len(line.verdicts) == 2 and line.engine.calls == 0


def test_a_picture_unlike_the_shots_is_not_decidable_but_tells_its_score(line: Line) -> None:
    line.engine.fill_unlikeness = 9.0
    line.camera.show(normal_part())
    line.finish()
    (verdict,) = line.verdicts
    assert (verdict.judgement, verdict.reason) == (Judgement.NOT_DECIDABLE, Reason.UNFIT_IMAGE)
    assert verdict.score is not None and verdict.mask is None and not verdict.accept


def test_stop_grabs_no_more_and_closes_every_open_trigger(line: Line) -> None:
    line.engine.gate.clear()
    line.camera.show(*(normal_part() for _ in range(4)))
    line.read_until(lambda: bool(line.heartbeats) and line.heartbeats[-1].in_flight == 4)
    line.supervisor.pipeline.stop()
    assert line.camera.closed.is_set()
    line.engine.gate.set()
    outcome = line.wait()
    assert sorted(by_trigger(line)) == [1, 2, 3, 4] and all(v.accept for v in line.verdicts)
    assert assert_counts_agree(line).state is outcome.state is State.HALTED


def test_stop_before_the_first_part_ends_cleanly(line: Line) -> None:
    line.supervisor.pipeline.stop()
    outcome = line.wait()
    assert (outcome.state, outcome.counts.triggers_seen, outcome.fault) == (State.HALTED, 0, "")

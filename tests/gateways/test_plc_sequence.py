"""The PLC's part, played by the command line and by the structured text: what may pass passes once, all else is a reject."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.gateways.codes import TriggerStatus
from edge.gateways.modbus.layout import encode_status
from edge.gateways.plc.blocks import after, distance
from edge.gateways.plc.sequence import Plan
from edge.types import Judgement
from tests.gateways.compiled_st import CompiledPlc, library  # noqa: F401 - a fixture
from tests.gateways.small_line import MS, ORDER, SCAN_MS, Brain, PythonBrain, SmallLine, StBrain

MakeBrain = Callable[[], Brain]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("judge"), st.sampled_from(list(Judgement))),
        st.tuples(st.just("step"), st.integers(1, 30)),
        st.tuples(st.just("torn"), st.integers(1, 3)),
        st.tuples(st.just("plc sleeps"), st.integers(1, 150)),
        st.tuples(st.just("hush"), st.integers(1, 80)),
        st.tuples(st.just("restart gateway"), st.just(0)),
        st.tuples(st.just("restart station"), st.just(0)),
    ),
    max_size=60,
)


@pytest.fixture(params=["command line", pytest.param("structured text", marks=pytest.mark.matiec)])
def make_brain(request: pytest.FixtureRequest) -> MakeBrain:
    """Both programs must hold to the same rules."""
    if request.param == "command line":
        return lambda: PythonBrain(Plan(resets=True))
    samples = request.getfixturevalue("library")
    return lambda: StBrain(CompiledPlc(samples), resets=True)


def online(brain: Brain) -> SmallLine:
    """A line that runs."""
    line = SmallLine(brain)
    line.until_online()
    assert line.gateway.image(line.now_ns).online
    return line


def run(line: SmallLine, steps: list[tuple[str, object]]) -> None:
    """Do what was drawn."""
    for what, value in steps:
        number = value if isinstance(value, int) else 0
        if what == "judge" and isinstance(value, Judgement):
            line.judge(value)
        elif what == "step":
            line.step(number)
        elif what == "torn":
            line.step(number, torn=True)
        elif what == "plc sleeps":
            line.step(number, plc_runs=False)
        elif what == "hush":
            line.speaks = False
            line.step(number)
            line.speaks = True
        elif what == "restart gateway":
            line.restart_gateway()
        elif what == "restart station":
            line.restart_station()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_whatever_happens_only_an_ok_passes_and_each_result_is_taken_once(
    make_brain: MakeBrain, steps: list[tuple[str, object]]
) -> None:
    line = online(make_brain())
    run(line, steps)
    line.until_online()
    oks = {key for key, message in line.verdicts.items() if message.judgement is Judgement.OK}
    seen = [(decision.session, decision.number) for decision in line.decisions]
    assert len(seen) == len(set(seen))
    assert all((decision.epoch, decision.seq) in oks for decision in line.decisions if decision.passes)


def test_every_result_of_a_line_that_runs_is_taken_in_order_and_the_good_ones_pass(make_brain: MakeBrain) -> None:
    line = online(make_brain())
    for seq in range(1, 201):
        line.judge(Judgement.NOT_OK if seq % 5 == 0 else Judgement.OK)
        line.step(2)
    line.step(10)
    assert [decision.seq for decision in line.decisions] == list(range(1, 201))
    assert [decision.passes for decision in line.decisions] == [seq % 5 != 0 for seq in range(1, 201)]
    assert [line.brain.count(what) for what in ("gaps", "torn", "restarts", "overruns")] == [0, 0, 0, 0]


def test_the_numbers_go_on_over_their_end_without_a_gap(make_brain: MakeBrain) -> None:
    line = SmallLine(make_brain(), session=65_530)
    line.until_online()
    for _ in range(12):
        line.judge()
        line.step(2)
    assert [decision.number for decision in line.decisions] == [*range(65_531, 65_536), *range(1, 8)]
    assert line.brain.count("gaps") == 0


def test_a_plc_that_sleeps_sees_the_overrun_and_the_gap_and_passes_nothing_of_it(make_brain: MakeBrain) -> None:
    line = online(make_brain())
    for _ in range(9):
        line.judge()
        line.step(2, plc_runs=False)
    line.step(60)
    assert [decision.seq for decision in line.decisions] == [1, 2, 3, 4]
    assert not any(decision.passes for decision in line.decisions)
    assert line.brain.count("overruns") == 1
    line.judge()
    line.step(10)
    assert line.decisions[-1].passes, "after the reset the line goes on"
    assert line.brain.count("gaps") == 1


def test_a_torn_block_is_counted_and_left_alone(make_brain: MakeBrain) -> None:
    line = online(make_brain())
    line.judge()
    line.step(torn=True)
    assert line.brain.count("torn") == 1
    assert not line.decisions
    line.step(2)
    assert len(line.decisions) == 1


def test_a_gateway_that_starts_anew_is_noticed_and_its_numbers_are_no_gap(make_brain: MakeBrain) -> None:
    line = online(make_brain())
    line.judge()
    line.step(3)
    line.restart_gateway()
    line.until_online()
    line.judge()
    line.step(3)
    assert (line.brain.count("restarts"), line.brain.count("gaps")) == (1, 0)
    assert len(line.decisions) == 2


def test_a_gateway_that_was_stopped_passes_nothing_when_it_shows_an_old_result(make_brain: MakeBrain) -> None:
    brain = make_brain()
    line = online(brain)
    idle = encode_status(line.gateway.image(line.now_ns), ORDER)
    line.judge()
    full = encode_status(line.gateway.image(line.now_ns), ORDER)
    for _ in range(400):
        line.now_ns += SCAN_MS * MS
        brain.scan(line.now_ns, idle)
    brain.scan(line.now_ns, full)
    assert brain.taken == (full[0], False)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (TriggerStatus.REFUSED, "triggers_refused"),
        (TriggerStatus.NOT_READY, "triggers_refused"),
        (TriggerStatus.NO_ANSWER, "triggers_unanswered"),
    ],
)
def test_a_trigger_that_is_not_taken_is_counted_and_the_next_part_is_triggered(
    answer: TriggerStatus, what: str
) -> None:
    brain = PythonBrain(Plan(trigger_s=0.1))
    line = SmallLine(brain)
    line.answer = answer
    line.until_online()
    assert brain.count(what) > 2
    assert brain.count("results") == 0


@given(number=st.integers(1, 65_535))
def test_the_number_after_another_is_one_ahead_and_never_0(number: int) -> None:
    assert 1 <= after(number) <= 65_535
    assert distance(number, after(number)) == 1

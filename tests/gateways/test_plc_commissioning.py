"""One run of the command-line PLC after another, as when a line is commissioned: a run answers for itself alone."""

from __future__ import annotations

import msgspec
import pytest

from edge.gateways.codes import OnlineReason, ReasonCode, RecipeStatus, TriggerStatus
from edge.gateways.modbus.layout import decode_status, encode_status
from edge.gateways.plc.blocks import status_of
from edge.gateways.plc.findings import Taken
from edge.gateways.plc.sequence import SETTLING_SCANS, Plan, Sequence
from edge.gateways.signals import BITS, Value
from edge.types import Judgement
from tests.gateways.small_line import MS, ORDER, SCAN_MS, SETTINGS, PythonBrain, SmallLine


def runs(line: SmallLine, scans: int, *, plc_runs: bool = True) -> None:
    """Parts pass, whoever looks; it ends early when the PLC has done what it was to do."""
    for scan in range(scans):
        if scan % 5 == 0:
            line.judge()
        line.step(plc_runs=plc_runs)
        if isinstance(line.brain, PythonBrain) and line.brain.sequence.is_done and plc_runs:
            return


def free_running() -> SmallLine:
    """A line that has gone on without a PLC since a first run ended: its queue is full."""
    line = SmallLine(PythonBrain(Plan()))
    line.until_online()
    runs(line, 60, plc_runs=False)
    assert line.gateway.image(line.now_ns).overrun
    return line


def following(line: SmallLine, plan: Plan) -> Sequence:
    """The next run."""
    brain = PythonBrain(plan)
    line.connect(brain)
    runs(line, 2_000)
    return brain.sequence


def test_with_a_reset_what_was_latched_before_the_run_is_not_the_runs() -> None:
    sequence = following(free_running(), Plan(resets=True, count=20))
    found = sequence.findings
    assert found.problems() == []
    assert (found.results, found.overruns, found.gaps) == (20, 0, 0)
    assert found.leftover >= SETTINGS.plc.queue
    assert found.accepted + found.own_rejects == 20
    assert sequence.is_done


def test_without_a_reset_an_overrun_from_before_is_said_as_such() -> None:
    found = following(free_running(), Plan(count=20)).findings
    assert "an overrun was latched before this run: add --reset" in found.problems()
    assert (found.results, found.accepted, found.overruns, found.gaps) == (20, 0, 0, 0)


def test_a_stall_of_the_run_itself_is_all_that_counts_against_it() -> None:
    found = following(free_running(), Plan(resets=True, count=30, stall_after=5, stall_s=1.0)).findings
    assert (found.overruns, found.gaps) == (1, 1)
    assert len(found.problems()) == 2
    assert found.accepted > 0, "after its reset parts pass again"


def test_an_overrun_that_the_reset_does_not_clear_counts_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    line = free_running()
    monkeypatch.setattr(line.gateway, "reset", lambda _now_ns: None)
    brain = PythonBrain(Plan(resets=True))
    line.connect(brain)
    runs(line, SETTLING_SCANS + 20)
    assert brain.count("overruns") == 1
    assert brain.count("results") > 0


def test_after_a_silence_of_the_plc_what_waited_is_acknowledged_and_the_line_goes_on() -> None:
    brain = PythonBrain(Plan())
    line = SmallLine(brain)
    line.until_online()
    line.judge()
    line.step()
    assert line.decisions, "taken over, but the acknowledgement is lost with the connection"
    line.judge()
    line.step(300, plc_runs=False)
    line.connect(brain)
    line.step(20)
    assert not line.gateway.image(line.now_ns).queue_depth
    line.judge()
    line.step(5)
    assert line.decisions[-1].passes


def test_until_the_gateway_has_seen_its_heartbeat_the_plc_writes_nothing_that_is_to_take_effect() -> None:
    brain = PythonBrain(Plan(resets=True, trigger_s=0.01))
    line = SmallLine(brain)
    line.until_online()
    line.judge()
    number = brain.sequence.commands.trigger_number
    for beat in range(1, 20):
        word = block(line)["status"]
        assert isinstance(word, int)
        unheard = word & ~(1 << [bit.name for bit in BITS].index("plc_alive"))
        shown = block(line, status=unheard, heartbeat=beat, session=4, queue_depth=0, trigger_ack=number)
        commands = brain.sequence.scan(status_of(shown), (line.now_ns + beat * SCAN_MS * MS) / 1e9)
        assert (commands.command, commands.trigger_number) == (0, number)


def test_the_first_block_of_a_new_connection_is_only_to_be_noted() -> None:
    plc = msgspec.structs.replace(SETTINGS.plc, heartbeat_ms=0.0)
    line = SmallLine(PythonBrain(Plan()), settings=msgspec.structs.replace(SETTINGS, plc=plc))
    line.until_online()
    line.judge()
    sequence = Sequence(Plan(resets=True))
    assert sequence.scan(status_of(block(line)), 0.0).command == 0
    assert sequence.scan(status_of(block(line)), 0.01).command == 1


@pytest.mark.parametrize("heartbeat_ms", [0.0, 1_000.0])
def test_the_first_trigger_of_a_new_connection_is_taken(heartbeat_ms: float) -> None:
    plc = msgspec.structs.replace(SETTINGS.plc, heartbeat_ms=heartbeat_ms)
    line = SmallLine(PythonBrain(Plan()), settings=msgspec.structs.replace(SETTINGS, plc=plc))
    line.until_online()
    for _ in range(2):
        brain = PythonBrain(Plan(trigger_s=0.05, count=3))
        line.connect(brain)
        line.step(100)
        assert (brain.count("triggers"), brain.count("triggers_refused"), brain.count("results")) == (3, 0, 3)


def block(line: SmallLine, **changes: Value) -> dict[str, Value]:
    """What the gateway shows, with other values."""
    return decode_status(encode_status(line.gateway.image(line.now_ns), ORDER), ORDER) | changes


@pytest.mark.parametrize(
    "changes", [{"judgement": 9}, {"reason": 111}, {"online_reason": 99}], ids=["judgement", "reason", "online_reason"]
)
def test_a_code_that_only_a_newer_gateway_knows_opens_no_gate(changes: dict[str, Value]) -> None:
    took: list[Taken] = []
    brain = PythonBrain(Plan())
    line = SmallLine(brain)
    line.until_online()
    brain.sequence._on_taken = took.append
    line.judge()
    brain.sequence.scan(status_of(block(line, **changes)), (line.now_ns + SCAN_MS * MS) / 1e9)
    assert [taken.accept for taken in took] == [False]
    if "online_reason" in changes:
        assert not brain.sequence.findings.online


def test_an_answer_that_only_a_newer_gateway_knows_is_a_trigger_that_was_not_taken() -> None:
    brain = PythonBrain(Plan(trigger_s=60.0))
    line = SmallLine(brain)
    line.answer = TriggerStatus.REFUSED
    for _ in range(100):
        line.step()
        if brain.sequence.findings.triggers:
            break
    number = brain.sequence.commands.trigger_number
    status = status_of(block(line, trigger_ack=number, trigger_status=9))
    brain.sequence.scan(status, line.now_ns / 1e9)
    assert brain.count("triggers_refused") == 1


def test_a_wish_that_does_not_come_true_is_withdrawn_at_the_end() -> None:
    line = SmallLine(PythonBrain(Plan()))
    line.until_online()
    sequence = following(line, Plan(recipe=7))
    assert sequence.is_done
    assert sequence.findings.recipe_status == RecipeStatus.UNKNOWN_NUMBER
    last = sequence.last_words()
    assert last is not None
    assert last.recipe_wanted == 0


def test_after_a_reset_a_recipe_that_is_not_there_is_all_that_is_wrong() -> None:
    found = following(free_running(), Plan(resets=True, recipe=7)).findings
    assert found.problems() == [
        "recipe 7: no such number; nothing has changed",
        "not online at the end: another recipe is active than the PLC asked for",
    ]


def test_a_wish_that_only_a_newer_gateway_can_answer_is_not_taken_for_fulfilled() -> None:
    line = SmallLine(PythonBrain(Plan(recipe=1)))
    line.step(3)
    brain = PythonBrain(Plan(recipe=1))
    brain.sequence.scan(status_of(block(line, recipe_status=9)), 0.0)
    assert any("recipe 1: code 9" in problem for problem in brain.sequence.findings.problems())
    assert brain.sequence.last_words() is not None


def test_nothing_is_withdrawn_after_a_run_that_wanted_nothing_or_got_it() -> None:
    for plan in (Plan(count=1), Plan(recipe=1, count=1)):
        line = SmallLine(PythonBrain(Plan()))
        line.until_online()
        assert following(line, plan).last_words() is None


def test_recipe_0_ends_a_wish_and_without_the_option_it_stays() -> None:
    line = SmallLine(PythonBrain(Plan(recipe=7)))
    line.step(10)
    assert line.gateway.image(line.now_ns).recipe_wanted == 7
    line.connect(PythonBrain(Plan()))
    line.step(50)
    assert line.gateway.image(line.now_ns).recipe_wanted == 7
    line.connect(PythonBrain(Plan(recipe=0)))
    line.step(50)
    assert line.gateway.image(line.now_ns).recipe_wanted == 0
    assert line.gateway.image(line.now_ns).online


def test_the_first_judgement_of_a_run_that_came_before_the_heartbeat_is_the_plcs_own_reject() -> None:
    brain = PythonBrain(Plan())
    line = SmallLine(brain)
    line.until_online()
    second = PythonBrain(Plan())
    line.judge(Judgement.OK)
    second.sequence.scan(status_of(block(line)), 0.0)
    found = second.sequence.findings
    assert (found.results, found.own_rejects, found.withheld[ReasonCode.NONE]) == (1, 1, 1)
    assert found.online_reason == OnlineReason.ONLINE
    assert found.online_in_words == "waiting for the heartbeat"

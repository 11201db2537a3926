"""Whatever station, PLC and time do, in any order: no acceptance comes back, nothing is overwritten, everything is counted."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.bus.messages import Mode, State
from edge.gateways.codes import JudgementCode, ReasonCode, TriggerStatus
from edge.gateways.image import Image
from edge.gateways.results import LARGEST_NUMBER, Result, after
from edge.gateways.wishes import RecipeWish, TriggerWish
from edge.types import Judgement
from tests.gateways.plc import BEAT_MS, MS, QUEUE, Bench
from tests.gateways.station import BOARD, BRACKET

STEPS = 40
EXAMPLES = 120


def steps_between(first: int, then: int) -> int:
    """How many numbers on `then` is."""
    return (then - first) % LARGEST_NUMBER


class Everything(RuleBasedStateMachine):
    """Draws what happens next; the invariants are looked at after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(session=LARGEST_NUMBER - 5).go_online()
        self.sent = 0
        self.taken: list[int] = []
        self.last: Result | None = None
        self.acked = True
        self.wishes: list[TriggerWish] = []
        self.changes: list[RecipeWish] = []
        self.number = 0
        self.triggered = 0
        self.stand_ins_for_triggers = 0

    # The station.

    @rule(judgement=st.sampled_from(Judgement), old=st.booleans(), in_time=st.booleans())
    def judge(self, judgement: Judgement, old: bool, in_time: bool) -> None:
        self.sent += 1
        recipe = (BOARD, BRACKET)[old]
        self.bench.judge(judgement, recipe=recipe if old else None, deadline_met=in_time)

    @rule(count=st.integers(1, 2 * QUEUE))
    def judge_many(self, count: int) -> None:
        for _ in range(count):
            self.sent += 1
            self.bench.judge()

    @rule(count=st.integers(1, 20))
    def lose(self, count: int) -> None:
        self.sent += count
        self.bench.seq += count

    @rule()
    def restart(self) -> None:
        # What was lost at the very end of an epoch shows only in its own heartbeat.
        self.bench.now_ns += MS
        self.bench.beat()
        self.bench.restart()

    @rule(beats=st.booleans())
    def station_beats(self, beats: bool) -> None:
        self.bench.station_beats = beats

    @rule(state=st.sampled_from(State), mode=st.sampled_from(Mode))
    def change_state(self, state: State, mode: Mode) -> None:
        self.bench.state, self.bench.mode = state, mode
        self.bench.tell()

    @rule(recipe=st.sampled_from([BOARD, BRACKET]))
    def activate(self, recipe: tuple[str, int, str]) -> None:
        self.bench.activate(recipe)

    @rule()
    def unreadable(self) -> None:
        self.bench.handshake.unreadable(self.bench.now_ns)

    @rule()
    def get_well(self) -> None:
        """Everything is as it should be for a while: else nothing would ever be accepted."""
        bench = self.bench
        bench.state, bench.mode, bench.recipe = State.CONTINUOUS_EXECUTION, Mode.JUDGE, BOARD
        bench.station_beats = bench.plc_beats = True
        bench.tell()
        bench.handshake.want_recipe(0, bench.now_ns)
        bench.handshake.start("plc", bench.now_ns)
        bench.handshake.reset(bench.now_ns)
        bench.wait(5 * BEAT_MS)

    # Time and the PLC.

    @rule(ms=st.sampled_from([1, 100, 300, 700, 2_500]))
    def wait(self, ms: int) -> None:
        self.bench.now_ns += ms % BEAT_MS * MS
        self.bench.wait(ms)

    @rule(beats=st.booleans())
    def plc_beats(self, beats: bool) -> None:
        self.bench.plc_beats = beats

    @precondition(lambda self: self.bench.image.result is not None)
    @rule()
    def ack(self) -> None:
        self.taken.append(self.bench.ack().number)
        self.acked = True

    @rule(number=st.integers(0, LARGEST_NUMBER))
    def ack_something(self, number: int) -> None:
        result = self.bench.image.result
        if result is None or result.number != number:
            self.bench.handshake.acknowledge(number, self.bench.now_ns)

    @rule()
    def another_client_writes(self) -> None:
        self.bench.handshake.new_plc(self.bench.now_ns)

    @rule(is_set=st.booleans())
    def reset_bit(self, is_set: bool) -> None:
        self.bench.handshake.reset_bit(is_set, self.bench.now_ns)

    @rule()
    def start_job(self) -> None:
        wish = self.bench.handshake.start_job("J", None, self.bench.now_ns)
        if wish is not None:
            self.wishes.append(wish)

    @rule(late_ms=st.integers(0, 2_000))
    def judge_late(self, late_ms: int) -> None:
        self.sent += 1
        self.bench.judge(trigger_wall_us=self.bench.now_ns // 1000 - late_ms * 1_000)
        result = self.bench.image.result
        assert late_ms < 400 or result is None or result.seq != self.bench.seq or not result.accept

    @rule()
    def reset(self) -> None:
        self.bench.handshake.reset(self.bench.now_ns)

    @rule(stop=st.booleans())
    def stop(self, stop: bool) -> None:
        (self.bench.handshake.stop if stop else self.bench.handshake.start)("plc", self.bench.now_ns)

    @rule(number=st.integers(0, 3))
    def want_recipe(self, number: int) -> None:
        wish = self.bench.handshake.want_recipe(number, self.bench.now_ns)
        if wish is not None:
            self.changes.append(wish)

    @precondition(lambda self: self.changes)
    @rule(works=st.booleans())
    def answer_recipe(self, works: bool) -> None:
        wish = self.changes.pop()
        if works:
            self.bench.handshake.recipe_changed(wish, (BOARD, BRACKET)[wish.number - 1][2], self.bench.now_ns)
        else:
            self.bench.handshake.recipe_failed(wish, self.bench.now_ns)

    @rule()
    def trigger(self) -> None:
        self.number += 1
        ready = self.bench.image.ready
        wish = self.bench.handshake.trigger(self.number, "T", None, self.bench.now_ns)
        assert wish is None or ready
        if wish is not None:
            self.wishes.append(wish)

    @precondition(lambda self: self.wishes)
    @rule(what=st.sampled_from(["taken", "refused", "judged"]))
    def answer_trigger(self, what: str) -> None:
        bench, wish = self.bench, self.wishes.pop()
        if what == "taken":
            bench.handshake.triggered(wish, bench.now_ns)
            self.wishes.append(wish)
        elif what == "refused":
            bench.handshake.not_triggered(wish, TriggerStatus.REFUSED, bench.now_ns)
        else:
            self.sent += 1
            bench.judge(trigger_id=wish.trigger_id)

    # What must always be so.

    @invariant()
    def what_is_shown_holds_together(self) -> None:
        image: Image = self.bench.image
        result = image.result
        assert image.queue_depth <= QUEUE
        assert not image.accept or (image.online and result is not None and result.judgement is JudgementCode.OK)
        assert not image.ready or (image.online and image.queue_depth < QUEUE)
        assert not image.overrun or not image.online
        assert image.online or not image.ready
        assert result is None or result.accept == (result.reason is ReasonCode.NONE)

    @invariant()
    def what_is_shown_changes_only_after_its_acknowledgement(self) -> None:
        result = self.bench.image.result
        if self.last is not None and not self.acked:
            assert result is not None and result.number == self.last.number
            assert self.last.accept or not result.accept, "an acceptance came back"
        elif result is not None and self.taken:
            assert 0 < steps_between(self.taken[-1], result.number) < 10_000
        self.last, self.acked = result, False

    @invariant()
    def every_verdict_is_accounted_for(self) -> None:
        """Taken, held, without room, or a number that was skipped: the numbers tell of each."""
        image = self.bench.image
        first = after(LARGEST_NUMBER - 5)
        if image.result is not None:
            assert steps_between(first, image.result.number) >= len(self.taken)
        seen = len(self.taken) + image.queue_depth
        assert seen <= image.counts.results
        assert image.counts.results >= len(self.bench.announced) == image.counts.results

    def teardown(self) -> None:
        bench = self.bench
        bench.station_beats = True
        bench.wait(2 * BEAT_MS)
        counts = bench.image.counts
        stand_ins = sum(r.message is None and r.reason is ReasonCode.LOST for r in bench.announced)
        judged = sum(r.message is not None for r in bench.announced)
        assert judged + counts.lost == self.sent, "a verdict is neither a result nor lost"
        assert stand_ins <= counts.lost


TestEverything = Everything.TestCase
TestEverything.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None)

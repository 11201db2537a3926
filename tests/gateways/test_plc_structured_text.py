"""The samples for a PLC, run as a PLC runs them: a part gets to the gate with its own decision, or is rejected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge.gateways.codes import RecipeStatus, TriggerStatus
from edge.gateways.handshake import Handshake
from edge.gateways.modbus.layout import STATUS_FIELD, Order, decode_command, encode_status, to_registers
from edge.gateways.signals import BITS, MAP_VERSION, Kind
from edge.types import Judgement
from tests.gateways.compiled_st import ST, CompiledPlc, library  # noqa: F401 - a fixture
from tests.gateways.small_line import ORDER, SmallLine, StBrain

DISTANCE, TOLERANCE = 2_400, 60
pytestmark = pytest.mark.matiec


class Conveyor:
    """A line whose PLC is the structured text; the conveyor moves 10 counts a scan."""

    def __init__(self, library: Path) -> None:  # noqa: F811
        self.library = library
        self.plc = CompiledPlc(library)
        self.line = SmallLine(StBrain(self.plc))
        self.encoder = 0
        self.judgement: Judgement | None = Judgement.OK
        self.move(100)
        assert self.plc.output("Online")

    @property
    def gateway(self) -> Handshake:
        """The gateway's handshake."""
        return self.line.gateway

    def move(self, scans: int = 1, **inputs: bool | int) -> None:
        """So many scans."""
        line = self.line
        for _ in range(scans):
            self.encoder += 10
            line.step(plc_runs=False)
            words = encode_status(self.gateway.image(line.now_ns), ORDER)
            values = decode_command(self.plc.scan(line.now_ns, words, encoder=self.encoder, **inputs), ORDER)  # type: ignore[arg-type]
            self._tell({name: value for name, value in values.items() if isinstance(value, int)})

    def _tell(self, values: dict[str, int]) -> None:
        gateway, now = self.gateway, self.line.now_ns
        gateway.plc_heartbeat(values["plc_heartbeat"], now)
        gateway.acknowledge(values["ack_number"], now)
        wish = gateway.want_recipe(values["recipe_wanted"], now)
        assert wish is None or wish.number
        trigger = gateway.trigger(values["trigger_number"], "", values["encoder_count"], now)
        if trigger is not None:
            gateway.triggered(trigger, now)
            if self.judgement is not None:
                self.line.judge(self.judgement, trigger.trigger_id)

    def part(self) -> int:
        """A part in front of the camera; where the conveyor is then."""
        self.move(trigger=True)
        at = self.encoder
        self.move()
        return at

    def to_gate(self, started: int) -> bool:
        """Let a part come to the gate; whether that is open."""
        self.move((started + DISTANCE - self.encoder) // 10 - 1)
        self.move(at_gate=True)
        return self.plc.gate_is_open


@pytest.fixture
def conveyor(library: Path) -> Conveyor:  # noqa: F811
    """A line that runs."""
    return Conveyor(library)


def test_a_good_part_passes_the_gate_and_the_bad_one_behind_it_does_not(conveyor: Conveyor) -> None:
    first = conveyor.part()
    conveyor.move(20)
    conveyor.judgement = Judgement.NOT_OK
    second = conveyor.part()
    assert conveyor.to_gate(first)
    conveyor.move()
    assert not conveyor.to_gate(second)
    assert [conveyor.plc.output(name) for name in ("Passed", "Results", "Unexpected", "Vanished")] == [1, 2, 0, 0]


def test_a_part_without_a_result_is_rejected_and_counted(conveyor: Conveyor) -> None:
    conveyor.judgement = None
    started = conveyor.part()
    assert not conveyor.to_gate(started)
    assert (conveyor.plc.output("Results"), conveyor.plc.output("Passed")) == (1, 0), "the gateway's stand-in"


def test_a_part_that_was_taken_away_does_not_give_its_decision_to_the_next_one(conveyor: Conveyor) -> None:
    conveyor.part()
    conveyor.move(20)
    conveyor.judgement = Judgement.NOT_OK
    bad = conveyor.part()
    assert not conveyor.to_gate(bad)
    assert conveyor.plc.output("Vanished") == 1


def test_a_part_that_nobody_expects_is_rejected(conveyor: Conveyor) -> None:
    conveyor.part()
    conveyor.move(at_gate=True)
    assert not conveyor.plc.gate_is_open
    assert conveyor.plc.output("Unexpected") == 1


def test_a_part_that_comes_when_the_gateway_is_not_ready_never_passes(conveyor: Conveyor) -> None:
    conveyor.line.speaks = False
    conveyor.move(60)
    assert not conveyor.plc.output("Online")
    started = conveyor.part()
    conveyor.line.speaks = True
    assert not conveyor.to_gate(started)
    assert conveyor.plc.output("MissedTriggers") == 1


def test_after_power_on_the_first_trigger_is_one_although_another_plc_triggered_before(conveyor: Conveyor) -> None:
    conveyor.part()
    conveyor.part()
    conveyor.plc = CompiledPlc(conveyor.library)
    conveyor.move(20)
    started = conveyor.part()
    assert conveyor.to_gate(started)


def test_a_result_of_a_replayed_picture_does_not_pass(conveyor: Conveyor) -> None:
    conveyor.line.is_simulated = True
    conveyor.line.judge()
    conveyor.move(3)
    assert (conveyor.plc.output("Results"), conveyor.plc.output("Passed")) == (1, 0)


def test_a_part_that_the_plc_gave_up_does_not_pass_when_its_result_comes_after_all(library: Path) -> None:  # noqa: F811
    plc = CompiledPlc(library)
    words = dict.fromkeys(STATUS_FIELD, 0) | {"session": 5, "map_version": 1, "recipe_status": 0}
    online, ready, valid, accept = 1, 2, 16, 32

    def scan(at_ms: int, trigger: bool = False, /, **values: int) -> None:
        shown = words | values
        block = [word for name, field in STATUS_FIELD.items() for word in shown_as(field.row.kind, shown[name])]
        plc.scan(at_ms * 1_000_000, block, trigger=trigger)

    scan(0)
    for beat in range(1, 6):
        scan(beat * 100, heartbeat=beat, status=online | ready)
    scan(600, True, heartbeat=6, status=online | ready)
    assert plc.output("PartNumber") == 1
    for beat in range(7, 130):
        scan(beat * 100, heartbeat=beat, status=online, trigger_ack=1, trigger_status=2)
    assert plc.output("LateTriggers") == 1
    late = {"result_number": 9, "result_number_end": 9, "trigger_number_echo": 1, "trigger_ack": 1, "trigger_status": 2}
    scan(13_000, False, heartbeat=130, status=online | valid | accept, **late)
    assert (plc.output("Decided"), plc.output("Pass")) == (1, 0)


def shown_as(kind: Kind, value: int) -> list[int]:
    """A value as registers."""
    return to_registers(kind, "" if kind is Kind.TEXT else value, ORDER)


def test_stop_lets_nothing_pass(conveyor: Conveyor) -> None:
    conveyor.move(stop=True)
    conveyor.line.judge()
    conveyor.move(stop=True)
    assert (conveyor.plc.output("Results"), conveyor.plc.output("Passed")) == (1, 0)


def test_while_another_recipe_is_wanted_than_is_active_nothing_passes(conveyor: Conveyor) -> None:
    conveyor.move(5, recipe=2)
    conveyor.line.judge()
    conveyor.move(5, recipe=2)
    assert not conveyor.plc.output("RecipeActive")
    assert (conveyor.plc.output("Results"), conveyor.plc.output("Passed")) == (1, 0)
    conveyor.move(5, recipe=1)
    conveyor.line.judge()
    conveyor.move(5, recipe=1)
    assert conveyor.plc.output("Passed") == 1


def test_the_low_word_can_come_first(conveyor: Conveyor) -> None:
    image = conveyor.gateway.image(conveyor.line.now_ns)
    big, little = encode_status(image, Order()), encode_status(image, Order(word="little"))
    assert big != little
    text = (ST / "Linegate_Registers.st").read_text()
    low, high = text.split("IF LowWordFirst THEN")[1].split("END_IF;")[0].split("ELSE")
    for words, source in ((big, high), (little, low)):
        made = re.search(r"Status\.settings_checksum := DWORD_TO_UDINT\(SHL\(WORD_TO_DWORD\(Registers\[(\d+)\]\), 16\)"
                         r" OR WORD_TO_DWORD\(Registers\[(\d+)\]\)\);", source)  # fmt: skip
        assert made is not None
        assert words[int(made[1])] << 16 | words[int(made[2])] == image.settings_checksum


def test_the_numbers_in_the_samples_are_those_of_the_gateway() -> None:
    text = (ST / "FB_Linegate.st").read_text()
    bits = dict(re.findall(r"LG_BIT_(\w+) : WORD := WORD#16#([0-9A-F]{4});", text))
    assert {name: int(value, 16) for name, value in bits.items()} == {
        bit.name.upper(): 1 << place for place, bit in enumerate(BITS) if bit.name.upper() in bits
    }
    numbers = {name: int(value) for name, value in re.findall(r"(LG_\w+) : UINT := (\d+);", text)}
    assert numbers == {
        "LG_TRIGGER_TAKEN": TriggerStatus.TAKEN,
        "LG_RECIPE_ACTIVE": RecipeStatus.ACTIVE,
        "LG_MAP_VERSION": MAP_VERSION,
    }

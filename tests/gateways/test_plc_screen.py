"""The commissioning engineer's screen shows what is not well, and nothing from outside commands the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edge.gateways.codes import JudgementCode, OnlineReason, ReasonCode, RecipeStatus
from edge.gateways.plc.findings import Findings, Taken, percentile
from edge.gateways.plc.screen import NOT, NOTE, WELL, Screen, cells, checklist

WHERE = "192.168.0.20:502"


def well() -> Findings:
    """A run in which all was as it should be."""
    found = Findings(
        reads=100,
        beats=20,
        online=True,
        is_alive=True,
        online_reason=OnlineReason.ONLINE,
        recipe_number=1,
        settings_checksum=7,
    )
    found.note(taken(1, accept=True))
    found.note(taken(2, accept=False))
    return found


def taken(number: int, *, accept: bool, part_id: str = "bolt") -> Taken:
    """A result."""
    judgement, reason = (JudgementCode.OK, ReasonCode.NONE) if accept else (JudgementCode.NOT_OK, ReasonCode.DEFECT)
    return Taken(number, accept, judgement, reason, part_id, number, 0.25, 0.012)


def rendered(screen: Screen) -> str:
    """The live table as text."""
    console = Console(file=io.StringIO(), width=140, record=True)
    console.print(screen)
    return console.export_text()


def test_a_run_in_which_all_was_well_has_no_problem() -> None:
    assert well().problems() == []
    assert {mark for mark, _, _ in checklist(WHERE, well())} == {WELL}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"torn": 3}, "3 of 100 reads were torn"),
        ({"gaps": 1, "missing": 4}, "4 results were never shown"),
        ({"overruns": 1}, "1 overruns"),
        ({"restarts": 1}, "the gateway started anew 1 times"),
        ({"silences": 1}, "heartbeat stood still"),
        ({"beats": 0}, "the heartbeat never moved"),
        ({"triggers_refused": 2}, "2 triggers were not taken"),
        ({"triggers_unanswered": 2}, "2 triggers got no result"),
        ({"wrong_acks": 1}, "of a number that was not held"),
        ({"wanted_results": 9}, "2 of 9 results came"),
        (
            {"online": False, "online_reason": OnlineReason.BUS_SILENT},
            "not online at the end: nothing heard from the station",
        ),
        ({"recipe_wanted": 2, "recipe_status": RecipeStatus.FAILED}, "recipe 2: could not be loaded"),
        ({"broken": "the connection is lost"}, "the connection is lost"),
    ],
)
def test_whatever_is_not_well_is_said(changes: dict[str, object], said: str) -> None:
    found = well()
    for name, value in changes.items():
        setattr(found, name, value)
    assert said in "; ".join(found.problems())
    assert found.summary()["well"] is False


def row(found: Findings, what: str) -> tuple[str, str]:
    """How a line of the checklist begins, and what it says."""
    shown = {name: (mark, detail) for mark, name, detail in checklist(WHERE, found)}
    return shown[what]


@pytest.mark.parametrize("reason", [ReasonCode.SIMULATED, ReasonCode.OVERRUN, ReasonCode.NO_RESULT])
def test_a_reject_of_another_kind_is_not_the_bad_part_that_must_be_seen(reason: ReasonCode) -> None:
    found = Findings()
    found.note(taken(1, accept=True))
    judgement = JudgementCode.NOT_DECIDABLE if reason is ReasonCode.NO_RESULT else JudgementCode.OK
    found.note(Taken(2, False, judgement, reason, "", 0, None, None))
    assert row(found, "a reject was seen") == (NOTE, "no defective part was seen: put one in")
    found.note(taken(3, accept=False))
    assert row(found, "a reject was seen") == (WELL, "1 defective parts")


def test_a_note_is_no_problem() -> None:
    found = well()
    found.defective = 0
    assert found.problems() == []
    assert found.summary()["notes"] == ["no defective part was seen: put one in"]


def test_good_parts_of_which_none_was_accepted_are_said_with_the_reason() -> None:
    found = Findings()
    for number in (1, 2):
        found.note(Taken(number, False, JudgementCode.OK, ReasonCode.SIMULATED, "", 0, None, None))
    mark, said = row(found, "something passes")
    assert mark == NOTE
    assert said.startswith("none of the 2 parts judged OK was accepted: 2 SIMULATED")
    assert "plc.allow_simulated" in said


def test_what_the_plc_itself_rejects_is_said_in_words() -> None:
    found = well()
    own = Taken(3, False, JudgementCode.OK, ReasonCode.NONE, "", 0, None, None)
    found.note(own)
    assert row(found, "rejects")[1] == "1 DEFECT, 1 by the PLC itself, which had not seen the gateway's heartbeat move"
    assert "heartbeat not seen yet" in cells(own)


def test_a_stall_without_an_overrun_is_said() -> None:
    found = well()
    found.has_stalled = True
    assert row(found, "the stall")[0] == NOTE


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"beats": 0, "is_alive": False}, "waiting for the heartbeat"),
        ({"beats": 9, "is_alive": False}, "its heartbeat stands still"),
        ({"online_reason": OnlineReason.BUS_SILENT}, "nothing heard from the station"),
        ({"online_reason": 99}, "code 99, which this program does not know"),
    ],
)
def test_why_it_is_not_online_is_never_that_results_may_be_used(changes: dict[str, object], said: str) -> None:
    found = well()
    for name, value in ({"online": False} | changes).items():
        setattr(found, name, value)
    assert row(found, "online") == (NOT, f"NOT ONLINE ({said})")
    assert f"not online at the end: {said}" in found.problems()


def test_a_checksum_that_is_not_known_yet_is_not_to_be_written_down() -> None:
    found = well()
    found.settings_checksum = 0
    assert row(found, "settings checksum") == (NOT, "NOT known yet")
    assert found.summary()["settings_checksum"] is None


def test_codes_that_are_not_known_are_shown_as_numbers() -> None:
    strange = Taken(1, False, 9, 111, "", 0, None, None)
    assert cells(strange)[1:4] == ("reject", "9", "111")
    found = Findings()
    found.note(strange)
    found.recipe_wanted, found.recipe_status, found.online_reason = 2, 8, 99
    assert found.summary()["rejected"] == {"111": 1}
    assert found.summary()["online_reason"] == "99"
    assert "recipe 2: code 8, which this program does not know" in found.problems()


def test_the_table_shows_results_and_checks() -> None:
    screen = Screen(WHERE, well())
    screen.note(taken(41, accept=True))
    text = rendered(screen)
    for word in ("41", "PASS", "bolt", "0.2500", "12.0 ms", "online", "00000007"):
        assert word in text


def test_a_part_id_cannot_command_the_terminal() -> None:
    screen = Screen(WHERE, well())
    screen.note(taken(41, accept=True, part_id="a\x1b[2Jb[bold]"))
    text = rendered(screen)
    assert "\x1b" not in text
    assert "[bold]" in text


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    found = Findings()
    assert percentile(found.exchanges_s, 0.5) is None
    found.exchanges_s.extend(range(1, 101))
    assert [percentile(found.exchanges_s, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]

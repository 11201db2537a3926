"""`linegate control`: what the station answers, on the terminal; every error on one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import linegate
from edge.bus.messages import Mode, State
from edge.bus.subscriber import Subscriber
from tests.conftest import RunLinegate, one_line
from tests.edge.fakes import normal_part
from tests.edge.operated import Operated, operated, write_recipe

HASH = "0123456789abcdef" * 4
COMMANDS = ("status", "prepare", "activate", "change", "observe", "judge", "trigger", "stop")


@pytest.fixture
def station(endpoint: str, tmp_path: Path) -> Iterator[Operated]:
    write_recipe(tmp_path / "recipes")
    write_recipe(tmp_path / "recipes", revision=2, more=0.1)
    with operated(endpoint, tmp_path) as running:
        running.line.camera.fire_shows = normal_part()
        yield running


class Terminal:
    """Gives commands as a person does."""

    def __init__(self, endpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.endpoint, self._capsys = endpoint, capsys

    def run(self, *words: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        try:
            code = linegate.main(["control", *words])
        except SystemExit as error:
            code = int(str(error.code))
        said = self._capsys.readouterr()
        return code, said.out, said.err

    def done(self, *words: str) -> str:
        code, out, err = self.run(self.endpoint, *words)
        assert (code, err) == (0, ""), (out, err)
        return out

    def refused(self, *words: str) -> str:
        code, out, err = self.run(*words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), (out, err)
        assert err.startswith("linegate: ")
        return err


@pytest.fixture
def terminal(endpoint: str, capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(f"{endpoint}-control", capsys)


def test_a_shift_at_the_terminal(station: Operated, terminal: Terminal) -> None:
    epoch = station.line.supervisor.epoch
    assert (
        terminal.done("trigger", "--part", "p 1", "--encoder", "-5", "--id", "t-1") == f"trigger 1 of epoch {epoch}\n"
    )
    assert "which had come before" in terminal.done("trigger", "--id", "t-1")
    prepared = terminal.done("prepare", "board", "2")
    recipe_hash = prepared.split()[-1]
    assert prepared == f"prepared board revision 2: {recipe_hash}\n" and len(recipe_hash) == 64
    said = f"active: board revision 2 ({recipe_hash[:12]}) from trigger 2 of epoch {epoch} on\n"
    assert terminal.done("activate", recipe_hash) == said
    assert terminal.done("change", "board").endswith(said)
    assert "board revision 1" in terminal.done("change", "board", "1")
    assert terminal.done("observe") == f"observe from trigger 2 of epoch {epoch} on\n"
    status = json.loads(terminal.done("status"))
    assert (status["mode"], status["recipe_revision"], status["triggers_seen"]) == (Mode.OBSERVE.value, 1, 1)
    terminal.done("judge")
    verdict = station.line.read_verdicts(1)[0]
    assert (verdict.part_id, verdict.encoder_count, verdict.trigger_id) == ("p 1", -5, "t-1")
    assert terminal.done("stop") == "the station is ending\n"
    assert station.line.wait().state is State.HALTED


def test_what_the_station_refuses_is_told_on_one_line(station: Operated, terminal: Terminal) -> None:
    here = terminal.endpoint
    assert "Prepare it first" in terminal.refused(here, "activate", HASH)
    assert "has no revision 9" in terminal.refused(here, "prepare", "board", "9")
    assert "holds no recipe" in terminal.refused(here, "change", "nothing")
    assert json.loads(terminal.done("status"))["recipe_revision"] == 1


WRONG = {
    "product is a path": (("prepare", "../board"), "not valid"),
    "revision 0": (("prepare", "board", "0"), "not valid"),
    "revision is no number": (("change", "board", "newest"), "invalid int value"),
    "hash too short": (("activate", "abc"), "not valid"),
    "trigger id too long": (("trigger", "--id", "x" * 65), "not valid"),
    "part too long": (("trigger", "--part", "x" * 129), "not valid"),
    "encoder count too large": (("trigger", "--encoder", "9" * 16), "not valid"),
    "encoder count of 30 digits": (("trigger", "--encoder", "9" * 30), "not valid"),
    "part that is not UTF-8": (("trigger", "--part", "\udcff"), "not valid"),
    "no command": ((), "required"),
    "unknown command": (("reboot",), "invalid choice"),
    "no product": (("prepare",), "required"),
    "option cut short": (("trigger", "--par", "x"), "unrecognized"),
    "one key alone": (("--key", "a", "status"), "--server-key"),
    "missing keys": (("--key", "none", "--server-key", "none", "status"), "none"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_value_is_told_before_anybody_is_asked(
    terminal: Terminal, endpoint: str, words: tuple[str, ...], said: str
) -> None:
    # Options come before the command's name, and nobody listens there: whoever asked would wait.
    options = words[:-1] if words and words[0].startswith("--") else ()
    assert said in terminal.refused(*options, f"{endpoint}-nobody", *words[len(options) :])


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon", "1e300"])
def test_a_wrong_timeout_is_refused(terminal: Terminal, endpoint: str, value: str) -> None:
    assert "timeout" in terminal.refused(f"--timeout={value}", f"{endpoint}-nobody", "status")


@pytest.mark.parametrize("wrong", ["nonsense", "", "tcp://", "5558"])
def test_what_is_no_endpoint_is_told(terminal: Terminal, wrong: str) -> None:
    assert "is not an endpoint" in terminal.refused(wrong, "status")


def test_silence_is_told_after_the_timeout(terminal: Terminal, endpoint: str) -> None:
    said = terminal.refused("--timeout", "0.05", f"{endpoint}-nobody", "status")
    assert "no answer" in said and "0.05 s" in said and "control endpoint" in said


def test_the_stations_other_endpoints_are_no_control_endpoints(station: Operated, terminal: Terminal) -> None:
    assert "not a request" in terminal.refused(station.line.supervisor.replay_endpoint, "status")
    assert "no answer" in terminal.refused("--timeout", "0.05", station.line.supervisor.endpoint, "status")
    before = len(station.line.verdicts)
    subscriber = Subscriber(station.line.supervisor.endpoint)
    station.verdict_of(station.trigger())
    subscriber.close()
    assert len(station.line.verdicts) > before


@pytest.mark.parametrize("words", [(), *((name,) for name in COMMANDS)])
def test_help_names_what_there_is(terminal: Terminal, words: tuple[str, ...]) -> None:
    code, out, err = terminal.run(*(("x",) if words else ()), *words, "--help")
    assert (code, err) == (0, "")
    assert "usage: linegate control" in out
    if not words:
        assert all(name in out for name in COMMANDS)


def test_it_works_as_a_program(station: Operated, terminal: Terminal, linegate: RunLinegate) -> None:
    done = linegate("control", terminal.endpoint, "status")
    assert (done.returncode, done.stderr) == (0, "") and json.loads(done.stdout)["station_id"] == "test"
    refused = linegate("control", terminal.endpoint, "activate", HASH)
    assert (refused.returncode, refused.stdout) == (2, "") and "Prepare it first" in one_line(refused)

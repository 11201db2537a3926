"""What an operator or a PLC asks of a running station is done, or is refused and changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from edge.bus.control import ControlClient
from edge.bus.messages import Mode, State
from edge.bus.requests import (
    ActivateCommand,
    Command,
    ModeCommand,
    PrepareCommand,
    StatusCommand,
    StatusReply,
    StopCommand,
    TriggerCommand,
)
from edge.errors import BusError, ControlError
from edge.recipe import BANK_FILE, RECIPE_FILE, load_recipe
from edge.station import CameraSettings, PipelineSettings
from edge.types import Judgement, Reason
from tests.edge.fakes import PATIENCE_S, defective_part, fake_package, normal_part
from tests.edge.line import assert_counts_agree, by_trigger
from tests.edge.operated import operated, write_recipe

OTHER = 0.1


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    """Two revisions of one product; the station starts with the first."""
    root = tmp_path / "recipes"
    write_recipe(root)
    write_recipe(root, revision=2, more=OTHER)
    return root


def hash_of(folder: Path) -> str:
    return load_recipe(folder, fake_package().info).recipe_hash


# Triggers.


def test_a_trigger_is_acknowledged_with_the_number_of_its_verdict(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        good = station.trigger("t-1", part_id="part 7", encoder_count=-12)
        station.line.camera.fire_shows = defective_part()
        bad = station.trigger("t-2")
        assert (good.epoch, good.trigger_seq, bad.trigger_seq) == (station.line.supervisor.epoch, 1, 2)
        assert not good.duplicate and not bad.duplicate
        first, second = station.verdict_of(good), station.verdict_of(bad)
        assert (first.judgement, first.accept, second.judgement, second.accept) == (
            Judgement.OK,
            True,
            Judgement.NOT_OK,
            False,
        )
        assert (first.part_id, first.encoder_count, first.trigger_id) == ("part 7", -12, "t-1")
        assert [t.trigger_id for t in station.line.camera.fired] == ["t-1", "t-2"]


def test_a_trigger_that_is_sent_twice_has_one_verdict(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        first = station.trigger("t-1")
        again = station.trigger("t-1")
        assert (again.epoch, again.trigger_seq, again.duplicate) == (first.epoch, first.trigger_seq, True)
        station.verdict_of(first)
        assert station.trigger("t-1").duplicate, "its verdict does not make it a new one"
        # Without a name of their own two triggers are two.
        unnamed = [station.trigger().trigger_seq, station.trigger().trigger_seq]
        assert unnamed == [2, 3]
        station.line.read_verdicts(3)
        station.beats(2)
        last = assert_counts_agree(station.line)
        assert (last.duplicates, last.triggers_seen, len(station.line.camera.fired)) == (2, 3, 3)


def test_a_trigger_is_known_again_after_a_restart(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        first = station.trigger("t-1")
        station.verdict_of(first)
    with operated(endpoint, tmp_path) as station:
        again = station.trigger("t-1")
        assert (again.epoch, again.trigger_seq, again.duplicate) == (first.epoch, first.trigger_seq, True)
        assert station.status().triggers_seen == 0 and station.line.supervisor.epoch > first.epoch


def test_a_camera_with_a_timer_takes_no_software_trigger(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    camera = CameraSettings("replay", "nowhere", 1.0, trigger="timer")
    with operated(endpoint, tmp_path, camera=camera) as station:
        error = station.refused(TriggerCommand(trigger_id="t-1"))
        assert "triggers itself" in error.what and 'camera.trigger = "software"' in error.remedy
        assert station.line.camera.fired == []
        assert station.line.finish().counts.triggers_seen == 0


def test_a_station_that_ends_takes_no_trigger_and_gives_the_open_ones_their_verdict(
    endpoint: str, tmp_path: Path, recipes: Path
) -> None:
    with operated(endpoint, tmp_path) as station:
        line = station.line
        line.camera.fire_shows = normal_part()
        line.engine.gate.clear()
        for name in "abc":
            station.trigger(name)
        assert line.engine.entered.wait(PATIENCE_S)
        station.beats(2)
        assert station.ask(StopCommand()).epoch == line.supervisor.epoch
        line.read_until(lambda: line.supervisor.pipeline.grab_ended)
        station.beats(2)
        for name in "ad":
            assert "ending" in station.refused(TriggerCommand(trigger_id=name)).what
        line.engine.gate.set()
        outcome = line.wait()
        assert (outcome.state, outcome.fault, outcome.counts.triggers_seen) == (State.HALTED, "", 3)
        assert sorted(by_trigger(line)) == [1, 2, 3]
        assert_counts_agree(line)


# Deadlines, and more than the line can do.


def test_a_trigger_whose_frame_never_comes_gets_its_verdict_by_the_deadline(
    endpoint: str, tmp_path: Path, recipes: Path
) -> None:
    with operated(endpoint, tmp_path, deadline_ms=40.0) as station:
        reply = station.trigger()
        verdict = station.verdict_of(reply)
        assert (verdict.judgement, verdict.reason, verdict.accept) == (
            Judgement.NOT_DECIDABLE,
            Reason.DEADLINE_MISSED,
            False,
        )
        assert verdict.latency_us >= 40_000 and verdict.frame_id is None
        # Its frame comes at last, and belongs to nobody.
        station.line.camera.show_frame(station.line.camera.fired[0], normal_part())
        station.line.read_until(lambda: station.line.heartbeats[-1].unclaimed == 1)
        assert len(station.line.verdicts) == 1


def test_an_engine_that_hangs_keeps_no_trigger_from_its_deadline(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path, deadline_ms=40.0) as station:
        station.line.camera.fire_shows = normal_part()
        station.line.engine.gate.clear()
        replies = [station.trigger() for _ in range(3)]
        assert {station.verdict_of(reply).reason for reply in replies} == {Reason.DEADLINE_MISSED}
        station.line.engine.gate.set()
        station.line.read_until(lambda: station.line.heartbeats[-1].late == 3)
        assert (len(station.line.verdicts), station.status().ok) == (3, 0)


def test_triggers_faster_than_the_line_allows_are_overloads(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    pipeline = PipelineSettings(600_000.0, 64, min_interval_ms=60_000.0)
    with operated(endpoint, tmp_path, pipeline=pipeline) as station:
        station.line.camera.fire_shows = normal_part()
        first, *fast = (station.trigger() for _ in range(4))
        assert station.verdict_of(first).accept
        for reply in fast:
            verdict = station.verdict_of(reply)
            assert (verdict.judgement, verdict.reason, verdict.accept) == (
                Judgement.NOT_DECIDABLE,
                Reason.OVERLOAD,
                False,
            )
            assert "faster than the line allows" in verdict.detail
        station.beats(2)
        last = assert_counts_agree(station.line)
        assert (last.overruns, len(station.line.camera.fired)) == (3, 1)


# Changeover.


def test_a_prepared_recipe_changes_nothing_until_it_is_activated(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        before = station.status()
        assert (before.product, before.recipe_revision, before.prepared_hash) == ("board", 1, "")
        prepared = station.ask(PrepareCommand(product="board"))
        assert (prepared.product, prepared.recipe_revision) == ("board", 2), "the newest"
        assert prepared.recipe_hash == hash_of(recipes / "board/0002")
        now = station.status()
        assert now == msgspec.structs.replace(before, prepared_hash=prepared.recipe_hash)
        old = station.verdict_of(station.trigger())
        active = station.ask(ActivateCommand(recipe_hash=prepared.recipe_hash))
        assert (active.recipe_hash, active.trigger_seq) == (prepared.recipe_hash, 2)
        assert (active.product, active.recipe_revision, active.epoch) == ("board", 2, old.epoch)
        new = station.verdict_of(station.trigger())
        assert (old.recipe_hash, new.recipe_hash) == (before.recipe_hash, prepared.recipe_hash)
        assert [old.score, new.score] == pytest.approx([0.0, OTHER], abs=0.01)
        assert station.status().prepared_hash == ""


def test_only_what_is_prepared_is_activated_and_only_once(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        second = ActivateCommand(recipe_hash=hash_of(recipes / "board/0002"))
        first = ActivateCommand(recipe_hash=hash_of(recipes / "board/0001"))
        assert "Prepare it first" in station.refused(second).remedy
        station.ask(PrepareCommand(product="board", revision=2))
        station.refused(first)
        assert station.status().prepared_hash == second.recipe_hash, "a refusal changes nothing"
        station.ask(second)
        station.refused(second)
        assert station.status().recipe_hash == second.recipe_hash


def test_a_recipe_may_be_prepared_and_activated_again(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        for _ in range(3):
            station.change(revision=2)
            assert station.verdict_of(station.trigger()).accept
        assert station.line.finish().fault == ""


def damage(folder: Path) -> None:
    (folder / BANK_FILE).write_bytes(b"x" + (folder / BANK_FILE).read_bytes()[1:])


def move_to_another_product(folder: Path) -> None:
    write_recipe(folder.parents[1], "bracket", 1)
    (folder.parents[1] / "bracket/0001").rename(folder.parent / "0003")


WRONG: dict[str, tuple[Callable[[Path], object], Command, str]] = {
    "damaged bank": (damage, PrepareCommand(product="board", revision=2), "bank.safetensors does not match its hash"),
    "damaged description": (
        lambda folder: (folder / RECIPE_FILE).write_bytes(b"{}"),
        PrepareCommand(product="board", revision=2),
        "recipe.json is damaged",
    ),
    "another product": (move_to_another_product, PrepareCommand(product="board", revision=3), "for bracket, not board"),
    "another package": (
        lambda folder: write_recipe(folder.parents[1], revision=3, package_hash="f" * 64),
        PrepareCommand(product="board"),
        "was made with package fake (ffffffffffff)",
    ),
    "another bit depth": (
        lambda folder: write_recipe(folder.parents[1], revision=3, bit_depth=12),
        PrepareCommand(product="board"),
        "bit_depth",
    ),
    "no such revision": (lambda _: None, PrepareCommand(product="board", revision=77), "has no revision 77"),
    "no such product": (lambda _: None, PrepareCommand(product="nothing"), "holds no recipe"),
    "product of a file": (
        lambda folder: (folder.parents[1] / "file").touch(),
        PrepareCommand(product="file"),
        "holds no recipe",
    ),
}


@pytest.mark.parametrize(("spoil", "command", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_recipe_that_cannot_be_used_is_refused_and_the_running_one_goes_on(
    endpoint: str, tmp_path: Path, recipes: Path, spoil: Callable[[Path], object], command: Command, said: str
) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        # What was prepared before is still there afterwards.
        station.ask(PrepareCommand(product="board", revision=2))
        spoil(recipes / "board/0002")
        before = station.status()
        assert said in station.refused(command).what
        assert station.status() == before
        verdict = station.verdict_of(station.trigger())
        assert (verdict.accept, verdict.recipe_hash) == (True, before.recipe_hash)
        assert {state.recipe_hash for state in station.states} == {before.recipe_hash}


def test_a_station_without_a_folder_of_recipes_says_so(endpoint: str, tmp_path: Path) -> None:
    with operated(endpoint, tmp_path, path="", root=False) as station:
        assert "recipe.root" in station.refused(PrepareCommand(product="board")).remedy


def test_a_changeover_that_waits_for_the_engine_delays_no_trigger(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path, deadline_ms=40.0) as station:
        station.line.engine.gate.clear()
        hangs = station.line.engine.entered
        other = ControlClient(station.line.supervisor.control_endpoint)
        with pytest.raises(BusError, match="no answer"):
            other.ask(PrepareCommand(product="board"), 0.05)
        assert hangs.wait(PATIENCE_S)
        assert station.verdict_of(station.trigger()).reason is Reason.DEADLINE_MISSED
        with pytest.raises(ControlError, match="another changeover"):
            station.ask(ModeCommand(mode=Mode.OBSERVE))
        assert station.status().prepared_hash == ""
        station.line.engine.gate.set()
        other.close()


# Mode, status, stop.


def test_observing_judges_as_ever_and_accepts_nothing(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        station.trigger()
        reply = station.ask(ModeCommand(mode=Mode.OBSERVE))
        assert (reply.trigger_seq, station.status().mode) == (2, Mode.OBSERVE)
        station.trigger()
        station.line.camera.fire_shows = defective_part()
        station.trigger()
        station.line.camera.fire_shows = normal_part()
        assert station.ask(ModeCommand(mode=Mode.JUDGE)).trigger_seq == 4
        station.trigger()
        said = [(v.judgement.value, v.accept, v.is_test) for v in station.line.read_verdicts(4)]
        assert said == [("OK", True, False), ("OK", False, True), ("NOT_OK", False, True), ("OK", True, False)]
        assert {v.recipe_hash for v in station.line.verdicts} == {station.status().recipe_hash}
        station.beats(2)
        assert assert_counts_agree(station.line).ok == 3, "what is observed is counted too"


def test_the_status_is_what_the_station_publishes(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        station.trigger()
        station.line.read_verdicts(1)
        station.beats(2)
        status, beat, state = station.status(), station.line.heartbeats[-1], station.states[-1]
        for name in set(StatusReply.__struct_fields__) & set(type(beat).__struct_fields__):
            assert getattr(status, name) == getattr(beat, name), name
        for name in ("product", "recipe_revision", "recipe_hash", "software_version", "mode", "state", "epoch"):
            assert getattr(status, name) == getattr(state, name), name
        assert status.restarts_left == {"camera": 0, "engine": 0, "publisher": 0}
        assert (state.control_endpoint, state.replay_endpoint) == (f"{endpoint}-control", f"{endpoint}-replay")


def test_stop_ends_the_station_and_it_says_so(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.ask(StopCommand())
        assert station.line.wait().state is State.HALTED
        with pytest.raises(BusError, match="no answer"):
            station.client.ask(StatusCommand(), 0.05)

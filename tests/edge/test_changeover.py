"""A changeover happens between two triggers: no part is ever judged with the wrong recipe, and a restart remembers it."""

from __future__ import annotations

import random
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from edge.bus.control import ControlClient
from edge.bus.messages import Mode, VerdictMessage
from edge.bus.requests import ActivateCommand, ModeCommand, PrepareCommand, Reply, TriggerCommand
from edge.errors import JournalError, RecipeError
from edge.journal.facts import FILE_NAME
from edge.recipe import RECIPE_FILE
from edge.sealed import seal
from edge.station import JournalSettings, PipelineSettings
from edge.supervisor import Supervisor
from edge.types import Reason, Trigger
from tests.edge.fakes import PATIENCE_S, FakeCamera, FakeEngine, normal_part
from tests.edge.line import LONG_MS, by_trigger
from tests.edge.operated import Operated, info_of, operated, operated_makers, operated_station, write_recipe

SCORES = {1: 0.0, 2: 0.05, 3: 0.1, 4: 0.15}
"""Of a normal part, by revision: all below the threshold, and far enough apart."""


def write_recipes(root: Path) -> None:
    for revision, score in SCORES.items():
        write_recipe(root, revision=revision, more=score)


@pytest.fixture
def recipes(tmp_path: Path) -> Path:
    write_recipes(tmp_path / "recipes")
    return tmp_path / "recipes"


class Books:
    """Which revision each trigger must have been judged with, by what the station acknowledged."""

    def __init__(self, station: Operated) -> None:
        self.station = station
        status = station.status()
        self.changes = {status.triggers_seen + 1: (status.recipe_revision, status.recipe_hash, status.mode)}

    def change(self, revision: int) -> None:
        reply = self.station.change(revision=revision)
        assert reply.recipe_revision == revision
        self._note(reply, revision, reply.recipe_hash, self._now()[2])

    def set_mode(self, mode: Mode) -> None:
        revision, recipe_hash, _ = self._now()
        self._note(self.station.ask(ModeCommand(mode=mode)), revision, recipe_hash, mode)

    def _now(self) -> tuple[int, str, Mode]:
        return self.changes[max(self.changes)]

    def _note(self, reply: Reply, *now: object) -> None:
        assert reply.trigger_seq >= max(self.changes), "a changeover reaches back"
        self.changes[reply.trigger_seq] = now  # type: ignore[assignment]

    def check(self, verdict: VerdictMessage) -> None:
        began = max(seq for seq in self.changes if seq <= verdict.trigger_seq)
        revision, recipe_hash, mode = self.changes[began]
        bank_hash = info_of(self.station.root / f"board/{revision:04d}").bank_sha256
        assert (verdict.recipe_revision, verdict.recipe_hash, verdict.bank_hash, verdict.product) == (
            revision,
            recipe_hash,
            bank_hash,
            "board",
        )
        if verdict.reason is Reason.OVERLOAD:
            return
        assert verdict.score == pytest.approx(SCORES[revision], abs=0.01), "another recipe's score"
        assert (verdict.is_test, verdict.accept) == (mode is Mode.OBSERVE, mode is Mode.JUDGE)


@pytest.fixture(scope="module")
def shared() -> Iterator[Operated]:
    """For properties: one station for all examples."""
    with tempfile.TemporaryDirectory(prefix="linegate-") as folder:
        write_recipes(Path(folder) / "recipes")
        with operated(f"ipc://{folder}/bus", Path(folder)) as station:
            yield station


STEPS = st.one_of(
    st.integers(1, 6).map(lambda count: ("trigger", count)),
    st.sampled_from(sorted(SCORES)).map(lambda revision: ("change", revision)),
    st.integers(1, 4).map(lambda count: ("deliver", count)),
    st.sampled_from([("mode", 0), ("mode", 1)]),
)


@settings(
    max_examples=15,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=st.lists(STEPS, min_size=1, max_size=25), seed=st.integers(0, 1000))
def test_no_frame_is_ever_judged_with_the_wrong_bank(
    shared: Operated, script: list[tuple[str, int]], seed: int
) -> None:
    line, books = shared.line, Books(shared)
    # Not drawn step by step: an example must not end with frames that nobody delivers.
    order = random.Random(seed)  # noqa: S311 - no secret
    first = max(books.changes)
    waiting: list[Trigger] = []
    opened = 0

    def deliver(count: int) -> None:
        for _ in range(min(count, len(waiting))):
            line.camera.show_frame(waiting.pop(order.randrange(len(waiting))), normal_part())

    for what, value in script:
        if what == "trigger":
            for _ in range(value):
                shared.trigger()
                opened += 1
                waiting.append(line.camera.fired[-1])
        elif what == "change":
            books.change(value)
        elif what == "mode":
            books.set_mode((Mode.JUDGE, Mode.OBSERVE)[value])
        else:
            deliver(value)
    deliver(len(waiting))
    line.read_until(lambda: len(line.verdicts) >= first - 1 + opened)
    mine = [v for v in line.verdicts if v.trigger_seq >= first]
    assert sorted(v.trigger_seq for v in mine) == list(range(first, first + opened))
    for verdict in mine:
        books.check(verdict)


def test_triggers_that_come_while_the_recipe_changes_are_judged_with_one_or_the_other(
    endpoint: str, tmp_path: Path, recipes: Path
) -> None:
    with operated(endpoint, tmp_path, pipeline=PipelineSettings(LONG_MS, 1024)) as station:
        line, books = station.line, Books(station)
        line.camera.fire_shows = normal_part()
        changed, sent = threading.Event(), []

        def send_triggers() -> None:
            client = ControlClient(line.supervisor.control_endpoint)
            while not changed.is_set():
                sent.append(client.ask(TriggerCommand(), PATIENCE_S).trigger_seq)
            client.close()

        plc = threading.Thread(target=send_triggers, daemon=True)
        plc.start()
        for step in range(30):
            books.change(1 + step % len(SCORES))
        changed.set()
        plc.join(PATIENCE_S)
        line.read_verdicts(len(sent))
        assert sent == list(range(1, len(sent) + 1)) and len(books.changes) > 10
        # A PLC that does not wait may well be faster than the engine: an overload has its recipe, but no score.
        assert sum(v.reason is None for v in line.verdicts) > len(books.changes)
        for verdict in by_trigger(line).values():
            books.check(verdict)


def test_the_state_tells_every_change_and_from_which_trigger_on(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        first = station.change(revision=2)
        station.line.read_until(lambda: station.states[-1].recipe_hash == first.recipe_hash)
        station.line.camera.fire_shows = normal_part()
        station.trigger()
        second = station.change(revision=3)
        station.line.read_until(lambda: station.states[-1].recipe_hash == second.recipe_hash)
        station.ask(ModeCommand(mode=Mode.OBSERVE))
        station.line.read_until(lambda: station.states[-1].mode is Mode.OBSERVE)
        told = [
            (s.recipe_revision, s.first_trigger_seq, s.mode.value)
            for s in station.states
            if s.state != "Preoperational"
        ]
        assert told == [(1, 1, "judge"), (2, 1, "judge"), (3, 2, "judge"), (3, 2, "observe")]


# What cannot be kept.


def test_an_activation_that_cannot_be_kept_is_refused_and_the_running_recipe_goes_on(
    endpoint: str, tmp_path: Path, recipes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with operated(endpoint, tmp_path) as station:
        station.line.camera.fire_shows = normal_part()
        prepared = station.ask(PrepareCommand(product="board", revision=2))
        with monkeypatch.context() as disk:
            disk.setattr("edge.journal.facts.write_whole", full)
            error = station.refused(ActivateCommand(recipe_hash=prepared.recipe_hash))
            assert "cannot be kept" in error.what and "journal's folder" in error.remedy
            status = station.status()
            assert (status.recipe_revision, status.mode, status.prepared_hash) == (1, Mode.JUDGE, prepared.recipe_hash)
            verdict = station.verdict_of(station.trigger())
            assert (verdict.recipe_revision, verdict.accept) == (1, True)
            # To observe opens no gate, so it is done all the same; back to judging is not.
            station.ask(ModeCommand(mode=Mode.OBSERVE))
            watched = station.verdict_of(station.trigger())
            assert (watched.recipe_revision, watched.is_test, watched.accept) == (1, True, False)
            assert "cannot be kept" in station.refused(ModeCommand(mode=Mode.JUDGE)).what
            assert station.status().mode is Mode.OBSERVE
        # There is room again.
        station.ask(ModeCommand(mode=Mode.JUDGE))
        station.ask(ActivateCommand(recipe_hash=prepared.recipe_hash))
        assert station.verdict_of(station.trigger()).recipe_revision == 2
    assert started(endpoint, tmp_path) == (2, Mode.JUDGE)


def test_a_file_that_was_not_written_does_not_come_back_as_what_was_active(
    endpoint: str, tmp_path: Path, recipes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with operated(endpoint, tmp_path) as station:
        station.change(revision=3)
        prepared = station.ask(PrepareCommand(product="board", revision=2))
        monkeypatch.setattr("edge.journal.facts.write_whole", full)
        station.refused(ActivateCommand(recipe_hash=prepared.recipe_hash))
    monkeypatch.undo()
    assert started(endpoint, tmp_path) == (3, Mode.JUDGE)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"junk" * 100,
        lambda data: data[:-20],
        lambda data: data.replace(b"0003", b"0004"),
    ],
    ids=["empty", "junk", "cut short", "edited"],
)
def test_a_station_whose_facts_are_damaged_does_not_start(
    endpoint: str, tmp_path: Path, recipes: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Nobody knows what was active: to guess would be to judge with the wrong recipe."""
    begin_and_end(endpoint, tmp_path)
    file = tmp_path / "journal" / FILE_NAME
    file.write_bytes(damage(file.read_bytes()))
    makers = operated_makers(FakeCamera(), FakeEngine())
    for _ in range(2):
        with pytest.raises(JournalError) as caught:
            Supervisor(operated_station(endpoint, tmp_path, "board/0001"), makers)
        assert FILE_NAME in caught.value.what and caught.value.remedy and "\n" not in str(caught.value)
    # The way out that it names.
    file.unlink()
    assert started(endpoint, tmp_path) == (1, Mode.JUDGE)


# Over a restart.


def begin_and_end(endpoint: str, folder: Path) -> None:
    """A station that ends with revision 3 active, observing."""
    with operated(endpoint, folder) as station:
        station.change(revision=3)
        station.ask(ModeCommand(mode=Mode.OBSERVE))


def started(
    endpoint: str, folder: Path, path: str = "board/0001", journal: JournalSettings | None = None
) -> tuple[int, Mode]:
    """With which revision and mode the next station starts."""
    sections: dict[str, msgspec.Struct] = {} if journal is None else {"journal": journal}
    with operated(endpoint, folder, path=path, **sections) as station:  # type: ignore[arg-type]
        status = station.status()
        station.line.camera.fire_shows = normal_part()
        verdict = station.verdict_of(station.trigger())
        assert (verdict.recipe_revision, verdict.recipe_hash) == (status.recipe_revision, status.recipe_hash)
        assert verdict.accept == (status.mode is Mode.JUDGE)
        return status.recipe_revision, status.mode


def test_what_was_active_survives_restarts(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    begin_and_end(endpoint, tmp_path)
    assert started(endpoint, tmp_path) == (3, Mode.OBSERVE)
    assert started(endpoint, tmp_path) == (3, Mode.OBSERVE)


def test_a_prepared_recipe_does_not_survive(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    with operated(endpoint, tmp_path) as station:
        station.ask(PrepareCommand(product="board", revision=2))
    assert started(endpoint, tmp_path) == (1, Mode.JUDGE)


def test_a_station_file_that_names_another_recipe_wins(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    begin_and_end(endpoint, tmp_path)
    assert started(endpoint, tmp_path, path="board/0002") == (2, Mode.JUDGE)


def test_without_a_journal_nothing_is_remembered(endpoint: str, tmp_path: Path, recipes: Path) -> None:
    begin_and_end(endpoint, tmp_path)
    assert started(endpoint, tmp_path, journal=JournalSettings(enabled=False)) == (1, Mode.JUDGE)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [("remove", "is gone"), ("damage", "does not match its checksum"), ("edit", "is not the recipe that was active")],
)
def test_an_active_recipe_that_is_gone_or_changed_keeps_the_station_from_starting(
    endpoint: str, tmp_path: Path, recipes: Path, spoil: str, said: str
) -> None:
    begin_and_end(endpoint, tmp_path)
    folder = recipes / "board/0003"
    file = folder / RECIPE_FILE
    if spoil == "remove":
        folder.rename(recipes / "elsewhere")
    elif spoil == "damage":
        file.write_bytes(file.read_bytes().replace(b"made up", b"made UP"))
    else:
        file.write_bytes(seal(msgspec.structs.replace(info_of(folder), change="another")))
    makers = operated_makers(FakeCamera(), FakeEngine())
    for _ in range(2):
        with pytest.raises(RecipeError) as caught:
            Supervisor(operated_station(endpoint, tmp_path, "board/0001"), makers)
        assert said in caught.value.what and caught.value.remedy and "\n" not in str(caught.value)
    # The way out that it names: the station file says what to judge with.
    assert started(endpoint, tmp_path, path="board/0002") == (2, Mode.JUDGE)

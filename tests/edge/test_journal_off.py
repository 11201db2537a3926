"""A station without a journal counts its verdicts, keeps none, and says so to whoever missed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.bus.client import VerdictSubscriber
from edge.bus.collector import Lost, Why
from edge.bus.messages import JournalState
from edge.bus.requests import EpochInfo
from edge.journal.left import Left
from edge.journal.off import NoJournal
from edge.station import JournalSettings
from tests.edge.fakes import PATIENCE_S, fake_entry, fake_job, normal_part
from tests.edge.journals import data_of, message
from tests.edge.line import running_line


@pytest.fixture
def journal() -> NoJournal:
    """In its epoch 5."""
    kept = NoJournal()
    kept.begin(5, 5_000)
    return kept


def test_it_counts_and_keeps_nothing(journal: NoJournal) -> None:
    assert journal.epochs(0) == [EpochInfo(5, 1, 0, False)]
    for seq in range(1, 4):
        assert journal.opened(fake_entry(seq))
        journal.record(message(seq, 5), data_of(message(seq, 5)))
        journal.picture(message(seq, 5), normal_part())
    assert journal.epochs(0) == journal.epochs(4) == [EpochInfo(5, 4, 3, False)]
    assert journal.epochs(5) == []
    assert journal.read(5, 0, 1_000) == []
    assert (journal.state, journal.lost, journal.pictures_lost) == (JournalState.OFF, 0, 0)


def test_it_knows_of_no_other_process_and_remembers_no_fact(journal: NoJournal) -> None:
    journal.describe(fake_job())
    assert journal.remember("active", "a")
    journal.catch_up()
    journal.close("Halted")
    for after in (journal, NoJournal()):
        assert after.left() == Left(0, 0, (), None)
        assert (after.newest_epoch(), after.recent_triggers(), after.set_aside) == (0, {}, ())
        assert after.fact("active") is None


def test_before_its_epoch_it_tells_of_none() -> None:
    assert NoJournal().epochs(0) == []


def test_who_missed_verdicts_is_told_which_and_goes_on(endpoint: str, tmp_path: Path) -> None:
    with running_line(endpoint, tmp_path / "journal", journal=JournalSettings(enabled=False)) as line:
        with VerdictSubscriber(endpoint, position_file=tmp_path / "position") as subscriber:
            while subscriber.heartbeat is None:
                assert subscriber.receive(0.05) is None
            line.camera.show(normal_part())
            assert subscriber.receive(PATIENCE_S) == line.read_verdicts(1)[0]
            # Who asks for the next one has done with the last.
            assert subscriber.receive(0.0) is None
        line.camera.show(normal_part(), normal_part())
        epoch = line.read_verdicts(3)[0].epoch
        with VerdictSubscriber(endpoint, position_file=tmp_path / "position") as subscriber:
            assert subscriber.receive(PATIENCE_S) == Lost(epoch, 2, 3, Why.PRUNED)
            line.camera.show(normal_part())
            assert subscriber.receive(PATIENCE_S) == line.read_verdicts(4)[3]
        line.read_until(lambda: line.heartbeats[-1].head_seq == 4)
        assert line.heartbeats[-1].journal is JournalState.OFF
    assert not (tmp_path / "journal").exists()

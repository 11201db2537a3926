"""`linegate journal`: what it finds, shows, writes and refuses."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import linegate
from edge.cli.journal import moment_us
from edge.errors import UsageError
from edge.journal.store import Store
from edge.types import Judgement, Reason
from tests.conftest import RunLinegate, one_line
from tests.edge.journals import NOON_US, data_of, journal_of, message, python, rejected, row

Said = tuple[int, str, str]
Ask = Callable[..., Said]
NOW = datetime(2026, 3, 31, 14, 5, 30, tzinfo=timezone(timedelta(hours=2)))
STATION = """
station_id = "press-3"
[camera]
type = "replay"
source = "line"
rate_hz = 25.0
[model]
package = "models/lite2"
[journal]
folder = "kept"
"""


@pytest.fixture
def ask(capfd: pytest.CaptureFixture[str]) -> Ask:
    """Runs `linegate journal WORDS` in this process: exit code, standard output, standard error."""

    def run(*words: str | Path) -> Said:
        code = linegate.main(["journal", *map(str, words)])
        return code, *capfd.readouterr()

    return run


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Two runs with all judgements."""
    late = message(
        4, 2, judgement=Judgement.NOT_DECIDABLE, accept=False, reason=Reason.DEADLINE_MISSED, score=None, threshold=None
    )
    return journal_of(tmp_path / "kept", message(1), rejected(2), message(3, 2, product="plate"), late)


def seqs(out: str) -> list[int]:
    return [json.loads(line)["seq"] for line in out.splitlines()]


def test_the_newest_are_shown_with_how_many_match(ask: Ask, journal: Path) -> None:
    code, out, err = ask(journal)
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[-1] == "4 match: 2 OK, 1 NOT_OK, 1 NOT_DECIDABLE"
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert [cells[2] for cells in rows] == ["4", "3", "2", "1"]
    noon = datetime.fromtimestamp(NOON_US / 1e6).astimezone() + timedelta(seconds=2)
    assert rows[2] == [
        f"{noon:%Y-%m-%d %H:%M:%S}.000",
        "1",
        "2",
        "part-2",
        "bracket",
        "NOT_OK",
        "defect",
        "3.0000",
        "1.0000",
        "9.5",
    ]
    assert rows[0][5:9] == ["NOT_DECIDABLE", "deadline_missed", "-", "-"]


def test_more_than_a_table_holds_are_counted(ask: Ask, tmp_path: Path) -> None:
    folder = journal_of(tmp_path / "kept", *(message(seq) for seq in range(1, 61)))
    _, out, _ = ask(folder)
    assert out.splitlines()[-1] == "60 match: 60 OK, 0 NOT_OK, 0 NOT_DECIDABLE; the newest 50 are shown"
    _, out, _ = ask(folder, "--limit", "3", "--oldest-first")
    assert out.splitlines()[-1].endswith("; the oldest 3 are shown")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [4, 3, 2, 1]),
        (["--oldest-first", "--limit", "1"], [1]),
        (["--part", "part-*", "--epoch", "1"], [2, 1]),
        (["--judgement", "NOT_OK"], [2]),
        (["--reason", "deadline_missed"], [4]),
        (["--product", "plate"], [3]),
        (["--since", "2026-03-31T12:00:02Z", "--until", "2026-03-31T14:00:04+02:00"], [3, 2]),
    ],
)
def test_a_search_prints_verdicts_as_they_were_published(
    ask: Ask, journal: Path, words: list[str], expected: list[int]
) -> None:
    code, out, err = ask(journal, "--json", *words)
    assert (code, seqs(out), err) == (0, expected, "")
    if not words:
        assert out.splitlines()[-1].encode() == data_of(message(1))


@pytest.mark.parametrize("words", [[], ["--json"], ["--export", "OUT.csv"]])
def test_nothing_that_matches_is_1(ask: Ask, journal: Path, tmp_path: Path, words: list[str]) -> None:
    code, out, _ = ask(journal, "--part", "none", *(word.replace("OUT", str(tmp_path / "out")) for word in words))
    assert code == 1
    assert out in ("", "nothing matches\n")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_what_is_found_is_exported(ask: Ask, journal: Path, tmp_path: Path, suffix: str) -> None:
    code, out, err = ask(journal, "--export", tmp_path / f"out{suffix}", "--epoch", "1")
    assert (code, out) == (0, "")
    assert err == f"linegate: 2 verdicts are in {tmp_path / f'out{suffix}'}\n"
    if suffix == ".csv":
        with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
            assert [row["part_id"] for row in csv.DictReader(file)] == ["part-2", "part-1"]


def test_the_runs_of_a_station_are_listed(ask: Ask, journal: Path) -> None:
    kept = Store.open(journal, 1_000)
    kept.end_epoch(1, "Halted", 5)
    kept.close()
    code, out, _ = ask(journal, "--epochs")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert code == 0
    assert [[*cells[:1], *cells[2:]] for cells in rows] == [["1", "2", "5", "Halted"], ["2", "2", "4", "not ended"]]
    code, out, _ = ask(journal, "--epochs", "--json")
    assert json.loads(out.splitlines()[0]) == {
        "epoch": 1,
        "wall_us": NOON_US,
        "kept": 2,
        "head_seq": 5,
        "ending": "Halted",
    }


def test_a_station_file_names_the_journal(ask: Ask, journal: Path, tmp_path: Path) -> None:
    (tmp_path / "station.toml").write_text(STATION, encoding="utf-8")
    code, out, _ = ask(tmp_path / "station.toml", "--json", "--limit", "1")
    assert (code, seqs(out)) == (0, [4])


def test_a_part_id_cannot_command_the_terminal(ask: Ask, tmp_path: Path) -> None:
    folder = journal_of(tmp_path / "kept", message(1, part_id="[red]a\x1b[2J\nb"))
    _, out, _ = ask(folder)
    assert "\x1b" not in out and "[red]a�[2J�b" in out


def test_a_running_station_can_be_searched(ask: Ask, tmp_path: Path) -> None:
    kept = Store.open(tmp_path / "kept", 1_000)
    kept.append([row(message(1))])
    code, out, _ = ask(tmp_path / "kept", "--json")
    kept.close()
    assert (code, seqs(out)) == (0, [1])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["EMPTY"], "there is no journal in"),
        (["NONE"], "cannot be read"),
        (["KEPT", "--since", "yesterday"], "'yesterday' is not a time"),
        (["KEPT", "--export", "out.xlsx"], "no suffix that is known"),
        (["KEPT", "--export", "EMPTY/out.csv", "--json"], "goes with neither"),
    ],
)
def test_what_cannot_be_is_2_and_one_line(ask: Ask, journal: Path, tmp_path: Path, words: list[str], said: str) -> None:
    (tmp_path / "empty").mkdir()
    places = {"EMPTY": tmp_path / "empty", "NONE": tmp_path / "none", "KEPT": journal}
    for name, place in places.items():
        words = [word.replace(name, str(place)) for word in words]
    code, out, err = ask(*words)
    assert (code, out) == (2, "")
    assert said in err and err.startswith("linegate: ") and len(err.splitlines()) == 1


@pytest.mark.parametrize("words", [["--limit", "-1"], ["--epoch", "9" * 30], ["--judgement", "GOOD"], ["--since"]])
def test_a_wrong_option_is_2_and_one_line(linegate: RunLinegate, journal: Path, words: list[str]) -> None:
    done = linegate("journal", journal, *words)
    assert done.returncode == 2 and "argument --" in one_line(done)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-31T14:05:30+02:00", NOW),
        ("2026-03-31T12:05:30.250Z", NOW + timedelta(milliseconds=250)),
        ("2026-03-31 12:05", datetime(2026, 3, 31, 12, 5).astimezone()),
        ("2026-03-31", datetime(2026, 3, 31).astimezone()),
        ("today", datetime(2026, 3, 31).astimezone()),
        ("-15m", NOW - timedelta(minutes=15)),
        ("15m ago", NOW - timedelta(minutes=15)),
        ("2 h ago", NOW - timedelta(hours=2)),
        ("-1d", NOW - timedelta(days=1)),
        ("-1w", NOW - timedelta(weeks=1)),
    ],
)
def test_times_are_understood(text: str, expected: datetime) -> None:
    assert moment_us(text, NOW) == round(expected.timestamp() * 1e6)


@pytest.mark.parametrize("text", ["", "now-ish", "15m", "-15y", "2026-13-01", "0001-01-01", "-999999999w", "Z"])
def test_what_is_no_time_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="is not a time"):
        moment_us(text, NOW)


def test_searching_imports_nothing_that_it_does_not_need() -> None:
    script = "import sys, edge.cli.journal; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded: set[Any] = set(python(script).communicate()[0].split())
    assert "edge" in loaded and not loaded & {"pyarrow", "torch", "onnxruntime", "calibration"}

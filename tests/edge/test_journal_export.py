"""Exported verdicts hold what was published, in every format, whole or not at all."""

from __future__ import annotations

import csv
import io
import os
import resource
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.bus.messages import MaskReference, VerdictMessage
from edge.errors import JournalError, OutputError, UsageError
from edge.journal import export
from edge.journal.export import COLUMNS, RISKY
from edge.types import Region
from tests.conftest import PATIENCE_S
from tests.edge.journals import data_of, message, python, rejected

# No surrogates, which JSON cannot hold, and no NUL, which csv cannot read on Python 3.10.
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(
    ["=1+1", "'=1", "-5", "+x", "@SUM", "\tx", 'a"b', "a\r\nb", "a,b", "'", "\r", "\ufeff"]
)
VERDICTS = st.builds(
    message,
    seq=st.integers(0, 2**53 - 1),
    epoch=st.integers(0, 2**53 - 1),
    part_id=TEXTS,
    detail=TEXTS,
    trigger_wall_us=st.integers(-(2**53), 2**53),
    score=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    encoder_count=st.none() | st.integers(-(2**53), 2**53),
    clock_synchronised=st.none() | st.booleans(),
    regions=st.just(()) | st.just((Region(1, 2, 3, 4, 12, 1.5),)),
    mask=st.none() | st.just(MaskReference("e" * 64, 7, 5)),
)


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_parquet(path: Path) -> Any:  # noqa: ANN401 - pyarrow has no types
    return pytest.importorskip("pyarrow.parquet", reason="pip install 'linegate[parquet]'").read_table(path)


def undone(text: str) -> str:
    """A CSV cell without what keeps a spreadsheet from running it."""
    return text[1:] if text.startswith("'") else text


def flat(verdict: VerdictMessage) -> dict[str, Any]:
    """What a row should hold, with nested fields decoded."""
    fields: dict[str, Any] = msgspec.to_builtins(verdict)
    return fields | {
        "regions": [list(msgspec.to_builtins(r).values()) for r in verdict.regions],
        "mask": None if verdict.mask is None else msgspec.to_builtins(verdict.mask),
    }


def plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row with nested fields decoded from their JSON text."""
    regions = msgspec.json.decode(row["regions"])
    mask = None if row["mask"] is None else msgspec.json.decode(row["mask"])
    return row | {"regions": [list(region.values()) for region in regions], "mask": mask}


@given(verdicts=st.lists(VERDICTS, max_size=4))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_format_holds_what_was_published(tmp_path: Path, verdicts: list[VerdictMessage]) -> None:
    data = [data_of(verdict) for verdict in verdicts]
    counts = [export.export(iter(data), tmp_path / f"out{suffix}") for suffix in (".jsonl", ".csv", ".parquet")]
    assert counts == [len(data)] * 3
    assert (tmp_path / "out.jsonl").read_bytes() == b"".join(line + b"\n" for line in data)
    table = read_parquet(tmp_path / "out.parquet")
    assert [plain(row) for row in table.to_pylist()] == [flat(verdict) for verdict in verdicts]
    for verdict, row in zip(verdicts, read_csv(tmp_path / "out.csv"), strict=True):
        assert undone(row["part_id"]) == verdict.part_id and undone(row["detail"]) == verdict.detail
        assert row["seq"] == str(verdict.seq) and row["judgement"] == "OK" and row["accept"] == "true"
        assert row["score"] == ("" if verdict.score is None else repr(verdict.score))
        assert plain({"regions": row["regions"], "mask": row["mask"] or None}) == {
            name: flat(verdict)[name] for name in ("regions", "mask")
        }


@given(text=TEXTS)
def test_no_text_in_a_csv_cell_begins_like_a_formula(text: str) -> None:
    cell = export.spreadsheet_text(text, str)
    assert not cell.startswith(tuple(set(RISKY) - {"'"}))
    assert undone(cell) == text


def test_a_negative_number_stays_a_number() -> None:
    assert export.spreadsheet_text(-5, int) == "-5"


def test_nothing_found_has_the_same_columns(tmp_path: Path) -> None:
    for suffix in (".csv", ".parquet"):
        export.export([], tmp_path / f"none{suffix}")
        export.export([data_of(message(1)), data_of(rejected(2))], tmp_path / f"some{suffix}")
    assert read_parquet(tmp_path / "none.parquet").schema == read_parquet(tmp_path / "some.parquet").schema
    kinds = {field.name: str(field.type) for field in read_parquet(tmp_path / "none.parquet").schema}
    assert list(kinds) == [field.name for field in msgspec.structs.fields(VerdictMessage)]
    names = ("seq", "score", "accept", "reason", "regions", "mask")
    assert [kinds[name] for name in names] == ["int64", "double", "bool", "string", "string", "string"]
    header = (tmp_path / "none.csv").read_text(encoding="utf-8")
    assert next(csv.reader(io.StringIO(header))) == list(COLUMNS)


def test_a_verdict_of_an_earlier_version_lacks_cells_only(tmp_path: Path) -> None:
    export.export([b'{"seq":3,"score":1,"of_old":true}'], tmp_path / "out.csv")
    (row,) = read_csv(tmp_path / "out.csv")
    assert (row["seq"], row["score"], row["judgement"], row["regions"]) == ("3", "1.0", "", "")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"seq":"x"}', b'{"part_id":"\xff"}', b"[" * 100_000])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_damage_is_told_and_leaves_no_file(tmp_path: Path, data: bytes, suffix: str) -> None:
    with pytest.raises(JournalError, match="damaged"):
        export.export([data_of(message(1)), data], tmp_path / f"out{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_a_number_beyond_the_column_is_told(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="damaged"):
        export.export([b'{"seq":99999999999999999999}'], tmp_path / "out.parquet")


def test_verdicts_are_taken_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "BATCH", 10)
    taken, heard, at_report = 0, [], []

    def verdicts() -> Iterator[bytes]:
        nonlocal taken
        for taken in range(1, 26):
            yield data_of(message(taken))

    def progress(more: int) -> None:
        heard.append(more)
        at_report.append(taken)

    assert export.export(verdicts(), tmp_path / "out.parquet", progress) == 25
    assert heard == [10, 10, 5] and at_report == [10, 20, 25]
    assert read_parquet(tmp_path / "out.parquet").column("seq").to_pylist() == list(range(1, 26))


@pytest.mark.parametrize("name", ["out.xlsx", "out", ".csv", "out.jsonl.gz"])
def test_an_unknown_suffix_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.csv, \.jsonl, \.parquet"):
        export.export([], tmp_path / name)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "file" / "out.csv", tmp_path / "folder.csv"):
        with pytest.raises(OutputError, match="cannot be written"):
            export.export([], path)


def test_parquet_without_pyarrow_tells_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OutputError, match=r"pip install 'linegate\[parquet\]'"):
        export.export([], tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []


EXPORTS = """
import resource, sys
from pathlib import Path
from edge.errors import OutputError
from edge.journal.export import export

out, line = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    export((line.replace(b"part-1", b"part-%d" % n) for n in range(300_000)), out)
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="this system has no limit on a file's size")
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_disk_that_takes_no_more_is_told_on_one_line_and_leaves_the_old_file(tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    out.write_bytes(b"of yesterday")
    (tmp_path / "line").write_bytes(data_of(message(1)))
    said, err = python(EXPORTS, out, tmp_path / "line").communicate(timeout=PATIENCE_S)
    assert len(said.splitlines()) == 1 and "cannot be written" in said, said + err
    assert out.read_bytes() == b"of yesterday"
    assert sorted(os.listdir(tmp_path)) == ["line", out.name]  # noqa: PTH208

"""Verdicts as a table: CSV, JSON lines or Parquet, in batches, whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import importlib
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec
from msgspec import inspect

from edge.bus.messages import VerdictMessage
from edge.errors import JournalError, OutputError, UsageError
from edge.sealed import require_folder

BATCH = 5_000
RISKY = ("=", "+", "-", "@", "\t", "\r", "'")
"""A text that begins so gets an apostrophe before it, as a spreadsheet would run it; with `'` it can be undone."""

Cell: TypeAlias = int | float | bool | str | None
Batch: TypeAlias = list[bytes]
Progress: TypeAlias = Callable[[int], None]


class Sheet(Protocol):
    """Takes verdicts as they were published, batch after batch."""

    def write(self, batch: Batch) -> None:
        """Add verdicts."""

    def close(self) -> None:
        """Write what belongs at the end."""


def _kinds() -> dict[str, type[int] | type[float] | type[bool] | type[str] | None]:
    """The columns, which are the fields of a verdict; None for a nested field."""
    flat = {inspect.IntType: int, inspect.FloatType: float, inspect.BoolType: bool, inspect.StrType: str}
    found: dict[str, type[int] | type[float] | type[bool] | type[str] | None] = {}
    for field in msgspec.structs.fields(VerdictMessage):
        kind = inspect.type_info(field.type)
        if isinstance(kind, inspect.UnionType):
            kind = next(each for each in kind.types if not isinstance(each, inspect.NoneType))
        found[field.name] = str if isinstance(kind, inspect.EnumType) else flat.get(type(kind))
    return found


COLUMNS = _kinds()
_NESTED = tuple(name for name, kind in COLUMNS.items() if kind is None)
_NULL = msgspec.Raw(b"null")
# A verdict of an earlier version may lack a field; nested ones are not taken apart.
_Line = msgspec.defstruct(
    "_Line", [(n, msgspec.Raw, _NULL) if kind is None else (n, kind | None, None) for n, kind in COLUMNS.items()]
)
_DECODER = msgspec.json.Decoder(_Line)


def cells(data: bytes) -> dict[str, Cell]:
    """One verdict as a row: a value a column, nested fields as JSON text.

    Raises:
        JournalError: it is not a verdict.
    """
    try:
        line = msgspec.structs.asdict(_DECODER.decode(data))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _damaged(error) from error
    for name in _NESTED:
        text = bytes(line[name]).decode(errors="replace")
        line[name] = None if text == "null" else text
    return line


def _damaged(error: Exception) -> JournalError:
    return JournalError(f"a kept verdict is damaged ({error})", "Narrow the search to leave it out.")


def export(verdicts: Iterable[bytes], path: Path, progress: Progress | None = None) -> int:
    """Write verdicts to a file whose suffix says how, and tell how many. `progress` hears how many more are written.

    Raises:
        UsageError: the suffix is not known.
        OutputError: the file cannot be written, the disk is full, or pyarrow is missing.
        JournalError: what is kept cannot be read.
    """
    make = _SHEETS.get(path.suffix.lower())
    if make is None:
        raise UsageError(f"{path.name} has no suffix that is known", f"Use {', '.join(_SHEETS)}.")
    count, rest = 0, iter(verdicts)
    with _whole(path) as beside, contextlib.closing(make(beside)) as sheet:
        while batch := list(itertools.islice(rest, BATCH)):
            sheet.write(batch)
            count += len(batch)
            if progress is not None:
                progress(len(batch))
    return count


@contextlib.contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Where to write a file that takes its place only when it is complete."""
    if path.exists() and not path.is_file():
        raise OutputError(f"{path} cannot be written (it is no regular file)", "Name a file.")
    require_folder(path.absolute().parent)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield beside
        beside.replace(path)
    except OSError as error:
        said = error.strerror or str(error)
        raise OutputError(f"{path} cannot be written ({said})", "Free some space, or write elsewhere.") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


class _JsonLines:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")

    def write(self, batch: Batch) -> None:
        self._file.write(b"\n".join(batch) + b"\n")

    def close(self) -> None:
        self._file.close()


class _Csv:
    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._write_rows([COLUMNS])

    def write(self, batch: Batch) -> None:
        rows = map(cells, batch)
        self._write_rows([spreadsheet_text(row[name], kind) for name, kind in COLUMNS.items()] for row in rows)

    def _write_rows(self, rows: Iterable[Iterable[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._file.write(text.getvalue().encode())

    def close(self) -> None:
        self._file.close()


def spreadsheet_text(value: Cell, kind: type | None) -> str:
    """A cell of a CSV file; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    return "'" + text if kind in (str, None) and text.startswith(RISKY) else text


class _Parquet:
    def __init__(self, path: Path) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            parquet: Any = importlib.import_module("pyarrow.parquet")
        except ModuleNotFoundError as error:
            raise OutputError(
                "Parquet needs pyarrow, which is not installed",
                "pip install 'linegate[parquet]', or write .csv or .jsonl.",
            ) from error
        kinds = {int: "int64", float: "float64", bool: "bool", str: "string", None: "string"}
        self._schema = self._arrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
        self._writer = parquet.ParquetWriter(str(path), self._schema)

    def write(self, batch: Batch) -> None:
        rows = [cells(data) for data in batch]
        try:
            table = self._arrow.Table.from_pylist(rows, schema=self._schema)
        except (ValueError, TypeError, OverflowError) as error:
            raise _damaged(error) from error
        self._writer.write_table(table)

    def close(self) -> None:
        self._writer.close()


_SHEETS: dict[str, Callable[[Path], Sheet]] = {".csv": _Csv, ".jsonl": _JsonLines, ".parquet": _Parquet}

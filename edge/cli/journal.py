"""`linegate journal`: search and export what a station has judged."""

from __future__ import annotations

import argparse
import dataclasses
import re
import sys
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edge.cli.wording import printable
from edge.errors import UsageError
from edge.journal import export
from edge.journal.query import EpochSummary, Query, search, summarise_epochs, tally
from edge.station import load_station
from edge.types import Judgement, Reason

SHOWN = 50
PLAIN_WIDTH = 240
"""Where no terminal is, a table is not cut to its width."""
EXIT_NOTHING = 1
LARGEST = 2**53 - 1
TIME_HELP = "ISO 8601 (local unless it has an offset), today, or a while ago: '15m ago', --since=-2h (s, m, h, d, w)"
_AGO = re.compile(r"(?:-(\d{1,9})([smhdw])|(\d{1,9})\s*([smhdw])\s+ago)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_STYLES = {Judgement.OK: "green", Judgement.NOT_OK: "bold red", Judgement.NOT_DECIDABLE: "bold yellow"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("where", metavar="WHERE", type=Path, help="a station file, or a journal's folder")
    parser.add_argument("--part", metavar="P", help="part id; * stands for any text")
    parser.add_argument("--since", metavar="T", help=f"triggered then or later: {TIME_HELP}")
    parser.add_argument("--until", metavar="T", help="triggered before")
    parser.add_argument("--product", metavar="P", help="name of the product")
    parser.add_argument("--judgement", choices=[j.value for j in Judgement], help="what was decided")
    parser.add_argument("--reason", choices=[r.value for r in Reason], help="why it was not accepted")
    parser.add_argument("--epoch", metavar="E", type=_whole_number, help="one run of the station")
    parser.add_argument("--limit", metavar="N", type=_whole_number, help=f"so many at most (a table shows {SHOWN})")
    parser.add_argument("--oldest-first", action="store_true", help="begin with the oldest")
    parser.add_argument("--export", metavar="FILE", type=Path, help="write to FILE.csv, FILE.jsonl or FILE.parquet")
    parser.add_argument("--json", action="store_true", help="print JSON lines, as they were published")
    parser.add_argument("--epochs", action="store_true", help="list the runs of the station instead")


def run(arguments: argparse.Namespace) -> int:
    """Search; 1 if nothing matches."""
    if arguments.export is not None and (arguments.json or arguments.epochs):
        raise UsageError("--export goes with neither --json nor --epochs", "Choose one of them.")
    folder = _folder(arguments.where)
    if arguments.epochs:
        return _show_epochs(summarise_epochs(folder), arguments.json)
    query = _query(arguments, datetime.now().astimezone())
    if arguments.export is not None:
        found = _export(folder, query, arguments.export)
    elif arguments.json:
        found = _print_lines(folder, query)
    else:
        found = _show(folder, dataclasses.replace(query, limit=SHOWN) if query.limit is None else query)
    return 0 if found else EXIT_NOTHING


def moment_us(text: str, now: datetime) -> int:
    """A time of the command line in microseconds since 1970.

    Raises:
        UsageError: it is not a time.
    """
    words = text.strip()
    ago = _AGO.fullmatch(words)
    try:
        if ago is not None:
            moment = now - timedelta(**{_UNITS[ago[2] or ago[4]]: int(ago[1] or ago[3])})
        elif words == "today":
            moment = datetime.combine(now.date(), datetime.min.time()).astimezone()
        else:
            moment = datetime.fromisoformat(words[:-1] + "+00:00" if words[-1:] in ("Z", "z") else words).astimezone()
        return round(moment.timestamp() * 1_000_000)
    except (ValueError, OverflowError, OSError) as error:
        raise UsageError(
            f"{text!r} is not a time", "Use 2026-03-31T14:05, 2026-03-31, today, '15m ago' or --since=-15m."
        ) from error


def _whole_number(text: str) -> int:
    if not text.isdecimal() or int(text) > LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def _folder(where: Path) -> Path:
    return where if where.is_dir() else Path(load_station(where).journal.folder)


def _query(arguments: argparse.Namespace, now: datetime) -> Query:
    return Query(
        part=arguments.part,
        since_us=None if arguments.since is None else moment_us(arguments.since, now),
        until_us=None if arguments.until is None else moment_us(arguments.until, now),
        product=arguments.product,
        judgement=None if arguments.judgement is None else Judgement(arguments.judgement),
        reason=None if arguments.reason is None else Reason(arguments.reason),
        epoch=arguments.epoch,
        limit=arguments.limit,
        oldest_first=arguments.oldest_first,
    )


def _export(folder: Path, query: Query, path: Path) -> int:
    console = Console(stderr=True)
    columns = (TextColumn("writing"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        matching = sum(tally(folder, query).values()) if console.is_terminal else 0
        task = progress.add_task("writing", total=matching if query.limit is None else min(matching, query.limit))
        count = export.export(search(folder, query), path, lambda more: progress.advance(task, more))
    print(f"linegate: {count} verdicts are in {path}", file=sys.stderr)
    return count


def _print_lines(folder: Path, query: Query) -> int:
    count = 0
    for data in search(folder, query):
        sys.stdout.buffer.write(data + b"\n")
        count += 1
    sys.stdout.buffer.flush()
    return count


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)


def _table(**columns: str) -> Table:
    table = Table()
    for name, justify in columns.items():
        table.add_column(name.replace("_", " "), justify="right" if justify == "right" else "left")
    return table


def _show(folder: Path, query: Query) -> int:
    table = _table(
        time="left",
        epoch="right",
        seq="right",
        part="left",
        product="left",
        judgement="left",
        reason="left",
        score="right",
        threshold="right",
        latency_ms="right",
    )
    for data in search(folder, query):
        row = export.cells(data)
        style = next((style for judgement, style in _STYLES.items() if judgement.value == row["judgement"]), "")
        table.add_row(*_row(row), style=style)
    counts = tally(folder, query)
    console = _console()
    if table.row_count:
        console.print(table)
    console.print(Text(_summary(counts, table.row_count, query.oldest_first)), soft_wrap=True)
    return sum(counts.values())


def _summary(counts: Counter[str], shown: int, oldest_first: bool) -> str:
    matching = sum(counts.values())
    if not matching:
        return "nothing matches"
    said = f"{matching} match: " + ", ".join(f"{counts[j.value]} {j.value}" for j in Judgement)
    return f"{said}; the {'oldest' if oldest_first else 'newest'} {shown} are shown" if shown < matching else said


def _row(row: dict[str, export.Cell]) -> list[Text]:
    latency_us = row["latency_us"]
    found = (
        _time(row["trigger_wall_us"]),
        row["epoch"],
        row["seq"],
        row["part_id"],
        row["product"],
        row["judgement"],
        row["reason"],
        _figure(row["score"]),
        _figure(row["threshold"]),
        f"{latency_us / 1000:.1f}" if isinstance(latency_us, int) else "-",
    )
    return [printable(cell) for cell in found]


def _figure(value: export.Cell) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "-"


def _time(wall_us: export.Cell) -> str:
    if not isinstance(wall_us, int):
        return "-"
    try:
        moment = datetime.fromtimestamp(wall_us // 1_000_000).astimezone()
    except (ValueError, OverflowError, OSError):
        return str(wall_us)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{wall_us % 1_000_000 // 1000:03}"


def _show_epochs(epochs: list[EpochSummary], as_json: bool) -> int:
    if as_json:
        for epoch in epochs:
            print(msgspec.json.encode(epoch).decode())
        return 0 if epochs else EXIT_NOTHING
    table = _table(epoch="right", began="left", verdicts_kept="right", head="right", ended="left")
    for epoch in epochs:
        ending = "not ended" if epoch.ending is None else epoch.ending
        cells = (epoch.epoch, _time(epoch.wall_us), epoch.kept, epoch.head_seq, ending)
        table.add_row(*(printable(cell) for cell in cells))
    _console().print(table if epochs else Text("nothing matches"))
    return 0 if epochs else EXIT_NOTHING

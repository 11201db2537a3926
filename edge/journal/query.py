"""Search a journal, also while its station runs. Nothing is locked for long, and nothing is written."""

from __future__ import annotations

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.errors import JournalError
from edge.journal.database import FILE_NAME, UNREADABLE_SCHEMA, beside, connect, recognise, spoken
from edge.types import Judgement, Reason

WINDOW = 500
"""Verdicts that are looked at in one read. Short reads let the station start its log anew."""
LARGEST_INTEGER = 2**63 - 1
_WHOLE = ((-LARGEST_INTEGER, -LARGEST_INTEGER), (LARGEST_INTEGER, LARGEST_INTEGER))

Key = tuple[int, int]
"""(epoch, seq): the order in which verdicts were given."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which verdicts are wanted; None is any.

    In `part`, `*` stands for any text. Times are the triggers', in microseconds since 1970, `until_us` exclusive. The newest
    come first unless `oldest_first` says otherwise.
    """

    part: str | None = None
    since_us: int | None = None
    until_us: int | None = None
    product: str | None = None
    judgement: Judgement | None = None
    reason: Reason | None = None
    epoch: int | None = None
    limit: int | None = None
    oldest_first: bool = False


@dataclass(frozen=True, slots=True)
class EpochSummary:
    """One epoch: `wall_us` is when it began, `kept` how many of its verdicts are kept, `ending` None if none is known."""

    epoch: int
    wall_us: int
    kept: int
    head_seq: int
    ending: str | None


def search(folder: Path, query: Query) -> Iterator[bytes]:
    """The verdicts wanted, each as it was published. What the station forgets meanwhile may be absent.

    Raises:
        JournalError: there is no journal, it is damaged, in other hands, or newer software made it. Also while iterating.
    """
    return _found(_Reader(folder), query)


def find_verdict(folder: Path, epoch: int, seq: int) -> bytes | None:
    """One verdict as it was published, None if it is not kept.

    Raises:
        JournalError: as for `search`.
    """
    with contextlib.closing(_Reader(folder)) as reader:
        rows = reader.rows("SELECT message FROM verdicts WHERE epoch = ? AND seq = ?", (epoch, seq))
    return bytes(rows[0][0]) if rows else None


def tally(folder: Path, query: Query) -> Counter[str]:
    """How many verdicts match by the name of their judgement, whatever the limit.

    Raises:
        JournalError: as for `search`.
    """
    counts: Counter[str] = Counter()
    with contextlib.closing(_Reader(folder)) as reader:
        plan = _Plan(query)
        for low, high in _windows(reader, plan):
            sql = f"SELECT judgement, COUNT(*) FROM verdicts {plan.where} GROUP BY judgement"  # noqa: S608 - of our own words
            counts.update(dict(reader.rows(sql, (*low, *high, *plan.values))))
    return counts


def summarise_epochs(folder: Path) -> list[EpochSummary]:
    """All epochs, oldest first.

    Raises:
        JournalError: as for `search`.
    """
    sql = (
        "SELECT epoch, wall_us, (SELECT COUNT(*) FROM verdicts WHERE verdicts.epoch = epochs.epoch), head_seq, ending"
        " FROM epochs ORDER BY epoch"
    )
    with contextlib.closing(_Reader(folder)) as reader:
        return [EpochSummary(*row) for row in reader.rows(sql)]


def _found(reader: _Reader, query: Query) -> Iterator[bytes]:
    plan = _Plan(query)
    left = LARGEST_INTEGER if query.limit is None else query.limit
    sql = f"SELECT message FROM verdicts {plan.where} ORDER BY epoch {plan.way}, seq {plan.way} LIMIT ?"  # noqa: S608
    with contextlib.closing(reader):
        for low, high in _windows(reader, plan):
            if left <= 0:
                return
            page = reader.rows(sql, (*low, *high, *plan.values, left))
            left -= len(page)
            for row in page:
                yield bytes(row[0])


class _Plan:
    """A query as SQL: an index that has its verdicts in order, and what is left to look at in each."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.way = "ASC" if query.oldest_first else "DESC"
        part = query.part
        exact = part is not None and "*" not in part
        self.index = "verdicts_by_part" if exact else "verdicts_in_order"
        self.window = f"INDEXED BY {self.index} WHERE (epoch, seq) BETWEEN (?, ?) AND (?, ?)"
        self.window_values: tuple[object, ...] = ()
        if exact:
            self.window, self.window_values = f"{self.window} AND part_id = ?", (part,)
        conditions: list[tuple[str, object]] = [
            ("part_id GLOB ?", None if part is None or exact else part.replace("[", "[[]").replace("?", "[?]")),
            ("wall_us >= ?", query.since_us),
            ("wall_us < ?", query.until_us),
            ("product = ?", query.product),
            ("judgement = ?", None if query.judgement is None else query.judgement.value),
            ("reason = ?", None if query.reason is None else query.reason.value),
        ]
        used = [(sql, value) for sql, value in conditions if value is not None]
        self.where = " AND ".join([self.window, *(sql for sql, _ in used)])
        self.values = (*self.window_values, *(value for _, value in used))


def _windows(reader: _Reader, plan: _Plan) -> Iterator[tuple[Key, Key]]:
    """The range of a query in steps of at most `WINDOW` verdicts, in the query's direction; both ends are inclusive."""
    bounds = _bounds(reader, plan.query)
    sql = f"SELECT epoch, seq FROM verdicts {plan.window} ORDER BY epoch {plan.way}, seq {plan.way} LIMIT 1 OFFSET ?"  # noqa: S608
    while bounds is not None:
        low, high = bounds
        edge = reader.rows(sql, (*low, *high, *plan.window_values, WINDOW - 1))
        if not edge:
            yield low, high
            return
        epoch, seq = edge[0]
        if plan.query.oldest_first:
            yield low, (epoch, seq)
            bounds = (epoch, seq + 1), high
        else:
            yield (epoch, seq), high
            bounds = low, (epoch, seq - 1)


def _bounds(reader: _Reader, query: Query) -> tuple[Key, Key] | None:
    """The first and last verdict that can match by epoch and time; None if none can."""
    low, high = _WHOLE
    if query.epoch is not None:
        low, high = (query.epoch, low[1]), (query.epoch, high[1])
    if query.since_us is None and query.until_us is None:
        return low, high
    times = (
        -LARGEST_INTEGER if query.since_us is None else query.since_us,
        LARGEST_INTEGER if query.until_us is None else query.until_us,
    )
    # The wall clock may have been set back, so that the order of times is not that of verdicts.
    sql = "SELECT epoch, seq FROM verdicts INDEXED BY verdicts_by_time WHERE wall_us >= ? AND wall_us < ? ORDER BY"
    first = reader.rows(f"{sql} epoch, seq LIMIT 1", times)
    last = reader.rows(f"{sql} epoch DESC, seq DESC LIMIT 1", times)
    return (max(low, first[0]), min(high, last[0])) if first and last else None


class _Reader:
    """A connection that only reads.

    SQLite leaves files beside a journal that it reads, which the station's user may then be unable to open, and cannot do so
    at all in a folder that the reader may not write. So a journal at rest is read without them, as long as it rests.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        with self._explained():
            if not self._path.is_file():
                raise JournalError(
                    f"there is no journal in {folder}", "Name a station file, or the folder that journal.folder names."
                )
            self._connect()
            try:
                problem = recognise(self._connection, self._path)
                if problem:
                    raise self._damaged(problem)
            except (sqlite3.Error, UnicodeDecodeError, JournalError):
                self._connection.close()
                raise

    def rows(self, sql: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query.

        Raises:
            JournalError: the journal cannot be read.
        """
        with self._explained():
            while self._rest is not None:
                found, problem = [], None
                try:
                    found = self._connection.execute(sql, values).fetchall()
                except sqlite3.DatabaseError as error:
                    problem = error
                if self._rest != self._resting():
                    # A station began to write: what was read may be of two minds.
                    self._connection.close()
                    self._connect()
                    continue
                if problem is not None:
                    raise problem
                return found
            return self._connection.execute(sql, values).fetchall()

    def close(self) -> None:
        """Disconnect. May be called twice."""
        self._connection.close()

    def _connect(self) -> None:
        self._rest = self._resting()
        options = "mode=ro" if self._rest is None else "mode=ro&immutable=1"
        self._connection = connect(self._path, options)

    def _resting(self) -> tuple[int, int, int] | None:
        """What changes when somebody writes; None while there is a log, which is as long as a station runs."""
        if beside(self._path, "-wal").exists():
            return None
        status = self._path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _damaged(self, problem: str) -> JournalError:
        return JournalError(
            f"{self._path} is damaged ({problem})",
            "Start its station: it sets the file aside and begins a new journal.",
        )

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.OperationalError) as error:
            raise JournalError(
                f"{self._path} cannot be read ({spoken(error)})",
                "Run it as the station's user, or copy journal.sqlite and journal.sqlite-wal to a folder of your own.",
            ) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error
        except UnicodeDecodeError as error:
            raise self._damaged(UNREADABLE_SCHEMA) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise JournalError("the search cannot be understood", "Use plain text and numbers below 2^63.") from error
